//! Files that are replaced at once or not at all, and files from outside, of which nothing is
//! believed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// The greatest program in bytes.
const MAX_PROGRAM: u64 = 512 * 1024 * 1024;

/// The greatest configuration file in bytes: as the agent takes it.
const MAX_TEXT: u64 = 1024 * 1024;

/// Writes a text beside a file, with that file's owner and rights. Returns where it is.
///
/// # Errors
/// The operating system's.
pub(crate) fn stage(file: &Path, text: &str) -> io::Result<PathBuf> {
    let facts = fs::metadata(file)?;
    let place = beside(file, "job");
    remove(&place)?;
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place)?;
    new.write_all(text.as_bytes())?;
    if facts.uid() != new.metadata()?.uid() || facts.gid() != new.metadata()?.gid() {
        fchown(&new, Some(facts.uid()), Some(facts.gid()))?;
    }
    new.set_permissions(Permissions::from_mode(facts.mode() & 0o7777))?;
    new.sync_all()?;
    Ok(place)
}

/// Puts a file in another's place at once, durably.
///
/// # Errors
/// The operating system's; the place is as it was then.
pub(crate) fn publish(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(to)
}

/// Reads a text of a bounded length.
///
/// # Errors
/// The operating system's, and when it is longer or no UTF-8.
pub(crate) fn text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_TEXT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_TEXT {
        return Err(io::Error::other(format!("over {MAX_TEXT} bytes")));
    }
    Ok(text)
}

/// Copies a program that stands in `folder` under `name`, put there by who knows whom, to `to`:
/// a plain file is taken, never a link, a device or a pipe. What is written is for everyone to run
/// and for its owner to write, whatever rights it came with.
///
/// # Errors
/// The operating system's, and when it is no plain file or too large.
pub(crate) fn take_program(folder: &Path, name: &str, to: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = rustix::fs::open(folder.join(name), flags, Mode::empty())?;
    copy_program(File::from(opened), to)
}

/// Copies a program of ours to `to`, at once.
///
/// # Errors
/// The operating system's.
pub(crate) fn keep_program(from: &Path, to: &Path) -> io::Result<()> {
    copy_program(File::open(from)?, to)
}

fn copy_program(from: File, to: &Path) -> io::Result<()> {
    let facts = from.metadata()?;
    if !facts.is_file() || facts.len() > MAX_PROGRAM || facts.len() == 0 {
        let size = facts.len();
        let what = format!("no plain file of 1 to {MAX_PROGRAM} bytes ({size} bytes)");
        return Err(io::Error::other(what));
    }
    let place = beside(to, "part");
    remove(&place)?;
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place)?;
    io::copy(&mut from.take(MAX_PROGRAM), &mut new)?;
    new.set_permissions(Permissions::from_mode(0o755))?;
    new.sync_all()?;
    publish(&place, to)
}

/// Copies a text to `to`, at once.
///
/// # Errors
/// The operating system's.
pub(crate) fn keep_text(from: &Path, to: &Path) -> io::Result<()> {
    let place = beside(to, "part");
    remove(&place)?;
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place)?;
    new.write_all(text(from)?.as_bytes())?;
    new.sync_all()?;
    publish(&place, to)
}

/// Removes a file that may not be there.
///
/// # Errors
/// The operating system's.
pub(crate) fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a folder anew, empty and for its owner alone.
///
/// # Errors
/// The operating system's.
pub(crate) fn empty_folder(folder: &Path) -> io::Result<()> {
    remove_folder(folder)?;
    fs::create_dir(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}

/// Removes a folder that may not be there, with what is in it.
///
/// # Errors
/// The operating system's.
pub(crate) fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Returns the number by which the file system knows a file, which a new name does not change.
pub(crate) fn identity(file: &Path) -> Option<u64> {
    fs::metadata(file).ok().map(|facts| facts.ino())
}

/// Returns when a file got its name, in Unix milliseconds.
pub(crate) fn named(file: &Path) -> Option<i64> {
    let facts = fs::metadata(file).ok()?;
    Some(facts.ctime().saturating_mul(1000).saturating_add(facts.ctime_nsec() / 1_000_000))
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{name}.{ending}"))
}

fn sync_folder(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_program_from_outside_is_a_plain_file_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let take = |name: &str| take_program(folder.path(), name, &at("taken"));
        fs::write(at("plain"), "program").unwrap();
        fs::set_permissions(at("plain"), Permissions::from_mode(0o6777)).unwrap();
        take("plain").unwrap();
        assert_eq!(fs::read_to_string(at("taken")).unwrap(), "program");
        assert_eq!(fs::metadata(at("taken")).unwrap().mode() & 0o7777, 0o755);
        fs::write(at("secret"), "of the host").unwrap();
        symlink(at("secret"), at("link")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("nothing"), "").unwrap();
        let pipe = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, pipe, 0)
            .unwrap();
        for name in ["link", "folder", "nothing", "pipe", "missing"] {
            assert!(take(name).is_err(), "{name}");
        }
        assert_eq!(fs::read_to_string(at("taken")).unwrap(), "program", "it is as it was");
    }

    #[test]
    fn a_text_is_replaced_at_once_and_keeps_its_rights() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("edgecore.yaml");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let staged = stage(&file, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        publish(&staged, &file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
