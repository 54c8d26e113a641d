//! `/logs/`: the host's log files, of which those are served that every user of the host may read
//! anyway, because everybody on the host may ask here. Links are not followed: a pod that writes
//! into the host's logs would reach every file through them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use hyper::StatusCode;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use tokio::sync::mpsc;

use super::logs::too_many;
use super::reply::{Refusal, Reply, page, streamed};
use super::{Site, off_thread};

/// Where the host's logs are.
pub(crate) const FOLDER: &str = "/var/log";

/// How much is read at once, in bytes.
const PART: usize = 64 * 1024;

/// Parts that wait for a slow client.
const WAITING: usize = 2;

/// The most names that a list has.
const NAMES: usize = 10_000;

/// What there is at a place.
#[derive(Debug)]
enum Found {
    File(File),
    /// Names, those of folders with a slash.
    Folder(Vec<String>),
}

/// Answers with a file, or with what a folder has.
pub(crate) async fn answer(site: &Arc<Site>, parts: Vec<String>) -> Reply {
    let permit = Arc::clone(&site.streams).try_acquire_owned().map_err(|_| too_many())?;
    let place = format!("/{}", [&["logs".to_owned()], parts.as_slice()].concat().join("/"));
    let folder = site.logs.clone();
    let found = off_thread(move || find(&folder, &parts)).await;
    let mut file = match found.map_err(|error| refused(&error))? {
        Found::File(file) => file,
        Found::Folder(names) => return Ok(page(list(&place, &names))),
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        loop {
            let read = off_thread(move || {
                let mut part = vec![0; PART];
                let count = file.read(&mut part).unwrap_or_default();
                part.truncate(count);
                (file, part)
            });
            let (back, part) = read.await;
            file = back;
            if part.is_empty() || sender.send(part.into()).await.is_err() {
                break;
            }
        }
        drop(permit);
    });
    Ok(streamed(receiver))
}

fn refused(error: &io::Error) -> Refusal {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Refusal::new(StatusCode::FORBIDDEN, "403 Forbidden\n");
    }
    Refusal::new(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Finds what there is, step by step from the folder on.
fn find(folder: &Path, parts: &[String]) -> io::Result<Found> {
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    let walk = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut place = rustix::fs::openat(CWD, folder, walk, Mode::empty())?;
    let mut stat = rustix::fs::fstat(&place)?;
    let may = |stat: &Stat, right: Mode| Mode::from_raw_mode(stat.st_mode).contains(right);
    for part in parts {
        if !may(&stat, Mode::XOTH) {
            return Err(denied());
        }
        place = rustix::fs::openat(&place, part.as_str(), walk, Mode::empty())?;
        stat = rustix::fs::fstat(&place)?;
    }
    if !may(&stat, Mode::ROTH) {
        return Err(denied());
    }
    // The very thing that was looked at, and never a device or a pipe.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Found::File(File::open(path)?)),
        FileType::Directory => {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(path)?.take(NAMES) {
                let entry = entry?;
                let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
                names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
            }
            names.sort_unstable();
            Ok(Found::Folder(names))
        }
        FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Writes a list of links.
fn list(place: &str, names: &[String]) -> String {
    let link = |name: &String| {
        let target = format!("{place}/{name}");
        let target: String = target.bytes().map(encoded).collect();
        format!("<a href=\"{target}\">{}</a>\n", escaped(name))
    };
    let links: String = names.iter().map(link).collect();
    format!("<!doctype html>\n<pre>\n{links}</pre>\n")
}

fn encoded(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&#34;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests;
