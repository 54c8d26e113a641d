//! Clients: how they come, what they want, how they go, and what is kept of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::journal::Record;
use crate::mqtt::{
    Connack, Connect, MAX_PACKET, Options, Packet, Publish, Qos, Reason, Version, Will,
};
use crate::topic;

use super::queue::{Queue, State};
use super::{Act, ConnectionId, Core, Decided, Now, QueueId};

/// Messages with QoS 1 and 2 that a client may send before the first is acknowledged.
pub(super) const RECEIVE_MAXIMUM: u16 = 256;

/// The longest name of a client, in bytes.
const MAX_CLIENT: usize = 256;

/// A connection whose first packet was taken.
#[derive(Debug)]
pub(super) struct Link {
    /// Its session.
    pub(super) queue: QueueId,
    pub(super) version: Version,
    pub(super) user: Box<str>,
    pub(super) will: Option<Will>,
    /// Packets that wait for room, and those behind them.
    pub(super) blocked: VecDeque<Packet>,
}

/// What is known of a client.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Box<str>,
    pub(super) connection: Option<ConnectionId>,
    /// How long it outlives its connection, in seconds; `u32::MAX` for ever.
    pub(super) expiry: u32,
    /// When it ends, while the client is away.
    pub(super) ends: Option<Instant>,
    pub(super) subscriptions: BTreeMap<Box<str>, Options>,
    pub(super) queue: Queue,
    /// Packets with QoS 2 that came and will come no more than once again.
    pub(super) received: BTreeSet<u16>,
    /// What is published in some time, if the client does not come back.
    will: Option<(Instant, Publish)>,
    maximum_packet: u32,
}

impl Session {
    pub(super) fn new(client: &str, queue: Queue) -> Self {
        Self {
            client: client.into(),
            connection: None,
            expiry: 0,
            ends: None,
            subscriptions: BTreeMap::new(),
            queue,
            received: BTreeSet::new(),
            will: None,
            maximum_packet: u32::MAX,
        }
    }

    /// Tells how the session wants a topic: with the best of its subscriptions.
    pub(super) fn wants(&self, topic: &str, own: bool) -> Option<Options> {
        let found = self.subscriptions.iter().filter(|(filter, options)| {
            !(own && options.no_local) && topic::matches(filter, topic)
        });
        found.map(|(_, options)| *options).max_by_key(|options| options.qos)
    }

    /// Makes the record of its state.
    pub(super) fn record(&self, queue: QueueId, now: Now) -> Record {
        let left = |at: Instant| {
            let left = at.saturating_duration_since(now.steady).as_millis();
            now.unix.saturating_add(i64::try_from(left).unwrap_or(i64::MAX))
        };
        let (client, expiry) = (self.client.clone(), self.expiry);
        Record::Session { queue, client, expiry, ends: self.ends.map(left) }
    }

    fn ends_after(&self, now: Now) -> Option<Instant> {
        let expiry = Duration::from_secs(self.expiry.into());
        (self.expiry != u32::MAX).then(|| now.steady.checked_add(expiry)).flatten()
    }
}

impl Core {
    /// Takes a client's first packet.
    pub(super) fn connect(
        &mut self,
        connection: ConnectionId,
        mut connect: Connect,
        now: Now,
        out: &mut Decided,
    ) {
        let assigned = connect.client.is_empty().then(|| self.name_client(connection));
        if let Some(name) = &assigned {
            connect.client.clone_from(name);
        }
        if let Some(reason) = self.refusal(&connect, assigned.is_some()) {
            self.counts.violations += 1;
            let connack = Connack {
                session_present: false,
                reason,
                assigned: None,
                session_expiry: None,
                maximum_packet: None,
                receive_maximum: None,
            };
            out.now.push(Act::Send(connection, Packet::Connack(Box::new(connack))));
            out.now.push(Act::Close(connection));
            return;
        }
        let known = self.clients.get(&connect.client).copied();
        if let Some(queue) = known {
            self.take_over(queue, now, out);
        }
        if let Some(queue) = known.filter(|_| connect.clean) {
            self.end_session(queue, out);
        }
        // A session without a life of its own ends with its connection, and so does the one above.
        let known = self.clients.get(&connect.client).copied();
        let queue = known.unwrap_or_else(|| self.new_session(&connect.client));
        self.open(connection, queue, &connect, now, out);
        let wanted = connect.session_expiry;
        let granted = wanted.min(self.settings.session_expiry);
        let connack = Connack {
            session_present: known.is_some(),
            reason: Reason::SUCCESS,
            assigned,
            session_expiry: (granted != wanted).then_some(granted),
            maximum_packet: u32::try_from(MAX_PACKET).ok(),
            receive_maximum: Some(RECEIVE_MAXIMUM),
        };
        out.then.push(Act::Send(connection, Packet::Connack(Box::new(connack))));
        self.resume(connection, queue, now, out);
    }

