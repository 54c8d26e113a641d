//! The control groups of pods, by kubelet's names. The container runtime makes a pod's group with its
//! first container, and nobody but us removes it. A kubelet that takes over a pod without its group
//! would kill it.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::pod::make::Quality;
use crate::pod::names;

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Who makes control groups on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Cgroupfs,
    Systemd,
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
        let level = match quality {
            Quality::Guaranteed => None,
            Quality::Burstable => Some("burstable"),
            Quality::BestEffort => Some("besteffort"),
        };
        let pod = format!("pod{uid}");
        let above = self.root.split('/').filter(|part| !part.is_empty());
        let parts = above.chain(["kubepods"]).chain(level).chain([pod.as_str()]);
        match self.driver {
            Driver::Cgroupfs => parts.fold(String::new(), |path, part| path + "/" + part),
            Driver::Systemd => slices(parts),
        }
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
