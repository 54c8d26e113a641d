//! The agent's unit, where systemd runs.

use std::path::Path;
use std::process::Command;

use crate::failure::Failure;

/// The agent's unit, whoever's agent it is.
pub(crate) const UNIT: &str = "edgecore.service";

/// Tells whether systemd runs this machine.
pub(crate) fn is_there() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Starts the agent now and at each boot.
pub(crate) fn start() -> Result<(), Failure> {
    systemctl("enable")
}

/// Stops the agent, and starts it at no boot.
pub(crate) fn stop() -> Result<(), Failure> {
    systemctl("disable")
}

fn systemctl(verb: &str) -> Result<(), Failure> {
    let line = format!("systemctl {verb} --now {UNIT}");
    let cannot = |reason: String| Failure::Failed(format!("'{line}' failed: {reason}"));
    let output = Command::new("systemctl").args([verb, "--now", UNIT]).output();
    let output = output.map_err(|error| cannot(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(cannot(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
