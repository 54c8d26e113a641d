//! Where an object is kept: its keys in the Go edgecore's two tables (WIRE.md §5.1), and the few
//! fields of it that the rules need. Nothing here looks at more of an object than that.

use bytes::Bytes;
use ipc_proto::{Kind, Message, Resource, Scope};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::row::{Change, Mirror, Object, Removal};

/// The fields of an object that the rules need.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Head {
    /// Group and version.
    pub(crate) api_version: Option<String>,
    /// The kind, as the API spells it.
    pub(crate) kind: Option<String>,
    /// Name, namespace, uid and version.
    pub(crate) metadata: Option<Metadata>,
}

/// The part of an object's metadata that the rules need.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

impl Head {
    /// Reads an object's head; nothing when it is no object.
    pub(crate) fn read(object: &[u8]) -> Option<Self> {
        serde_json::from_slice(object).ok()
    }
}

/// Reads an object's uid.
pub(crate) fn uid(object: &[u8]) -> Option<Box<str>> {
    let uid = Head::read(object)?.metadata?.uid?;
    (!uid.is_empty()).then(|| uid.into())
}

/// What an object is: a message's resource that names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) scope: Scope,
    pub(crate) kind: Kind,
    pub(crate) name: Box<str>,
}

impl Name {
    /// Takes the name out of a resource; nothing when it names no single object. Nodes belong to
    /// the cluster, whatever namespace an older cloud writes before them.
    pub(crate) fn of(resource: &Resource) -> Option<Self> {
        let Resource::Object { scope, kind, name: Some(name) } = resource else { return None };
        let is_node = matches!(kind, Kind::Node | Kind::NodePatch | Kind::NodeStatus);
        let scope = if is_node { Scope::Cluster } else { scope.clone() };
        Some(Self { scope, kind: kind.clone(), name: name.clone() })
    }

    /// Names an object by the words of its own metadata; nothing when they are no names.
    pub(crate) fn new(namespace: &str, kind: Kind, name: &str) -> Option<Self> {
        let is_name = |text: &str| !text.is_empty() && !text.contains('/');
        (is_name(namespace) && is_name(name)).then(|| Self {
            scope: Scope::Namespace(namespace.into()),
            kind,
            name: name.into(),
        })
    }

    /// Names the object that a patch or a status belongs to.
    pub(crate) fn owner(&self) -> Self {
        if matches!(self.kind, Kind::PodPatch | Kind::PodStatus) {
            self.sibling(Kind::Pod)
        } else if matches!(self.kind, Kind::NodePatch | Kind::NodeStatus) {
            self.sibling(Kind::Node)
        } else {
            self.clone()
        }
    }

