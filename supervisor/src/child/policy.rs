//! How patient the supervisor is with a module: numbers, and the pauses that follow from them.

use serde::{Deserialize, Serialize};

/// Milliseconds: a moment of the monotonic clock, or a duration.
pub type Millis = u64;

/// How long the supervisor waits for a module, and between two starts of it. In milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// From one beat to the next, before the module counts as hung.
    pub patience: Millis,
    /// From the start to readiness, before the module counts as hung.
    pub ready_timeout: Millis,
    /// From the request to end to the end, before the module is killed.
    pub stop_timeout: Millis,
    /// The pauses between death and start.
    pub restart: Restart,
}

/// The pauses between death and start: none after the first death, then `initial`, doubled with
/// every death up to `ceiling`, and none again once a life lasted `stable_after`. In milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restart {
    /// The pause after the second death.
    pub initial: Millis,
    /// The longest pause.
    pub ceiling: Millis,
    /// How long a module must run to be trusted again.
    pub stable_after: Millis,
}

impl Restart {
    /// Returns the pause after a death that followed `deaths` others.
    pub(super) fn pause(self, deaths: u32) -> Millis {
        match deaths.checked_sub(1) {
            None => 0,
            Some(doublings) => {
                let factor = 1_u64.checked_shl(doublings).unwrap_or(Millis::MAX);
                self.initial.saturating_mul(factor).min(self.ceiling)
            }
        }
    }
}
