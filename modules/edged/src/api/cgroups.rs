//! What containers use by the kernel's own account, for runtimes that do not tell: both versions of
//! control groups.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::stats::{Cpu, Memory};

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// How deep containers are looked for, and in how many folders at most.
const DEPTH: usize = 8;
const FOLDERS: usize = 20_000;

/// Reads what containers use, by id; nothing of those that have no group.
pub(crate) fn read(ids: &[String], at: i64) -> BTreeMap<String, (Cpu, Memory)> {
    read_below(Path::new(ROOT), ids, at)
}

fn read_below(root: &Path, ids: &[String], at: i64) -> BTreeMap<String, (Cpu, Memory)> {
    if root.join("cgroup.controllers").exists() {
        let groups = find(root, ids);
        let read = |(id, group): (String, PathBuf)| Some((id, unified(&group, at)?));
        return groups.into_iter().filter_map(read).collect();
    }
    let mut memory = find(&root.join("memory"), ids);
    let read = |(id, group): (String, PathBuf)| {
        let cpu = Cpu { at, total: number(&group, "cpuacct.usage")?, rate: None };
        let memory = split_memory(&memory.remove(&id)?, at)?;
        Some((id, (cpu, memory)))
    };
    find(&root.join("cpuacct"), ids).into_iter().filter_map(read).collect()
}

/// Finds the group of each container: the folder that has its id in its name, whatever the runtime
/// and its driver write around it.
fn find(root: &Path, ids: &[String]) -> BTreeMap<String, PathBuf> {
    let (mut found, mut seen) = (BTreeMap::new(), 0);
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            seen += 1;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            match ids.iter().find(|id| !id.is_empty() && name.contains(id.as_str())) {
                Some(id) => drop(found.entry(id.clone()).or_insert_with(|| entry.path())),
                None if depth < DEPTH => folders.push((entry.path(), depth + 1)),
                None => {}
            }
        }
        if found.len() == ids.len() || seen > FOLDERS {
            break;
        }
    }
    found
}

/// Reads a group of version 2.
fn unified(group: &Path, at: i64) -> Option<(Cpu, Memory)> {
    let total = field(&text(group, "cpu.stat"), "usage_usec")?.saturating_mul(1000);
    let stat = text(group, "memory.stat");
    let usage = number(group, "memory.current")?;
    let limit = number(group, "memory.max");
    let memory = memory(usage, limit, field(&stat, "inactive_file"), field(&stat, "anon"), at);
    Some((Cpu { at, total, rate: None }, memory))
}

/// Reads a group of version 1.
fn split_memory(group: &Path, at: i64) -> Option<Memory> {
    let stat = text(group, "memory.stat");
    let usage = number(group, "memory.usage_in_bytes")?;
    let limit = number(group, "memory.limit_in_bytes");
    let inactive = field(&stat, "total_inactive_file");
    Some(memory(usage, limit, inactive, field(&stat, "total_rss"), at))
}

fn memory(
    usage: u64,
    limit: Option<u64>,
    inactive: Option<u64>,
    rss: Option<u64>,
    at: i64,
) -> Memory {
    let working_set = usage.saturating_sub(inactive.unwrap_or_default());
    // Version 1 writes a number that no machine has when there is no limit.
    let limit = limit.filter(|limit| *limit < 1 << 62);
    let available = limit.map(|limit| limit.saturating_sub(working_set));
    Memory { at, working_set, usage: Some(usage), available, rss }
}

fn text(group: &Path, file: &str) -> String {
    std::fs::read_to_string(group.join(file)).unwrap_or_default()
}

fn number(group: &Path, file: &str) -> Option<u64> {
    text(group, file).trim().parse().ok()
}

fn field(table: &str, key: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
    table.lines().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    const ID: &str = "3f2a9c";

    #[test]
    fn groups_of_version_2_are_read() {
        let root = tempfile::tempdir().unwrap();
        let group = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice/\
            cri-containerd-3f2a9c.scope";
        write(
            root.path(),
            &[
                ("cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n"),
                (
                    &format!("{group}/cpu.stat"),
                    "usage_usec 4723405\nuser_usec 3012894\nsystem_usec 1710511\nnr_periods 0\n",
                ),
                (&format!("{group}/memory.current"), "33554432\n"),
                (&format!("{group}/memory.max"), "67108864\n"),
                (
                    &format!("{group}/memory.stat"),
                    "anon 10485760\nfile 20971520\ninactive_anon 0\nactive_anon 10485760\n\
                 inactive_file 4194304\nactive_file 16777216\n",
                ),
            ],
        );
        let ids = [ID.to_owned(), "absent".to_owned()];
        let used = read_below(root.path(), &ids, 7);
        let cpu = Cpu { at: 7, total: 4_723_405_000, rate: None };
        let memory = Memory {
            at: 7,
            working_set: 28 << 20,
            usage: Some(32 << 20),
            available: Some(36 << 20),
            rss: Some(10 << 20),
        };
        assert_eq!(used, BTreeMap::from([(ID.to_owned(), (cpu, memory))]));
    }

    #[test]
    fn groups_of_version_1_are_read() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("cpuacct/kubepods/podx/3f2a9c/cpuacct.usage", "4723405123\n"),
                ("memory/kubepods/podx/3f2a9c/memory.usage_in_bytes", "33554432\n"),
                ("memory/kubepods/podx/3f2a9c/memory.limit_in_bytes", "9223372036854771712\n"),
                (
                    "memory/kubepods/podx/3f2a9c/memory.stat",
                    "inactive_file 1\ntotal_cache 1\ntotal_rss 10485760\ntotal_inactive_file 4194304\n",
                ),
            ],
        );
        let used = read_below(root.path(), &[ID.to_owned()], 7);
        let (cpu, memory) = used[ID];
        assert_eq!((cpu.total, memory.working_set), (4_723_405_123, 28 << 20));
        assert_eq!((memory.available, memory.rss), (None, Some(10 << 20)));
    }
}
