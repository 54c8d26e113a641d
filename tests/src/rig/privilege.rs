//! What a test needs of the machine: it says so, and a missing need is never silent.

use anyhow::{Result, bail};

/// Tells whether the test may go on, for which it has to be root.
///
/// # Errors
/// In CI (`CI=true`), where a test that cannot run is a failure.
pub fn root_or_skip() -> Result<bool> {
    had_or_skip(is_root(), "root")
}

/// Tells whether the caller is root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Tells whether the test may go on, which the caller found out; says what is missing if not.
///
/// # Errors
/// In CI (`CI=true`), where a test that cannot run is a failure.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn had_or_skip(had: bool, need: &str) -> Result<bool> {
    if !had && std::env::var_os("CI").is_some_and(|value| value == "true") {
        bail!("this test needs {need}, and in CI it must run");
    }
    if !had {
        eprintln!("SKIPPED: this test needs {need}");
    }
    Ok(had)
}
