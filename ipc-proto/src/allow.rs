//! Who may say what to whom. Checked by the sender, where a breach is a bug, and by the receiver,
//! where it is a broken or taken-over peer: an edgemesh gone wrong cannot delete a pod.
//!
//! Answers (messages with a parent) pass between all peers; they reach only a waiter that asked.

use Module::{
    Devicetwin, Edged, Edgehub, Edgemesh, Edgestream, Eventbus, Metamanager, Metaserver,
    Servicebus, Taskmanager,
};
use Operation as Op;

use crate::message::Message;
use crate::module::Module;
use crate::resource::{Kind, Resource};
use crate::words::{Group, Operation};

/// What of a message's resource a rule lets pass.
#[derive(Clone, Copy, Debug)]
enum About {
    /// Objects of any type.
    AnyObject,
    /// Objects of these types.
    Objects(&'static [Kind]),
    /// Devices' twins and the node's membership.
    Devices,
    /// The notice that the cloud link came or went.
    Link,
    /// The cluster's certificate authority.
    ClusterCa,
    /// Node jobs.
    Tasks,
    /// Texts that are the receiver's own business: topics, ports and paths, its own rows.
    Texts,
    /// What servicebus sends up: requests about a URL, and answers about nothing.
    Calls,
    /// Requests to the Kubernetes API, whose resource is the word `null` or an application's path.
    Applications,
}

impl About {
    fn holds(self, resource: &Resource) -> bool {
        match self {
            Self::AnyObject => resource.kind().is_some(),
            Self::Objects(kinds) => resource.kind().is_some_and(|kind| kinds.contains(kind)),
            Self::Devices => matches!(
                resource,
                Resource::Device { .. }
                    | Resource::Membership
                    | Resource::MembershipDetail
                    | Resource::Twin
            ),
            Self::Link => matches!(resource, Resource::Connection),
            Self::ClusterCa => matches!(resource, Resource::KubernetesCa),
            Self::Tasks => matches!(resource, Resource::Task(_)),
            Self::Texts => matches!(resource, Resource::Text(_)),
            Self::Calls => matches!(resource, Resource::Text(_) | Resource::None),
            Self::Applications => {
                matches!(resource, Resource::Text(_) | Resource::Object { .. } | Resource::None)
            }
        }
    }
}

/// One line of the list: `from` may send these operations about these resources to `to`.
struct Rule(Module, Module, &'static [Operation], About);

const WRITE: &[Op] = &[Op::Insert, Op::Update, Op::Delete, Op::Patch];
const NEWS: &[Op] = &[Op::Insert, Op::Update, Op::Delete];
const KEEP: &[Op] = &[Op::Query, Op::Insert, Op::Update, Op::Delete];
const CONNECT: &[Op] = &[Op::Connect];
const QUERY: &[Op] = &[Op::Query];
const UPLOAD: &[Op] = &[Op::Upload];
const REPORT: &[Op] = &[Op::Update];
const CSI: &[Op] = &[
    Op::CreateVolume,
    Op::DeleteVolume,
    Op::ControllerPublishVolume,
    Op::ControllerUnpublishVolume,
];
const TOPICS: &[Op] = &[Op::Subscribe, Op::Unsubscribe, Op::Message, Op::Publish, Op::GetResult];
const HTTP: &[Op] =
    &[Op::HttpGet, Op::HttpPost, Op::HttpPut, Op::HttpDelete, Op::HttpPatch, Op::Start, Op::Stop];
const JOB: &[Op] = &[
    Op::Check,
    Op::WaitingConfirmation,
    Op::BackUp,
    Op::UpgradeStep,
    Op::RollBack,
    Op::Pull,
    Op::UpdateStep,
    Op::UpdateNodeActionStatus,
    Op::Upgrade,
    Op::Prepull,
    Op::UnholdUpgrade,
];

const MESH: About = About::Objects(&[
    Kind::Service,
    Kind::ServiceList,
    Kind::Endpoints,
    Kind::EndpointsList,
    Kind::EndpointSlice,
    Kind::DestinationRule,
    Kind::Pod,
    Kind::PodList,
    Kind::Node,
]);
const OWN_DEVICES: About = About::Objects(&[Kind::Device, Kind::DeviceModel, Kind::DeviceMapper]);

const RULES: &[Rule] = &[
    Rule(Edgehub, Metamanager, WRITE, About::AnyObject),
    Rule(Edgehub, Metamanager, CSI, About::AnyObject),
    Rule(Edgehub, Metamanager, CONNECT, About::Link),
    Rule(Edgehub, Devicetwin, KEEP, About::Devices),
    Rule(Edgehub, Devicetwin, CONNECT, About::Link),
    Rule(Edgehub, Eventbus, TOPICS, About::Texts),
    Rule(Edgehub, Eventbus, CONNECT, About::Link),
    Rule(Edgehub, Servicebus, HTTP, About::Texts),
    Rule(Edgehub, Servicebus, CONNECT, About::Link),
    Rule(Edgehub, Taskmanager, JOB, About::Tasks),
    Rule(Edgehub, Taskmanager, CONNECT, About::Link),
    Rule(Edgehub, Metaserver, CONNECT, About::Link),
    Rule(Edgehub, Edgestream, CONNECT, About::Link),
    Rule(Metamanager, Edgehub, WRITE, About::AnyObject),
    Rule(Metamanager, Edgehub, QUERY, About::AnyObject),
    Rule(Metamanager, Edgehub, QUERY, About::ClusterCa),
    Rule(Metamanager, Edgehub, UPLOAD, About::Texts),
    Rule(Metamanager, Edgehub, REPORT, About::Devices),
    Rule(Metamanager, Devicetwin, WRITE, OWN_DEVICES),
    Rule(Metamanager, Edged, WRITE, About::AnyObject),
    Rule(Metamanager, Edged, CSI, About::AnyObject),
    Rule(Metamanager, Edged, CONNECT, About::Link),
    Rule(Metamanager, Edged, &[Op::UnholdUpgrade], About::AnyObject),
    Rule(Metamanager, Metaserver, NEWS, About::Texts),
    Rule(Metamanager, Edgemesh, WRITE, MESH),
    Rule(Devicetwin, Metamanager, KEEP, OWN_DEVICES),
    Rule(Devicetwin, Metamanager, REPORT, About::Devices),
    Rule(Devicetwin, Edgehub, &[Op::Update, Op::Get], About::Devices),
    Rule(Devicetwin, Eventbus, TOPICS, About::Texts),
    Rule(Edged, Metamanager, QUERY, About::AnyObject),
    Rule(
        Edged,
        Metamanager,
        &[Op::Insert, Op::Update, Op::Patch],
        About::Objects(&[
            Kind::Node,
            Kind::NodeStatus,
            Kind::NodePatch,
            Kind::Lease,
            Kind::Event,
            Kind::Pod,
            Kind::PodStatus,
            Kind::PodPatch,
            Kind::CertificateSigningRequest,
            Kind::ServiceAccountToken,
            Kind::VolumeAttachment,
        ]),
    ),
    Rule(Edged, Metamanager, &[Op::Delete], About::Objects(&[Kind::Pod])),
    Rule(Eventbus, Edgehub, UPLOAD, About::Texts),
    Rule(Eventbus, Metamanager, UPLOAD, About::Texts),
    Rule(Eventbus, Devicetwin, &[Op::Update, Op::Get], About::Devices),
    Rule(Eventbus, Devicetwin, &[Op::Message], About::Texts),
    Rule(Eventbus, Metamanager, KEEP, About::Texts),
    Rule(Servicebus, Edgehub, UPLOAD, About::Calls),
    Rule(Servicebus, Metamanager, UPLOAD, About::Texts),
    Rule(Servicebus, Metamanager, KEEP, About::Texts),
    Rule(Taskmanager, Edgehub, JOB, About::Tasks),
    Rule(Taskmanager, Metamanager, KEEP, About::Tasks),
    Rule(Taskmanager, Edged, &[Op::Pull, Op::UnholdUpgrade], About::Tasks),
    Rule(Metaserver, Metamanager, QUERY, About::AnyObject),
    Rule(Metaserver, Metamanager, QUERY, About::Texts),
    Rule(Metaserver, Metamanager, QUERY, About::ClusterCa),
    Rule(Metaserver, Edgehub, &[Op::Null], About::Applications),
    Rule(
        Metaserver,
        Edgehub,
        &[Op::Insert, Op::Query],
        About::Objects(&[Kind::CertificateSigningRequest]),
    ),
    Rule(Metaserver, Edgehub, QUERY, About::ClusterCa),
    Rule(Metaserver, Edged, &[Op::UnholdUpgrade, Op::Restart], About::Objects(&[Kind::Pod])),
    Rule(Metaserver, Taskmanager, &[Op::UnholdUpgrade, Op::WaitingConfirmation], About::Tasks),
    Rule(Edgestream, Edged, QUERY, About::Texts),
    Rule(Edgemesh, Metamanager, QUERY, MESH),
    Rule(Edgemesh, Metamanager, KEEP, About::Objects(&[Kind::Listener])),
];

/// A message that its sender may not send to its receiver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{from} may not send '{operation} {resource}' to {to}")]
pub struct NotAllowed {
    /// The sender.
    pub from: Module,
    /// The receiver.
    pub to: Module,
    /// The operation.
    pub operation: Box<str>,
    /// The resource.
    pub resource: Box<str>,
}

/// Checks a message against the list.
///
/// # Errors
/// [`NotAllowed`] when no rule lets it pass.
pub fn check(from: Module, to: Module, message: &Message) -> Result<(), NotAllowed> {
    let route = &message.route;
    let peers = from.dials().contains(&to) || to.dials().contains(&from);
    let diagnostic =
        route.group == Group::Diagnostic && matches!(route.operation, Op::Ping | Op::Echo);
    let answer = message.is_answer()
        && matches!(route.operation, Op::Response | Op::Error | Op::ApplicationResponse);
    let ruled = || {
        RULES.iter().any(|Rule(rule_from, rule_to, operations, about)| {
            *rule_from == from
                && *rule_to == to
                && operations.contains(&route.operation)
                && about.holds(&route.resource)
        })
    };
    if peers && (answer || diagnostic || ruled()) {
        return Ok(());
    }
    let operation = route.operation.as_str().chars().take(64).collect::<String>().into();
    let resource = route.resource.to_string().chars().take(128).collect::<String>().into();
    Err(NotAllowed { from, to, operation, resource })
}

#[cfg(test)]
mod tests;
