//! What came down from the cloud: what is in work, and what was acknowledged.

use std::collections::HashMap;

use ipc_proto::{Content, Message, MessageId, Route};
use module_runtime::Recent;

use super::dispatch;
use super::upstream::Confirmed;

/// Acknowledged messages that are remembered. The cloud has one in flight for a node, and sends
/// that one five times (WIRE.md §4.6).
const REMEMBERED: usize = 256;

/// What is to be done with a message that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is new.
    New,
    /// It is in work already.
    InWork,
    /// Its work is done: it is acknowledged again.
    Acknowledged,
}

/// A message in a module's hands.
#[derive(Debug, Default)]
struct Open {
    /// The route of the acknowledgement, where the cloud waits for one.
    acknowledge: Option<Route>,
    /// The request that this answers.
    confirms: Option<Confirmed>,
}

/// The messages from the cloud that modules have in work. Their number is bound by the queues to
/// the modules.
#[derive(Debug)]
pub(crate) struct Downstream {
    open: HashMap<MessageId, Open>,
    acknowledged: Recent,
}

impl Downstream {
    pub(crate) fn new() -> Self {
        Self { open: HashMap::new(), acknowledged: Recent::new(REMEMBERED) }
    }

    /// Looks whether a message came before.
    pub(crate) fn arrival(&self, message: &Message) -> Arrival {
        if self.open.contains_key(&message.header.id) {
            Arrival::InWork
        } else if self.acknowledged.knows(&message.header.id) {
            Arrival::Acknowledged
        } else {
            Arrival::New
        }
    }

    /// Notes a message that is handed to a module.
    pub(crate) fn handed_on(&mut self, message: &Message, confirms: Option<Confirmed>) {
        let acknowledge = dispatch::wants_acknowledgement(message).then(|| message.route.clone());
        self.open.insert(message.header.id.clone(), Open { acknowledge, confirms });
    }

    /// Notes that a module is done with a message. Returns what to acknowledge it with, and the
    /// request that is confirmed by it.
    pub(crate) fn settled(&mut self, id: &MessageId) -> (Option<Route>, Option<Confirmed>) {
        let Open { acknowledge, confirms } = self.open.remove(id).unwrap_or_default();
        if acknowledge.is_some() {
            self.acknowledged.note(id);
        }
        (acknowledge, confirms)
    }

    /// Notes a message that is acknowledged without a module.
    pub(crate) fn done(&mut self, id: &MessageId) {
        self.acknowledged.note(id);
    }

    /// Returns how many messages are in work.
    pub(crate) fn in_work(&self) -> usize {
        self.open.len()
    }
}

/// Makes the acknowledgement of a message (WIRE.md §4.6).
pub(crate) fn acknowledgement(
    parent: MessageId,
    route: Route,
    id: MessageId,
    time: i64,
) -> Message {
    let route = Route { operation: ipc_proto::Operation::Response, ..route };
    let mut message = Message::new(id, time, route, Content::text("OK"));
    message.header.parent = Some(parent);
    message
}
