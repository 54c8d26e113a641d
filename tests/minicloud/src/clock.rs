//! The shell's clock: Unix time that never goes back.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::time::Time;

/// A clock. It is set once, and from then on follows the monotonic clock, so that a leap of the
/// system's time fires no deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    set: Instant,
    unix: Duration,
}

impl Clock {
    /// Sets a clock by the system's time.
    pub(crate) fn start() -> Self {
        let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self { set: Instant::now(), unix }
    }

    /// Returns the time.
    pub(crate) fn now(&self) -> Time {
        let millis = (self.unix + self.set.elapsed()).as_millis();
        Time::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    /// Returns the instant at which the clock will show `time`; now, if that is past.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        Instant::now() + time.since(self.now())
    }
}
