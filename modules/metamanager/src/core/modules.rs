//! What edged asks for: its node, its pods' statuses, leases, events, and what its pods need.
//!
//! What must arrive is committed to the outbox before it is settled, and reaches the cloud whenever
//! there is one. What makes sense only now (a lease, a registration) needs the cloud.

use ipc_proto::{Kind, Message, Module, Resource, Scope};
use serde::de::IgnoredAny;

use super::object::{self, Name};
use super::{Core, Effect, Keep, Receipt, Then, Wish, ok, unsupported};
use crate::row::{Change, Parcel};

/// Returns what a message is about in the outbox: a later one of the same subject takes the place
/// of this one while it waits. Each event and upload is its own, and so is each twin report: it
/// tells of those properties alone that changed.
pub(super) fn subject(message: &Message) -> Option<Box<str>> {
    let route = &message.route;
    let resource = &route.resource;
    let in_part = resource.kind() == Some(&Kind::Event)
        || matches!(resource, Resource::Device { change, .. } if **change == *"twin/edge_updated");
    let coalesces =
        !in_part && matches!(Wish::of(message), Wish::Update | Wish::Patch | Wish::Delete);
    coalesces.then(|| format!("{} {}", route.operation, route.resource).into())
}

impl Core {
    pub(super) fn edged_says(&mut self, message: Message, receipt: Receipt, out: &mut Vec<Effect>) {
        if let Err(error) = message.content.decode::<IgnoredAny>() {
            out.push(Effect::Refuse(receipt, format!("the content is no JSON: {error}")));
            return;
        }
        let kind = message.route.resource.kind().cloned();
        let name = Name::of(&message.route.resource);
        let wish = Wish::of(&message);
        match (wish, kind, name) {
            (Wish::Query, _, _) => self.query(Module::Edged, message, receipt, out),
            (Wish::Insert | Wish::Update | Wish::Patch, Some(Kind::Event), Some(_))
            | (Wish::Delete, Some(Kind::Pod), Some(_)) => {
                self.queue(&message, receipt, Vec::new(), out);
            }
            (Wish::Insert | Wish::Update, Some(Kind::Lease), Some(name)) => {
                self.lease(name, message, receipt, out);
            }
            (Wish::Insert, Some(_), Some(name)) => {
                self.ask_cloud(message, receipt, Keep::Object(name.owner()), None, out);
            }
            (Wish::Update, Some(Kind::PodStatus), None) => {
                self.queue(&message, receipt, Vec::new(), out);
            }
            (Wish::Update, Some(_), Some(name)) => {
                let kept = updated(&name, &message);
                self.queue(&message, receipt, vec![kept], out);
            }
            (Wish::Patch, Some(_), Some(name)) => match message.content.decode::<String>() {
                // Rows are joined to arrays: one that is no JSON would spoil those of others.
                Ok(patch) if serde_json::from_str::<IgnoredAny>(&patch).is_ok() => {
                    let kept = Change::Put(name.row(patch.into()));
                    self.queue(&message, receipt, vec![kept], out);
                }
                Ok(_) | Err(_) => {
                    out.push(Effect::Refuse(receipt, "the patch is no text of JSON".to_owned()));
                }
            },
            (
                Wish::Insert
                | Wish::Update
                | Wish::Patch
                | Wish::Delete
                | Wish::Upload
                | Wish::Connect
                | Wish::Volume
                | Wish::Unsupported,
                _,
                _,
            ) => out.push(Effect::Fail(receipt, unsupported(&message))),
        }
    }

    /// Takes a lease to the cloud, or says that there is none: a lease is news only now.
    fn lease(&mut self, name: Name, message: Message, receipt: Receipt, out: &mut Vec<Effect>) {
        // A lease without a namespace stops the cloud's own worker for good.
        if name.scope == Scope::Cluster {
            out.push(Effect::Refuse(receipt, "a lease needs a namespace".to_owned()));
            return;
        }
        self.ask_cloud(message, receipt, Keep::Object(name), None, out);
    }

    /// Commits a message to the outbox, with what else it changes. Who asked is answered by the
    /// cloud, while there is one; else, and when the cloud never answers such a message, the
    /// commit is the answer.
    pub(super) fn queue(
        &mut self,
        message: &Message,
        receipt: Receipt,
        mut changes: Vec<Change>,
        out: &mut Vec<Effect>,
    ) {
        let wish = Wish::of(message);
        // Who waits now is answered from here. On its way up the message says that somebody waits
        // only where it is sent as a request.
        let mut parcel = message.clone();
        parcel.header.sync = false;
        let text = match ipc_proto::json::encode(&parcel).map(String::from_utf8) {
            Ok(Ok(text)) => text.into_boxed_str(),
            Ok(Err(_)) | Err(_) => {
                out.push(Effect::Refuse(receipt, "the content is no JSON".to_owned()));
                return;
            }
        };
        let subject = subject(message);
        // Events, uploads and reports can be any number: they go first when there is no room.
        let expendable = subject.is_none();
        let waits =
            self.linked && message.header.sync && matches!(wish, Wish::Patch | Wish::Delete);
        let then = match &subject {
            Some(subject) if waits => {
                self.outbox.wait(subject, &message.header.id, receipt, out);
                Vec::new()
            }
            Some(_) | None => vec![Effect::Respond(receipt, ok())],
        };
        let sent = self.outbox.sent();
        changes.push(Change::Queue(Box::new(Parcel { text, subject, expendable, sent })));
        out.push(Effect::Commit(changes, Then::Queued(then)));
    }
}

/// Keeps an update of edged's. Statuses are kept as they are, a node in its place.
fn updated(name: &Name, message: &Message) -> Change {
    let value = message.content.raw().clone();
    if !matches!(name.kind, Kind::Node | Kind::Pod) {
        return Change::Put(name.row(value));
    }
    let version = object::version(message, &value);
    Change::Put(name.rows(version, value))
}