    /// Says why a client is not taken.
    fn refusal(&self, connect: &Connect, is_assigned: bool) -> Option<Reason> {
        let Connect { version, client, will, user, password, .. } = connect;
        let access = &self.settings.access;
        if connect.authentication {
            return Some(Reason::AUTHENTICATION);
        }
        if client.len() > MAX_CLIENT || is_assigned && *version == Version::V4 && !connect.clean {
            return Some(Reason::CLIENT);
        }
        if !access.admits(user.as_deref(), password.as_deref()) {
            return Some(Reason::PASSWORD);
        }
        if let Some(will) = will {
            let topic = &will.message.topic;
            if !topic::is_topic(topic) {
                return Some(Reason::TOPIC);
            }
            if !access.may_publish(user.as_deref().unwrap_or_default(), topic) {
                return Some(Reason::NOT_AUTHORIZED);
            }
        }
        let is_new = !self.clients.contains_key(client);
        (is_new && self.sessions.len() >= self.settings.sessions).then_some(Reason::BUSY)
    }

    fn name_client(&self, connection: ConnectionId) -> Box<str> {
        format!("auto-{:016x}-{connection}-{}", self.identity, self.next_queue).into()
    }

    fn new_session(&mut self, client: &str) -> QueueId {
        let queue = self.next_queue;
        self.next_queue += 1;
        self.clients.insert(client.into(), queue);
        let session = Session::new(client, Queue::new(self.settings.session));
        self.sessions.insert(queue, session);
        queue
    }

    fn open(
        &mut self,
        connection: ConnectionId,
        queue: QueueId,
        connect: &Connect,
        now: Now,
        out: &mut Decided,
    ) {
        let Some(session) = self.sessions.get_mut(&queue) else { return };
        session.connection = Some(connection);
        let was = session.expiry;
        session.expiry = connect.session_expiry.min(self.settings.session_expiry);
        session.ends = None;
        session.will = None;
        session.maximum_packet = connect.maximum_packet;
        let flying = usize::from(connect.receive_maximum).min(self.settings.session.flying);
        session.queue.set_flying(flying);
        session.queue.rewind();
        if session.expiry > 0 {
            out.records.push(session.record(queue, now));
        } else if was > 0 {
            out.records.push(Record::Gone { queue });
        }
        let link = Link {
            queue,
            version: connect.version,
            user: connect.user.clone().unwrap_or_default(),
            will: connect.will.clone(),
            blocked: VecDeque::new(),
        };
        self.links.insert(connection, link);
    }

    /// Sends what a session has not had, behind the answer to its first packet.
    fn resume(&mut self, connection: ConnectionId, queue: QueueId, now: Now, out: &mut Decided) {
        let mut later = Decided::default();
        if let Some(session) = self.sessions.get(&queue) {
            for entry in session.queue.iter().filter(|entry| entry.state == State::Received) {
                let packet = Packet::Pubrel { id: entry.id, reason: Reason::SUCCESS };
                later.now.push(Act::Send(connection, packet));
            }
        }
        self.pump(queue, now, &mut later);
        later.hold_back(out);
    }

