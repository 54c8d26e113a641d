//! What a message is about: the resource of its route (WIRE.md §1.4).
//!
//! The edge form is `<namespace>/<type>[/<name>]`; beside it stand a few literals, and texts whose
//! meaning belongs to one module alone (MQTT topics, ports and paths). Parsing keeps every letter:
//! what comes in goes out the same.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::words::{Group, words};

words! {
    /// The type of an object, as the wire spells it: one lower-case word (WIRE.md §1.3).
    Kind {
        /// A pod.
        Pod = "pod",
        /// The status of a pod, whole (old clouds).
        PodStatus = "podstatus",
        /// A strategic-merge patch of a pod's status.
        PodPatch = "podpatch",
        /// The pods of a service (old clouds).
        PodList = "podlist",
        /// A node.
        Node = "node",
        /// The status of a node, whole (old clouds).
        NodeStatus = "nodestatus",
        /// A strategic-merge patch of a node's status.
        NodePatch = "nodepatch",
        /// An event.
        Event = "event",
        /// A config map.
        ConfigMap = "configmap",
        /// A secret.
        Secret = "secret",
        /// A token request of a service account.
        ServiceAccountToken = "serviceaccounttoken",
        /// What a service account may do through metaserver.
        ServiceAccountAccess = "serviceaccountaccess",
        /// A certificate signing request.
        CertificateSigningRequest = "certificatesigningrequest",
        /// A lease.
        Lease = "lease",
        /// A service.
        Service = "service",
        /// All services (old clouds).
        ServiceList = "servicelist",
        /// The endpoints of a service.
        Endpoints = "endpoints",
        /// All endpoints (old clouds).
        EndpointsList = "endpointslist",
        /// A slice of a service's endpoints.
        EndpointSlice = "endpointslice",
        /// How the endpoints of a service are chosen (Istio's).
        DestinationRule = "destinationrule",
        /// An address that the mesh gave to a service.
        Listener = "listener",
        /// A persistent volume.
        PersistentVolume = "persistentvolume",
        /// A persistent volume claim.
        PersistentVolumeClaim = "persistentvolumeclaim",
        /// The attachment of a volume to a node.
        VolumeAttachment = "volumeattachment",
        /// CSI pass-through.
        Volume = "volume",
        /// A device.
        Device = "device",
        /// A device model.
        DeviceModel = "devicemodel",
        /// A mapper.
        DeviceMapper = "devicemapper",
        /// A router rule.
        Rule = "rule",
        /// A router rule's end.
        RuleEndpoint = "ruleendpoint",
        /// A router rule's counts.
        RuleStatus = "rulestatus",
    }
}

/// Where an object lives. The wire writes `null` for objects of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// The cluster.
    Cluster,
    /// A namespace.
    Namespace(Box<str>),
}

impl Scope {
    fn parse(text: &str) -> Self {
        if text == "null" { Self::Cluster } else { Self::Namespace(text.into()) }
    }

    /// Returns the segment as it stands on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Cluster => "null",
            Self::Namespace(namespace) => namespace,
        }
    }
}

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Resource {
    /// Nothing: the field was absent or empty.
    None,
    /// `node`: the keepalive's.
    Node,
    /// `node/connection`: the notice that the cloud link came or went.
    Connection,
    /// `membership`: the devices of this node.
    Membership,
    /// `membership/detail`: the question for them.
    MembershipDetail,
    /// `twin`: the cloud's answer to a twin report.
    Twin,
    /// `k8s/ca.crt`: the cluster's certificate authority.
    KubernetesCa,
    /// `<namespace>/<type>[/<name>]`.
    Object {
        /// Where it lives.
        scope: Scope,
        /// Its type.
        kind: Kind,
        /// Its name; absent for lists.
        name: Option<Box<str>>,
    },
    /// `device/<namespace>/<name>/<change>`, of which `change` has two segments such as
    /// `twin/edge_updated` (WIRE.md §7.4).
    Device {
        /// The device's namespace.
        namespace: Box<str>,
        /// The device's name.
        name: Box<str>,
        /// What changed, such as `twin/edge_updated`.
        change: Box<str>,
    },
    /// `operations.kubeedge.io/<version>/<type>/<job>/node/<node>`, or
    /// `<task>/<id>/node/<node>` of older clouds (WIRE.md §10).
    Task(Box<str>),
    /// A text whose meaning is one module's own: an MQTT topic, a port and path, a path of modules.
    Text(Box<str>),
}

