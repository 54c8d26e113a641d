//! The two clocks: the monotonic one that decides, and the wall's, which only people read.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Nsecs, Timespec, clock_gettime};

use crate::child::Millis;

/// Returns the milliseconds of the monotonic clock, which a re-executed supervisor shares.
pub(crate) fn now() -> Millis {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1000 + nanoseconds / 1_000_000
}

/// Returns the Unix time in milliseconds.
pub(crate) fn unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What the wall's clock is ahead of the monotonic one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wall(i64);

impl Wall {
    /// Differences under a second are kept, so that one moment always reads the same.
    const TOLERANCE: u64 = 1000;

    /// Compares the clocks.
    pub(crate) fn new() -> Self {
        Self(unix().saturating_sub(signed(now())))
    }

    /// Compares the clocks again, since somebody may have set the wall's.
    pub(crate) fn adjust(&mut self) {
        let new = Self::new();
        if new.0.abs_diff(self.0) > Self::TOLERANCE {
            *self = new;
        }
    }

    /// Returns the Unix time in milliseconds of a moment of the monotonic clock.
    pub(crate) fn of(self, moment: Millis) -> i64 {
        self.0.saturating_add(signed(moment))
    }
}

fn signed(moment: Millis) -> i64 {
    i64::try_from(moment).unwrap_or(i64::MAX)
}

/// Returns a duration as the poll wants it.
pub(crate) fn timespec(duration: Millis) -> Timespec {
    let tv_sec = i64::try_from(duration / 1000).unwrap_or(i64::MAX);
    let milliseconds = u16::try_from(duration % 1000).unwrap_or(0);
    Timespec { tv_sec, tv_nsec: Nsecs::from(milliseconds) * 1_000_000 }
}
