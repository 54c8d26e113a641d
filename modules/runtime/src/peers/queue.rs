//! The sending core: what waits for a peer, what it holds unsettled, and what goes out next.
//!
//! A message keeps its place (its sequence) for the life of this process. It stays here until the
//! peer has settled it; after a reconnect everything unsettled goes out again, in order. Values in,
//! values out: the socket, and the bound on what may be put in, are the callers'.

use std::collections::VecDeque;

use ipc_proto::frame::{Sequence, Window};

/// The messages for one peer, oldest first: those in flight on this connection, then those that
/// wait.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    entries: VecDeque<Entry<T>>,
    /// How many entries, from the first on, are in flight.
    in_flight: usize,
    in_flight_bytes: u64,
    /// Bytes of all entries.
    bytes: u64,
    next: Sequence,
    /// What the peer is ready to hold; nothing while there is no connection.
    window: Option<Window>,
}

#[derive(Debug)]
struct Entry<T> {
    sequence: Sequence,
    bytes: u32,
    cancelled: bool,
    item: T,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        let entries = VecDeque::new();
        Self { entries, in_flight: 0, in_flight_bytes: 0, bytes: 0, next: 1, window: None }
    }

    /// Puts a message of `bytes` last, and gives it its place.
    pub(crate) fn push(&mut self, bytes: u32, make: impl FnOnce(Sequence) -> T) -> Sequence {
        let sequence = self.next;
        self.next += 1;
        self.bytes += u64::from(bytes);
        self.entries.push_back(Entry { sequence, bytes, cancelled: false, item: make(sequence) });
        sequence
    }

    /// Begins a connection: everything goes out, from the oldest on.
    pub(crate) fn connected(&mut self, window: Window) {
        self.disconnected();
        self.window = Some(window);
    }

    /// Ends the connection. What was cancelled while it was in flight is not sent again.
    pub(crate) fn disconnected(&mut self) {
        self.window = None;
        self.in_flight = 0;
        self.in_flight_bytes = 0;
        self.entries.retain(|entry| !entry.cancelled);
        self.bytes = self.entries.iter().map(|entry| u64::from(entry.bytes)).sum();
    }

    /// Returns the next message to write, if the peer is ready to hold it. One that is larger than
    /// the whole window goes out when no other is in flight.
    pub(crate) fn send_next(&mut self) -> Option<&mut T> {
        let window = self.window?;
        let entry = self.entries.get_mut(self.in_flight)?;
        let bytes = self.in_flight_bytes + u64::from(entry.bytes);
        let messages = u32::try_from(self.in_flight).unwrap_or(u32::MAX);
        let fits = messages < window.messages && bytes <= u64::from(window.bytes);
        if !fits && self.in_flight > 0 {
            return None;
        }
        self.in_flight += 1;
        self.in_flight_bytes = bytes;
        Some(&mut entry.item)
    }

    /// Takes out the `count` messages from `first` on that are in flight. A settlement of anything
    /// else says nothing: it is of a message that is gone.
    pub(crate) fn settle(&mut self, first: Sequence, count: u32) -> impl Iterator<Item = T> {
        let last = first.saturating_add(u64::from(count));
        let start = self.position(first).min(self.in_flight);
        let end = self.position(last).clamp(start, self.in_flight);
        self.in_flight -= end - start;
        let settled_bytes: u64 =
            self.entries.range(start..end).map(|entry| u64::from(entry.bytes)).sum();
        self.in_flight_bytes -= settled_bytes;
        self.bytes -= settled_bytes;
        self.entries.drain(start..end).map(|entry| entry.item)
    }

    /// Takes out a message that nobody wants any more. One in flight stays until it is settled,
    /// because the peer holds it too, but is not sent again.
    pub(crate) fn cancel(&mut self, sequence: Sequence) {
        let at = self.position(sequence);
        if self.entries.get(at).is_none_or(|entry| entry.sequence != sequence) {
            return;
        }
        if at < self.in_flight {
            self.entries[at].cancelled = true;
        } else {
            let removed = self.entries.remove(at).map_or(0, |entry| entry.bytes);
            self.bytes -= u64::from(removed);
        }
    }

    /// Returns how many messages wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.entries.len() - self.in_flight
    }

    /// Returns how many messages are in flight.
    pub(crate) const fn unsettled(&self) -> usize {
        self.in_flight
    }

    /// Returns the bytes of all messages that it holds.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the index of the first entry whose place is not before `sequence`.
    fn position(&self, sequence: Sequence) -> usize {
        // Settlements are of the oldest messages nearly always.
        match self.entries.front() {
            Some(front) if front.sequence >= sequence => 0,
            Some(_) | None => self.entries.partition_point(|entry| entry.sequence < sequence),
        }
    }
}
