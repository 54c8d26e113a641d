//! Logs of containers: which file, from where in it, and how long.

mod shape;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::Site;
use super::ears::Ears;
use super::pods::{Found, containers};
use super::reply::{Refusal, Reply, streamed};
use super::route::{Query, Target};
use crate::cri::words as w;
use shape::{Options, Shape, nanos};

/// How much is read at once, in bytes.
const PART: usize = 64 * 1024;

/// Parts that wait for a slow client.
const WAITING: usize = 2;

/// The longest line that is taken, in bytes: runtimes break lines after 16 KiB.
const MAX_LINE: usize = 1024 * 1024;

/// Answers with a container's log.
pub(crate) async fn answer(site: &Arc<Site>, target: &Target, query: &Query) -> Reply {
    let options = options(query)?;
    let pod = format!("pod {:?} does not exist", target.pod);
    let pod = site.pod(&target.namespace, &target.pod, &pod).await?;
    let name = &target.container;
    if pod.spec.container(name).is_none() {
        let text = format!("container {name:?} not found in pod {:?}", target.pod);
        return Err(Refusal::new(StatusCode::NOT_FOUND, text));
    }
    let mut found = containers(site, &pod.metadata.uid).await?;
    found.retain(|found| found.name == *name);
    let container = choose(&found, target, options.previous)?;
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    let request = w::ContainerStatusRequest { container_id: container.id.clone() };
    let status = site.runtime.container_status(request).await.map_err(|it| bad(it.to_string()))?;
    let path = PathBuf::from(status.status.unwrap_or_default().log_path);
    // Links are followed once: where the file is rotated is where changes are heard of.
    let path = path.canonicalize().map_err(|error| {
        bad(format!("failed to try resolving symlinks in path {:?}: {error}", path.display()))
    })?;
    let file = open(&path, options.tail)
        .map_err(|error| bad(format!("failed to open log file {:?}: {error}", path.display())))?;
    let permit = Arc::clone(&site.streams).try_acquire_owned().map_err(|_| too_many())?;
    let ears = if options.follow { listen(site, &path).await } else { None };
    let (sender, parts) = mpsc::channel(WAITING);
    let log = Log { path, file, id: container.id.clone(), rest: Vec::new() };
    tokio::spawn(pump(log, Shape::new(options), ears, sender, permit));
    Ok(streamed(parts))
}

/// Of a node that has all the streams that it can have.
pub(crate) fn too_many() -> Refusal {
    let text = "maximum number of in-flight requests exceeded";
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, text)
}

async fn listen(site: &Site, path: &Path) -> Option<Ears> {
    let (sender, receiver) = oneshot::channel();
    let folder = path.parent()?.to_owned();
    site.ears.send((folder, sender)).await.ok()?;
    receiver.await.ok()
}

/// Chooses the container of a name whose log is meant; the newest comes first.
fn choose<'a>(found: &'a [Found], target: &Target, previous: bool) -> Result<&'a Found, Refusal> {
    let (name, pod) = (&target.container, &target.pod);
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    let ended = |it: &&Found| it.state == w::ContainerState::Exited;
    if previous {
        let mut before = found.iter().skip(1).filter(ended);
        let none = || format!("previous terminated container {name:?} in pod {pod:?} not found");
        return before.next().ok_or_else(|| bad(none()));
    }
    let told = |it: &&Found| it.state != w::ContainerState::Created;
    let none =
        || format!("container {name:?} in pod {pod:?} is waiting to start: ContainerCreating");
    found.iter().find(told).ok_or_else(|| bad(none()))
}

/// Reads what is wanted.
fn options(query: &Query) -> Result<Options, Refusal> {
    let undecoded = || {
        let text = r#"{"message": "Unable to decode query."}"#;
        Refusal::new(StatusCode::BAD_REQUEST, text)
    };
    let invalid = || {
        let text = r#"{"message": "Invalid request."}"#;
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, text)
    };
    let number = |key: &str, least: i64| match query.first(key) {
        None => Ok(None),
        Some(text) => match text.parse::<i64>() {
            Ok(number) if number >= least => Ok(u64::try_from(number).ok()),
            Ok(_) => Err(invalid()),
            Err(_) => Err(undecoded()),
        },
    };
    let tail = match query.first("tail").filter(|text| !text.is_empty()) {
        Some("all") => None,
        Some(_) => number("tail", 0)?,
        None => number("tailLines", 0)?,
    };
    let (seconds, bytes) = (number("sinceSeconds", 1)?, number("limitBytes", 1)?);
    let time =
        query.first("sinceTime").map(|text| nanos(text).ok_or_else(undecoded)).transpose()?;
    if time.is_some() && seconds.is_some() {
        return Err(invalid());
    }
    let ago = |seconds: u64| {
        i128::from(module_runtime::unix_millis()) * 1_000_000 - i128::from(seconds) * 1_000_000_000
    };
    let stream = match query.first("stream").unwrap_or_default() {
        "" | "All" => None,
        "Stdout" | "stdout" => Some("stdout"),
        "Stderr" | "stderr" => Some("stderr"),
        _ => return Err(invalid()),
    };
    if stream.is_some() && tail.is_some() {
        return Err(invalid());
    }
    Ok(Options {
        follow: query.is_set("follow"),
        previous: query.is_set("previous"),
        timestamps: query.is_set("timestamps"),
        tail,
        bytes: bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        since: time.or_else(|| seconds.map(ago)),
        stream,
    })
}

