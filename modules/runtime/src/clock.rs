//! The only place that reads clocks: everything else is told what time it is.

use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;
use tokio::time::Sleep;

/// The time, as a core is told it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// On the clock that only goes forward.
    pub at: Instant,
    /// On the wall, in Unix milliseconds.
    pub unix_ms: i64,
}

impl Now {
    /// Reads both clocks.
    #[must_use]
    pub fn read() -> Self {
        Self { at: now(), unix_ms: unix_millis() }
    }
}

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

/// Rings whenever a whole number of periods has passed since the machine's start: processes that
/// wait for such moments wake it once, all together. A timer of the runtime's wakes its process up
/// to three times for each ring, whenever it moves from one of its lists to the next.
#[derive(Debug)]
pub(crate) struct Bell(Receiver);

impl Bell {
    /// Makes it; to be called inside the runtime.
    ///
    /// # Errors
    /// When the host is out of descriptors or memory.
    pub(crate) fn every(period: Duration) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
        let (period, now) = (period.as_nanos().max(1), now.as_nanos());
        let times = |nanos: u128| -> io::Result<_> {
            let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
            Timespec::try_from(Duration::from_nanos(nanos)).map_err(io::Error::other)
        };
        let setting = Itimerspec {
            it_interval: times(period)?,
            it_value: times(now - now % period + period)?,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &setting)?;
        Receiver::from_owned_fd_unchecked(timer).map(Self)
    }

    /// Waits for the next ring; what was missed counts as one. Cancelling it loses nothing.
    pub(crate) async fn ring(&self) {
        loop {
            // Only a runtime that ends has nothing more to tell.
            if self.0.readable().await.is_err() {
                return std::future::pending().await;
            }
            if self.0.try_read(&mut [0; 8]).is_ok() {
                return;
            }
        }
    }
}
