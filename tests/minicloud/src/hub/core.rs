//! Sessions and reliable delivery, as CloudHub does them: events and the time in, effects out.
//!
//! A node has one session; a newer one replaces it. Per node one reliable message is under way; it
//! is sent again every [`Settings::resend`], and after [`Settings::sends`] of them without an
//! acknowledgement it goes back to the end of the queue and the next one has its turn. What the
//! node acknowledged is remembered per object (the ObjectSyncs), and only newer versions go out.
//! Nothing is queued for a node that is away: what it misses shows in the ObjectSyncs.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_proto::{Group, Kind, Message, MessageId, Operation, Resource};

use super::admission::{Delivery, Stage, Subject, delivery};
use super::queue::{Queue, Reliable};
use crate::time::Time;

/// A session: one connection of one node. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Times and counts of the hub.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A session without a keepalive for this long is closed.
    pub keepalive: Duration,
    /// A reliable message is sent again after this long.
    pub resend: Duration,
    /// A reliable message is sent this often before the next one has its turn.
    pub sends: u32,
}

impl Default for Settings {
    /// CloudCore's own.
    fn default() -> Self {
        let (keepalive, resend) = (Duration::from_secs(30), Duration::from_secs(5));
        Self { keepalive, resend, sends: 5 }
    }
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// No keepalive in time.
    Keepalive,
    /// The node opened another session.
    Replaced,
    /// The node's object was deleted.
    NodeDeleted,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write a message to a session's socket.
    Send(SessionId, Box<Message>),
    /// Close a session's socket.
    Close(SessionId, CloseReason),
}

/// What a node has acknowledged of an object (KubeEdge's ObjectSync and ClusterObjectSync).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// The resource of messages about the object.
    pub resource: Resource,
    /// The version that the node has stored; 0 when none yet.
    pub version: u64,
}

/// The name of an ObjectSync: node and uid.
pub type SyncKey = (Box<str>, Box<str>);

/// A session as tests and operators see it.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// The node.
    pub node: String,
    /// The number of the session.
    pub session: u64,
    /// Since when, RFC 3339.
    pub since: String,
    /// When the last keepalive came, RFC 3339.
    pub last_keepalive: String,
    /// How many reliable messages wait.
    pub waiting: usize,
    /// Whether one is under way.
    pub in_flight: bool,
}

#[derive(Debug)]
struct Session {
    node: Box<str>,
    since: Time,
    alive: Time,
    waiting: Queue,
    flight: Option<Flight>,
}

#[derive(Debug)]
struct Flight {
    item: Reliable,
    sends: u32,
    resend: Time,
}

/// The hub.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    sessions: BTreeMap<SessionId, Session>,
    syncs: BTreeMap<SyncKey, Sync>,
}

impl Hub {
    /// Starts without sessions, with the ObjectSyncs of a life before.
    #[must_use]
    pub const fn new(settings: Settings, syncs: BTreeMap<SyncKey, Sync>) -> Self {
        Self { settings, sessions: BTreeMap::new(), syncs }
    }

    /// Forgets the sessions, as a process does that dies; the ObjectSyncs are the cluster's.
    pub fn restart(&mut self) {
        self.sessions.clear();
    }

    /// Returns the ObjectSyncs.
    #[must_use]
    pub const fn syncs(&self) -> &BTreeMap<SyncKey, Sync> {
        &self.syncs
    }

    /// Forgets ObjectSyncs for which `keep` says no.
    pub fn retain_syncs(&mut self, mut keep: impl FnMut(&SyncKey, &Sync) -> bool) {
        self.syncs.retain(|key, sync| keep(key, sync));
    }

    /// Returns the node of a session that stands.
    #[must_use]
    pub fn node_of(&self, session: SessionId) -> Option<&str> {
        self.sessions.get(&session).map(|session| &*session.node)
    }

    /// Returns the session of a node.
    #[must_use]
    pub fn session_of(&self, node: &str) -> Option<SessionId> {
        self.sessions.iter().find(|(_, session)| &*session.node == node).map(|(id, _)| *id)
    }