/// Opens a file where its last lines begin.
fn open(path: &Path, tail: Option<u64>) -> io::Result<File> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if let Some(lines) = tail {
        let start = start_of_tail(&mut file, lines)?;
        file.seek(SeekFrom::Start(start))?;
    }
    Ok(file)
}

/// Finds where the last lines of a file begin, reading it from its end.
fn start_of_tail(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let (mut position, mut part, mut begun) = (length, vec![0; PART], 0);
    if lines == 0 {
        return Ok(length);
    }
    while position > 0 {
        let size = usize::try_from(position).unwrap_or(PART).min(PART);
        position -= size as u64;
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(&mut part[..size])?;
        for (index, _) in part[..size].iter().enumerate().rev().filter(|(_, it)| **it == b'\n') {
            let after = position + index as u64 + 1;
            // Behind the end of the last line none begins.
            begun += u64::from(after != length);
            if begun == lines {
                return Ok(after);
            }
        }
    }
    Ok(0)
}

/// A log that is read.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    /// The container's id.
    id: String,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl Log {
    /// Reads a part, and writes what is wanted of its lines; tells whether there was any.
    fn step(&mut self, part: &mut [u8], shape: &mut Shape, out: &mut Vec<u8>) -> io::Result<bool> {
        let count = self.file.read(part)?;
        for line in part[..count].split_inclusive(|byte| *byte == b'\n') {
            let is_whole = line.ends_with(b"\n");
            if is_whole && self.rest.is_empty() {
                shape.take(line, out);
                continue;
            }
            self.rest.extend_from_slice(line);
            if is_whole || self.rest.len() > MAX_LINE {
                shape.take(&self.rest, out);
                self.rest.clear();
            }
        }
        Ok(count > 0)
    }

    /// Opens the file that took this one's place, if one did, and starts anew with one that was cut.
    fn turn(&mut self) -> io::Result<Option<File>> {
        let mine = self.file.metadata()?;
        let there = match File::open(&self.path) {
            Ok(file) => file,
            // It has been renamed and is not there anew yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let other = there.metadata()?;
        if (mine.dev(), mine.ino()) != (other.dev(), other.ino()) {
            return Ok(Some(there));
        }
        if mine.len() < self.file.stream_position()? {
            self.file.seek(SeekFrom::Start(0))?;
        }
        Ok(None)
    }
}

/// Reads a log to its end, or as long as its container writes, and sends what is wanted of it.
/// It ends when nobody takes it any more.
async fn pump(
    mut log: Log,
    mut shape: Shape,
    mut ears: Option<Ears>,
    sender: mpsc::Sender<Bytes>,
    _permit: OwnedSemaphorePermit,
) {
    let mut part = vec![0; PART];
    let mut next: Option<File> = None;
    loop {
        let alive = ears.as_mut().is_some_and(|ears| ears.look(&log.id));
        loop {
            let mut out = Vec::new();
            let more = log.step(&mut part, &mut shape, &mut out).unwrap_or(false);
            if !out.is_empty() && sender.send(out.into()).await.is_err() {
                return;
            }
            if !more || shape.is_done() {
                break;
            }
            tokio::task::yield_now().await;
        }
        if shape.is_done() {
            return;
        }
        if let Some(file) = next.take() {
            // The old file was read to its end after there was a new one.
            log.file = file;
            continue;
        }
        if let Some(ears) = &mut ears {
            match log.turn() {
                Ok(Some(file)) => {
                    next = Some(file);
                    continue;
                }
                Ok(None) if alive => {
                    tokio::select! {
                        true = ears.hear() => continue,
                        () = sender.closed() => return,
                    }
                }
                Ok(None) | Err(_) => {}
            }
        }
        let mut out = Vec::new();
        shape.take(&log.rest, &mut out);
        drop(sender.send(out.into()).await);
        return;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let mut file = File::create(&path).unwrap();
        for number in 0..50_000 {
            writeln!(file, "line {number}").unwrap();
        }
        let tail = |lines| {
            let mut text = String::new();
            open(&path, Some(lines)).unwrap().read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(tail(0), "");
        assert_eq!(tail(1), "line 49999\n");
        assert_eq!(tail(2), "line 49998\nline 49999\n");
        assert_eq!(tail(20_000).lines().count(), 20_000);
        assert_eq!(tail(20_000).lines().next(), Some("line 30000"));
        assert_eq!(tail(1 << 40).lines().count(), 50_000);
        write!(file, "begun").unwrap();
        assert_eq!(tail(1), "begun");
        assert_eq!(tail(2), "line 49999\nbegun");
    }

    #[test]
    fn wrong_options_are_refused_as_kubelet_does() {
        let status = |text: &str| options(&Query::parse(text)).map_err(|it| it.status.as_u16());
        assert!(status("follow=true&tailLines=5&sinceSeconds=3").is_ok());
        assert_eq!(status("tail=all").map(|it| it.tail), Ok(None));
        for (text, code) in [
            ("tailLines=x", 400),
            ("tailLines=-1", 422),
            ("sinceSeconds=0", 422),
            ("limitBytes=0", 422),
            ("sinceTime=yesterday", 400),
            ("sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1", 422),
            ("stream=stdin", 422),
        ] {
            assert_eq!(status(text), Err(code), "{text}");
        }
    }
}
