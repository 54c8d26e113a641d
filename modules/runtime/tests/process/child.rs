//! The module of these tests: it tells what it can still do, then serves like any other.

use std::path::Path;

use module_runtime::Context;
use serde::{Deserialize, Serialize};

/// What a module found that it can do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) runs_programs: bool,
    pub(crate) changes_root: bool,
    pub(crate) reads_root: bool,
    pub(crate) bounding: u64,
    /// The folders of its configuration that it can write in.
    pub(crate) writes: Vec<String>,
}

pub(crate) async fn run(mut context: Context) -> anyhow::Result<()> {
    let folders: Vec<String> = context.config()?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let can_write = |folder: &String| std::fs::write(Path::new(folder).join("probe"), "x").is_ok();
    context.report(&Findings {
        runs_programs: std::process::Command::new("/bin/true").status().is_ok(),
        changes_root: rustix::process::chroot("/").is_ok(),
        reads_root: std::fs::read_dir("/").is_ok(),
        bounding: u64::from_str_radix(bounding.unwrap_or("").trim(), 16)?,
        writes: folders.into_iter().filter(can_write).collect(),
    })?;
    module_runtime::serve_unsupported(context).await
}
