//! The program `nft`, which carries a script into the kernel as one transaction.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// Where distributions put it.
const PLACES: &[&str] = &["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft"];

/// How long one script may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much of a complaint is kept.
const COMPLAINT: usize = 400;

/// The program, found once.
#[derive(Debug)]
pub(crate) struct Nft(PathBuf);

impl Nft {
    /// Returns it where the host has it.
    pub(crate) fn find() -> Option<Self> {
        PLACES.iter().map(Path::new).find(|place| place.is_file()).map(|place| Self(place.into()))
    }

    /// Carries a script out: all of it or nothing.
    ///
    /// # Errors
    /// When the kernel or the program refuses it, with their own words, or it takes too long.
    pub(crate) async fn apply(&self, script: &str) -> anyhow::Result<()> {
        let name = self.0.display();
        let mut child = Command::new(&self.0)
            .args(["-f", "-"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        let mut stdin = child.stdin.take().context("a child without its input")?;
        let write = async move { stdin.write_all(script.as_bytes()).await };
        let work = async { tokio::join!(write, child.wait_with_output()) };
        let (written, output) = timeout(PATIENCE, work)
            .await
            .with_context(|| format!("{name} takes over {PATIENCE:?}"))?;
        let output = output.with_context(|| format!("cannot wait for {name}"))?;
        let complaint: String =
            String::from_utf8_lossy(&output.stderr).chars().take(COMPLAINT).collect();
        let complaint = complaint.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(output.status.success(), "{name} ends with {}: {complaint}", output.status);
        written.with_context(|| format!("cannot write to {name}"))
    }
}
