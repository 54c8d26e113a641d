//! How much there is of what pods need, by the kernel's tables. It waits for disks, so it belongs on
//! a thread for that.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::threshold::{Reading, Readings, Signal};
use crate::api::cgroups::{field, number};
use crate::api::kibibytes;

/// Where the kernel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// The tables of processes and memory.
    pub(crate) proc: PathBuf,
    /// The control groups.
    pub(crate) groups: PathBuf,
    /// The folder of the pods.
    pub(crate) root: PathBuf,
    /// Where the images are, as soon as the runtime has told.
    pub(crate) images: Option<PathBuf>,
    /// The group of all pods, if its memory is bounded.
    pub(crate) pods: Option<String>,
}

impl Places {
    /// Reads what can be read.
    pub(crate) fn read(&self) -> Readings {
        let mut readings = Readings::new();
        let mut put = |signal, reading: Option<Reading>| {
            readings.extend(reading.map(|reading| (signal, reading)));
        };
        put(Signal::Memory, self.memory());
        put(Signal::PodMemory, self.pod_memory());
        put(Signal::Pids, self.pids());
        let disk = space(&self.root);
        put(Signal::NodeFs, disk.map(|it| it.0));
        put(Signal::NodeInodes, disk.and_then(|it| it.1));
        let disk = self.images.as_deref().and_then(space);
        put(Signal::ImageFs, disk.map(|it| it.0));
        put(Signal::ImageInodes, disk.and_then(|it| it.1));
        readings
    }

    /// Tells whether the images have a file system of their own.
    pub(crate) fn is_split(&self) -> bool {
        let device = |path: &Path| existing(path).and_then(|path| fs::metadata(path).ok());
        let device = |path: &Path| device(path).map(|it| it.dev());
        self.images.as_deref().is_some_and(|images| device(images) != device(&self.root))
    }

    /// Reads the node's memory: what is in use and cannot be taken back easily is not available.
    fn memory(&self) -> Option<Reading> {
        let table = fs::read_to_string(self.proc.join("meminfo")).ok()?;
        let capacity = Some(kibibytes(&table, "MemTotal:")).filter(|total| *total > 0)?;
        let group = self.groups.join("memory");
        let of_group = || {
            let stat = fs::read_to_string(group.join("memory.stat")).ok()?;
            let usage = number(&group, "memory.usage_in_bytes")?;
            Some((usage, field(&stat, "total_inactive_file")?))
        };
        // The second version has no account of the whole machine.
        let (usage, inactive) = of_group().unwrap_or_else(|| {
            let of = |key: &str| kibibytes(&table, key);
            (capacity.saturating_sub(of("MemFree:")), of("Inactive(file):"))
        });
        let available = capacity.saturating_sub(usage.saturating_sub(inactive));
        Some(Reading { available, capacity })
    }

    /// Reads the memory of all pods together.
    fn pod_memory(&self) -> Option<Reading> {
        let name = self.pods.as_deref()?.trim_start_matches('/');
        let (old, new) = (self.groups.join("memory").join(name), self.groups.join(name));
        let read = |group: &Path, limit: &str, usage: &str, inactive: &str| {
            let stat = fs::read_to_string(group.join("memory.stat")).ok()?;
            Some((number(group, limit)?, number(group, usage)?, field(&stat, inactive)?))
        };
        let (limit, usage, inactive) =
            read(&old, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                .or_else(|| read(&new, "memory.max", "memory.current", "inactive_file"))?;
        let available = limit.saturating_sub(usage.saturating_sub(inactive));
        Some(Reading { available, capacity: limit })
    }

    /// Reads how many processes and threads there are, and may be.
    fn pids(&self) -> Option<Reading> {
        let number = |file: &str| {
            fs::read_to_string(self.proc.join("sys/kernel").join(file)).ok()?.trim().parse().ok()
        };
        let most: Option<u64> =
            [number("pid_max"), number("threads-max")].into_iter().flatten().min();
        let capacity = most?;
        let load = fs::read_to_string(self.proc.join("loadavg")).ok()?;
        let running: u64 = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
        Some(Reading { available: capacity.saturating_sub(running), capacity })
    }
}

/// Returns the folder, or the nearest above it that there is.
fn existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|folder| folder.exists())
}

/// Reads the room on a folder's file system: bytes, and inodes where it counts them.
fn space(folder: &Path) -> Option<(Reading, Option<Reading>)> {
    let disk = rustix::fs::statvfs(existing(folder)?).ok()?;
    let [available, capacity] =
        [disk.f_bavail, disk.f_blocks].map(|blocks| blocks.saturating_mul(disk.f_frsize));
    let inodes = Reading { available: disk.f_favail, capacity: disk.f_files };
    let inodes = Some(inodes).filter(|it| it.capacity > 0);
    (capacity > 0).then_some((Reading { available, capacity }, inodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(folder: &Path) -> Places {
        let [proc, groups, root] = ["proc", "groups", "root"].map(|name| folder.join(name));
        for folder in [&proc.join("sys/kernel"), &groups.join("memory/pods")] {
            fs::create_dir_all(folder).unwrap();
        }
        Places { proc, groups, root, images: None, pods: Some("/pods".to_owned()) }
    }

    #[test]
    fn the_kernels_tables_are_read_in_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        let put = |file: &Path, text: &str| fs::write(file, text).unwrap();
        put(
            &places.proc.join("meminfo"),
            "MemTotal: 100 kB\nMemFree: 30 kB\nInactive(file): 20 kB\n",
        );
        let kibi = |available: u64, capacity: u64| Reading {
            available: available * 1024,
            capacity: capacity * 1024,
        };
        assert_eq!(places.memory(), Some(kibi(50, 100)));
        let old = places.groups.join("memory");
        put(&old.join("memory.usage_in_bytes"), "92160\n");
        put(&old.join("memory.stat"), "total_rss 1\ntotal_inactive_file 10240\n");
        assert_eq!(places.memory(), Some(kibi(20, 100)));
        put(&old.join("pods/memory.limit_in_bytes"), "40960\n");
        put(&old.join("pods/memory.usage_in_bytes"), "20480\n");
        put(&old.join("pods/memory.stat"), "total_inactive_file 0\n");
        assert_eq!(places.pod_memory(), Some(kibi(20, 40)));
        put(&places.proc.join("sys/kernel/pid_max"), "32768\n");
        put(&places.proc.join("sys/kernel/threads-max"), "1000\n");
        put(&places.proc.join("loadavg"), "0.1 0.2 0.3 2/400 9\n");
        assert_eq!(places.pids(), Some(Reading { available: 600, capacity: 1000 }));
    }

    #[test]
    fn what_cannot_be_read_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        let readings = places.read();
        let known: Vec<_> = readings.keys().copied().collect();
        assert!(known.contains(&Signal::NodeFs) && !known.contains(&Signal::Memory), "{known:?}");
        assert!(!known.contains(&Signal::ImageFs) && !places.is_split());
    }
}
