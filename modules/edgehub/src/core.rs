//! The decisions of the cloud link: events and the time in, effects out. No IO, no clock.
//!
//! A link is `Fresh` until the first message comes down on it: CloudHub keeps a socket open that it
//! does not serve, and can lose what it says before its session stands. Until then only heartbeats
//! and barriers go up.

mod barrier;
mod bucket;
mod dispatch;
mod downstream;
mod kinds;
mod redial;
#[cfg(test)]
mod tests;
mod upstream;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ipc_proto::frame::Outcome;
use ipc_proto::{
    Content, Group, Message, MessageId, Module, Operation, Resource, Route, Source, allow,
};
use module_runtime::Now;

use barrier::Barriers;
pub(crate) use bucket::Bucket;
use dispatch::Way;
use downstream::{Arrival, Downstream, acknowledgement};
pub(crate) use redial::{Failure, Redial};
pub(crate) use upstream::Token;
use upstream::{Confirmed, Upstream};

/// Requests of which it is remembered who asked, for answers that come late.
const REMEMBERED_ASKERS: usize = 1024;

/// What the shell is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Hand this to a module and tell when it has settled it.
    Deliver(Module, Message),
    /// Tell the sender of a message that it is done.
    Done(Token),
    /// Tell the sender of a message that it will never be taken.
    Refuse(Token, String),
    /// Tell the sender of a request that no answer comes, and why.
    Fail(Token, &'static str),
    /// Tell the modules that the cloud is there, or is not.
    Announce(bool),
    /// Give the link up: the cloud does not serve it.
    Unserved,
    /// Say to the operator what was coped with.
    Note(Note),
}

/// What was coped with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A message that no module takes.
    Unsupported { id: MessageId, route: Box<Route>, why: String },
    /// A message that its module will never take.
    Refused { id: MessageId, why: Box<str> },
    /// The cloud answers no barriers.
    NoBarriers,
}

/// What goes to the transport.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are messages, moved on at once")]
pub(crate) enum Outgoing {
    /// A message.
    Message(Message),
    /// A question of the transport's own, whose answer brings back the id.
    Probe(MessageId),
}

#[derive(Debug)]
struct Link {
    since: Instant,
    /// Whether a message came down on it.
    served: bool,
    keepalive_at: Instant,
    probe_due: bool,
    barriers: Barriers,
    /// Whether the cloud turned out to answer no barriers, so that probes take their place.
    probing: bool,
}

/// How many messages were coped with, since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Messages of the cloud that no module takes.
    pub(crate) unsupported: u64,
    /// Messages of the cloud that their modules refused.
    pub(crate) refused: u64,
    /// Messages of the cloud that came again.
    pub(crate) repeated: u64,
}

/// The decisions of the cloud link.
#[derive(Debug)]
pub(crate) struct Core {
    /// This node's name; without one it is not looked at who is changed.
    node: Option<Box<str>>,
    heartbeat: Duration,
    /// Draws the identity of a new message.
    draw: fn() -> MessageId,
    link: Option<Link>,
    down: Downstream,
    up: Upstream,
    /// Who sent which request, oldest first.
    askers: VecDeque<(MessageId, Module)>,
    tally: Tally,
    effects: VecDeque<Effect>,
}

impl Core {
    pub(crate) fn new(
        now: Instant,
        heartbeat: Duration,
        bucket: Bucket,
        draw: fn() -> MessageId,
    ) -> Self {
        Self {
            node: None,
            heartbeat,
            draw,
            link: None,
            down: Downstream::new(),
            up: Upstream::new(now, bucket),
            askers: VecDeque::new(),
            tally: Tally::default(),
            effects: VecDeque::new(),
        }
    }

