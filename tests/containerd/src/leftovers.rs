//! What is there of a containerd on the host: processes, mounts, network namespaces, addresses. Asked
//! of the host itself, because what leaks is what containerd does not know any more.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::park_timeout;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::{LOOK, SOON, files, groups};

/// What is there; empty where nothing runs and nothing leaked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Processes of containers and their keepers.
    pub processes: Vec<u32>,
    /// Mounts under the folder: root file systems, volumes.
    pub mounts: Vec<PathBuf>,
    /// Network namespaces.
    pub namespaces: Vec<String>,
    /// Addresses that the network plug-in holds to be taken.
    pub addresses: Vec<String>,
    /// Control groups of pods.
    pub groups: Vec<PathBuf>,
}

impl Leftovers {
    /// Looks at what is there of the containerd in `folder`.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let mounts = mounts(folder)?;
        let (spaces, mounts) =
            mounts.into_iter().partition(|it| it.to_string_lossy().contains("/netns/"));
        let name = |path: PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
        let namespaces = Vec::into_iter(spaces).filter_map(name).collect();
        let processes = processes(folder);
        let groups = groups::of_pods(folder);
        Ok(Self { processes, mounts, namespaces, addresses: addresses(folder), groups })
    }

    /// Tells whether nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Ends every process and every mount of the containerd in `folder`, which does not run any more.
pub(crate) fn end_all(folder: &Path) -> Result<()> {
    let keepers = sockets_of_keepers(folder);
    let begin = Instant::now();
    loop {
        let left = processes(folder);
        if left.is_empty() {
            break;
        }
        if begin.elapsed() > SOON {
            bail!("processes of containers do not end: {left:?}");
        }
        for pid in left {
            // It may have ended meanwhile.
            kill(pid).ok();
        }
        park_timeout(LOOK);
    }
    for mount in mounts(folder)?.iter().rev() {
        unmount(mount, UnmountFlags::DETACH)
            .with_context(|| format!("cannot unmount {}", mount.display()))?;
    }
    groups::remove(folder)?;
    for socket in keepers {
        // A keeper that ended of itself took it along.
        fs::remove_file(socket).ok();
    }
    Ok(())
}

fn kill(pid: u32) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("process 0")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

/// Returns the processes that keep containers, which name the socket on their command line, and all
/// below them, the lowest last.
fn processes(folder: &Path) -> Vec<u32> {
    let socket = files::socket(folder);
    let socket = socket.to_string_lossy();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: BTreeMap<u32, u32> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let is_keeper = |pid: u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split('\0');
        words.next().is_some_and(|program| program.contains("containerd-shim"))
            && words.any(|word| word == socket)
    };
    let mut found: Vec<u32> = parents.keys().copied().filter(|&pid| is_keeper(pid)).collect();
    let mut at = 0;
    while let Some(&pid) = found.get(at) {
        let below = parents.iter().filter(|(_, parent)| **parent == pid).map(|(child, _)| *child);
        let below: Vec<u32> = below.filter(|child| !found.contains(child)).collect();
        found.extend(below);
        at += 1;
    }
    found
}

/// Returns the parent of a process that is not waiting to be reaped.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    (fields.next()? != "Z").then(|| fields.next()?.parse().ok()).flatten()
}

/// Returns what is mounted under a folder, the innermost last.
fn mounts(folder: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.map(PathBuf::from).filter(|point| point.starts_with(folder)).collect())
}

fn addresses(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(files::addresses(folder)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut addresses: Vec<_> =
        names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
    addresses.sort();
    addresses
}

/// Returns the sockets of the processes that keep containers; they lie outside of the folder.
fn sockets_of_keepers(folder: &Path) -> Vec<PathBuf> {
    let tasks = files::state(folder).join("io.containerd.runtime.v2.task/k8s.io");
    let entries = fs::read_dir(tasks).into_iter().flatten().flatten();
    let address = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("address")).ok();
    let addresses = entries.filter_map(address);
    addresses.filter_map(|it| Some(it.trim().strip_prefix("unix://")?.into())).collect()
}
