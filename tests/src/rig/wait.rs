//! Waiting for a condition with a limit, the only way in which tests let time pass.

use std::thread::park_timeout;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The pause between two looks at a condition that other processes make true.
const LOOK: Duration = Duration::from_millis(5);

/// How long anything may take that should happen at once. Wide, because the machine may be slow and
/// busy; a test that passes never waits for it.
pub const SOON: Duration = Duration::from_secs(20);

/// Looks again and again until `condition` returns a value, and returns that.
///
/// # Errors
/// When `limit` has passed; the text names `what` was waited for.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {limit:?} in vain until {what}");
        }
        park_timeout(LOOK);
    }
}

/// Looks again and again until `condition` holds.
///
/// # Errors
/// When `limit` has passed; the text names `what` was waited for.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, limit, || condition().then_some(()))
}