    /// Ends the connection that a session has: a new one takes its place.
    fn take_over(&mut self, queue: QueueId, now: Now, out: &mut Decided) {
        let Some(connection) = self.sessions.get(&queue).and_then(|session| session.connection)
        else {
            return;
        };
        self.say_goodbye(connection, Reason::TAKEN_OVER, out);
        self.closed(connection, now, out);
        out.now.push(Act::Close(connection));
    }

    /// Ends a connection for what it sent.
    pub(super) fn violated(
        &mut self,
        connection: ConnectionId,
        reason: Reason,
        now: Now,
        out: &mut Decided,
    ) {
        self.counts.violations += 1;
        self.say_goodbye(connection, reason, out);
        self.closed(connection, now, out);
        out.now.push(Act::Close(connection));
    }

    /// Notes that what a connection sent is no MQTT, or that it was silent for too long.
    pub(crate) fn broken(
        &mut self,
        connection: ConnectionId,
        reason: Reason,
        now: Now,
        out: &mut Decided,
    ) {
        self.violated(connection, reason, now, out);
    }

    /// In 3.1.1 a broker has no words for why it ends a connection.
    fn say_goodbye(&self, connection: ConnectionId, reason: Reason, out: &mut Decided) {
        if self.links.get(&connection).is_some_and(|link| link.version == Version::V5) {
            let packet = Packet::Disconnect { reason, session_expiry: None };
            out.now.push(Act::Send(connection, packet));
        }
    }

    /// Notes that a connection is gone. If the client did not say goodbye, its will is published.
    pub(crate) fn closed(&mut self, connection: ConnectionId, now: Now, out: &mut Decided) {
        let Some(link) = self.links.remove(&connection) else { return };
        let queue = link.queue;
        let Some(session) = self.sessions.get_mut(&queue) else { return };
        session.connection = None;
        session.queue.rewind();
        session.ends = session.ends_after(now);
        let mut due = None;
        if let Some(Will { message, delay }) = link.will {
            let delay = delay.min(session.expiry);
            let at = now.steady.checked_add(Duration::from_secs(delay.into()));
            match at.filter(|_| delay > 0) {
                Some(at) => session.will = Some((at, message)),
                None => due = Some(message),
            }
        }
        if session.expiry == 0 {
            self.end_session(queue, out);
        } else {
            out.records.push(session.record(queue, now));
        }
        if let Some(will) = due {
            self.publish_from_client(queue, &will, now, out);
        }
    }

    /// Forgets a session.
    fn end_session(&mut self, queue: QueueId, out: &mut Decided) {
        let Some(session) = self.sessions.remove(&queue) else { return };
        self.clients.remove(&session.client);
        if session.expiry > 0 {
            out.records.push(Record::Gone { queue });
        }
    }

