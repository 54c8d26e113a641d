//! Numbers: what a message between two modules costs beside the bare socket under it, how long a
//! module is away when it is killed, and what the whole takes of the machine when it is idle.
//!
//! Everything that is compared is measured in the same run, in turns, so that a busy machine makes
//! both slower and leaves the ratio.

mod bare;
mod crowd;
mod device;
mod footprint;
mod ipc;
mod link;
mod local_api;
mod mesh;
mod mqtt;
mod pods;
mod recovery;
mod report;
mod store;
mod stream;
mod wear;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

pub use report::{Report, Row};

/// Rounds of which least, middle and greatest are told.
pub const ROUNDS: usize = 5;

/// A part of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Messages between two processes.
    Ipc,
    /// From a kill to readiness.
    Recovery,
    /// Memory, processor time and size.
    Footprint,
    /// From a start to the cloud.
    Link,
    /// From the cloud to the disk.
    Store,
    /// From an MQTT client to the cloud.
    Mqtt,
    /// From a mapper to the store and the cloud.
    Device,
    /// Pods, beside the bare calls to the runtime.
    Pods,
    /// As many pods as a node may have.
    Crowd,
    /// Streams through the tunnel, beside the node's own API.
    Stream,
    /// Lists of the local Kubernetes API.
    LocalApi,
    /// Services, beside the way without them and beside nginx.
    Mesh,
    /// Bytes written to the disk.
    Wear,
}

impl Part {
    /// All parts, in the order in which they are run.
    pub const ALL: [Self; 13] = [
        Self::Ipc,
        Self::Recovery,
        Self::Footprint,
        Self::Link,
        Self::Store,
        Self::Mqtt,
        Self::Device,
        Self::Pods,
        Self::Crowd,
        Self::Stream,
        Self::LocalApi,
        Self::Mesh,
        Self::Wear,
    ];

    /// Returns the word for it on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipc => "ipc",
            Self::Recovery => "recovery",
            Self::Footprint => "footprint",
            Self::Link => "link",
            Self::Store => "store",
            Self::Mqtt => "mqtt",
            Self::Device => "device",
            Self::Pods => "pods",
            Self::Crowd => "crowd",
            Self::Stream => "stream",
            Self::LocalApi => "local-api",
            Self::Mesh => "mesh",
            Self::Wear => "wear",
        }
    }

    fn run(self) -> Result<Vec<Row>> {
        match self {
            Self::Ipc => ipc::run(),
            Self::Recovery => recovery::run(),
            Self::Footprint => footprint::run(),
            Self::Link => link::run(),
            Self::Store => store::run(),
            Self::Mqtt => mqtt::run(),
            Self::Device => device::run(),
            Self::Pods => pods::run(),
            Self::Crowd => crowd::run(),
            Self::Stream => stream::run(),
            Self::LocalApi => local_api::run(),
            Self::Mesh => mesh::run(),
            Self::Wear => wear::run(),
        }
    }
}

/// Measures these parts.
///
/// # Errors
/// When one of them cannot be run.
pub fn run(parts: &[Part]) -> Result<Report> {
    let mut rows = Vec::new();
    for part in parts {
        rows.extend(part.run().with_context(|| format!("cannot measure {}", part.name()))?);
    }
    Ok(Report { rows })
}

/// The other process of a measurement: this program, run once more with a role to play.
///
/// # Errors
/// When the role is unknown or its socket breaks.
pub fn play(role: &str, folder: &Path) -> Result<()> {
    match role {
        ipc::ROLE => ipc::play(folder),
        bare::ROLE => bare::play(folder),
        bare::TOKIO_ROLE => bare::play_tokio(folder),
        other => bail!("unknown role '{other}'"),
    }
}

/// The other process; it ends when dropped.
#[derive(Debug)]
struct Partner(Child);

impl Partner {
    /// Runs this program in a role.
    fn start(role: &str, folder: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find the running program")?;
        let mut command = Command::new(program);
        command.args(["play", role]).arg(folder).stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().map(Self).context("cannot run the other process")
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
