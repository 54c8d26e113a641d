//! Landlock: which files a module can reach, whoever has taken it over.

use std::path::PathBuf;

use anyhow::Context as _;
use ipc_proto::lifeline::Start;
use landlock::{
    ABI, Access, AccessFs, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
    path_beneath_rules,
};

/// The rights that are handled: those of files and folders. Where the kernel knows fewer, those.
const HANDLED: ABI = ABI::V5;

/// What every module may read: programs, libraries, settings, the kernel's own file systems.
const READABLE: &[&str] =
    &["/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt", "/etc", "/proc", "/sys", "/dev", "/run"];

/// Devices that every program may write to.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full"];

/// Locks this process in; returns the version of Landlock in force.
///
/// # Errors
/// When the kernel has no Landlock or the rules cannot be made.
pub(crate) fn restrict(start: &Start) -> anyhow::Result<u8> {
    let all = AccessFs::from_all(HANDLED);
    let read = AccessFs::from_read(HANDLED);
    let of_others = start.confine.readable.iter().map(|folder| &**folder);
    let readable = READABLE.iter().copied().chain([&*start.runtime_dir]).chain(of_others);
    let writable = start.confine.writable.iter().map(|folder| PathBuf::from(&**folder));
    let status = Ruleset::default()
        .handle_access(all)?
        // modules have one user: without this one that was taken over could end the others
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(DEVICES, AccessFs::from_file(HANDLED)))?
        .add_rules(path_beneath_rules(writable, all))?
        .restrict_self()?;
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => {
            u8::try_from(effective_abi as i32).context("a version of Landlock over 255")
        }
        LandlockStatus::NotEnabled => anyhow::bail!("switched off in this kernel's command line"),
        LandlockStatus::NotImplemented => anyhow::bail!("not built into this kernel"),
    }
}
