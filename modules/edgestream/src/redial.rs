//! When to dial the tunnel again: soon at first, then less and less often, never at the same
//! moment as all other nodes.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(200);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(10);

/// A tunnel that stood so long was a good one: pauses begin anew.
const STABLE: Duration = Duration::from_secs(10);

/// The least that is waited when the agent has just started, or the cloud has just come back.
const SETTLE: Duration = Duration::from_millis(300);

/// Returns how long to wait then. The node tells its state at that moment, and CloudCore, which
/// writes to the same object when it takes a tunnel, waits 20 s when both come together.
pub(crate) fn settle(chance: f64) -> Duration {
    SETTLE.mul_f64(1.0 + chance.clamp(0.0, 1.0))
}

/// The pauses between dials.
#[derive(Debug)]
pub(crate) struct Redial {
    pause: Duration,
}

impl Redial {
    pub(crate) const fn new() -> Self {
        Self { pause: FIRST }
    }

    /// Returns how long to wait after a dial that failed, or a tunnel that stood for `lifetime`.
    /// `chance` is drawn from [0, 1).
    pub(crate) fn after(&mut self, lifetime: Duration, chance: f64) -> Duration {
        if lifetime >= STABLE {
            self.pause = FIRST;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        pause.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_begin_anew_after_a_good_tunnel() {
        let mut redial = Redial::new();
        let pauses: Vec<_> = (0..9).map(|_| redial.after(Duration::ZERO, 1.0)).collect();
        assert_eq!(pauses[..3], [FIRST, FIRST * 2, FIRST * 4]);
        assert_eq!(pauses[8], LONGEST);
        assert!(redial.after(Duration::from_secs(1), 0.0) >= LONGEST / 2, "a short one is none");
        assert_eq!(redial.after(STABLE, 0.0), FIRST / 2);
    }
}
