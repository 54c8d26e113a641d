//! The reliable messages that wait for their turn: of one object only what is furthest.

use std::collections::BTreeMap;

use ipc_proto::Message;

use super::admission::{Stage, Subject};

/// The most messages that wait for one node. What comes beyond is not queued: objects come again
/// when the ObjectSyncs are compared, and who waits for an answer gives up.
const MAX_WAITING: usize = 100_000;

/// A message that has to be acknowledged.
#[derive(Debug)]
pub(super) struct Reliable {
    pub(super) subject: Subject,
    pub(super) message: Message,
}

impl Reliable {
    /// Returns how far the object is with this message; further beats nearer.
    pub(super) const fn rank(&self) -> (Stage, u64) {
        (self.subject.stage, self.subject.version)
    }
}

/// A queue in order of arrival, with one place for each object. An answer takes its object's place
/// whatever stands there, so that of two answers on one object the earlier is never sent; nor is
/// one that a newer state of its object overtakes. So it is in the real cloud.
#[derive(Debug, Default)]
pub(super) struct Queue {
    next: u64,
    items: BTreeMap<u64, Reliable>,
    /// The places of objects, by uid.
    places: BTreeMap<Box<str>, u64>,
}

impl Queue {
    /// Returns how many messages wait.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns the message of an object.
    pub(super) fn find(&self, uid: &str) -> Option<&Reliable> {
        self.places.get(uid).and_then(|place| self.items.get(place))
    }

    /// Adds a message at the end, or in the place of the one of the same object.
    pub(super) fn push(&mut self, item: Reliable) {
        let uid = item.subject.uid.clone();
        if let Some(place) = self.places.get(&uid) {
            let waits = self.items.get(place);
            if item.subject.answer || waits.is_none_or(|waits| waits.rank() < item.rank()) {
                self.items.insert(*place, item);
            }
        } else if let Some(place) = self.append(item) {
            self.places.insert(uid, place);
        }
    }

    fn append(&mut self, item: Reliable) -> Option<u64> {
        if self.items.len() >= MAX_WAITING {
            return None;
        }
        let place = self.next;
        self.next += 1;
        self.items.insert(place, item);
        Some(place)
    }

    /// Takes the oldest message.
    pub(super) fn pop(&mut self) -> Option<Reliable> {
        let (_, item) = self.items.pop_first()?;
        self.places.remove(&item.subject.uid);
        Some(item)
    }
}
