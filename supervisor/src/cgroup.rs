//! Control groups (v2): one for each module below our own, where the host lets us have them.
//!
//! Only a unified hierarchy is used, and under systemd only a group that was delegated to us
//! (`Delegate=yes`); anything else would be taken back behind our back. Without groups the memory
//! bound becomes a bound on the address space, and the other limits are not in force.

use std::io;
use std::path::{Path, PathBuf};

use ipc_proto::Module;

use crate::config::ModuleConfig;

/// Where the unified hierarchy is mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// The group of the supervisor itself: a group that bounds others may have no processes.
const OWN: &str = "supervisor";

/// The controllers that are used, and what is not in force without each.
const CONTROLLERS: [(&str, &str); 3] = [
    ("memory", "bounds on memory are bounds on the address space"),
    ("pids", "pidsMax is not in force"),
    ("cpu", "cpuWeight is not in force"),
];

/// The group above the modules' groups.
#[derive(Debug)]
pub(crate) struct Groups {
    base: PathBuf,
    memory: bool,
}

/// What became of the search for control groups.
#[derive(Debug)]
pub(crate) struct Found {
    /// The groups, where they can be had.
    pub(crate) groups: Option<Groups>,
    /// What is not in force, one sentence each.
    pub(crate) not_in_force: Vec<String>,
}

impl Groups {
    /// Finds our own group, moves this process into a group of its own below it, and hands the
    /// controllers on to the modules' groups.
    pub(crate) fn find() -> Found {
        match base().and_then(|base| Self::take(&base)) {
            Ok(found) => found,
            Err(cause) => {
                let rest = "bounds on memory are bounds on the address space, cpuWeight, \
                            memoryHigh and pidsMax are not in force";
                Found {
                    groups: None,
                    not_in_force: vec![format!("no control groups: {cause}; {rest}")],
                }
            }
        }
    }

    fn take(base: &Path) -> Result<Found, String> {
        let available = read(&base.join("cgroup.controllers"))?;
        let has = |name: &str| available.split_whitespace().any(|controller| controller == name);
        if !CONTROLLERS.iter().any(|(name, _)| has(name)) {
            return Err(format!("{} has no controllers", base.display()));
        }
        let own = base.join(OWN);
        make(&own).map_err(|error| format!("cannot make {}: {error}", own.display()))?;
        write(&own.join("cgroup.procs"), "0")?;
        let mut not_in_force = Vec::new();
        let mut memory = false;
        for (name, without) in CONTROLLERS {
            let enabled = has(name)
                && write(&base.join("cgroup.subtree_control"), &format!("+{name}")).is_ok();
            memory |= enabled && name == "memory";
            if !enabled {
                not_in_force.push(format!("no control group for {name}: {without}"));
            }
        }
        Ok(Found { groups: Some(Self { base: base.to_owned(), memory }), not_in_force })
    }

    /// Tells whether memory is bounded by groups.
    pub(crate) const fn memory(&self) -> bool {
        self.memory
    }

    /// Returns a module's group.
    pub(crate) fn path(&self, module: Module) -> PathBuf {
        self.base.join(module.name())
    }

    /// Makes a module's group anew, so that its counters begin at nothing, with its limits.
    ///
    /// # Errors
    /// The first limit that the kernel does not take.
    pub(crate) fn prepare(&self, module: Module, config: &ModuleConfig) -> Result<(), String> {
        let path = self.path(module);
        self.remove(module);
        make(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        self.limit(module, config)
    }

    /// Writes a module's limits; what is not limited is set to the kernel's own default.
    ///
    /// # Errors
    /// The first limit that the kernel does not take.
    pub(crate) fn limit(&self, module: Module, config: &ModuleConfig) -> Result<(), String> {
        let path = self.path(module);
        let bytes = |bound: Option<u64>| bound.map_or_else(|| "max".into(), |b| b.to_string());
        let pids = config.pids_max.map_or_else(|| "max".into(), |bound| bound.to_string());
        let values = [
            ("memory.max", bytes(config.memory_max)),
            ("memory.high", bytes(config.memory_high)),
            ("memory.oom.group", "1".into()),
            ("pids.max", pids),
            ("cpu.weight", config.cpu_weight.unwrap_or(100).to_string()),
        ];
        for (name, value) in values {
            let file = path.join(name);
            if file.exists() {
                write(&file, &value)?;
            }
        }
        Ok(())
    }

    /// Puts a process into its module's group.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub(crate) fn admit(&self, module: Module, pid: u32) -> Result<(), String> {
        write(&self.path(module).join("cgroup.procs"), &pid.to_string())
    }

    /// Tells whether the kernel killed a process of the group for its memory.
    pub(crate) fn out_of_memory(&self, module: Module) -> bool {
        read(&self.path(module).join("memory.events")).is_ok_and(|events| killed(&events))
    }

    /// Kills what is left in a module's group (kernels before 5.14 lack the means).
    pub(crate) fn kill(&self, module: Module) {
        write(&self.path(module).join("cgroup.kill"), "1").ok();
    }

    /// Removes a module's group, if nothing lives in it.
    pub(crate) fn remove(&self, module: Module) {
        std::fs::remove_dir(self.path(module)).ok();
    }
}

/// Reads `memory.events`: whether `oom_kill` counts more than nothing.
fn killed(events: &str) -> bool {
    events
        .lines()
        .any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
}

/// Finds the group above ours that we may divide.
fn base() -> Result<PathBuf, String> {
    if !Path::new(ROOT).join("cgroup.controllers").exists() {
        return Err(format!("{ROOT} is no unified hierarchy"));
    }
    let own = read(Path::new("/proc/self/cgroup"))?;
    let path = own_group(&own).ok_or("this process is in no group of the unified hierarchy")?;
    // An earlier supervisor of this service, or systemd (`DelegateSubgroup`), may have put us below.
    let base = path.strip_suffix(OWN).map_or(path, |above| above.trim_end_matches('/'));
    let base = PathBuf::from(format!("{ROOT}{base}"));
    if Path::new("/run/systemd/system").exists() && !delegated(&base) {
        return Err(format!("{} is not delegated to this service", base.display()));
    }
    if base == Path::new(ROOT) {
        return Err("this process is in the root group".into());
    }
    Ok(base)
}

/// Reads `/proc/self/cgroup`: our path in the unified hierarchy.
fn own_group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Tells whether systemd says that the group is ours to divide.
fn delegated(group: &Path) -> bool {
    ["trusted.delegate", "user.delegate"].iter().any(|name| {
        let mut value = [0; 8];
        rustix::fs::getxattr(group, *name, &mut value).is_ok_and(|length| value[..length] == *b"1")
    })
}

fn make(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn write(path: &Path, value: &str) -> Result<(), String> {
    std::fs::write(path, value)
        .map_err(|error| format!("cannot write '{value}' to {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read_as_they_are() {
        assert_eq!(own_group("9:name=systemd:/\n0::/system.slice/x\n"), Some("/system.slice/x"));
        assert_eq!(own_group("1:cpu:/\n"), None);
        let events = "low 0\nhigh 4\nmax 2\noom 1\noom_kill 0\noom_group_kill 0\n";
        assert!(!killed(events));
        assert!(killed(&events.replace("oom_kill 0", "oom_kill 1")));
    }

    #[test]
    fn a_group_without_controllers_is_not_divided() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cgroup.controllers"), "hugetlb\n").unwrap();
        let cause = Groups::take(folder.path()).unwrap_err();
        assert!(cause.ends_with("has no controllers"), "{cause}");
        assert!(!folder.path().join(OWN).exists());
    }
}