    /// Names another object of the same name and place.
    pub(crate) fn sibling(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// Returns the resource that names it.
    #[cfg(test)]
    pub(crate) fn resource(&self) -> Resource {
        Resource::object(self.scope.clone(), self.kind.clone(), &self.name)
    }

    /// Returns the key in `meta`.
    pub(crate) fn key(&self) -> Box<str> {
        let Self { scope, kind, name } = self;
        if *kind == Kind::DeviceMapper {
            // Go builds the key of a mapper from the words of a format, not from their values.
            return format!("node/nodeID/namespace/devicemapper/{name}").into();
        }
        format!("{}/{kind}/{name}", scope.as_str()).into()
    }

    /// Returns the columns of `meta_v2`; nothing for what has no place there. The object itself is
    /// looked at only when its kind is none that this program knows.
    pub(crate) fn mirror(&self, version: u64, object: &[u8]) -> Option<Mirror> {
        let (group, api, plural) = match known_resource(&self.kind) {
            Some((group, api, plural)) => (group.to_owned(), api.to_owned(), plural.to_owned()),
            None if matches!(self.kind, Kind::Unknown(_)) => guessed_resource(object)?,
            None => return None,
        };
        let core_group = if group.is_empty() { "core" } else { &group };
        let scope = self.scope.as_str();
        let name = &self.name;
        let separator = if group.is_empty() { "" } else { &group };
        Some(Mirror {
            key: format!("/{core_group}/{api}/{plural}/{scope}/{name}").into(),
            resource: format!("{separator}/{api}, Resource={plural}").into(),
            namespace: match &self.scope {
                Scope::Cluster => "".into(),
                Scope::Namespace(namespace) => namespace.clone(),
            },
            name: name.clone(),
            version,
        })
    }

    /// Makes the rows of an object.
    pub(crate) fn rows(&self, version: u64, value: Bytes) -> Object {
        let mirror = self.mirror(version, &value);
        Object { key: self.key(), kind: self.kind.as_str().into(), value, mirror }
    }

    /// Makes the row of something that is no Kubernetes object of its own: a patch, a token.
    pub(crate) fn row(&self, value: Bytes) -> Object {
        Object { key: self.key(), kind: self.kind.as_str().into(), value, mirror: None }
    }

    /// Removes the object, of this uid when there is one, and what belongs to it.
    pub(crate) fn removal(&self, uid: Box<str>, object: &[u8]) -> Change {
        let along = if self.kind == Kind::Pod {
            [Kind::PodPatch, Kind::PodStatus].map(|kind| self.sibling(kind).key()).into()
        } else {
            Vec::new()
        };
        let mirror = self.mirror(0, object).map(|mirror| mirror.key);
        Change::Remove(Removal { key: self.key(), mirror, uid, along })
    }
}

/// Returns group, version and plural of the types that CloudCore sends by name.
fn known_resource(kind: &Kind) -> Option<(&'static str, &'static str, &'static str)> {
    Some(match kind {
        Kind::Pod => ("", "v1", "pods"),
        Kind::Node => ("", "v1", "nodes"),
        Kind::ConfigMap => ("", "v1", "configmaps"),
        Kind::Secret => ("", "v1", "secrets"),
        Kind::Service => ("", "v1", "services"),
        Kind::Endpoints => ("", "v1", "endpoints"),
        Kind::PersistentVolume => ("", "v1", "persistentvolumes"),
        Kind::PersistentVolumeClaim => ("", "v1", "persistentvolumeclaims"),
        Kind::VolumeAttachment => ("storage.k8s.io", "v1", "volumeattachments"),
        Kind::EndpointSlice => ("discovery.k8s.io", "v1", "endpointslices"),
        Kind::DestinationRule => ("networking.istio.io", "v1alpha3", "destinationrules"),
        Kind::Lease => ("coordination.k8s.io", "v1", "leases"),
        Kind::CertificateSigningRequest => {
            ("certificates.k8s.io", "v1", "certificatesigningrequests")
        }
        Kind::Device => ("devices.kubeedge.io", "v1beta1", "devices"),
        Kind::DeviceModel => ("devices.kubeedge.io", "v1beta1", "devicemodels"),
        Kind::ServiceAccountAccess => ("policy.kubeedge.io", "v1alpha1", "serviceaccountaccesses"),
        Kind::Rule => ("rules.kubeedge.io", "v1", "rules"),
        Kind::RuleEndpoint => ("rules.kubeedge.io", "v1", "ruleendpoints"),
        Kind::Event
        | Kind::PodStatus
        | Kind::PodPatch
        | Kind::PodList
        | Kind::NodeStatus
        | Kind::NodePatch
        | Kind::ServiceAccountToken
        | Kind::ServiceList
        | Kind::EndpointsList
        | Kind::Listener
        | Kind::Volume
        | Kind::DeviceMapper
        | Kind::RuleStatus
        | Kind::Unknown(_) => return None,
    })
}

/// Reads group and version of an object, and guesses the plural as Go's API machinery does.
fn guessed_resource(object: &[u8]) -> Option<(String, String, String)> {
    let head = Head::read(object)?;
    let (api, kind) = (head.api_version?, head.kind?.to_lowercase());
    let (group, version) = api.split_once('/').unwrap_or(("", &api));
    let plural = match kind.as_bytes().last()? {
        b's' => format!("{kind}es"),
        b'y' => format!("{}ies", &kind[..kind.len() - 1]),
        _ => format!("{kind}s"),
    };
    Some((group.to_owned(), version.to_owned(), plural))
}

/// Returns the version of the object that a message carries, from its header.
pub(crate) fn header_version(message: &Message) -> u64 {
    message.header.resource_version.parse().unwrap_or(0)
}

/// Returns the version of an object that came in a message, from the header or else from itself;
/// 0 when neither says.
pub(crate) fn version(message: &Message, object: &[u8]) -> u64 {
    match header_version(message) {
        0 => Head::read(object)
            .and_then(|head| head.metadata?.resource_version?.parse().ok())
            .unwrap_or(0),
        version => version,
    }
}

/// Tells whether a JSON text is an object, an array or a string, by its first letter; that it is
/// JSON at all was seen to where it entered the node.
pub(crate) fn first_letter(json: &[u8]) -> Option<u8> {
    json.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// Gives an object its type where the cloud's answer left it out.
pub(crate) fn with_type(object: Bytes, kind: &Kind) -> Bytes {
    const TYPES: [(Kind, &str, &str); 3] = [
        (Kind::Pod, "v1", "Pod"),
        (Kind::Node, "v1", "Node"),
        (Kind::Lease, "coordination.k8s.io/v1", "Lease"),
    ];
    let Some((_, api, name)) = TYPES.into_iter().find(|(known, ..)| known == kind) else {
        return object;
    };
    let has_type = Head::read(&object).is_some_and(|head| head.kind.is_some());
    let Some(inside) = object.iter().position(|&byte| byte == b'{').filter(|_| !has_type) else {
        return object;
    };
    let rest = &object[inside + 1..];
    let comma = if first_letter(rest) == Some(b'}') { "" } else { "," };
    let mut typed = format!("{{\"kind\":\"{name}\",\"apiVersion\":\"{api}\"{comma}").into_bytes();
    typed.extend_from_slice(rest);
    typed.into()
}

/// Splits a list of objects; nothing when it is none.
pub(crate) fn split(list: &[u8]) -> Option<Vec<&RawValue>> {
    serde_json::from_slice(list).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::Group;

    fn name(text: &str) -> Name {
        Name::of(&Resource::parse(&Group::Resource, text)).unwrap()
    }

    #[test]
    fn keys_are_those_of_the_recorded_database() {
        let pod = name("default/pod/cap-pod");
        let mirror = pod.mirror(5404, b"{}").unwrap();
        assert_eq!(&*pod.key(), "default/pod/cap-pod");
        assert_eq!(&*mirror.key, "/core/v1/pods/default/cap-pod");
        assert_eq!(&*mirror.resource, "/v1, Resource=pods");
        let node = name("default/node/edge1");
        assert_eq!(&*node.key(), "null/node/edge1");
        let mirror = node.mirror(1, b"{}").unwrap();
        assert_eq!((&*mirror.key, &*mirror.namespace), ("/core/v1/nodes/null/edge1", ""));
        let device = name("default/device/sensor1").mirror(1, b"{}").unwrap();
        assert_eq!(&*device.key, "/devices.kubeedge.io/v1beta1/devices/default/sensor1");
        assert_eq!(&*device.resource, "devices.kubeedge.io/v1beta1, Resource=devices");
        let mapper = name("default/devicemapper/m");
        assert_eq!(&*mapper.key(), "node/nodeID/namespace/devicemapper/m");
    }

    #[test]
    fn plurals_of_strange_kinds_are_guessed_as_go_guesses_them() {
        let mirror = |kind: &str| {
            let object = format!(r#"{{"apiVersion":"g.io/v2","kind":"{kind}"}}"#);
            name("ns/strange/n").mirror(1, object.as_bytes()).unwrap().key
        };
        assert_eq!(&*mirror("Gadget"), "/g.io/v2/gadgets/ns/n");
        assert_eq!(&*mirror("NetworkPolicy"), "/g.io/v2/networkpolicies/ns/n");
        assert_eq!(&*mirror("Ingress"), "/g.io/v2/ingresses/ns/n");
        assert_eq!(name("ns/strange/n").mirror(1, b"[]"), None);
    }

    #[test]
    fn an_object_without_type_is_given_one_and_nothing_else_changes() {
        let typed = |text: &'static str| with_type(Bytes::from_static(text.as_bytes()), &Kind::Pod);
        assert_eq!(
            typed(r#" {"metadata":{"name":"p"}}"#),
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p"}}"#
        );
        assert_eq!(typed("{}"), r#"{"kind":"Pod","apiVersion":"v1"}"#);
        assert_eq!(typed(r#"{"kind":"Pod"}"#), r#"{"kind":"Pod"}"#);
    }
}
