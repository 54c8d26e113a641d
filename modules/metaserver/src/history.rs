//! The last changes of the store, and which resourceVersion names which place among them. Pure.
//!
//! A place is told to clients in lists and bookmarks as a number of this process's own: the
//! microseconds at its start, and one for each change. That is above every resourceVersion of a
//! cluster, and of another life of this process no number is valid here. In the objects of events
//! clients find the cluster's version, by which an update is checked; it names the place of the
//! first event that carried it.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::object;

/// The changes that are kept, at most.
const MAX_CHANGES: usize = 1024;

/// Their size, at most, in bytes.
const MAX_BYTES: usize = 512 * 1024;

/// The least number that is one of ours: microseconds of the year 2001.
const OURS: u64 = 1_000_000_000_000_000;

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Came,
    Changed,
    Went,
}

/// A change of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The key in the store, `/<group or core>/<version>/<plural>/<namespace or null>/<name>`.
    pub(crate) key: Box<str>,
    pub(crate) fate: Fate,
    /// The object as it is, or was last.
    pub(crate) value: Bytes,
}

/// That a place is not, or no longer, among the changes that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooOld;

/// The last changes.
#[derive(Debug)]
pub(crate) struct History {
    /// The place of the last change.
    last: u64,
    /// The place from which on all is known.
    floor: u64,
    changes: VecDeque<Change>,
    bytes: usize,
}

impl History {
    /// Begins at a time in milliseconds.
    pub(crate) fn new(unix_millis: u64) -> Self {
        let start = unix_millis.saturating_mul(1000).max(OURS);
        Self { last: start, floor: start, changes: VecDeque::new(), bytes: 0 }
    }

    /// Returns the place of the last change.
    pub(crate) const fn place(&self) -> u64 {
        self.last
    }

    /// Notes a change.
    pub(crate) fn push(&mut self, change: Change) {
        self.last += 1;
        self.bytes += change.value.len();
        self.changes.push_back(change);
        while self.changes.len() > MAX_CHANGES || self.bytes > MAX_BYTES {
            let Some(gone) = self.changes.pop_front() else { break };
            self.bytes -= gone.value.len();
            self.floor += 1;
        }
    }

    /// Notes that changes were missed: nothing before now can be continued.
    pub(crate) fn forget(&mut self) {
        self.last += 1;
        self.floor = self.last;
        self.changes.clear();
        self.bytes = 0;
    }

    /// Returns the changes of objects whose key begins with `of` after the place that a
    /// resourceVersion names.
    ///
    /// # Errors
    /// [`TooOld`].
    pub(crate) fn after(&self, of: &str, version: u64) -> Result<Vec<Change>, TooOld> {
        let place = if version >= OURS { version } else { self.find(of, version).ok_or(TooOld)? };
        if place < self.floor || place > self.last {
            return Err(TooOld);
        }
        let known = usize::try_from(place - self.floor).map_err(|_| TooOld)?;
        let later = self.changes.iter().skip(known);
        Ok(later.filter(|change| change.key.starts_with(of)).cloned().collect())
    }

    /// Returns the place of the first change that carried a version of the cluster.
    fn find(&self, of: &str, version: u64) -> Option<u64> {
        let is_it = |change: &Change| {
            change.key.starts_with(of) && object::version(&change.value) == Some(version)
        };
        let index = self.changes.iter().position(is_it)?;
        Some(self.floor + index as u64 + 1)
    }
}

#[cfg(test)]
mod tests;