    /// Publishes wills that are due, and forgets sessions that are over.
    pub(super) fn expire_sessions(&mut self, now: Now, out: &mut Decided) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now.steady);
        let mut wills = Vec::new();
        let mut over = Vec::new();
        for (queue, session) in &mut self.sessions {
            let ends = session.connection.is_none() && is_due(session.ends);
            if ends || is_due(session.will.as_ref().map(|(at, _)| *at)) {
                wills.extend(session.will.take().map(|(_, will)| (*queue, will)));
            }
            if ends {
                over.push(*queue);
            }
        }
        for queue in over {
            self.end_session(queue, out);
        }
        for (queue, will) in wills {
            self.publish_from_client(queue, &will, now, out);
        }
    }

    pub(super) fn subscribe(
        &mut self,
        connection: ConnectionId,
        id: u16,
        filters: Vec<(Box<str>, Options)>,
        now: Now,
        out: &mut Decided,
    ) {
        let Some(link) = self.links.get(&connection) else { return };
        let (queue, user) = (link.queue, link.user.clone());
        let mut reasons = Vec::new();
        let mut wanted = Vec::new();
        for (filter, options) in filters {
            let refusal = self.subscription_refusal(queue, &user, &filter);
            reasons.push(refusal.unwrap_or(Reason(options.qos as u8)));
            let Some(session) = self.sessions.get_mut(&queue).filter(|_| refusal.is_none()) else {
                continue;
            };
            let is_new = session.subscriptions.insert(filter.clone(), options).is_none();
            if session.expiry > 0 {
                let filter = filter.clone();
                out.records.push(Record::Subscribed { queue, filter, options });
            }
            if options.retain_handling == 0 || options.retain_handling == 1 && is_new {
                wanted.push((filter, options.qos));
            }
        }
        out.then.push(Act::Send(connection, Packet::Suback { id, reasons }));
        let mut later = Decided::default();
        for (filter, qos) in wanted {
            self.give_retained(queue, &filter, qos, now, &mut later);
        }
        later.hold_back(out);
    }

    fn subscription_refusal(&self, queue: QueueId, user: &str, filter: &str) -> Option<Reason> {
        let session = self.sessions.get(&queue)?;
        if filter.starts_with("$share/") {
            return Some(Reason::SHARED);
        }
        if !topic::is_filter(filter) {
            return Some(Reason::FILTER);
        }
        if !self.settings.access.may_subscribe(user, filter) {
            return Some(Reason::NOT_AUTHORIZED);
        }
        let is_full = session.subscriptions.len() >= self.settings.subscriptions
            && !session.subscriptions.contains_key(filter);
        is_full.then_some(Reason::QUOTA)
    }

    pub(super) fn unsubscribe(
        &mut self,
        connection: ConnectionId,
        id: u16,
        filters: Vec<Box<str>>,
        out: &mut Decided,
    ) {
        let Some(queue) = self.links.get(&connection).map(|link| link.queue) else { return };
        let Some(session) = self.sessions.get_mut(&queue) else { return };
        let mut reasons = Vec::new();
        for filter in filters {
            if session.subscriptions.remove(&filter).is_none() {
                reasons.push(Reason::NO_SUBSCRIPTION);
                continue;
            }
            reasons.push(Reason::SUCCESS);
            if session.expiry > 0 {
                out.records.push(Record::Unsubscribed { queue, filter });
            }
        }
        out.then.push(Act::Send(connection, Packet::Unsuback { id, reasons }));
    }

    /// Takes a client's goodbye. Its will is not published, unless it wants that.
    pub(super) fn goodbye(
        &mut self,
        connection: ConnectionId,
        reason: Reason,
        expiry: Option<u32>,
        now: Now,
        out: &mut Decided,
    ) -> Result<(), Reason> {
        let Some(link) = self.links.get_mut(&connection) else { return Ok(()) };
        if reason != Reason::WITH_WILL {
            link.will = None;
        }
        if let (Some(expiry), Some(session)) = (expiry, self.sessions.get_mut(&link.queue)) {
            // One that was to end with its connection cannot be kept after all.
            if session.expiry == 0 && expiry > 0 {
                return Err(Reason::PROTOCOL);
            }
            let was = session.expiry;
            session.expiry = expiry.min(was);
            if session.expiry == 0 && was > 0 {
                out.records.push(Record::Gone { queue: link.queue });
            }
        }
        self.closed(connection, now, out);
        out.now.push(Act::Close(connection));
        Ok(())
    }

    /// Sends what of a session may go now.
    pub(super) fn pump_session(&mut self, queue: QueueId, now: Now, out: &mut Decided) {
        let Some(session) = self.sessions.get_mut(&queue) else { return };
        let Some(connection) = session.connection else { return };
        while let Some(entry) = session.queue.next() {
            let sequence = entry.message.sequence;
            let is_too_large = entry.message.size() > session.maximum_packet as usize;
            if entry.message.is_over(now.steady) && !entry.repeated || is_too_large {
                session.queue.remove(sequence);
                self.counts.expired += 1;
                if session.expiry > 0 && entry.qos > Qos::AtMostOnce {
                    out.records.push(Record::Done { queue, sequence });
                }
                continue;
            }
            if entry.state == State::Received {
                continue;
            }
            let act = Act::Send(connection, Packet::Publish(entry.packet(now.steady)));
            // An identity that a client has seen must not be another message's after a crash.
            if session.expiry > 0 { out.then.push(act) } else { out.now.push(act) }
        }
    }
}
