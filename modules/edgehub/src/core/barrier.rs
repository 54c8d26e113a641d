//! Questions that show how far the cloud has read.
//!
//! CloudHub reads the socket in order and answers a query of `k8s/ca.crt` at once (WIRE.md §4.5),
//! so its answer says that everything written before was taken. That settles the messages which
//! the cloud never answers, and shows that a fresh link is served at all: to a node that it will
//! not serve CloudHub keeps the socket open and says nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ipc_proto::MessageId;

/// The place of a message among all that were written on a link.
pub(crate) type Order = u64;

/// A question without an answer is asked again after so long, for CloudHub can lose an answer
/// while it makes a session. Doubled on a fresh link up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// The longest pause between two questions of which none was answered yet.
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// A cloud that answers none for so long will not.
const PATIENCE: Duration = Duration::from_secs(30);

/// The questions that were asked on one link.
#[derive(Debug)]
pub(crate) struct Barriers {
    /// Oldest first; a handful at most.
    open: VecDeque<Barrier>,
    retry: Duration,
}

#[derive(Debug)]
struct Barrier {
    id: MessageId,
    /// Everything up to here was written before it.
    behind: Order,
    asked: Instant,
}

impl Barriers {
    pub(crate) const fn new() -> Self {
        Self { open: VecDeque::new(), retry: FIRST_RETRY }
    }

    /// Returns when the next question may be asked, given when one is wanted.
    pub(crate) fn ready_at(&self, wanted: Option<Instant>) -> Option<Instant> {
        match self.open.back() {
            Some(last) => Some(last.asked + self.retry),
            None => wanted,
        }
    }

    /// Returns when it is certain that no answer comes.
    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        self.open.front().map(|first| first.asked + PATIENCE)
    }

    /// Notes a question.
    pub(crate) fn asked(&mut self, now: Instant, id: MessageId, behind: Order) {
        if !self.open.is_empty() {
            self.retry = (self.retry * 2).min(LONGEST_RETRY);
        }
        self.open.push_back(Barrier { id, behind, asked: now });
    }

    /// Notes an answer; returns how far the cloud has read.
    pub(crate) fn answered(&mut self, id: &MessageId) -> Option<Order> {
        let at = self.open.iter().position(|barrier| barrier.id == *id)?;
        self.retry = LONGEST_RETRY;
        self.open.drain(..=at).next_back().map(|barrier| barrier.behind)
    }

    /// Forgets all questions.
    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }
}
