//! What is delivered reliably and what is sent once (WIRE.md §4.6).

use ipc_proto::{Group, Kind, Message, Operation, Resource, Source};
use serde::Deserialize;

/// How a message is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Sent once; no acknowledgement is waited for.
    Once,
    /// Queued, and sent until the node acknowledges it.
    Reliable(Subject),
    /// Not sent at all: it would have to be acknowledged, but names no object or no version.
    Never,
}

/// The object that a reliable message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its uid, which the queue and the ObjectSyncs go by.
    pub uid: Box<str>,
    /// How far the object's life has gone.
    pub stage: Stage,
    /// The version that the message carries; 0 for deletions without one.
    pub version: u64,
    /// Whether the message is the answer to a query, which always goes out.
    pub answer: bool,
}

/// How far an object's life has gone. A later stage wins over any version of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It lives.
    Live,
    /// It is to end: it has a deletion timestamp.
    Terminating,
    /// It is gone: the message is its deletion.
    Gone,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    metadata: Option<Meta>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    uid: Option<Box<str>>,
    deletion_timestamp: Option<String>,
}

/// Decides how a message is delivered.
#[must_use]
pub fn delivery(message: &Message) -> Delivery {
    if sent_once(message) {
        return Delivery::Once;
    }
    let deletion = message.route.operation == Operation::Delete;
    let version = message.header.resource_version.parse().ok();
    if message.route.group != Group::Resource || (version.is_none() && !deletion) {
        return Delivery::Never;
    }
    let meta = message.content.decode::<Body>().ok().and_then(|body| body.metadata);
    let Some(Meta { uid: Some(uid), deletion_timestamp }) = meta else { return Delivery::Never };
    Delivery::Reliable(Subject {
        uid,
        stage: match deletion_timestamp {
            _ if deletion => Stage::Gone,
            Some(_) => Stage::Terminating,
            None => Stage::Live,
        },
        version: version.unwrap_or(0),
        answer: message.route.operation == Operation::Response,
    })
}

fn sent_once(message: &Message) -> bool {
    let route = &message.route;
    let by_source = matches!(route.source, Source::Taskmanager | Source::Nodeupgradejobcontroller);
    let by_operation = matches!(
        route.operation,
        Operation::ApplicationResponse
            | Operation::CreateVolume
            | Operation::DeleteVolume
            | Operation::ControllerPublishVolume
            | Operation::ControllerUnpublishVolume
    );
    let answer = route.operation == Operation::Response;
    by_source
        || by_operation
        || route.group == Group::User
        || by_resource(&route.resource)
        || (answer && is_plain_answer(message.content.raw()))
        || (route.source == Source::Edgecontroller && by_kind(&route.resource, &route.operation))
}

fn by_resource(resource: &Resource) -> bool {
    let text = resource.to_string();
    ["podlist", "membership", "twin/cloud_updated", "serviceaccounttoken", "k8s/ca.crt"]
        .iter()
        .any(|part| text.contains(part))
}

/// The word OK, or an error (in CloudCore a Go error value, in JSON an object with `ErrStatus`, or
/// an empty one).
fn is_plain_answer(json: &[u8]) -> bool {
    json == b"\"OK\"" || json == b"{}" || json.starts_with(b"{\"ErrStatus\"")
}

fn by_kind(resource: &Resource, operation: &Operation) -> bool {
    match (resource.kind(), operation) {
        (Some(Kind::Node), operation) => *operation != Operation::Update,
        (Some(Kind::Pod), operation) => *operation == Operation::Response,
        (
            Some(
                Kind::Lease
                | Kind::NodePatch
                | Kind::PodPatch
                | Kind::PodStatus
                | Kind::CertificateSigningRequest,
            ),
            _,
        ) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
