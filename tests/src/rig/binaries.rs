//! Where the programs under test are: the files that are shipped, never a library of theirs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// The folder that `edgecore` and `edgectl` are in, where the caller has built them already.
const FOLDER: &str = "EDGECORE_BIN_DIR";

/// Returns the path of one of the two programs. They are taken from the folder that
/// `EDGECORE_BIN_DIR` names, else built once in the profile of the caller.
///
/// # Errors
/// When they cannot be built, or are not in the folder.
pub fn program(name: &str) -> Result<PathBuf> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = FOUND
        .get_or_init(|| match std::env::var_os(FOLDER) {
            Some(folder) => Ok(folder.into()),
            None => build().map_err(|error| format!("{error:#}")),
        })
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let program = folder.join(name);
    ensure!(program.is_file(), "no program {}, see {FOLDER}", program.display());
    Ok(program)
}

/// Returns the path of the informer, a client of the Kubernetes API that is built once by itself:
/// about two minutes of one processor's time.
///
/// # Errors
/// When it cannot be built.
pub fn informer() -> Result<PathBuf> {
    let folder = profile_folder()?.parent().context("no target folder")?.join("informer");
    let mut cargo = cargo("tests/informer")?;
    cargo.args(["build", "--quiet", "--locked", "--target-dir"]).arg(&folder);
    run(&mut cargo)?;
    Ok(folder.join("debug/informer"))
}

/// Builds both programs in the profile that the running test was built in.
fn build() -> Result<PathBuf> {
    let folder = profile_folder()?;
    let mut cargo = cargo("")?;
    cargo.args(["build", "--quiet", "-p", "edgecore", "-p", "edgectl"]);
    cargo.arg("--target-dir").arg(folder.parent().context("no target folder")?);
    if cfg!(feature = "quic") {
        cargo.args(["--features", "edgecore/quic"]);
    }
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    run(&mut cargo)?;
    Ok(folder)
}

/// Returns the folder of the profile that the running test was built in.
fn profile_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the running program")?;
    let folder = own
        .ancestors()
        .find(|folder| folder.ends_with("debug") || folder.ends_with("release"))
        .with_context(|| format!("{} is in no build folder, set {FOLDER}", own.display()))?;
    Ok(folder.to_owned())
}

/// Makes a command line of cargo for a folder of the repository.
fn cargo(folder: &str) -> Result<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root.join(folder));
    // What cargo tells a test of the test's own package would make build scripts that look at such
    // words run again, and all that depends on them be built again, each time.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    Ok(cargo)
}

fn run(cargo: &mut Command) -> Result<()> {
    let status = cargo.status().context("cannot run cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(())
}
