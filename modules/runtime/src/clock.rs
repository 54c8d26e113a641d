//! The only place that reads clocks: everything else is told what time it is.

use std::pin::Pin;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::time::Sleep;

/// Returns the monotonic time.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns the Unix time in milliseconds; 0 on a machine that thinks it is before 1970.
#[must_use]
pub fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the Unix time in microseconds; 0 on a machine that thinks it is before 1970.
pub(crate) fn unix_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Returns the microseconds since `earlier`.
pub(crate) fn micros_since(earlier: Instant) -> u64 {
    u64::try_from(now().saturating_duration_since(earlier).as_micros()).unwrap_or(u64::MAX)
}

/// A timer that is moved only forward in time when it rings, so that a deadline that most often
/// goes away before it is due costs nothing. It may ring early: who hears it looks at the clock.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    armed: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Makes it ring at `deadline` or before.
    pub(crate) fn set(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else { return };
        match &mut self.armed {
            Some(sleep) if sleep.deadline() <= deadline => {}
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.armed = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
    }

    /// Waits until it rings; for ever when it is not set.
    pub(crate) async fn ring(&mut self) {
        match &mut self.armed {
            Some(sleep) => sleep.as_mut().await,
            None => std::future::pending().await,
        }
        self.armed = None;
    }
}
