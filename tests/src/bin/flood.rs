//! A mapper without manners, as a process of its own: it calls devicetwin without end, on far more
//! connections than one may have.

use std::path::PathBuf;

use anyhow::{Context, Result};
use edgecore_tests::rig::mapper::flood;
use serde_json::json;

/// Connections: more than devicetwin takes of all together.
const CONNECTIONS: usize = 200;

fn main() -> Result<()> {
    let edge = std::env::args_os().nth(1).context("expected the path of devicetwin's socket")?;
    flood(&PathBuf::from(edge), CONNECTIONS, "ReportDeviceStatus", &json!({"deviceName": "none"}))
}
