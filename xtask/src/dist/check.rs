//! What must hold of the packages: they are the same when they are made again, the distributions'
//! own checkers find nothing, and they install.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Packages, Plan, make, trial};
use crate::workspace::Workspace;

/// Checks the packages of the programs in a folder; returns their sizes for the summary.
pub(crate) fn check(workspace: &Workspace, programs: &Path) -> Result<String> {
    let folder = tempfile::tempdir().context("cannot make a folder for packages")?;
    let plan = |name: &str, revision| Plan {
        programs: programs.to_owned(),
        folder: folder.path().join(name),
        revision,
    };
    let first = make(workspace, &plan("first", 1))?;
    let again = make(workspace, &plan("again", 1))?;
    same(&first.deb, &again.deb)?;
    same(&first.rpm, &again.rpm)?;
    lint(workspace, &first)?;
    let next = make(workspace, &plan("next", 2))?;
    let tried = trial::run(workspace, programs, &first, &next)?;
    let size = |path: &Path| Ok::<_, anyhow::Error>(fs::metadata(path)?.len().div_ceil(1024));
    Ok(format!("deb {} KiB, rpm {} KiB; {tried}", size(&first.deb)?, size(&first.rpm)?))
}

fn same(one: &Path, other: &Path) -> Result<()> {
    if fs::read(one)? == fs::read(other)? {
        return Ok(());
    }
    bail!("{} and {} differ, expected the same bytes", one.display(), other.display());
}

fn lint(workspace: &Workspace, packages: &Packages) -> Result<()> {
    let mut lintian = workspace.program("lintian", "--fail-on error,warning --allow-root");
    workspace.run(lintian.arg(&packages.deb))?;
    let mut rpmlint = workspace.program("rpmlint", "--strict --config packaging/rpm/rpmlint.toml");
    workspace.run(rpmlint.arg(&packages.rpm))
}
