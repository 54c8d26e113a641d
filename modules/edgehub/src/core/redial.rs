//! When to dial the cloud again.

use std::time::{Duration, Instant};

/// The first pause after a dial that failed.
const FIRST: Duration = Duration::from_millis(250);

/// The longest pause while nothing listens at the cloud's address: such a dial costs the cloud one
/// packet, and a cloud that comes back is found within 2 s.
const LONGEST_REFUSED: Duration = Duration::from_millis(1500);

/// After so long without a listener the cloud is not restarting any more, it is gone.
const GONE: Duration = Duration::from_secs(10 * 60);

/// The longest pause when the cloud does answer but takes nobody, as one that is overloaded does.
const LONGEST: Duration = Duration::from_secs(30);

/// A link that stood so long was a good one: pauses begin anew.
const STABLE: Duration = Duration::from_secs(30);

/// The pause after a link that was lost. A cloud that has not noticed the loss yet replaces the
/// node's session by the new one, and the end of the old connection then ends the new session too
/// (seen with CloudCore v1.23, some 6 ms after the dial). To wait until it notices by
/// itself would take its 30 s without a keepalive; a dial that is lost to this takes a second.
const AFTER_LOSS: Duration = Duration::from_millis(500);

/// Why a dial brought no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing listens there.
    Refused,
    /// Anything else.
    Other,
}

/// The pauses between dials: doubled from failure to failure, with jitter, so that the nodes of a
/// cloud that comes back do not come all at once.
#[derive(Debug)]
pub(crate) struct Redial {
    pause: Duration,
    down_since: Option<Instant>,
}

impl Redial {
    pub(crate) const fn new() -> Self {
        Self { pause: FIRST, down_since: None }
    }

    /// Returns how long to wait after a dial that failed. `chance` is drawn from [0, 1).
    pub(crate) fn failed(&mut self, now: Instant, failure: Failure, chance: f64) -> Duration {
        let down_since = *self.down_since.get_or_insert(now);
        let longest = match failure {
            Failure::Refused if now.duration_since(down_since) < GONE => LONGEST_REFUSED,
            Failure::Refused | Failure::Other => LONGEST,
        };
        let pause = self.pause.min(longest);
        self.pause = (pause * 2).min(longest);
        jittered(pause, chance)
    }

    /// Returns how long to wait after a link that stood for `lifetime`. `chance` is drawn from
    /// [0, 1).
    pub(crate) fn lost(&mut self, now: Instant, lifetime: Duration, chance: f64) -> Duration {
        if lifetime >= STABLE {
            *self = Self::new();
        }
        self.failed(now, Failure::Other, chance).max(AFTER_LOSS)
    }
}

/// Returns between half of `pause` and the whole.
fn jittered(pause: Duration, chance: f64) -> Duration {
    pause.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cloud_that_restarts_is_found_within_two_seconds() {
        let mut redial = Redial::new();
        let mut now = Instant::now();
        let down = now;
        while now - down < Duration::from_secs(9 * 60) {
            let pause = redial.failed(now, Failure::Refused, 0.999);
            assert!(pause <= LONGEST_REFUSED);
            now += pause;
        }
    }

    #[test]
    fn an_overloaded_cloud_is_left_alone_longer_and_longer() {
        let mut redial = Redial::new();
        let now = Instant::now();
        let pauses: Vec<_> = (0..9).map(|_| redial.failed(now, Failure::Other, 1.0)).collect();
        assert_eq!(pauses[..3], [FIRST, FIRST * 2, FIRST * 4]);
        assert_eq!(pauses[8], LONGEST);
        assert!(
            redial.lost(now, Duration::from_secs(1), 1.0) >= LONGEST,
            "a short link is no link"
        );
        let after = redial.lost(now, STABLE, 1.0);
        assert_eq!(after, AFTER_LOSS, "a long one resets");
    }

    proptest! {
        #[test]
        fn pauses_stay_in_their_bounds(
            events in prop::collection::vec((any::<bool>(), 0u64..100, 0.0f64..1.0), 1..100),
        ) {
            let mut redial = Redial::new();
            let mut now = Instant::now();
            for (refused, seconds, chance) in events {
                let failure = if refused { Failure::Refused } else { Failure::Other };
                let pause = redial.failed(now, failure, chance);
                prop_assert!(pause >= FIRST / 2 && pause <= LONGEST);
                now += pause + Duration::from_secs(seconds);
            }
        }
    }
}