impl Resource {
    /// Takes a resource as it stands on the wire, without the `node/<node>/` that CloudHub strips.
    /// The group decides where the grammar would not: groups `user` and `diagnostic` carry texts,
    /// group `taskmanager` and reports to `hub` carry tasks.
    #[must_use]
    pub fn parse(group: &Group, text: &str) -> Self {
        if text.is_empty() {
            return Self::None;
        }
        match group {
            Group::User | Group::Diagnostic => return Self::Text(text.into()),
            Group::Taskmanager => return Self::Task(text.into()),
            Group::Hub if text.starts_with("operations.kubeedge.io/") => {
                return Self::Task(text.into());
            }
            Group::None
            | Group::Resource
            | Group::Func
            | Group::Twin
            | Group::Meta
            | Group::Hub
            | Group::Bus
            | Group::Edged
            | Group::Edgestream
            | Group::Dynamiccontroller
            | Group::Unknown(_) => {}
        }
        match text {
            "node" => Self::Node,
            "node/connection" => Self::Connection,
            "membership" => Self::Membership,
            "membership/detail" => Self::MembershipDetail,
            "twin" => Self::Twin,
            "k8s/ca.crt" => Self::KubernetesCa,
            other => parse_path(other),
        }
    }

    /// Names an object.
    #[must_use]
    pub fn object(scope: Scope, kind: Kind, name: &str) -> Self {
        Self::Object { scope, kind, name: Some(name.into()) }
    }

    /// Returns the type of the object that this names, where it names one.
    #[must_use]
    pub const fn kind(&self) -> Option<&Kind> {
        if let Self::Object { kind, .. } = self { Some(kind) } else { None }
    }
}

fn parse_path(text: &str) -> Resource {
    let mut segments = text.split('/');
    let parts = [(); 5].map(|()| segments.next().filter(|segment| !segment.is_empty()));
    match (text.split('/').count(), parts) {
        (2, [Some(scope), Some(kind), ..]) => {
            Resource::Object { scope: Scope::parse(scope), kind: Kind::parse(kind), name: None }
        }
        (3, [Some(scope), Some(kind), Some(name), ..]) => {
            Resource::object(Scope::parse(scope), Kind::parse(kind), name)
        }
        (5, [Some("device"), Some(namespace), Some(name), Some(what), Some(change)]) => {
            Resource::Device {
                namespace: namespace.into(),
                name: name.into(),
                change: format!("{what}/{change}").into(),
            }
        }
        _ => Resource::Text(text.into()),
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Node => f.write_str("node"),
            Self::Connection => f.write_str("node/connection"),
            Self::Membership => f.write_str("membership"),
            Self::MembershipDetail => f.write_str("membership/detail"),
            Self::Twin => f.write_str("twin"),
            Self::KubernetesCa => f.write_str("k8s/ca.crt"),
            Self::Object { scope, kind, name: None } => write!(f, "{}/{kind}", scope.as_str()),
            Self::Object { scope, kind, name: Some(name) } => {
                write!(f, "{}/{kind}/{name}", scope.as_str())
            }
            Self::Device { namespace, name, change } => {
                write!(f, "device/{namespace}/{name}/{change}")
            }
            Self::Task(text) | Self::Text(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resource(text: &str) -> Resource {
        Resource::parse(&Group::Resource, text)
    }

    #[test]
    fn objects_are_told_from_literals_and_texts() {
        let pod = Resource::object(Scope::Namespace("default".into()), Kind::Pod, "p");
        assert_eq!(resource("default/pod/p"), pod);
        let node = Resource::object(Scope::Cluster, Kind::Node, "edge1");
        assert_eq!(resource("null/node/edge1"), node);
        assert_eq!(resource("k8s/ca.crt"), Resource::KubernetesCa);
        assert_eq!(resource("default/podstatus").kind(), Some(&Kind::PodStatus));
        assert_eq!(resource("a/gadget/b").kind(), Some(&Kind::Unknown("gadget".into())));
        assert_eq!(
            resource("device/default/sensor1/twin/edge_updated"),
            Resource::Device {
                namespace: "default".into(),
                name: "sensor1".into(),
                change: "twin/edge_updated".into(),
            }
        );
        let crooked = ["a/b/", "device/a/b/c/", "device/a/b/c/d/", "device/a/b/c/d//d"];
        for text in ["a", "a/b/c/d", "/a/b", "a//b", "null"].into_iter().chain(crooked) {
            assert_eq!(resource(text), Resource::Text(text.into()), "{text}");
        }
    }

    #[test]
    fn the_group_decides_what_a_topic_is() {
        let topic = "default/up";
        assert_eq!(Resource::parse(&Group::User, topic), Resource::Text(topic.into()));
        let job = "operations.kubeedge.io/v1alpha2/imageprepulljob/j/node/edge1";
        assert_eq!(Resource::parse(&Group::Taskmanager, job), Resource::Task(job.into()));
        assert_eq!(Resource::parse(&Group::Hub, job), Resource::Task(job.into()));
    }

    proptest! {
        #[test]
        fn every_text_comes_back_as_it_was(
            text in "(null|node|device|default|pod|k8s|ca\\.crt|[a-z]{0,3}|.{0,4})(/(null|pod|twin|device|.{0,3})){0,6}",
            group in prop::sample::select(Group::KNOWN),
        ) {
            prop_assert_eq!(Resource::parse(&Group::parse(group), &text).to_string(), text);
        }
    }
}
