//! What containers use by the kernel's own account, for runtimes that do not tell: both versions of
//! control groups.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::amounts::{Cpu, Memory};

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// How deep containers are looked for, and in how many folders at most.
const DEPTH: usize = 8;
const FOLDERS: usize = 20_000;

/// Reads what containers use, by id; nothing of those that have no group.
pub(crate) fn read(ids: &[String], at: i64) -> BTreeMap<String, (Cpu, Memory)> {
    read_below(Path::new(ROOT), ids, at)
}

/// As [`read`], where control groups are mounted at `root`.
pub(crate) fn read_below(root: &Path, ids: &[String], at: i64) -> BTreeMap<String, (Cpu, Memory)> {
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

/// Reads a file that is a number.
pub(crate) fn number(group: &Path, file: &str) -> Option<u64> {
    text(group, file).trim().parse().ok()
}

/// Reads a line of a table.
pub(crate) fn field(table: &str, key: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
    table.lines().find_map(value)
}

#[cfg(test)]
mod tests;
