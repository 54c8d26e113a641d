//! The database's files: itself, its snapshot, and the damaged ones that were set aside.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How many damaged databases are kept for whoever wants to look into them.
const KEPT: usize = 2;

/// What a damaged database's name ends with, before the time.
const ASIDE: &str = ".damaged-";

/// Makes an empty file, and its folder, where there is none; readable by its owner alone, because
/// it holds the secrets of the node's pods.
pub(super) fn create(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => sync_folder(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().ok_or(error)?;
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            sync_folder(path)
        }
        Err(error) => Err(error),
    }
}

/// Makes the last change of a name in the file's folder durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Returns a path with something behind its file name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns the snapshot's path.
pub(super) fn snapshot(path: &Path) -> PathBuf {
    beside(path, ".snapshot")
}

/// Moves a database out of the way, with its journals, and returns where it went.
pub(super) fn set_aside(path: &Path, unix_millis: i64) -> io::Result<PathBuf> {
    let aside = beside(path, &format!("{ASIDE}{unix_millis}"));
    for journal in ["-wal", "-shm", "-journal"] {
        rename_if_there(&beside(path, journal), &beside(&aside, journal))?;
    }
    rename_if_there(path, &aside)?;
    sync_folder(path)?;
    forget_old(path)?;
    Ok(aside)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes all but the last damaged databases, so that a failing disk does not fill itself.
fn forget_old(path: &Path) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let prefix = format!("{}{ASIDE}", name.to_string_lossy());
    let mut times: Vec<u64> = Vec::new();
    let entries: Vec<_> = fs::read_dir(folder)?.filter_map(Result::ok).collect();
    let time_of = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let rest = name.to_str()?.strip_prefix(&prefix)?;
        rest.split('-').next()?.parse::<u64>().ok()
    };
    times.extend(entries.iter().filter_map(time_of));
    times.sort_unstable();
    times.dedup();
    let forgotten = &times[..times.len().saturating_sub(KEPT)];
    for entry in entries {
        if time_of(&entry).is_some_and(|time| forgotten.contains(&time)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Returns the address of a file that is sworn not to change while it is open.
pub(super) fn unchanging_uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    uri
}
