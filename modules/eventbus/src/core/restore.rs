//! The journal's records in, the state of an earlier life out; and back.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::journal::{Address, Kept, Record};

use super::queue::{Entry, Queue, State};
use super::session::Session;
use super::{BROKER, CLOUD, Core, Message, Now, TWIN, publish};

impl Core {
    /// Takes what was written down, in its order.
    pub(crate) fn restore(&mut self, record: Record, now: Now) {
        match record {
            Record::Begin { identity, sequence } => {
                self.identity = identity;
                self.sequence = self.sequence.max(sequence);
            }
            Record::Message(kept) => self.restore_message(kept, now),
            Record::Done { queue, sequence } => {
                if let Some(queue) = self.queue_mut(queue) {
                    queue.remove(sequence);
                }
            }
            Record::Received { queue, sequence } => {
                if let Some(queue) = self.queue_mut(queue) {
                    queue.restore_received(sequence);
                }
            }
            Record::Session { queue, client, expiry, ends } => {
                self.next_queue = self.next_queue.max(queue.saturating_add(1));
                self.clients.insert(client.clone(), queue);
                let bounds = self.settings.session;
                let new = || Session::new(&client, Queue::new(bounds));
                let session = self.sessions.entry(queue).or_insert_with(new);
                session.expiry = expiry;
                session.ends = ends.map(|ends| {
                    let whole = Duration::from_secs(expiry.into());
                    let left = millis(ends.saturating_sub(now.unix));
                    now.steady + if is_set(ends) { left.min(whole) } else { whole }
                });
            }
            Record::Gone { queue } => {
                if let Some(session) = self.sessions.remove(&queue) {
                    self.clients.remove(&session.client);
                }
            }
            Record::Subscribed { queue, filter, options } => {
                if let Some(session) = self.sessions.get_mut(&queue) {
                    session.subscriptions.insert(filter, options);
                }
            }
            Record::Unsubscribed { queue, filter } => {
                if let Some(session) = self.sessions.get_mut(&queue) {
                    session.subscriptions.remove(&filter);
                }
            }
            Record::Inbound { queue, id } => {
                if let Some(session) = self.sessions.get_mut(&queue) {
                    session.received.insert(id);
                }
            }
            Record::Released { queue, id } => {
                if let Some(session) = self.sessions.get_mut(&queue) {
                    session.received.remove(&id);
                }
            }
            Record::Topic { topic, wanted: true } => drop(self.topics.insert(topic)),
            Record::Topic { topic, wanted: false } => drop(self.topics.remove(&topic)),
        }
    }

    /// Ends the restoration: the clients that were connected are gone.
    pub(crate) fn restored(&mut self, now: Now) {
        // An earlier life may have sent messages that it did not live to write down. Their numbers must
        // not be other messages', whom the receiver would take for those.
        self.sequence = (self.sequence / LIFE + 1) * LIFE;
        for session in self.sessions.values_mut().filter(|session| session.ends.is_none()) {
            let expiry = Duration::from_secs(session.expiry.into());
            session.ends =
                (session.expiry != u32::MAX).then(|| now.steady.checked_add(expiry)).flatten();
        }
    }

    fn restore_message(&mut self, kept: Kept, now: Now) {
        self.sequence = self.sequence.max(kept.sequence);
        let age = if is_set(kept.at) { now.unix.saturating_sub(kept.at) } else { 0 };
        let born = now.steady.checked_sub(millis(age)).unwrap_or(now.steady);
        let worth = |expires: i64| born.checked_add(millis(expires.saturating_sub(kept.at)));
        let message = Rc::new(Message {
            sequence: kept.sequence,
            topic: kept.topic,
            payload: kept.payload,
            qos: kept.qos,
            retain: kept.retain,
            properties: kept.properties.into(),
            born,
            expires: kept.expires.and_then(worth),
        });
        for Address { queue, id, qos, retain } in kept.to {
            let message = Rc::clone(&message);
            let entry = Entry { message, id, qos, retain, state: State::Waiting, repeated: true };
            if let Some(queue) = self.queue_mut(queue) {
                queue.restore(entry);
            }
        }
        if message.retain && message.payload.is_empty() {
            self.retained.remove(&message.topic);
        } else if message.retain {
            self.retained.insert(message.topic.clone(), message);
        }
    }

    /// Writes down all that there is, for a new journal.
    pub(crate) fn snapshot(&self, now: Now) -> Vec<Record> {
        let begin = Record::Begin { identity: self.identity, sequence: self.sequence };
        let mut records = vec![begin];
        let topics = self.topics.iter().cloned();
        records.extend(topics.map(|topic| Record::Topic { topic, wanted: true }));
        let durable = || self.sessions.iter().filter(|(_, session)| session.expiry > 0);
        for (id, session) in durable() {
            let queue = *id;
            records.push(session.record(queue, now));
            for (filter, options) in &session.subscriptions {
                let (filter, options) = (filter.clone(), *options);
                records.push(Record::Subscribed { queue, filter, options });
            }
            records.extend(session.received.iter().map(|id| Record::Inbound { queue, id: *id }));
        }
        let mut messages: BTreeMap<u64, (Rc<Message>, Vec<Address>)> = BTreeMap::new();
        for message in self.retained.values() {
            messages.insert(message.sequence, (Rc::clone(message), Vec::new()));
        }
        let node = [(CLOUD, &self.cloud), (TWIN, &self.twin), (BROKER, &self.broker)];
        let queues = node.into_iter().chain(durable().map(|(id, it)| (*id, &it.queue)));
        let mut seen = Vec::new();
        for (queue, entry) in queues.flat_map(|(id, queue)| queue.iter().map(move |it| (id, it))) {
            if entry.id == 0 {
                continue;
            }
            let message = &entry.message;
            let known = messages.entry(message.sequence);
            let (_, to) = known.or_insert_with(|| (Rc::clone(message), Vec::new()));
            to.push(Address { queue, id: entry.id, qos: entry.qos, retain: entry.retain });
            if entry.state == State::Received {
                seen.push(Record::Received { queue, sequence: message.sequence });
            }
        }
        for (message, to) in messages.into_values() {
            let is_kept = self
                .retained
                .get(&message.topic)
                .is_some_and(|kept| kept.sequence == message.sequence);
            let kept = publish::written(&message, to, now);
            records.push(Record::Message(Kept { retain: is_kept, ..kept }));
        }
        records.extend(seen);
        records
    }
}

/// The numbers of messages that one life has: ten days' at 5,000 a second, of which the last that was
/// written down is known.
pub(super) const LIFE: u64 = 1 << 32;

/// The first of January 2024. A clock that says less has not been set since the machine began, and tells
/// nothing of how long something has waited.
const SET: i64 = 1_704_067_200_000;

const fn is_set(unix: i64) -> bool {
    unix >= SET
}

/// Returns a time; what would be less than none is none.
fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
