//! The decisions: packets, messages of the peers and the time in; packets, messages and what is to
//! be written down out. No IO, no clock.
//!
//! Whoever is to have messages has a queue: the cloud, devicetwin, the external broker, and each
//! client's session. A message is written down once, with the names of all who are to have it
//! surely; each of them is taken off when it has it. What tells anybody that a message is safe, an
//! acknowledgement above all, goes out when that is true on the disk.

mod access;
mod acks;
mod publish;
mod queue;
mod restore;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::journal::Record;
use crate::mqtt::{Packet, Qos, Reason};
use crate::topic::{self, Way};

pub(crate) use access::Access;
use queue::Queue;
pub(crate) use queue::{Bounds, LAST_ID, Message};
use session::{Link, Session};

/// One who is to have messages. A session's is never used again.
pub(crate) type QueueId = u32;

/// The cloud's queue.
pub(crate) const CLOUD: QueueId = 0;

/// devicetwin's queue.
pub(crate) const TWIN: QueueId = 1;

/// The external broker's queue.
pub(crate) const BROKER: QueueId = 2;

/// Sessions' queues begin here.
const FIRST_SESSION: QueueId = 16;

/// A connection: of a client, or [`TO_BROKER`].
pub(crate) type ConnectionId = u64;

/// The connection to the external broker.
pub(crate) const TO_BROKER: ConnectionId = 0;

/// The time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// What goes on and never back.
    pub(crate) steady: Instant,
    /// Unix milliseconds, for what is written down.
    pub(crate) unix: i64,
}

/// What holds for all.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Bounds of the queues to the cloud, to devicetwin and to the external broker.
    pub(crate) node: Bounds,
    /// How long a message waits for one of them.
    pub(crate) age: Duration,
    /// Bounds of a session's queue.
    pub(crate) session: Bounds,
    /// Sessions, at most.
    pub(crate) sessions: usize,
    /// Subscriptions of one session, at most.
    pub(crate) subscriptions: usize,
    /// Messages that are kept for later subscribers, at most.
    pub(crate) retained: usize,
    /// The longest that a session outlives its connection, in seconds.
    pub(crate) session_expiry: u32,
    /// How surely messages of the cloud and of devicetwin go to the clients.
    pub(crate) qos: Qos,
    /// Whether those are kept for later subscribers.
    pub(crate) retain: bool,
    /// Whether there is an external broker.
    pub(crate) external: bool,
    /// Who may do what.
    pub(crate) access: Access,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A packet goes out.
    Send(ConnectionId, Packet),
    /// A connection ends, after what was sent.
    Close(ConnectionId),
    /// A packet of the connection is done with: there is room for the next.
    Next(ConnectionId),
    /// A message goes to the cloud.
    ToCloud(Rc<Message>),
    /// A message goes to devicetwin.
    ToTwin(Rc<Message>),
    /// A message of a peer is safe.
    Settle(u64),
}

impl Act {
    /// Tells whether it is something for this connection.
    pub(crate) const fn is_for(&self, connection: ConnectionId) -> bool {
        matches!(self, Self::Send(id, _) | Self::Close(id) | Self::Next(id) if *id == connection)
    }
}

/// What was decided in one turn.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    /// To be done at once.
    pub(crate) now: Vec<Act>,
    /// To be written down.
    pub(crate) records: Vec<Record>,
    /// To be done once that and all before is on the disk.
    pub(crate) then: Vec<Act>,
}

impl Decided {
    /// Makes room for the next packet of a connection: at once, or where this one is acknowledged
    /// with its acknowledgement. So no more of those wait than packets were let in.
    fn done_with(&mut self, packet: &Packet, connection: ConnectionId) {
        let is_acknowledged =
            matches!(packet, Packet::Publish(message) if message.qos > Qos::AtMostOnce);
        let acts = if is_acknowledged { &mut self.then } else { &mut self.now };
        acts.push(Act::Next(connection));
    }

    /// Forgets what is meant for a connection that has ended.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.now.retain(|act| !act.is_for(connection));
        self.then.retain(|act| !act.is_for(connection));
    }

    /// Adds this to `out` behind what waits there.
    fn hold_back(mut self, out: &mut Self) {
        out.records.append(&mut self.records);
        out.then.append(&mut self.now);
        out.then.append(&mut self.then);
    }
}

/// What is counted for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Messages that came.
    pub(crate) received: u64,
    /// Messages without an acknowledgement (QoS 0) for which there was no room.
    pub(crate) dropped: u64,
    /// Messages that a client was too slow to take, or too long away.
    pub(crate) overflowed: u64,
    /// Messages that were too old.
    pub(crate) expired: u64,
    /// Messages that the receiver refused for good.
    pub(crate) refused: u64,
    /// Connections that ended for what they sent.
    pub(crate) violations: u64,
}

