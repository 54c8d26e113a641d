//! The agent's own program, asked for what it alone knows: what the configuration comes to, what
//! stands in the database, whether the cloud is the right one.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Where the agent's program is when it is not beside this one.
const EDGECORE: &str = "/usr/local/bin/edgecore";

/// Runs the program to its end.
///
/// # Errors
/// With a sentence when it cannot be run.
pub(crate) fn run<I: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = I>,
) -> Result<Output, String> {
    let program = place();
    let output = Command::new(&program).args(arguments).output();
    output.map_err(|error| format!("cannot run {}: {error}", program.display()))
}

/// Runs the program and returns what it printed.
///
/// # Errors
/// With a sentence when it cannot be run, or with what it says is wrong.
pub(crate) fn ask<I: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = I>,
) -> Result<Vec<u8>, String> {
    let output = run(arguments)?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// Says that what the program printed is not understood.
pub(crate) fn foreign(error: &serde_json::Error) -> String {
    format!("{} is of another version: {error}", place().display())
}

/// Returns where it is.
pub(crate) fn place() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("edgecore"));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(EDGECORE))
}
