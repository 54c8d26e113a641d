//! The control groups of pods, by kubelet's names. We make a pod's group with what bounds it, or the
//! container runtime does with the pod's first container where systemd makes groups, and nobody but us
//! removes it. A kubelet that takes over a pod without its group would kill it.

mod bounds;
mod kernel;
pub(crate) mod levels;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::Deserialize;

#[cfg(test)]
pub(crate) use kernel::PageSize;
pub(crate) use kernel::{Kernel, Swap};

use crate::cri::Runtime;
use crate::cri::words as w;
use crate::pod::amounts::{Quality, quality};
use crate::pod::names;
use crate::pod::spec::Pod;
use bounds::Bounds;
pub(crate) use bounds::Every;

/// Where control groups are mounted.
pub(crate) const MOUNT: &str = "/sys/fs/cgroup";

/// Who makes control groups on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Cgroupfs,
    Systemd,
}

/// The part of containerd's configuration that says it, for versions that do not tell by themselves.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Configured {
    containerd: Runtimes,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Runtimes {
    default_runtime_name: String,
    runtimes: BTreeMap<String, Handler>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Handler {
    options: Option<Options>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    #[serde(rename = "SystemdCgroup")]
    systemd: bool,
}

impl Driver {
    const fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }

    /// Asks the container runtime who makes control groups for it; nothing when it does not tell.
    pub(crate) async fn of(runtime: &Runtime) -> Option<Self> {
        let of = |systemd| if systemd { Self::Systemd } else { Self::Cgroupfs };
        match runtime.runtime_config(w::RuntimeConfigRequest {}).await {
            Ok(told) => told.linux.map(|it| of(it.cgroup_driver() == w::CgroupDriver::Systemd)),
            Err(trouble) if trouble.is_unimplemented() => {
                let status = runtime.status(w::StatusRequest { verbose: true }).await.ok()?;
                let told: Configured = serde_json::from_str(status.info.get("config")?).ok()?;
                let Runtimes { default_runtime_name: name, runtimes } = told.containerd;
                runtimes.get(&name)?.options.as_ref().map(|options| of(options.systemd))
            }
            Err(_) => None,
        }
    }

    /// Says that the container runtime uses another; nothing when it does not.
    pub(crate) fn clash(self, other: Self) -> Option<String> {
        (self != other).then(|| {
            format!(
                "cgroupDriver is {}, but the container runtime uses {}: no pod can run until both use \
                the same",
                self.name(),
                other.name()
            )
        })
    }
}

/// Where the groups of all pods are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Groups {
    pub(crate) driver: Driver,
    /// The group that they are in; `/` is the host's own.
    pub(crate) root: String,
}

impl Groups {
    /// Returns the name of a pod's group as the runtime is to have it.
    pub(crate) fn of_pod(&self, uid: &str, quality: Quality) -> String {
        self.named(quality, Some(&format!("pod{uid}")))
    }

    /// Returns the name of the group that all pods of a quality are in.
    fn of_level(&self, quality: Quality) -> String {
        self.named(quality, None)
    }

    /// Returns the name of the group that all pods are in.
    pub(crate) fn of_all(&self) -> String {
        self.of_level(Quality::Guaranteed)
    }

    fn named(&self, quality: Quality, pod: Option<&str>) -> String {
        let level = match quality {
            Quality::Guaranteed => None,
            Quality::Burstable => Some("burstable"),
            Quality::BestEffort => Some("besteffort"),
        };
        let above = self.root.split('/').filter(|part| !part.is_empty());
        let parts = above.chain(["kubepods"]).chain(level).chain(pod);
        match self.driver {
            Driver::Cgroupfs => parts.fold(String::new(), |path, part| path + "/" + part),
            Driver::Systemd => slices(parts),
        }
    }

    /// Makes a pod's group with what bounds it. Where systemd makes groups the runtime asks it to.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(crate) fn make(&self, pod: &Pod, every: Every) -> io::Result<()> {
        if self.driver == Driver::Systemd {
            return Ok(());
        }
        let group = self.of_pod(&pod.metadata.uid, quality(pod));
        Bounds::of_pod(pod, every, &Kernel::read()).write(Path::new(MOUNT), &group)
    }

    /// Removes a pod's group, whatever quality it had; its containers are gone. Groups that systemd
    /// made are systemd's to remove.
    ///
    /// # Errors
    /// When something still runs in it, or the kernel refuses.
    pub(crate) fn remove(&self, uid: &str) -> io::Result<()> {
        if self.driver == Driver::Systemd || !names::is_plain(uid) {
            return Ok(());
        }
        let hierarchies = hierarchies(Path::new(MOUNT));
        for quality in [Quality::Guaranteed, Quality::Burstable, Quality::BestEffort] {
            let group = self.of_pod(uid, quality);
            for hierarchy in &hierarchies {
                remove_below(&hierarchy.join(group.trim_start_matches('/')))?;
            }
        }
        Ok(())
    }
}

/// Returns how many processes and threads run in a group; nothing where that is not counted.
pub(crate) fn processes(group: &str) -> Option<u64> {
    let group = group.trim_start_matches('/');
    let places = [Path::new(MOUNT).join("pids").join(group), Path::new(MOUNT).join(group)];
    let read = |place: PathBuf| fs::read_to_string(place.join("pids.current")).ok();
    places.into_iter().find_map(read)?.trim().parse().ok()
}

/// Names nested slices as systemd does: each has the names of all above it, `-` in a name as `_`.
fn slices<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let (mut path, mut name) = (String::new(), String::new());
    for part in parts {
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(&part.replace('-', "_"));
        let _infallible = write!(path, "/{name}.slice");
    }
    path
}

/// Returns where groups may be: the one tree of version 2, or a tree for each controller.
fn hierarchies(mount: &Path) -> Vec<PathBuf> {
    if mount.join("cgroup.controllers").exists() {
        return vec![mount.to_owned()];
    }
    let entries = fs::read_dir(mount).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Removes a group with those in it. Its files go with it.
fn remove_below(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kubelets() {
        let groups = |driver, root: &str| Groups { driver, root: root.to_owned() };
        let own = groups(Driver::Cgroupfs, "/");
        assert_eq!(own.of_pod("u-1", Quality::Guaranteed), "/kubepods/podu-1");
        assert_eq!(own.of_pod("u-1", Quality::Burstable), "/kubepods/burstable/podu-1");
        let nested = groups(Driver::Cgroupfs, "/a/b/");
        assert_eq!(nested.of_pod("u-1", Quality::BestEffort), "/a/b/kubepods/besteffort/podu-1");
        let systemd = groups(Driver::Systemd, "/");
        assert_eq!(
            systemd.of_pod("u-1", Quality::BestEffort),
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podu_1.slice"
        );
        assert_eq!(
            systemd.of_pod("u-1", Quality::Guaranteed),
            "/kubepods.slice/kubepods-podu_1.slice"
        );
    }

    #[test]
    fn a_group_goes_with_those_in_it_and_may_be_gone() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let group = folder.path().join("pod");
        fs::create_dir_all(group.join("a/b"))?;
        remove_below(&group)?;
        assert!(!group.exists());
        remove_below(&group)
    }

    #[test]
    fn both_versions_are_known() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let mount = folder.path();
        fs::create_dir(mount.join("memory"))?;
        assert_eq!(hierarchies(mount), [mount.join("memory")]);
        fs::write(mount.join("cgroup.controllers"), "cpu memory")?;
        assert_eq!(hierarchies(mount), [mount.to_owned()]);
        Ok(())
    }
}
