//! When to dial a far end again: soon at first, then less and less often, never at the same moment
//! as all other nodes.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(200);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(10);

/// A connection that stood so long was a good one: pauses begin anew.
const STABLE: Duration = Duration::from_secs(10);

/// The pauses between dials.
#[derive(Debug)]
pub struct Redial {
    pause: Duration,
}

impl Default for Redial {
    fn default() -> Self {
        Self { pause: FIRST }
    }
}

impl Redial {
    /// Returns how long to wait after a dial that failed, or a connection that stood for `lifetime`.
    /// `chance` is drawn from [0, 1).
    pub fn after(&mut self, lifetime: Duration, chance: f64) -> Duration {
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
    fn pauses_grow_to_their_bound_and_begin_anew_after_a_good_connection() {
        let mut redial = Redial::default();
        let pauses: Vec<_> = (0..9).map(|_| redial.after(Duration::ZERO, 1.0)).collect();
        assert_eq!(pauses[..3], [FIRST, FIRST * 2, FIRST * 4]);
        assert_eq!(pauses[8], LONGEST);
        assert!(redial.after(Duration::from_secs(1), 0.0) >= LONGEST / 2, "a short one is none");
        assert_eq!(redial.after(STABLE, 0.0), FIRST / 2);
    }
}
