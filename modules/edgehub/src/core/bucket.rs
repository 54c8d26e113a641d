//! How many messages may go to the cloud, and when: `messageQPS` and `messageBurst`.

use std::time::{Duration, Instant};

/// A token bucket, kept as the one instant at which it would be full again.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Time that one token takes to come.
    interval: Duration,
    /// Time that an empty bucket takes to fill.
    span: Duration,
    full_at: Option<Instant>,
}

impl Bucket {
    /// Makes a full bucket of `burst` tokens, of which `rate` a second come again; both at least 1.
    pub(crate) fn new(rate: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / rate.max(1);
        Self { interval, span: interval * burst.max(1), full_at: None }
    }

    /// Returns when the next token is there: `now` or later.
    pub(crate) fn ready_at(&self, now: Instant) -> Instant {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now));
        (full_at + self.interval).checked_sub(self.span).map_or(now, |ready| ready.max(now))
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let there = self.ready_at(now) <= now;
        if there {
            let full_at = self.full_at.map_or(now, |full_at| full_at.max(now));
            self.full_at = Some(full_at + self.interval);
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(30, 60);
        assert_eq!((0..100).filter(|_| bucket.take(start)).count(), 60);
        let second = start + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| bucket.take(second)).count(), 30);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_allow(
            rate in 1u32..200, burst in 1u32..200, steps in prop::collection::vec(0u64..500, 1..200),
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(rate, burst);
            let mut now = start;
            let mut taken = 0u64;
            for step in steps {
                now += Duration::from_millis(step);
                while bucket.take(now) {
                    taken += 1;
                }
                prop_assert!(bucket.ready_at(now) > now);
                let seconds = (now - start).as_secs_f64();
                prop_assert!(taken as f64 <= f64::from(burst) + seconds * f64::from(rate) + 1e-3);
            }
        }
    }
}
