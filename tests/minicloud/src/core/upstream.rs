//! What nodes ask for and report, and what they are answered (WIRE.md §§4.5, 6.2).

mod devices;
mod dynamic;
mod events;
mod nodes;
mod objects;
mod pods;

use ipc_proto::{Group, Kind, Message, Operation, Resource, Route, Source};
use serde_json::{Value, json};

use super::Cloud;
use super::cluster::version_of;
use super::key::Key;
use super::status::Status;
use crate::hub::core::{Effect, SessionId};
use crate::time::Time;

/// What a request is answered with.
struct Answer {
    content: Value,
    /// The version that the header names; 0 for none.
    version: u64,
}

impl Answer {
    /// The word OK.
    fn ok() -> Self {
        Self { content: "OK".into(), version: 0 }
    }

    /// The object as it is, or the error in its place.
    fn bare(result: Result<&Value, Status>) -> Self {
        match result {
            Ok(object) => Self { content: object.clone(), version: version_of(object) },
            Err(status) => Self { content: status.to_value(), version: 0 },
        }
    }

    /// The envelope of object and error.
    fn envelope(result: Result<&Value, Status>) -> Self {
        match result {
            Ok(object) => {
                let mut object = object.clone();
                super::untype(&mut object);
                Self { content: json!({"Object": object, "Err": null}), version: 0 }
            }
            Err(status) => {
                Self { content: json!({"Object": null, "Err": status.to_value()}), version: 0 }
            }
        }
    }

    /// The same, with the object's version in the header, as patches and pods are answered.
    fn versioned(result: Result<&Value, Status>) -> Self {
        let version = result.as_ref().map_or(0, |object| version_of(object));
        Self { version, ..Self::envelope(result) }
    }
}

/// A message from a node, and what it takes to act on it.
struct Call<'a> {
    cloud: &'a mut Cloud,
    now: Time,
    session: SessionId,
    node: &'a str,
    message: &'a Message,
    out: &'a mut Vec<Effect>,
}

/// Who in the cloud a message is for.
enum Desk {
    /// The session's timer.
    Keepalive,
    /// The queue of reliable messages.
    Acknowledgements,
    /// Router, task manager and CSI drivers: not part of this cloud, which only keeps the message.
    Elsewhere,
    /// CloudHub itself: the certificate authority of the cluster.
    Authority,
    /// dynamiccontroller.
    Applications,
    /// devicecontroller.
    Devices,
    /// edgecontroller.
    Objects,
}

/// Finds who a message is for, in the order in which CloudHub asks.
fn desk(message: &Message) -> Desk {
    let Route { source, group, operation, resource } = &message.route;
    let is = |other: Operation| *operation == other;
    let cloud_names = [
        Source::Cloudhub,
        Source::CloudStream,
        Source::Devicecontroller,
        Source::Edgecontroller,
        Source::Synccontroller,
    ];
    let task = [Operation::Prepull, Operation::Upgrade, Operation::UpdateNodeActionStatus];
    if is(Operation::Keepalive) {
        Desk::Keepalive
    } else if resource.kind() == Some(&Kind::Volume) {
        Desk::Elsewhere
    } else if is(Operation::Response) {
        Desk::Acknowledgements
    } else if is(Operation::Error)
        || (is(Operation::Upload) && *group == Group::User)
        || task.contains(operation)
    {
        Desk::Elsewhere
    } else if *resource == Resource::KubernetesCa {
        Desk::Authority
    } else if cloud_names.contains(source) {
        Desk::Elsewhere
    } else if *source == Source::Metaserver {
        Desk::Applications
    } else if *source == Source::Twin {
        Desk::Devices
    } else {
        Desk::Objects
    }
}

/// Takes a message from a node.
pub(super) fn receive(
    cloud: &mut Cloud,
    now: Time,
    (session, node): (SessionId, &str),
    message: &Message,
    out: &mut Vec<Effect>,
) {
    let mut call = Call { cloud, now, session, node, message, out };
    match desk(message) {
        Desk::Elsewhere => {}
        Desk::Keepalive => call.cloud.hub.keepalive(now, call.session),
        Desk::Acknowledgements => {
            if let Some(parent) = &message.header.parent {
                call.cloud.hub.ack(now, call.session, parent, call.out);
            }
        }
        Desk::Authority => {
            let content = call.cloud.settings.ca_pem.as_str().into();
            call.respond(Source::Cloudhub, &Answer { content, version: 0 });
        }
        Desk::Applications => dynamic::receive(&mut call),
        Desk::Devices => {
            if let Some(answer) = devices::report(&mut call) {
                let (source, group) = (Source::Devicecontroller, Group::Twin);
                let (operation, resource) = (Operation::Response, Resource::Twin);
                call.reply(Route { source, group, operation, resource }, &answer);
            }
        }
        Desk::Objects => {
            if let Some(answer) = request(&mut call) {
                call.respond(Source::Edgecontroller, &answer);
            }
        }
    }
}

