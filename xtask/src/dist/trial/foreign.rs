//! The package for the distributions that use rpm, in a root that has only files of another: its scripts
//! and its files are what is looked at, not what it needs.

use std::path::Path;

use anyhow::{Result, ensure};

use super::Trial;
use super::bare::Bare;
use super::place::Place;
use crate::dist::output;

/// What is there with the package, and not without it.
const OWN: [&str; 6] = [
    "usr/bin/edgecore",
    "usr/bin/edgectl",
    "usr/local/bin/edgecore",
    "usr/lib/systemd/system/edgecore.service",
    "usr/share/man/man8/edgecore.8.gz",
    "etc/systemd/system/multi-user.target.wants/edgecore.service",
];

/// Installs a package, upgrades it and removes it.
pub(super) fn run(trial: &Trial<'_>, root: &Bare) -> Result<()> {
    let own = "etc/kubeedge/config/supervisor.yaml";
    ensure!(root.has(own), "there is nothing of the operator's to look after");
    let rpm = |words: &str, what: &Path| {
        let mut command = trial.workspace.program("rpm", "--root");
        output(command.arg(&root.folder).args(words.split(' ')).arg(what))
    };
    rpm("--install --nodeps", &trial.first.rpm)?;
    there(root, true)?;
    root.run(&["getent", "passwd", "edgecore"])?;
    root.run(&["/usr/local/bin/edgecore", "--version"])?;
    rpm("--upgrade --nodeps", &trial.next.rpm)?;
    there(root, true)?;
    let installed = rpm("--query", Path::new("edgecore"))?;
    ensure!(installed.lines().count() == 1, "{installed} are installed, expected one");
    rpm("--erase", Path::new("edgecore"))?;
    there(root, false)?;
    ensure!(root.has(own), "the operator's {own} is gone");
    Ok(())
}

fn there(root: &Bare, expected: bool) -> Result<()> {
    for path in OWN {
        ensure!(root.has(path) == expected, "{path}: expected to be there: {expected}");
    }
    Ok(())
}