    /// Lets it change this node in the cloud and no other: CloudCore believes every node by default.
    #[must_use]
    pub(crate) fn of_node(mut self, node: &str) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Returns the next thing to do.
    pub(crate) fn effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Tells whether the cloud serves this node now.
    pub(crate) fn is_served(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.served)
    }

    /// Returns what was coped with so far.
    pub(crate) const fn tally(&self) -> Tally {
        self.tally
    }

    /// Returns how many messages wait to go up, how many went and are not confirmed, and how many
    /// that came down are in work.
    pub(crate) fn load(&self) -> (usize, usize, usize) {
        let (waiting, unconfirmed) = self.up.load();
        (waiting, unconfirmed, self.down.in_work())
    }

    /// Notes that a link stands.
    pub(crate) fn link_up(&mut self, now: Now) {
        self.link = Some(Link {
            since: now.at,
            served: false,
            keepalive_at: now.at,
            probe_due: false,
            barriers: Barriers::new(),
            probing: false,
        });
    }

    /// Notes that the link is gone.
    pub(crate) fn link_down(&mut self, now: Now) {
        if self.link.take().is_some_and(|link| link.served) {
            self.effects.push_back(Effect::Announce(false));
        }
        self.up.link_down(now.at);
    }

    /// Takes a message from the cloud.
    pub(crate) fn came_down(&mut self, now: Now, message: Message) {
        let Some(link) = &mut self.link else { return };
        if !link.served {
            link.served = true;
            self.up.link_up();
            self.effects.push_back(Effect::Announce(true));
        }
        if let Some(parent) = &message.header.parent
            && let Some(behind) = link.barriers.answered(parent)
        {
            let confirmed = self.up.read_up_to(now.at, behind);
            return self.confirm(confirmed);
        }
        match self.down.arrival(&message) {
            Arrival::New => self.hand_on(now, message),
            Arrival::InWork => self.tally.repeated += 1,
            Arrival::Acknowledged => {
                self.tally.repeated += 1;
                self.acknowledge(now, &message.header.id, message.route);
            }
        }
    }

    fn hand_on(&mut self, now: Now, message: Message) {
        let confirmed = message.header.parent.as_ref().and_then(|parent| self.up.answered(parent));
        let asker = confirmed.as_ref().map(|confirmed| confirmed.from).or_else(|| {
            let parent = message.header.parent.as_ref()?;
            self.askers.iter().find(|(id, _)| id == parent).map(|(_, module)| *module)
        });
        if is_control(&message) {
            let ack = message.response((self.draw)(), now.unix_ms, Content::text("ack"));
            return self.up.reply(ack);
        }
        let why = match dispatch::way(&message, asker) {
            Way::To(to) => match allow::check(Module::Edgehub, to, &message) {
                Ok(()) => {
                    self.down.handed_on(&message, confirmed);
                    return self.effects.push_back(Effect::Deliver(to, message));
                }
                Err(error) => error.to_string(),
            },
            Way::Stray => "nobody waits for this answer".to_owned(),
            Way::Unsupported => "no module takes messages of this group and source".to_owned(),
        };
        self.confirm(confirmed);
        self.cope(now, message, why);
    }

    /// Answers a message that no module takes, so that it does not hold the node's queue.
    fn cope(&mut self, now: Now, message: Message, why: String) {
        self.tally.unsupported += 1;
        if !message.is_answer() {
            let refusal = message.error((self.draw)(), now.unix_ms, &why);
            self.up.reply(refusal);
        }
        if dispatch::wants_acknowledgement(&message) {
            self.down.done(&message.header.id);
            self.acknowledge(now, &message.header.id, message.route.clone());
        }
        let (id, route) = (message.header.id, Box::new(message.route));
        self.effects.push_back(Effect::Note(Note::Unsupported { id, route, why }));
    }

    /// Takes a message from the cloud that is not readable but for its id: like one that no module
    /// takes, it is answered, so that it does not hold the node's queue.
    pub(crate) fn unreadable(&mut self, now: Now, id: MessageId) {
        let (source, group) = (Source::None, Group::None);
        let (operation, resource) = (Operation::None, Resource::None);
        let route = Route { source, group, operation, resource };
        let message = Message::new(id, now.unix_ms, route, Content::NULL);
        self.cope(now, message, "it cannot be read".to_owned());
    }

    fn acknowledge(&mut self, now: Now, parent: &MessageId, route: Route) {
        if self.link.is_some() {
            let id = (self.draw)();
            self.up.reply(acknowledgement(parent.clone(), route, id, now.unix_ms));
        }
    }

    fn confirm(&mut self, confirmed: impl IntoIterator<Item = Confirmed>) {
        let tokens = confirmed.into_iter().flat_map(|confirmed| confirmed.tokens);
        self.effects.extend(tokens.map(Effect::Done));
    }

    /// Notes that a module is done with a message of the cloud's.
    pub(crate) fn settled(&mut self, now: Now, id: &MessageId, outcome: Outcome) {
        if let Outcome::Refused(why) = outcome {
            self.tally.refused += 1;
            self.effects.push_back(Effect::Note(Note::Refused { id: id.clone(), why }));
        }
        let (route, confirmed) = self.down.settled(id);
        if let Some(route) = route {
            self.acknowledge(now, id, route);
        }
        self.confirm(confirmed);
    }

    /// Takes a message of a module.
    pub(crate) fn sent_up(&mut self, now: Now, from: Module, token: Token, message: Message) {
        if let Some(why) = kinds::forbidden(&message) {
            let why = format!("'{}' cannot go to the cloud: {why}", message.route.resource);
            return self.effects.push_back(Effect::Refuse(token, why));
        }
        if let (Some(own), Some(other)) = (&self.node, kinds::changed_node(&message))
            && **own != *other
        {
            let why = format!("node {other} is not this node's to change, expected {own}");
            return self.effects.push_back(Effect::Refuse(token, why));
        }
        self.up.push(now.at, from, token, message);
    }

    /// Notes the answer to a probe.
    pub(crate) fn probed(&mut self, now: Now, id: &MessageId) {
        let Some(link) = &mut self.link else { return };
        if let Some(behind) = link.barriers.answered(id) {
            let confirmed = self.up.read_up_to(now.at, behind);
            self.confirm(confirmed);
        }
    }

    /// Does what is due by itself.
    pub(crate) fn tick(&mut self, now: Now) {
        for expired in self.up.expired(now.at) {
            let why = "no connection to the cloud";
            self.effects.extend(expired.tokens.into_iter().map(|token| Effect::Fail(token, why)));
        }
        let Some(link) = &mut self.link else { return };
        if link.barriers.overdue_at().is_some_and(|overdue| overdue <= now.at) {
            link.barriers.clear();
            if link.served && !link.probing {
                link.probing = true;
                self.effects.push_back(Effect::Note(Note::NoBarriers));
            } else {
                self.effects.push_back(Effect::Unserved);
            }
        }
    }

    /// Returns when [`Core::tick`] has something to do.
    pub(crate) fn tick_at(&self) -> Option<Instant> {
        let overdue = self.link.as_ref().and_then(|link| link.barriers.overdue_at());
        self.up.expiry_at().into_iter().chain(overdue).min()
    }

    /// Returns what is to be written now; to be asked when the transport has room.
    pub(crate) fn next(&mut self, now: Now) -> Option<Outgoing> {
        let link = self.link.as_mut()?;
        if link.keepalive_at <= now.at {
            link.keepalive_at = now.at + self.heartbeat;
            link.probe_due = true;
            let keepalive = own(self.draw, now, Operation::Keepalive, Resource::Node, "\"ping\"");
            return Some(Outgoing::Message(keepalive));
        }
        if std::mem::take(&mut link.probe_due) {
            return Some(Outgoing::Probe((self.draw)()));
        }
        if let Some(reply) = self.up.next_reply() {
            return Some(Outgoing::Message(reply));
        }
        let wanted = link.barrier_wanted(&self.up);
        if link.barriers.ready_at(wanted).is_some_and(|at| at <= now.at)
            && self.up.take_token(now.at)
        {
            return Some(self.barrier(now));
        }
        if !self.is_served() {
            return None;
        }
        let message = self.up.next(now.at)?;
        if let Some(from) = self.up.sender(&message.header.id) {
            self.askers.push_back((message.header.id.clone(), from));
            if self.askers.len() > REMEMBERED_ASKERS {
                self.askers.pop_front();
            }
        }
        Some(Outgoing::Message(message))
    }

    fn barrier(&mut self, now: Now) -> Outgoing {
        let behind = self.up.written();
        let question = own(self.draw, now, Operation::Query, Resource::KubernetesCa, "null");
        let id = question.header.id.clone();
        let Some(link) = &mut self.link else { return Outgoing::Message(question) };
        link.barriers.asked(now.at, id.clone(), behind);
        if link.probing { Outgoing::Probe(id) } else { Outgoing::Message(question) }
    }

    /// Returns when [`Core::next`] has something to write, if nothing happens before.
    pub(crate) fn next_at(&self, now: Instant) -> Option<Instant> {
        let link = self.link.as_ref()?;
        if link.probe_due {
            return Some(now);
        }
        let barrier = link.barriers.ready_at(link.barrier_wanted(&self.up));
        let barrier = barrier.map(|at| at.max(self.up.token_at(now)));
        let message = self.up.next_at(now, link.served);
        Some(barrier.into_iter().chain(message).fold(link.keepalive_at, Instant::min))
    }
}

impl Link {
    /// Returns when a barrier is wanted: on a fresh link at once, to see whether it is served.
    fn barrier_wanted(&self, up: &Upstream) -> Option<Instant> {
        if self.served { up.barrier_wanted() } else { Some(self.since) }
    }
}

/// Makes a message of edgehub's own.
fn own(
    draw: fn() -> MessageId,
    now: Now,
    operation: Operation,
    resource: Resource,
    content: &'static str,
) -> Message {
    let route = Route { source: Source::Websocket, group: Group::Resource, operation, resource };
    let content = Content::from_raw(content.as_bytes().into());
    Message::new(draw(), now.unix_ms, route, content)
}

/// Tells whether a message is for the transport of KubeEdge alone, which wants an `ack` (WIRE.md
/// §2.1).
fn is_control(message: &Message) -> bool {
    matches!(message.route.operation.as_str(), "config" | "ping" | "pong")
}
