//! The requests that wait for an answer of one peer.
//!
//! A request stands here before its message can be written, so an answer always finds its waiter;
//! an answer that comes after the time-out finds none and harms nothing.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use ipc_proto::MessageId;
use ipc_proto::frame::Sequence;

/// How long a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Until this instant, and no longer than the peer's process lives.
    Until(Instant),
    /// As long as it takes, over any number of the peer's lives.
    Endless,
}

/// The pending requests; `W` is what waits.
#[derive(Debug)]
pub(crate) struct Requests<W> {
    pending: HashMap<MessageId, Pending<W>>,
    deadlines: BTreeMap<(Instant, Sequence), MessageId>,
}

#[derive(Debug)]
struct Pending<W> {
    sequence: Sequence,
    patience: Patience,
    waiter: W,
}

impl<W> Requests<W> {
    pub(crate) fn new() -> Self {
        Self { pending: HashMap::new(), deadlines: BTreeMap::new() }
    }

    /// Notes a request, whose message has the place `sequence`.
    ///
    /// # Errors
    /// Gives the waiter back when a request with this id waits already.
    pub(crate) fn register(
        &mut self,
        id: MessageId,
        sequence: Sequence,
        patience: Patience,
        waiter: W,
    ) -> Result<(), W> {
        if self.pending.contains_key(&id) {
            return Err(waiter);
        }
        if let Patience::Until(deadline) = patience {
            self.deadlines.insert((deadline, sequence), id.clone());
        }
        self.pending.insert(id, Pending { sequence, patience, waiter });
        Ok(())
    }

    /// Takes out the request that a message answers, if it still waits.
    pub(crate) fn answered(&mut self, parent: &MessageId) -> Option<(Sequence, W)> {
        let Pending { sequence, patience, waiter } = self.pending.remove(parent)?;
        if let Patience::Until(deadline) = patience {
            self.deadlines.remove(&(deadline, sequence));
        }
        Some((sequence, waiter))
    }

    /// Takes out a request whose time has come.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<(Sequence, W)> {
        let first = self.deadlines.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let id = first.remove();
        self.answered(&id)
    }

    /// Takes out a request that does not outlive the peer's process.
    pub(crate) fn bereaved(&mut self) -> Option<(Sequence, W)> {
        let (_, id) = self.deadlines.pop_first()?;
        self.answered(&id)
    }

    /// Returns when the next request's time comes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first_key_value().map(|((deadline, _), _)| *deadline)
    }
}