    /// Describes the sessions.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionView> {
        let view = |(id, session): (&SessionId, &Session)| SessionView {
            node: session.node.to_string(),
            session: id.0,
            since: session.since.text(),
            last_keepalive: session.alive.text(),
            waiting: session.waiting.len(),
            in_flight: session.flight.is_some(),
        };
        self.sessions.iter().map(view).collect()
    }

    /// A node's socket is open. An older session of the node is replaced.
    pub fn connect(&mut self, now: Time, id: SessionId, node: &str, out: &mut Vec<Effect>) {
        if let Some(older) = self.session_of(node) {
            self.sessions.remove(&older);
            out.push(Effect::Close(older, CloseReason::Replaced));
        }
        let (waiting, flight) = (Queue::default(), None);
        let session = Session { node: node.into(), since: now, alive: now, waiting, flight };
        self.sessions.insert(id, session);
    }

    /// A socket is closed.
    pub fn disconnect(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    /// A keepalive came.
    pub fn keepalive(&mut self, now: Time, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.alive = now;
        }
    }

    /// A message is to go to a node: at once, by way of the queue, or, by the rules, not at all.
    pub fn send(&mut self, now: Time, node: &str, message: Message, out: &mut Vec<Effect>) {
        let session = self.session_of(node);
        let deletes_node = message.route.operation == Operation::Delete
            && message.route.resource.kind() == Some(&Kind::Node);
        if deletes_node {
            if let Some(id) = session {
                self.sessions.remove(&id);
                out.push(Effect::Close(id, CloseReason::NodeDeleted));
            }
            return;
        }
        match delivery(&message) {
            Delivery::Never => {}
            Delivery::Once => out.extend(session.map(|id| Effect::Send(id, Box::new(message)))),
            Delivery::Reliable(subject) => {
                if self.admit(node, &subject, &message.route.resource)
                    && let Some(id) = session
                {
                    self.enqueue(id, Reliable { subject, message });
                    self.advance(now, id, out);
                }
            }
        }
    }

    /// Tells whether the ObjectSync lets a message pass; makes it where it is missing.
    fn admit(&mut self, node: &str, subject: &Subject, resource: &Resource) -> bool {
        if subject.stage > Stage::Live || subject.answer {
            return true;
        }
        let fresh = || Sync { resource: resource.clone(), version: 0 };
        let sync = self.syncs.entry((node.into(), subject.uid.clone())).or_insert_with(fresh);
        subject.version > sync.version
    }

    /// Puts a message into the queue, unless what is under way of the same object is as far.
    fn enqueue(&mut self, id: SessionId, item: Reliable) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let beaten = |flight: &Flight| {
            let same = flight.item.subject.uid == item.subject.uid;
            same && !flight.item.subject.answer && flight.item.rank() >= item.rank()
        };
        if item.subject.answer || !session.flight.as_ref().is_some_and(beaten) {
            session.waiting.push(item);
        }
    }

    /// Tells whether something about an object, other than an answer that was sent, is on its way to
    /// a node.
    #[must_use]
    pub fn is_queued(&self, node: &str, uid: &str) -> bool {
        let session = self.session_of(node).and_then(|id| self.sessions.get(&id));
        let flies =
            |flight: &Flight| *flight.item.subject.uid == *uid && !flight.item.subject.answer;
        session.is_some_and(|session| {
            session.flight.as_ref().is_some_and(flies) || session.waiting.find(uid).is_some()
        })
    }

    /// Sends the next message of the queue if none is under way.
    fn advance(&mut self, now: Time, id: SessionId, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.flight.is_none()
            && let Some(item) = session.waiting.pop()
        {
            out.push(Effect::Send(id, Box::new(item.message.clone())));
            let resend = now.after(self.settings.resend);
            session.flight = Some(Flight { item, sends: 1, resend });
        }
    }

    /// The node acknowledged the message `parent`. Unknown ids are nobody's business.
    pub fn ack(&mut self, now: Time, id: SessionId, parent: &MessageId, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let answered = |flight: &mut Flight| flight.item.message.header.id == *parent;
        let Some(flight) = session.flight.take_if(answered) else { return };
        let node = session.node.clone();
        self.record(node, flight.item);
        self.advance(now, id, out);
    }

    fn record(&mut self, node: Box<str>, Reliable { subject, message }: Reliable) {
        if message.route.group != Group::Resource {
            return;
        }
        let key = (node, subject.uid);
        if subject.stage == Stage::Gone {
            self.syncs.remove(&key);
        } else {
            let sync = Sync { resource: message.route.resource, version: subject.version };
            self.syncs.insert(key, sync);
        }
    }

    /// Time has passed: sends again, gives up, and closes sessions that went silent.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Effect>) {
        let silent = |session: &Session| now >= session.alive.after(self.settings.keepalive);
        let dead: Vec<_> =
            self.sessions.iter().filter(|(_, it)| silent(it)).map(|(id, _)| *id).collect();
        for id in dead {
            self.sessions.remove(&id);
            out.push(Effect::Close(id, CloseReason::Keepalive));
        }
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            self.retry(now, id, out);
        }
    }

    fn retry(&mut self, now: Time, id: SessionId, out: &mut Vec<Effect>) {
        let Settings { resend, sends, .. } = self.settings;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match session.flight.take_if(|flight| now >= flight.resend) {
            Some(mut flight) if flight.sends < sends => {
                flight.sends += 1;
                flight.resend = now.after(resend);
                out.push(Effect::Send(id, Box::new(flight.item.message.clone())));
                session.flight = Some(flight);
            }
            Some(flight) => {
                // What took its place meanwhile is newer.
                if session.waiting.find(&flight.item.subject.uid).is_none() {
                    self.enqueue(id, flight.item);
                }
                self.advance(now, id, out);
            }
            None => {}
        }
    }

    /// Returns when [`Hub::tick`] is next due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let due = |session: &Session| {
            let keepalive = session.alive.after(self.settings.keepalive);
            session.flight.as_ref().map_or(keepalive, |flight| keepalive.min(flight.resend))
        };
        self.sessions.values().map(due).min()
    }
}

#[cfg(test)]
mod tests;
