//! What nodes sent, for tests to look at: the last messages, bounded in number and size.

use std::collections::VecDeque;

use ipc_proto::Message;

use crate::time::Time;

/// A message that a node sent.
#[derive(Clone, Debug)]
pub struct Received {
    /// Counts from 1 without gaps, also over messages that were forgotten since.
    pub sequence: u64,
    /// When it came.
    pub at: Time,
    /// Who sent it.
    pub node: Box<str>,
    /// The message.
    pub message: Message,
}

/// The last messages.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Received>,
    bytes: usize,
    last: u64,
}

/// The most messages that are kept.
const MAX_ENTRIES: usize = 20_000;
/// The most bytes of content that are kept.
const MAX_BYTES: usize = 64 << 20;

impl Log {
    /// Adds a message and forgets the oldest ones beyond the bounds.
    pub fn push(&mut self, at: Time, node: &str, message: &Message) {
        self.last += 1;
        self.bytes += message.content.raw().len();
        let (sequence, node, message) = (self.last, node.into(), message.clone());
        self.entries.push_back(Received { sequence, at, node, message });
        while self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.message.content.raw().len();
        }
    }

    /// Returns the messages after the one numbered `sequence`, oldest first.
    pub fn since(&self, sequence: u64) -> impl Iterator<Item = &Received> {
        let first = self.entries.partition_point(|entry| entry.sequence <= sequence);
        self.entries.range(first..)
    }
}
