//! The confinement that a module puts on before it does anything, one lock after the other.
//!
//! A lock that the host does not have is reported and left out: an old kernel is no reason for a
//! node without a cloud link. Only a user change that fails ends the module, because its peers
//! know it by its user.

use anyhow::Context as _;
use caps::{CapSet, Capability};
use ipc_proto::Module;
use ipc_proto::lifeline::{Confinement, Start};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};

use crate::{landlock, seccomp};

/// Confines this process, which must have one thread only, and tells what is in force.
///
/// # Errors
/// When the process cannot become the user that it has to be.
pub(crate) fn confine(start: &Start) -> anyhow::Result<Confinement> {
    let wanted = &start.confine;
    let mut missing = Missing::default();
    missing.note("the address space bound", limit(Resource::As, wanted.address_space));
    missing.note("the open files bound", limit(Resource::Nofile, wanted.open_files));
    if !wanted.keep_root {
        missing.note("the capability bound", drop_bounding_set());
    }
    if let Some((user, group)) = wanted.user {
        become_user(user, group)?;
    }
    if !wanted.keep_root {
        missing.note("the drop of capabilities", drop_capabilities());
    }
    let locked = rustix::thread::set_no_new_privs(true).map_err(Into::into);
    let no_new_privileges = missing.note("no_new_privs", locked).is_some();
    let landlock_abi = match (wanted.landlock, start.module) {
        (false, _) => 0,
        (true, Module::Edged) => {
            missing.say("Landlock is not in force: edged mounts volumes, which it would forbid");
            0
        }
        (true, _) => missing.note("Landlock", landlock::restrict(start)).unwrap_or(0),
    };
    let seccomp = wanted.seccomp
        && missing.note("the seccomp filter", seccomp::restrict(start.module)).is_some();
    Ok(Confinement {
        uid: getuid().as_raw(),
        capabilities: kept_capabilities(),
        no_new_privileges,
        seccomp,
        landlock_abi,
        address_space: getrlimit(Resource::As).current,
        open_files: getrlimit(Resource::Nofile).current,
        not_in_force: missing.0,
    })
}

/// What was asked for and could not be had, one sentence each.
#[derive(Default)]
struct Missing(Vec<Box<str>>);

impl Missing {
    fn say(&mut self, sentence: &str) {
        self.0.push(sentence.into());
    }

    fn note<T>(&mut self, lock: &str, result: anyhow::Result<T>) -> Option<T> {
        result.inspect_err(|error| self.say(&format!("{lock} is not in force: {error:#}"))).ok()
    }
}

/// Bounds a resource. What is bounded lower already stays so.
fn limit(resource: Resource, bound: Option<u64>) -> anyhow::Result<()> {
    let Some(bound) = bound else { return Ok(()) };
    let before = getrlimit(resource);
    let bound = before.maximum.map_or(bound, |maximum| maximum.min(bound));
    let limit = Rlimit { current: Some(bound), maximum: Some(bound) };
    setrlimit(resource, limit).with_context(|| format!("cannot set it to {bound}"))
}

fn become_user(user: u32, group: u32) -> anyhow::Result<()> {
    if getuid().as_raw() == user {
        return Ok(());
    }
    setgroups(&[]).context("cannot leave the groups of root")?;
    setgid(Gid::from_raw(group)).with_context(|| format!("cannot become group {group}"))?;
    setuid(Uid::from_raw(user)).with_context(|| format!("cannot become user {user}"))
}

/// Takes care that no program this process runs can have a capability either. Without the right
/// to do so there is nothing to take: `no_new_privs` keeps others from being gained.
fn drop_bounding_set() -> anyhow::Result<()> {
    if !caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        return Ok(());
    }
    for capability in caps::all() {
        // A kernel that does not know it has nothing to drop.
        if caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, capability)?;
        }
    }
    Ok(())
}

fn drop_capabilities() -> anyhow::Result<()> {
    // Kernels before 4.3 have no ambient set.
    let _too_old = caps::clear(None, CapSet::Ambient);
    caps::clear(None, CapSet::Inheritable)?;
    caps::clear(None, CapSet::Effective)?;
    caps::clear(None, CapSet::Permitted)?;
    Ok(())
}

fn kept_capabilities() -> u64 {
    let kept = caps::read(None, CapSet::Permitted).unwrap_or_default();
    kept.iter().map(Capability::bitmask).sum()
}
