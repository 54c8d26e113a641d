//! The program's command line: a cloud on this machine, until it is told to end.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::{Config, Minicloud};

/// A cloud that speaks KubeEdge's protocol, to test edge nodes against.
///
/// Prints one line of JSON once it listens: its addresses and a token for nodes.
#[derive(Debug, Parser)]
struct Args {
    /// Where the certificate authority and the cluster are kept.
    #[arg(long)]
    dir: PathBuf,
    /// Where nodes connect; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:10000")]
    hub: SocketAddr,
    /// Where nodes get their certificates.
    #[arg(long, default_value = "127.0.0.1:10002")]
    https: SocketAddr,
    /// Where the control API listens, on the loopback.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// A folder of YAML files whose objects become the cluster's while it runs.
    #[arg(long)]
    manifests: Option<PathBuf>,
    /// A further name or address of this host, for the servers' certificate.
    #[arg(long = "name")]
    names: Vec<String>,
    /// Serve only connections that show the certificate of their own node.
    #[arg(long)]
    authorize: bool,
}

/// Runs the program.
///
/// # Errors
/// When the cloud cannot start, or its addresses cannot be told.
pub fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: Args) -> Result<()> {
    let Args { dir, hub, https, control, manifests, names, authorize } = args;
    let cloud = Minicloud::start(Config {
        dir: Some(dir),
        manifests,
        hub,
        https,
        control: Some(control),
        names,
        authorize,
        ..Config::default()
    })
    .await?;
    let line = json!({"token": cloud.token(), "hub": cloud.hub().to_string(),
        "https": cloud.https().to_string(),
        "control": cloud.control().map(|address| address.to_string())});
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("cannot write to stdout")?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    cloud.stop().await
}
