//! Looking at processes from outside, as an operator would: through /proc and signals.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal to a process.
///
/// # Errors
/// When there is no such process, or it is not ours.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    kill_process(to_pid(pid)?, signal).with_context(|| format!("cannot signal process {pid}"))
}

/// Returns the process id in the form that system calls take.
///
/// # Errors
/// When the number is none of a process.
pub fn to_pid(pid: u32) -> Result<Pid> {
    let raw = i32::try_from(pid).with_context(|| format!("process id {pid} is too great"))?;
    Pid::from_raw(raw).context("process id 0")
}

/// Tells whether the process runs: it exists and is not waiting to be reaped.
#[must_use]
pub fn lives(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z')
}

/// Tells whether the process is frozen by SIGSTOP.
#[must_use]
pub fn is_stopped(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state == 'T')
}

/// Returns the processes whose parent is `pid`.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    processes().filter(|&child| stat(child).is_some_and(|stat| stat.parent == pid)).collect()
}

/// Returns a field of `/proc/<pid>/status`, without its name and the spaces around it.
///
/// # Errors
/// When there is no such process or field.
pub fn status_field(pid: u32, name: &str) -> Result<String> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields
        .find(|(field, _)| *field == name)
        .with_context(|| format!("{path} has no field {name}"))?;
    Ok(value.trim().to_owned())
}

/// Returns the targets of a process's open descriptors.
///
/// # Errors
/// When there is no such process.
pub fn descriptors(pid: u32) -> Result<Vec<String>> {
    let folder = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let targets = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    Ok(targets.map(|target| target.to_string_lossy().into_owned()).collect())
}

/// Returns when the process was made, in ticks since boot: with the id it names one process for
/// ever, which the id alone does not.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.start_time)
}

/// The processor time that each thread of a process has used so far, in nanoseconds.
///
/// # Errors
/// When the process is gone.
pub fn thread_times(pid: u32) -> Result<BTreeMap<String, u64>> {
    let threads = format!("/proc/{pid}/task");
    let mut times = BTreeMap::new();
    for thread in fs::read_dir(&threads).with_context(|| format!("cannot read {threads}"))? {
        let path = thread?.path().join("schedstat");
        // A thread may end between the two looks.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let first = text.split_whitespace().next().context("empty scheduler statistics")?;
        times.insert(path.display().to_string(), first.parse()?);
    }
    Ok(times)
}

/// Sums fields of `/proc/<pid>/smaps_rollup`, in KiB.
///
/// # Errors
/// When there is no such process.
pub fn kib(pid: u32, fields: &[&str]) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let values = text.lines().filter_map(|line| line.split_once(':'));
    let values = values.filter(|(field, _)| fields.contains(field));
    values.map(|(_, value)| Ok(value.trim().trim_end_matches(" kB").parse::<f64>()?)).sum()
}

struct Stat {
    state: char,
    parent: u32,
    start_time: u64,
}

/// Reads `/proc/<pid>/stat`; the name in it may hold anything, so fields count from its last `)`.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        start_time: number(19)?,
    })
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