/// A message of the cloud or of devicetwin, for the clients.
#[derive(Clone, Debug)]
pub(crate) struct FromPeer {
    /// What settles it.
    pub(crate) token: u64,
    /// Its topic.
    pub(crate) topic: Box<str>,
    /// Its body.
    pub(crate) payload: Bytes,
}

/// The broker and the bridge.
#[derive(Debug)]
pub(crate) struct Core {
    settings: Settings,
    identity: u64,
    sequence: u64,
    cloud: Queue,
    twin: Queue,
    broker: Queue,
    /// Whether the external broker is connected.
    broker_up: bool,
    sessions: BTreeMap<QueueId, Session>,
    clients: HashMap<Box<str>, QueueId>,
    next_queue: QueueId,
    links: BTreeMap<ConnectionId, Link>,
    /// Packets of the external broker that wait for room.
    broker_blocked: VecDeque<Packet>,
    /// Messages of the peers that wait for room.
    peers_blocked: VecDeque<FromPeer>,
    retained: BTreeMap<Box<str>, Rc<Message>>,
    /// The topics that the cloud's rules want.
    topics: BTreeSet<Box<str>>,
    counts: Counts,
}

impl Core {
    /// Makes a core that knows nothing. `identity` is drawn at random.
    pub(crate) fn new(settings: Settings, identity: u64) -> Self {
        let node = settings.node;
        Self {
            settings,
            identity,
            sequence: 0,
            cloud: Queue::new(node),
            twin: Queue::new(node),
            broker: Queue::new(node),
            broker_up: false,
            sessions: BTreeMap::new(),
            clients: HashMap::new(),
            next_queue: FIRST_SESSION,
            links: BTreeMap::new(),
            broker_blocked: VecDeque::new(),
            peers_blocked: VecDeque::new(),
            retained: BTreeMap::new(),
            topics: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    /// Returns what the journal is known by.
    pub(crate) const fn identity(&self) -> u64 {
        self.identity
    }

    /// Returns what was counted.
    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the load of the cloud's, devicetwin's or the external broker's queue: messages and
    /// bytes.
    pub(crate) fn load(&self, queue: QueueId) -> (usize, usize) {
        self.queue(queue).map_or((0, 0), |queue| (queue.len(), queue.bytes()))
    }

    /// Returns how many clients are connected, how many sessions there are, and how many messages
    /// are kept.
    pub(crate) fn census(&self) -> (usize, usize, usize) {
        let connected = self.sessions.values().filter(|it| it.connection.is_some()).count();
        (connected, self.sessions.len(), self.retained.len())
    }

    /// Returns the filters that the node subscribes to with the external broker.
    pub(crate) fn filters(&self) -> impl Iterator<Item = &str> {
        topic::OWN.into_iter().chain(self.topics.iter().map(|topic| &**topic))
    }

    /// Returns the topics that the cloud's rules want.
    pub(crate) const fn topics(&self) -> &BTreeSet<Box<str>> {
        &self.topics
    }

    /// Notes that the cloud wants a topic, or no longer; tells whether that is news.
    pub(crate) fn want(&mut self, topic: &str, wanted: bool, out: &mut Decided) -> bool {
        let news =
            if wanted { self.topics.insert(topic.into()) } else { self.topics.remove(topic) };
        if news {
            out.records.push(Record::Topic { topic: topic.into(), wanted });
        }
        news
    }

    /// Tells where a client's message goes beside the other clients.
    fn way(&self, topic: &str) -> Option<Way> {
        self.filters().any(|filter| topic::matches(filter, topic)).then(|| topic::way(topic))
    }

    fn queue(&self, id: QueueId) -> Option<&Queue> {
        match id {
            CLOUD => Some(&self.cloud),
            TWIN => Some(&self.twin),
            BROKER => Some(&self.broker),
            session => self.sessions.get(&session).map(|session| &session.queue),
        }
    }

    fn queue_mut(&mut self, id: QueueId) -> Option<&mut Queue> {
        match id {
            CLOUD => Some(&mut self.cloud),
            TWIN => Some(&mut self.twin),
            BROKER => Some(&mut self.broker),
            session => self.sessions.get_mut(&session).map(|session| &mut session.queue),
        }
    }

    /// Takes a message of the cloud or of devicetwin.
    pub(crate) fn peer_says(&mut self, now: Now, message: FromPeer, out: &mut Decided) {
        self.peers_blocked.push_back(message);
        self.unblock(now, out);
    }

    /// Notes that a peer has a message, or that it will never take it.
    pub(crate) fn settled(
        &mut self,
        now: Now,
        queue: QueueId,
        sequence: u64,
        taken: bool,
        out: &mut Decided,
    ) {
        self.counts.refused += u64::from(!taken);
        if let Some(entry) = self.queue_mut(queue).and_then(|queue| queue.remove(sequence))
            && entry.qos > Qos::AtMostOnce
        {
            out.records.push(Record::Done { queue, sequence });
        }
        self.pump(queue, now, out);
        self.unblock(now, out);
    }

    /// Tells whether there is nothing that time can change: no message waits or is kept, and nobody
    /// has a session.
    pub(crate) fn is_at_rest(&self) -> bool {
        let waits = [CLOUD, TWIN, BROKER].into_iter().any(|queue| self.load(queue).0 > 0);
        let blocked = !self.peers_blocked.is_empty() || !self.broker_blocked.is_empty();
        !waits && !blocked && self.sessions.is_empty() && self.retained.is_empty()
    }

    /// Looks what time has done. To be called every second or so, unless all is at rest.
    pub(crate) fn tick(&mut self, now: Now, out: &mut Decided) {
        let age = self.settings.age;
        for queue in [CLOUD, TWIN, BROKER] {
            let too_old = |message: &Message| {
                message.is_over(now.steady) || now.steady.duration_since(message.born) >= age
            };
            while let Some(entry) = self.queue_mut(queue).and_then(|it| it.expire(too_old)) {
                self.counts.expired += 1;
                if entry.qos > Qos::AtMostOnce {
                    let sequence = entry.message.sequence;
                    out.records.push(Record::Done { queue, sequence });
                }
            }
        }
        self.retained.retain(|_, message| !message.is_over(now.steady));
        self.expire_sessions(now, out);
        self.unblock(now, out);
    }

    /// Sends what of a queue may go now.
    fn pump(&mut self, id: QueueId, now: Now, out: &mut Decided) {
        match id {
            CLOUD => {
                while let Some(entry) = self.cloud.next() {
                    out.now.push(Act::ToCloud(entry.message));
                }
            }
            TWIN => {
                while let Some(entry) = self.twin.next() {
                    out.now.push(Act::ToTwin(entry.message));
                }
            }
            BROKER => {
                while self.broker_up
                    && let Some(entry) = self.broker.next()
                {
                    let packet = Packet::Publish(entry.packet(now.steady));
                    out.now.push(Act::Send(TO_BROKER, packet));
                }
            }
            session => self.pump_session(session, now, out),
        }
    }

    /// Begins the bridge's work: what an earlier life left is sent.
    pub(crate) fn begin(&mut self, now: Now, out: &mut Decided) {
        for queue in [CLOUD, TWIN] {
            self.pump(queue, now, out);
        }
    }

    /// Notes that the external broker is there.
    pub(crate) fn broker_up(&mut self, now: Now, out: &mut Decided) {
        self.broker_up = true;
        self.pump(BROKER, now, out);
    }

    /// Notes that it is gone. What it sent and was not told is safe it sends again.
    pub(crate) fn broker_down(&mut self) {
        self.broker_up = false;
        self.broker_blocked.clear();
        self.broker.rewind();
    }

    /// Tries again what waits for room.
    fn unblock(&mut self, now: Now, out: &mut Decided) {
        while let Some(message) = self.peers_blocked.front().cloned()
            && self.publish_from_peer(now, &message, out)
        {
            self.peers_blocked.pop_front();
        }
        while let Some(packet) = self.broker_blocked.front().cloned()
            && self.take_of_broker(now, packet, out)
        {
            if let Some(packet) = self.broker_blocked.pop_front() {
                out.done_with(&packet, TO_BROKER);
            }
        }
        let blocked = self.links.iter().filter(|(_, link)| !link.blocked.is_empty());
        let blocked: Vec<ConnectionId> = blocked.map(|(connection, _)| *connection).collect();
        for connection in blocked {
            self.take_blocked(connection, now, out);
        }
    }

    fn take_blocked(&mut self, connection: ConnectionId, now: Now, out: &mut Decided) {
        while let Some(packet) =
            self.links.get(&connection).and_then(|link| link.blocked.front().cloned())
        {
            match self.take_of_client(connection, packet, now, out) {
                Ok(true) => {}
                Ok(false) => return,
                Err(reason) => return self.violated(connection, reason, now, out),
            }
            let link = self.links.get_mut(&connection);
            if let Some(packet) = link.and_then(|link| link.blocked.pop_front()) {
                out.done_with(&packet, connection);
            } else {
                out.now.push(Act::Next(connection));
            }
        }
    }

    /// Takes a packet of the external broker.
    pub(crate) fn broker_says(&mut self, now: Now, packet: Packet, out: &mut Decided) {
        self.broker_blocked.push_back(packet);
        self.unblock(now, out);
    }

    /// Takes a packet of a client.
    pub(crate) fn client_says(
        &mut self,
        connection: ConnectionId,
        packet: Packet,
        now: Now,
        out: &mut Decided,
    ) {
        if let Packet::Connect(connect) = packet {
            if self.links.contains_key(&connection) {
                self.violated(connection, Reason::PROTOCOL, now, out);
            } else {
                self.connect(connection, *connect, now, out);
                out.now.push(Act::Next(connection));
            }
            return;
        }
        match self.links.get_mut(&connection) {
            Some(link) => link.blocked.push_back(packet),
            None => return out.now.push(Act::Close(connection)),
        }
        self.take_blocked(connection, now, out);
    }
}