impl Call<'_> {
    /// Answers from `source`, about the resource that was asked for.
    fn respond(&mut self, source: Source, answer: &Answer) {
        let (group, operation) = (Group::Resource, Operation::Response);
        let resource = self.message.route.resource.clone();
        self.reply(Route { source, group, operation, resource }, answer);
    }

    fn reply(&mut self, route: Route, answer: &Answer) {
        let mut message = self.cloud.message(self.now, route, &answer.content);
        message.header.parent = Some(self.message.header.id.clone());
        if answer.version > 0 {
            message.header.resource_version = answer.version.to_string().into();
        }
        self.cloud.hub.send(self.now, self.node, message, self.out);
    }
}

/// What a request to edgecontroller is about, and its body, parsed once.
struct Request {
    key: Key,
    body: Value,
}

/// Answers a request to edgecontroller. What lacks a part, or nobody handles, gets no answer, as in
/// the real cloud.
fn request(call: &mut Call<'_>) -> Option<Answer> {
    let Route { operation, resource, .. } = &call.message.route;
    let Resource::Object { scope, kind, name } = resource else { return None };
    let body: Value = call.message.content.decode().ok()?;
    if (kind, operation) == (&Kind::PodStatus, &Operation::Update) {
        return pods::statuses(call, scope.as_str(), name.as_deref(), &body);
    }
    // Patches and statuses are about the object itself.
    let word = match kind.as_str() {
        "nodepatch" | "nodestatus" => "node",
        "podpatch" => "pod",
        "serviceaccounttoken" => "serviceaccount",
        other => other,
    };
    let key = Key::parse(&format!("{}/{word}/{}", scope.as_str(), name.as_deref()?)).ok()?;
    let request = Request { key, body };
    match (kind, operation) {
        (Kind::Node, Operation::Insert) => Some(nodes::insert(call, request)),
        (Kind::Node, Operation::Update) => nodes::update(call, &request),
        (Kind::NodeStatus, Operation::Insert) => Some(nodes::insert_status(call, request)),
        (Kind::NodeStatus, Operation::Update) => nodes::update_status(call, &request),
        (Kind::NodePatch | Kind::PodPatch, Operation::Patch) => {
            Some(objects::patch_status(call, &request))
        }
        (Kind::Pod, Operation::Insert) => Some(pods::insert(call, request)),
        (Kind::Pod, Operation::Delete) => Some(pods::delete(call, &request)),
        (Kind::Lease, Operation::Query) => Some(objects::query_lease(call, &request)),
        (Kind::Lease, Operation::Insert) => Some(nodes::insert_lease(call, request)),
        (Kind::Lease, Operation::Update) => Some(nodes::renew_lease(call, request)),
        (Kind::Node | Kind::ConfigMap | Kind::Secret, Operation::Query) => {
            Some(objects::query_cached(call, &request))
        }
        (
            Kind::PersistentVolume | Kind::PersistentVolumeClaim | Kind::VolumeAttachment,
            Operation::Query,
        ) => Some(objects::query(call, &request)),
        (Kind::ServiceAccountToken, Operation::Query) => Some(objects::token(call, &request)),
        (Kind::CertificateSigningRequest, Operation::Insert) => {
            Some(objects::insert_csr(call, request))
        }
        (Kind::CertificateSigningRequest, Operation::Query) => {
            Some(objects::query_csr(call, &request))
        }
        (Kind::Event, Operation::Insert | Operation::Update | Operation::Patch) => {
            events::take(call, operation, request);
            None
        }
        // All else nobody answers.
        _ => None,
    }
}

/// Reads content that may be JSON text inside a string, or the JSON itself.
fn parse_text(body: &Value) -> Option<Value> {
    match body.as_str() {
        Some(text) => serde_json::from_str(text).ok(),
        None => Some(body.clone()),
    }
}
