//! What a process takes of the machine, read where reading waits for nobody: not its memory map,
//! whose lock a process that is stuck in the kernel can hold.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

/// The greatest part of a file that is read; the files are some hundred bytes long.
const MAX_FILE: u64 = 16 * 1024;

/// What a process uses; nothing where it could not be found out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// Bytes in memory, shared ones too.
    pub(super) resident: Option<f64>,
    /// Of these bytes the process's own: they belong to no file.
    pub(super) anonymous: Option<f64>,
    pub(super) threads: Option<f64>,
    /// Processor time in seconds, of user and kernel.
    pub(super) cpu: Option<f64>,
    pub(super) open_fds: Option<f64>,
}

/// Reads what a process uses. `root` is the folder that has `proc` in it.
pub(super) fn usage(root: &Path, pid: u32) -> Usage {
    let folder = root.join("proc").join(pid.to_string());
    let status = read(&folder.join("status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let kibibytes = |name| field(name).map(|count| count * 1024.0);
    Usage {
        resident: kibibytes("VmRSS"),
        anonymous: kibibytes("RssAnon"),
        threads: field("Threads"),
        cpu: read(&folder.join("stat")).as_deref().and_then(cpu_seconds),
        open_fds: open_fds(&folder.join("fd")),
    }
}

/// Returns the memory of a control group in bytes; page cache counts, too.
pub(super) fn group(root: &Path, group: &str) -> Option<f64> {
    let folder = root.join(group.trim_start_matches('/'));
    read(&folder.join("memory.current"))?.trim().parse().ok()
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Returns how many descriptors are open: since Linux 6.2 that is the folder's size, which everybody
/// may know; before, its entries are counted, where they may be.
fn open_fds(folder: &Path) -> Option<f64> {
    let size = fs::metadata(folder).ok()?.len();
    let count = if size > 0 { size } else { fs::read_dir(folder).ok()?.count() as u64 };
    u32::try_from(count).ok().map(f64::from)
}

/// Returns the sum of fields 14 and 15, user and system time. The name in field 2 may have anything
/// in it, also spaces and brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    let ticks = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some((user + system) / f64::from(ticks))
}
