//! Memory and processor time of the agent's processes, from `/proc`.
//!
//! A process that is stuck in the kernel can hold the lock of its memory map, and who reads the map
//! waits with it. So each process is read by a thread of its own, and who is not done in time is
//! left behind: the threads end with the command.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// The greatest part of a file that is read; the files are a few hundred bytes long.
const MAX_FILE: u64 = 16 * 1024;

/// A thread here holds two paths and two small files.
const STACK: usize = 64 * 1024;

/// What a process uses; nothing where it could not be found out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Proportional set size in bytes: shared pages count in parts.
    pub(crate) pss: Option<u64>,
    /// Processor time in seconds, of user and kernel.
    pub(crate) cpu: Option<f64>,
}

impl Usage {
    /// Of a process that does not exist.
    pub(crate) const GONE: Self = Self { pss: Some(0), cpu: Some(0.0) };
}

/// Reads the usage of processes, within a bound of time for all. Those that could not be read in
/// time are missing from the answer.
pub(crate) fn usage(
    proc: &Path,
    pids: impl IntoIterator<Item = u32>,
    within: Duration,
) -> BTreeMap<u32, Usage> {
    let deadline = Instant::now() + within;
    let pids: Vec<_> = pids.into_iter().collect();
    // A place for each answer, so that no thread ever waits for the reader.
    let (done, answers) = sync_channel(pids.len());
    for pid in pids {
        let folder = proc.join(pid.to_string());
        let done = done.clone();
        // Nobody takes an answer that comes too late.
        let read = move || done.send((pid, usage_in(&folder))).unwrap_or_default();
        // A thread that cannot be made is an answer that does not come.
        drop(thread::Builder::new().stack_size(STACK).spawn(read));
    }
    drop(done);
    let next = || answers.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok();
    std::iter::from_fn(next).collect()
}

fn usage_in(folder: &Path) -> Usage {
    // The processor time comes first: it never waits for the memory map.
    let cpu = or_gone(read(folder.join("stat")), 0.0, cpu_seconds);
    let pss = or_gone(read(folder.join("smaps_rollup")), 0, pss_bytes);
    Usage { pss, cpu }
}

/// A process that died meanwhile uses nothing; what may not be read stays unknown.
fn or_gone<T>(
    file: io::Result<String>,
    nothing: T,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    match file {
        Ok(text) => parse(&text),
        Err(error) => {
            let gone = error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(Errno::SRCH.raw_os_error());
            gone.then_some(nothing)
        }
    }
}

fn read(path: PathBuf) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// Returns the sum of all mappings' shares, from the line `Pss:  1234 kB`.
fn pss_bytes(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Returns the sum of fields 14 and 15, user and system time. The name in field 2 may have
/// anything in it, also spaces and brackets.
#[expect(clippy::cast_precision_loss, reason = "ticks are few: 2^53 of them are 3 million years")]
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user.checked_add(system)?) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests;
