//! The messages that one receiver is to have, in order.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;

use crate::mqtt::{Publish, Qos};

/// What a message costs beside its body, in bytes: about what it takes in memory.
const OVERHEAD: usize = 256;

/// The last identity that a message's packet has; those above are for other packets.
pub(crate) const LAST_ID: u16 = 65_000;

/// A message in the node's hands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its number: what was published later has a higher one.
    pub(crate) sequence: u64,
    /// Its topic.
    pub(crate) topic: Box<str>,
    /// Its body.
    pub(crate) payload: Bytes,
    /// How surely it was published.
    pub(crate) qos: Qos,
    /// Whether it was published to be kept.
    pub(crate) retain: bool,
    /// What of its properties is passed on, encoded.
    pub(crate) properties: Bytes,
    /// When it came.
    pub(crate) born: Instant,
    /// When it is worth nothing any more.
    pub(crate) expires: Option<Instant>,
}

impl Message {
    pub(crate) fn size(&self) -> usize {
        OVERHEAD + self.topic.len() + self.payload.len() + self.properties.len()
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// How far a message is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It was not sent on this connection.
    Waiting,
    /// It was sent.
    Sent,
    /// It was sent with QoS 2, and seen.
    Received,
}

/// A message on its way to one receiver.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The message.
    pub(crate) message: Rc<Message>,
    /// The identity of its packet; 0 with QoS 0.
    pub(crate) id: u16,
    /// How surely it is to arrive.
    pub(crate) qos: Qos,
    /// Whether the packet says that it was kept.
    pub(crate) retain: bool,
    /// How far it is.
    pub(crate) state: State,
    /// Whether it was sent before, perhaps on an earlier connection.
    pub(crate) repeated: bool,
}

impl Entry {
    /// Makes the packet that takes it there.
    pub(crate) fn packet(&self, now: Instant) -> Publish {
        let left = |at: Instant| {
            let seconds = at.saturating_duration_since(now).as_secs();
            u32::try_from(seconds).unwrap_or(u32::MAX)
        };
        Publish {
            dup: self.repeated && self.id != 0,
            qos: self.qos,
            retain: self.retain,
            topic: self.message.topic.clone(),
            id: self.id,
            payload: self.message.payload.clone(),
            expiry: self.message.expires.map(left),
            properties: self.message.properties.clone(),
        }
    }
}

/// How much a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Messages, at most 60,000: their packets need identities.
    pub(crate) messages: usize,
    /// Bytes.
    pub(crate) bytes: usize,
    /// Messages that are sent and not settled.
    pub(crate) flying: usize,
}

/// The messages for one receiver.
#[derive(Debug)]
pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    /// How many at the front were sent.
    sent: usize,
    bytes: usize,
    last_id: u16,
    bounds: Bounds,
}

impl Queue {
    pub(crate) const fn new(bounds: Bounds) -> Self {
        Self { entries: VecDeque::new(), sent: 0, bytes: 0, last_id: 0, bounds }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) const fn set_flying(&mut self, flying: usize) {
        self.bounds.flying = flying;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Tells whether a message of `size` bytes has room. One message always has.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        self.entries.is_empty()
            || self.entries.len() < self.bounds.messages
                && self.bytes + size <= self.bounds.bytes
                && self.free_id().is_some()
    }

    /// Returns the next identity, unless the oldest message has it still: identities are given in
    /// a circle, so that one is the first to be met again.
    fn free_id(&self) -> Option<u16> {
        let next = self.last_id % LAST_ID + 1;
        let oldest = self.entries.iter().find(|entry| entry.id != 0);
        oldest.is_none_or(|oldest| oldest.id != next).then_some(next)
    }

    /// Takes a message; returns the identity of its packet.
    pub(crate) fn push(&mut self, message: Rc<Message>, qos: Qos, retain: bool) -> u16 {
        let id = match qos {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce | Qos::ExactlyOnce => self.free_id().unwrap_or(1),
        };
        let state = State::Waiting;
        self.restore(Entry { message, id, qos, retain, state, repeated: false });
        id
    }

    /// Takes a message as it was.
    pub(crate) fn restore(&mut self, entry: Entry) {
        self.bytes += entry.message.size();
        if entry.id != 0 {
            self.last_id = entry.id;
        }
        self.entries.push_back(entry);
    }

    /// Takes the next message to be sent, if one may go now. With QoS 0 it is gone from here.
    pub(crate) fn next(&mut self) -> Option<Entry> {
        if self.sent >= self.bounds.flying {
            return None;
        }
        let entry = self.entries.get_mut(self.sent)?;
        if entry.state == State::Waiting {
            entry.state = State::Sent;
        }
        let sent = entry.clone();
        entry.repeated = true;
        if sent.id == 0 {
            self.take(self.sent);
        } else {
            self.sent += 1;
        }
        Some(sent)
    }

    /// Notes that the connection is gone: what was sent is to be sent again, in order.
    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
        for entry in &mut self.entries {
            if entry.state == State::Sent {
                entry.state = State::Waiting;
            }
        }
    }

    /// Takes out the message with this identity of packet that was sent, if its QoS is as expected.
    pub(crate) fn settle(&mut self, id: u16, qos: Qos) -> Option<Entry> {
        let at = self.flying(id).filter(|at| self.entries[*at].qos == qos)?;
        self.take(at)
    }

    /// Takes out the message with this number.
    pub(crate) fn remove(&mut self, sequence: u64) -> Option<Entry> {
        let at = self.entries.binary_search_by_key(&sequence, |entry| entry.message.sequence);
        self.take(at.ok()?)
    }

    /// Notes that a message with QoS 2 was seen; returns its number, where that is news.
    pub(crate) fn received(&mut self, id: u16) -> Option<u64> {
        let at = self.flying(id)?;
        let entry = &mut self.entries[at];
        if entry.qos != Qos::ExactlyOnce || entry.state == State::Received {
            return None;
        }
        entry.state = State::Received;
        Some(entry.message.sequence)
    }

    /// Notes that the message with this number was seen, in an earlier life.
    pub(crate) fn restore_received(&mut self, sequence: u64) {
        let found = self.entries.iter_mut().find(|entry| entry.message.sequence == sequence);
        if let Some(entry) = found {
            entry.state = State::Received;
        }
    }

    /// Takes out the oldest message that was not sent and is over, or too old.
    pub(crate) fn expire(&mut self, is_over: impl Fn(&Message) -> bool) -> Option<Entry> {
        let waiting = self.entries.iter().skip(self.sent);
        let at = waiting
            .take_while(|entry| entry.state == State::Waiting)
            .position(|entry| is_over(&entry.message))?;
        self.take(self.sent + at)
    }

    fn flying(&self, id: u16) -> Option<usize> {
        self.entries.iter().take(self.sent).position(|entry| entry.id == id)
    }

    fn take(&mut self, at: usize) -> Option<Entry> {
        let entry = self.entries.remove(at)?;
        self.bytes -= entry.message.size();
        if at < self.sent {
            self.sent -= 1;
        }
        Some(entry)
    }
}
