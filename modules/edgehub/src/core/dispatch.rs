//! Where a message from the cloud goes, and whether the cloud waits for its acknowledgement.

use ipc_proto::{Group, Kind, Message, Module, Operation, Resource, Source};

/// Where a message from the cloud goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To a module.
    To(Module),
    /// An answer for which nobody waits.
    Stray,
    /// No module takes such messages.
    Unsupported,
}

/// Chooses the module for a message (WIRE.md §4.4). `asker` is the module that sent the message
/// which this one answers, where that is known.
pub(crate) fn way(message: &Message, asker: Option<Module>) -> Way {
    let route = &message.route;
    match (&route.group, message.is_answer()) {
        (Group::Resource | Group::Func | Group::Twin | Group::User, true) if asker.is_some() => {
            asker.map_or(Way::Stray, Way::To)
        }
        (Group::Resource | Group::Func, _) if route.operation == Operation::ApplicationResponse => {
            Way::To(Module::Metaserver)
        }
        (Group::Resource | Group::Func, _) => Way::To(Module::Metamanager),
        (Group::Twin, _) => Way::To(Module::Devicetwin),
        (Group::Taskmanager, _) => Way::To(Module::Taskmanager),
        (Group::User, true) => Way::Stray,
        (Group::User, false) if route.source == Source::RouterEventbus => Way::To(Module::Eventbus),
        (Group::User, false) if route.source == Source::RouterServicebus => {
            Way::To(Module::Servicebus)
        }
        (
            Group::None
            | Group::Meta
            | Group::Hub
            | Group::Bus
            | Group::Edged
            | Group::Edgestream
            | Group::Dynamiccontroller
            | Group::Diagnostic
            | Group::Unknown(_),
            _,
        )
        | (Group::User, false) => Way::Unsupported,
    }
}

/// Tells whether the cloud holds the node's queue until this message is acknowledged (WIRE.md
/// §4.6). In doubt it is: an acknowledgement that nobody waits for is passed over.
pub(crate) fn wants_acknowledgement(message: &Message) -> bool {
    let route = &message.route;
    let by_operation = matches!(
        route.operation,
        Operation::CreateVolume
            | Operation::DeleteVolume
            | Operation::ControllerPublishVolume
            | Operation::ControllerUnpublishVolume
            | Operation::ApplicationResponse
    );
    let is_done = route.operation == Operation::Response && *message.content.raw() == "\"OK\"";
    let by_sender = route.group == Group::User
        || matches!(route.source, Source::Taskmanager | Source::Nodeupgradejobcontroller);
    !(by_operation || is_done || by_sender || sent_once(message))
}

/// Tells whether the cloud sends messages about this resource once.
fn sent_once(message: &Message) -> bool {
    let route = &message.route;
    match &route.resource {
        Resource::Membership | Resource::MembershipDetail | Resource::KubernetesCa => true,
        Resource::Device { change, .. } => **change == *"twin/cloud_updated",
        Resource::Object { kind, .. } => {
            matches!(kind, Kind::PodList | Kind::ServiceAccountToken)
                || route.source == Source::Edgecontroller
                    && (*kind == Kind::Node && route.operation != Operation::Update
                        || *kind == Kind::Pod && route.operation == Operation::Response
                        || matches!(
                            kind,
                            Kind::Lease
                                | Kind::NodePatch
                                | Kind::PodPatch
                                | Kind::PodStatus
                                | Kind::CertificateSigningRequest
                        ))
        }
        Resource::None
        | Resource::Node
        | Resource::Connection
        | Resource::Twin
        | Resource::Task(_)
        | Resource::Text(_) => false,
    }
}

#[cfg(test)]
mod tests;
