//! Stands for KubeEdge's own edgecore where that is to be replaced: it has a connection to the
//! cloud's hub, and ends at SIGTERM. It reads the same configuration, and touches nothing.

use std::io::Read as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread::park_timeout;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

/// Before the cloud is dialled again.
const PAUSE: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let mut words = std::env::args_os();
    let config = words.find(|word| word == "--config").and_then(|_| words.next());
    let config = PathBuf::from(config.context("expected --config FILE")?);
    let text =
        std::fs::read(&config).with_context(|| format!("cannot read {}", config.display()))?;
    let config: Value = serde_json::from_slice(&text)?;
    let hub = config["modules"]["edgeHub"]["websocket"]["server"].as_str().context("no hub")?;
    loop {
        if let Ok(mut stream) = TcpStream::connect(hub) {
            // The cloud waits for a greeting that does not come, and hangs up.
            drop(stream.read(&mut [0]));
        }
        park_timeout(PAUSE);
    }
}
