//! What the cloud does with the messages that the node's modules send.

use ipc_proto::{Kind, Message, Operation, Resource, Scope, Source};

/// Tells whether the cloud answers a message (WIRE.md §§6.2, 7.4). For one that it does not answer
/// only a barrier shows that it arrived.
pub(crate) fn is_answered(message: &Message) -> bool {
    let route = &message.route;
    if message.is_answer() {
        return false;
    }
    message.header.sync
        || matches!(route.operation, Operation::Query | Operation::Null)
        || matches!(route.resource, Resource::Device { .. }) && route.operation == Operation::Update
        || is_write(&route.operation)
            && route.resource.kind().is_some_and(|kind| {
                matches!(
                    kind,
                    Kind::Node
                        | Kind::NodeStatus
                        | Kind::NodePatch
                        | Kind::Pod
                        | Kind::PodStatus
                        | Kind::PodPatch
                        | Kind::Lease
                        | Kind::CertificateSigningRequest
                )
            })
}

const fn is_write(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Insert | Operation::Update | Operation::Patch | Operation::Delete
    )
}

/// Tells whether a message goes before bulk: what a node needs to be Ready, and what somebody
/// waits for. Messages about pods stay in order among themselves, because a pod's last status has
/// to arrive before its deletion.
pub(crate) fn is_urgent(message: &Message) -> bool {
    let route = &message.route;
    matches!(route.operation, Operation::Query | Operation::Null)
        || route.resource.kind().is_some_and(|kind| {
            matches!(
                kind,
                Kind::Lease
                    | Kind::Node
                    | Kind::NodePatch
                    | Kind::NodeStatus
                    | Kind::CertificateSigningRequest
            )
        })
}

/// Tells whether a message says all that an earlier one about the same resource said, so that the
/// earlier one need not be sent.
pub(crate) fn is_status(message: &Message) -> bool {
    let route = &message.route;
    let kind = route.resource.kind();
    !message.is_answer()
        && !message.header.sync
        && (route.operation == Operation::Patch
            && matches!(kind, Some(Kind::PodPatch | Kind::NodePatch))
            || route.operation == Operation::Update
                && matches!(kind, Some(Kind::PodStatus | Kind::NodeStatus | Kind::Lease)))
}

/// Tells whether two messages are about one object: the status patch of a pod and its deletion
/// are.
pub(crate) fn about_one_object(one: &Message, other: &Message) -> bool {
    match (&one.route.resource, &other.route.resource) {
        (
            Resource::Object { scope: one_scope, name: one_name, .. },
            Resource::Object { scope: other_scope, name: other_name, .. },
        ) => one_scope == other_scope && one_name == other_name,
        (one, other) => one == other,
    }
}

/// The namespace of nodes' leases.
const LEASES: &str = "kube-node-lease";

/// Returns the node that a message would change in the cloud, where it would change one.
pub(crate) fn changed_node(message: &Message) -> Option<&str> {
    let Resource::Object { scope, kind, name: Some(name) } = &message.route.resource else {
        return None;
    };
    let in_leases = matches!(scope, Scope::Namespace(namespace) if **namespace == *LEASES);
    let is_of_node = *kind == Kind::Lease && in_leases
        || matches!(kind, Kind::Node | Kind::NodeStatus | Kind::NodePatch);
    (is_of_node && is_write(&message.route.operation)).then_some(name)
}

/// Returns why a message must not go to the cloud, where it must not.
pub(crate) fn forbidden(message: &Message) -> Option<&'static str> {
    let route = &message.route;
    let answers = matches!(route.operation, Operation::Response | Operation::Error);
    let from_cloud = matches!(
        route.source,
        Source::Cloudhub
            | Source::CloudStream
            | Source::Devicecontroller
            | Source::Edgecontroller
            | Source::Synccontroller
    );
    if from_cloud && !answers {
        // CloudHub drops such messages without a word (WIRE.md §1.5).
        return Some("its source is a name of the cloud's own");
    }
    match &route.resource {
        // It ends CloudCore's lease worker for all nodes (WIRE.md §6.2).
        Resource::Object { kind: Kind::Lease, name: None, .. } => Some("a lease needs a name"),
        _ if route.operation == Operation::Keepalive => Some("keepalives are edgehub's own"),
        Resource::None
        | Resource::Node
        | Resource::Connection
        | Resource::Membership
        | Resource::MembershipDetail
        | Resource::Twin
        | Resource::KubernetesCa
        | Resource::Object { .. }
        | Resource::Device { .. }
        | Resource::Task(_)
        | Resource::Text(_) => None,
    }
}
