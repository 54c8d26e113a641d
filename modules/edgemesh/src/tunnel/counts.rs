//! What has passed through the tunnel since this process began.

use std::cell::Cell;

use serde::Serialize;

/// The numbers as they are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Numbers {
    /// Connections to far ends that came to stand.
    pub(super) connects: u64,
    /// Bytes of connections and datagrams that went to other nodes' endpoints or clients.
    pub(super) sent: u64,
    /// Bytes that came from there.
    pub(super) received: u64,
    /// Bytes of packets that were passed on from one node to another.
    pub(super) relayed: u64,
    /// Packets that could not be passed on or taken.
    pub(super) lost: u64,
}

/// The numbers as they grow.
#[derive(Debug, Default)]
pub(super) struct Counts(Cell<Numbers>);

impl Counts {
    pub(super) const fn now(&self) -> Numbers {
        self.0.get()
    }

    fn change(&self, change: impl Fn(&mut Numbers)) {
        let mut numbers = self.0.get();
        change(&mut numbers);
        self.0.set(numbers);
    }

    pub(super) fn connected(&self) {
        self.change(|numbers| numbers.connects += 1);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.change(|numbers| numbers.sent += count(bytes));
    }

    pub(super) fn received(&self, bytes: usize) {
        self.change(|numbers| numbers.received += count(bytes));
    }

    pub(super) fn relayed(&self, bytes: usize) {
        self.change(|numbers| numbers.relayed += count(bytes));
    }

    pub(super) fn lost(&self) {
        self.change(|numbers| numbers.lost += 1);
    }
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
