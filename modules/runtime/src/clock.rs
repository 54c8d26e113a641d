//! The only place that reads clocks: everything else is told what time it is.

use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// Returns the next moment that is a whole number of periods after the machine's start. Processes
/// that wait for such moments wake it once, all together.
pub(crate) fn next_whole(period: Duration) -> tokio::time::Instant {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::try_from(now).unwrap_or_default().as_nanos();
    let rest = period.as_nanos() - now % period.as_nanos().max(1);
    tokio::time::Instant::now() + Duration::from_nanos(u64::try_from(rest).unwrap_or(0))
}

/// Returns the microseconds since `earlier`.
pub(crate) fn micros_since(earlier: Instant) -> u64 {
    u64::try_from(now().saturating_duration_since(earlier).as_micros()).unwrap_or(u64::MAX)
}

/// A timer that is moved only forward in time when it rings, so that a deadline that most often
/// goes away before it is due costs nothing. It may ring early: who hears it looks at the clock.
#[derive(Debug, Default)]
pub struct Alarm {
    armed: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Makes it ring at `deadline` or before.
    pub fn set(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else { return };
        match &mut self.armed {
            Some(sleep) if sleep.deadline() <= deadline => {}
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.armed = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
    }

    /// Waits until it rings; for ever when it is not set. Cancelling it loses nothing.
    pub async fn ring(&mut self) {
        match &mut self.armed {
            Some(sleep) => sleep.as_mut().await,
            None => std::future::pending().await,
        }
        self.armed = None;
    }
}
