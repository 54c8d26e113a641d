//! The package's life on machines that have nothing else. A minimal Debian is made in a folder; in one
//! copy nothing runs but what is started by hand, in the other systemd runs, as on a machine that was
//! booted. In both the package is installed, the machine joins a cloud and runs a pod, the package is
//! upgraded under it, and goes.

mod bare;
mod booted;
mod foreign;
mod machine;
mod place;

use std::path::{Path, PathBuf};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Packages, output};
use crate::workspace::Workspace;

/// What is in the Debian beyond the least that it can be.
const INCLUDED: &str = "systemd-sysv,init-system-helpers";

/// How long a node may take to do what it does in seconds.
const LIMIT: Duration = Duration::from_secs(90);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// What is tried, and with what.
struct Trial<'a> {
    workspace: &'a Workspace,
    /// The folder of the shipped programs, and of a cloud.
    programs: &'a Path,
    first: &'a Packages,
    next: &'a Packages,
    folder: &'a Path,
}

/// Tries packages and their next revision; `programs` has a cloud among them. Returns what the summary
/// has to say.
pub(super) fn run(
    workspace: &Workspace,
    programs: &Path,
    first: &Packages,
    next: &Packages,
) -> Result<&'static str> {
    let folder = tempfile::tempdir().context("cannot make a folder for a Debian")?;
    let trial = Trial { workspace, programs, first, next, folder: folder.path() };
    workspace.screen.line("a minimal Debian");
    let debian = bootstrap(&trial)?;
    // control groups are named after it
    let copy = folder.path().join(format!("machine-{}", std::process::id()));
    output(workspace.program("cp", "-a --reflink=auto").args([&debian, &copy]))?;
    bare::run(&trial, debian).context("without systemd")?;
    booted::run(&trial, &copy).context("under systemd")
}

/// Makes the Debian that this machine's own sources name.
fn bootstrap(trial: &Trial<'_>) -> Result<PathBuf> {
    let folder = trial.folder.join("debian");
    let format = "$(REPO_URI) $(CODENAME) $(SUITE) $(LABEL)";
    let mut apt = trial.workspace.program("apt-get", "indextargets --format");
    let targets = output(apt.arg(format).arg("Created-By: Packages"))?;
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let of_debian =
        |words: &Vec<String>| words.len() == 4 && words[3] == "Debian" && !words[2].contains('-');
    let chosen = targets.lines().map(words).find(of_debian);
    let chosen = chosen.context("apt's sources name no Debian; run 'apt-get update'")?;
    let mut debootstrap = trial.workspace.program("debootstrap", "--variant=minbase");
    debootstrap.arg(format!("--include={INCLUDED}")).args([&chosen[1]]).arg(&folder);
    output(debootstrap.arg(&chosen[0]))?;
    Ok(folder)
}

fn until(what: &str, mut reached: impl FnMut() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !reached() {
        if begin.elapsed() > LIMIT {
            bail!("waited {} s and not: {what}", LIMIT.as_secs());
        }
        park_timeout(LOOK);
    }
    Ok(())
}
