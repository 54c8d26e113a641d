//! Rotates the logs of containers by size and number, as kubelet does: `0.log` becomes
//! `0.log.20260102-150405`, and with the next rotation `0.log.20260102-150405.gz`.
//!
//! The folders are looked at, and the runtime is asked only when something has to be done. What a crash
//! left half done is found by its name.

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tracing::{debug, info, warn};

use crate::cri::{Runtime, words as w};
use crate::pod::names;
use crate::worker::Host;

/// The ends of names of packed files, and of those that are being packed.
const PACKED: &str = ".gz";
const PACKING: &str = ".tmp";

/// When logs are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Bytes.
    pub(crate) size: u64,
    /// How many files of a container's life are kept, the one in use among them; 2 or more.
    pub(crate) files: usize,
    /// Milliseconds from one look to the next.
    pub(crate) interval: i64,
}

/// Rotates logs, for ever.
pub(crate) async fn run(host: Arc<Host>) {
    let Some(policy) = host.config.defence.logs else { return };
    let pause = Duration::from_millis(u64::try_from(policy.interval).unwrap_or(10_000));
    loop {
        tokio::time::sleep(pause).await;
        sweep(&host.runtime, &host.config.logs, policy).await;
    }
}

/// Looks at all logs once, and rotates those that are too large.
pub(crate) async fn sweep(runtime: &Runtime, logs: &Path, policy: Policy) {
    let logs = logs.to_owned();
    let found = tokio::task::spawn_blocking(move || find(&logs, policy.size));
    for due in found.await.unwrap_or_default() {
        if let Err(why) = rotate(runtime, &due, policy).await {
            warn!(log = %due.path.display(), "cannot rotate a log: {why}");
        }
    }
}

/// A log that something has to be done about.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Due {
    /// The file in use, or where it should be.
    path: PathBuf,
    uid: String,
    container: String,
    restarts: u32,
    /// Whether it was renamed and there is no new one: somebody died in between.
    is_missing: bool,
}

/// Finds the logs that something has to be done about.
fn find(logs: &Path, size: u64) -> Vec<Due> {
    let folders = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    };
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().ok();
    let mut found = Vec::new();
    for pod in folders(logs) {
        let Some(uid) = name(&pod).and_then(|it| Some(it.splitn(3, '_').nth(2)?.to_owned())) else {
            continue;
        };
        for folder in folders(&pod.path()) {
            let Some(container) = name(&folder) else { continue };
            let Some((restarts, is_missing)) = newest(&files(&folder.path())) else { continue };
            let path = folder.path().join(format!("{restarts}.log"));
            let length = fs::metadata(&path).map_or(0, |it| it.len());
            if is_missing || length >= size {
                found.push(Due { path, uid: uid.clone(), container, restarts, is_missing });
            }
        }
    }
    found
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Returns the number of the newest log among these names, and whether the file in use is missing.
fn newest(names: &[String]) -> Option<(u32, bool)> {
    let number = |name: &String| name.split_once(".log")?.0.parse::<u32>().ok();
    let newest = names.iter().filter_map(number).max()?;
    let own = format!("{newest}.log");
    Some((newest, !names.contains(&own)))
}

