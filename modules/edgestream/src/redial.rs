//! How long the first dial waits.

use std::time::Duration;

/// The least that is waited when the agent has just started, or the cloud has just come back.
const SETTLE: Duration = Duration::from_millis(300);

/// Returns how long to wait then. The node tells its state at that moment, and CloudCore, which
/// writes to the same object when it takes a tunnel, waits 20 s when both come together.
pub(crate) fn settle(chance: f64) -> Duration {
    SETTLE.mul_f64(1.0 + chance.clamp(0.0, 1.0))
}
