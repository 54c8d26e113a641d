//! What storms of faults have in common: how long they blow, and what they draw.

/// Returns for how many seconds a storm is to blow: `EDGECORE_STORM_SECONDS`, or a few.
#[must_use]
pub fn seconds() -> u64 {
    let asked = std::env::var("EDGECORE_STORM_SECONDS").ok();
    asked.and_then(|seconds| seconds.parse().ok()).unwrap_or(5)
}

/// Draws numbers that are the same in each run with the same start.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// Draws a number from 0 up to and not including `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}