/// Rotates one log, if its container runs: another will not write any more.
async fn rotate(runtime: &Runtime, due: &Due, policy: Policy) -> Result<(), String> {
    let filter = w::ContainerFilter { label_selector: names::selector(&due.uid) };
    let list = w::ListContainersRequest { filter: Some(filter) };
    let containers = runtime.list_containers(list).await.map_err(|it| it.to_string())?.containers;
    let is_it = |it: &&w::Container| {
        let metadata = it.metadata.as_ref();
        it.state() == w::ContainerState::Running
            && it.labels.get(names::CONTAINER_NAME) == Some(&due.container)
            && metadata.is_some_and(|metadata| metadata.attempt == due.restarts)
    };
    let Some(container) = containers.iter().find(is_it) else { return Ok(()) };
    let reopen = w::ReopenContainerLogRequest { container_id: container.id.clone() };
    if due.is_missing {
        info!(log = %due.path.display(), "a log was rotated halfway");
        return runtime.reopen_log(reopen).await.map(drop).map_err(|it| it.to_string());
    }
    let path = due.path.clone();
    let turned = tokio::task::spawn_blocking(move || turn(&path, policy.files)).await;
    let turned = turned.map_err(|it| it.to_string())?.map_err(|it| it.to_string())?;
    debug!(log = %turned.display(), "a log is rotated");
    let Err(trouble) = runtime.reopen_log(reopen).await else { return Ok(()) };
    // What is written goes on into the file, so it gets its name back.
    let back = match fs::exists(&due.path) {
        Ok(false) => fs::rename(&turned, &due.path),
        Ok(true) | Err(_) => Ok(()),
    };
    let more = back.err().map(|error| format!("; cannot rename it back: {error}"));
    Err(format!("{trouble}{}", more.unwrap_or_default()))
}

/// What is to be done with the files beside a log before it is rotated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plan {
    remove: Vec<String>,
    pack: Vec<String>,
}

/// Plans a rotation of `log` among these names, so that no more than `most` files are left behind it.
fn plan(log: &str, names: &[String], most: usize) -> Plan {
    let is_old = |name: &&String| name.strip_prefix(log).is_some_and(|rest| rest.starts_with('.'));
    let is_packed = |name: &str| names.contains(&format!("{name}{PACKED}"));
    let (mut old, remove): (Vec<_>, Vec<_>) = names
        .iter()
        .filter(is_old)
        .cloned()
        .partition(|name| !name.ends_with(PACKING) && !is_packed(name));
    let mut plan = Plan { remove, ..Plan::default() };
    // The one in use and the one that it becomes are two more.
    old.sort();
    let excess = old.len().saturating_sub(most.saturating_sub(2));
    plan.remove.extend(old.drain(..excess));
    plan.pack = old.into_iter().filter(|name| !name.ends_with(PACKED)).collect();
    plan
}

/// Clears what is too much, packs what is old, and renames the log; returns its new name. A disk that
/// is full keeps old files from being packed, and no log from being rotated.
fn turn(path: &Path, most: usize) -> io::Result<PathBuf> {
    let folder = path.parent().unwrap_or(path);
    let log = path.file_name().unwrap_or_default().to_string_lossy();
    let Plan { remove, pack: packing } = plan(&log, &files(folder), most);
    for name in remove {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    for name in packing {
        let old = folder.join(name);
        if let Err(error) = pack(&old) {
            warn!(log = %old.display(), "an old log stays as it is: {error}");
        }
    }
    let turned = folder.join(format!("{log}.{}", stamp(module_runtime::unix_millis())));
    fs::rename(path, &turned)?;
    Ok(turned)
}

/// Packs a file.
fn pack(old: &Path) -> io::Result<()> {
    let with = |end: &str| {
        let mut name = old.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let (packing, packed) = (with(PACKING), with(PACKED));
    let done = write_packed(old, &packing).and_then(|()| fs::rename(&packing, packed));
    if done.is_err() {
        // It is found by its name the next time, if it cannot be removed now.
        drop(fs::remove_file(&packing));
    }
    done.and_then(|()| fs::remove_file(old))
}

fn write_packed(old: &Path, packing: &Path) -> io::Result<()> {
    let mut from = File::open(old)?;
    let mode = from.metadata()?.mode() & 0o777;
    let to = File::options().write(true).create(true).truncate(true).mode(mode).open(packing)?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    io::copy(&mut from, &mut encoder)?;
    encoder.finish()?.flush()
}

/// Writes a time as it stands in names.
fn stamp(millis: i64) -> String {
    let text = crate::status::rfc3339(millis).replace(['-', ':'], "").replace('T', "-");
    text.trim_end_matches('Z').to_owned()
}
