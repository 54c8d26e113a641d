//! Volumes on the disk: folders, memory file systems, and sets of files that change at once, as
//! consumers know them from kubelet: `..data` is a link to a folder with a time as its name, and
//! every file is a link through it.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink,
};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use super::payload::Files;

/// The link to the current set.
const DATA: &str = "..data";

/// The link that takes the place of [`DATA`].
const NEXT: &str = "..data_tmp";

/// Makes a folder that everyone may use; of memory, with a bound in bytes (0 for none), if `memory`
/// says so.
pub(crate) fn empty(folder: &Path, memory: Option<i64>, group: Option<u32>) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(folder.parent().unwrap_or(folder))?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    if let Some(bound) = memory
        && !mounts_under(folder)?.iter().any(|mount| mount == folder)
    {
        let options = if bound > 0 { format!("size={bound}") } else { String::new() };
        let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("tmpfs", folder, "tmpfs", flags, options.as_c_str())?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    if let Some(group) = group {
        std::os::unix::fs::chown(folder, None, Some(group))?;
    }
    fs::set_permissions(folder, Permissions::from_mode(mode))
}

/// Makes a folder hold exactly these files, all at once. Nothing is touched when it holds them.
pub(crate) fn write(folder: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    let data = folder.join(DATA);
    if data.exists() && holds(&data, files)? {
        return link(folder, files);
    }
    let set = fresh(folder)?;
    for (path, file) in files {
        let path = folder.join(&set).join(path);
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
        let mut out =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        out.write_all(&file.content)?;
        if file.owner.is_some() || group.is_some() {
            std::os::unix::fs::chown(&path, file.owner, group)?;
        }
        out.set_permissions(Permissions::from_mode(mode))?;
    }
    let next = folder.join(NEXT);
    remove_if_there(fs::remove_file(&next))?;
    symlink(&set, &next)?;
    fs::rename(&next, &data)?;
    link(folder, files)?;
    drop_old(folder, &set)
}

/// Removes the sets that are not in use, those that a crash left among them.
fn drop_old(folder: &Path, set: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_set = name.to_string_lossy().starts_with("..") && entry.file_type()?.is_dir();
        if is_set && name != set.as_os_str() {
            remove_if_there(fs::remove_dir_all(entry.path()))?;
        }
    }
    Ok(())
}

/// Makes a new folder for a set, named by the time.
fn fresh(folder: &Path) -> io::Result<PathBuf> {
    let now = module_runtime::unix_millis();
    let stamp = crate::status::rfc3339(now).replace(['-', ':', 'T'], "_");
    for number in 0..1000 {
        let name = format!("..{}.{:03}{number:06}", stamp.trim_end_matches('Z'), now % 1000);
        match fs::DirBuilder::new().mode(0o755).create(folder.join(&name)) {
            Ok(()) => return Ok(PathBuf::from(name)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(ErrorKind::AlreadyExists, "no free name for a set of files"))
}

/// Tells whether a set is exactly these files.
fn holds(set: &Path, files: &Files) -> io::Result<bool> {
    for (path, file) in files {
        match fs::read(set.join(path)) {
            Ok(content) if content == file.content => {}
            Ok(_) => return Ok(false),
            Err(_) => return Ok(false),
        }
    }
    Ok(count(set, 0)? == files.len())
}

fn count(folder: &Path, depth: u32) -> io::Result<usize> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let below = entry.file_type()?.is_dir() && depth < 64;
        sum += if below { count(&entry.path(), depth + 1)? } else { 1 };
    }
    Ok(sum)
}

/// Makes the links that users see, and removes those that lead nowhere.
fn link(folder: &Path, files: &Files) -> io::Result<()> {
    let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let mut wanted: Vec<String> = files.keys().map(|path| first(path)).collect();
    wanted.dedup();
    for name in &wanted {
        match symlink(Path::new(DATA).join(name), folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name) && entry.file_type()?.is_symlink() {
            remove_if_there(fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

fn remove_if_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Checks that a path of the host is of the type that the pod wants, and makes it where the type
/// asks for that.
///
/// # Errors
/// What is there instead, as kubelet says it.
pub(crate) fn check_host_path(path: &Path, kind: &str) -> Result<(), String> {
    let there = fs::metadata(path).map(|metadata| metadata.file_type());
    let made = |result: io::Result<()>| {
        result.map_err(|error| format!("cannot make {}: {error}", path.display()))
    };
    let (wanted, good) = match (kind, there) {
        ("", _) => return Ok(()),
        ("DirectoryOrCreate", Err(error)) if error.kind() == ErrorKind::NotFound => {
            return made(fs::DirBuilder::new().recursive(true).mode(0o755).create(path));
        }
        ("FileOrCreate", Err(error)) if error.kind() == ErrorKind::NotFound => {
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
            return made(file.map(drop));
        }
        ("Directory" | "DirectoryOrCreate", there) => {
            ("a directory", there.is_ok_and(|it| it.is_dir()))
        }
        ("File" | "FileOrCreate", there) => ("a file", there.is_ok_and(|it| it.is_file())),
        ("Socket", there) => ("a socket file", there.is_ok_and(|it| it.is_socket())),
        ("CharDevice", there) => ("a character device", there.is_ok_and(|it| it.is_char_device())),
        ("BlockDevice", there) => ("a block device", there.is_ok_and(|it| it.is_block_device())),
        (other, _) => return Err(format!("{other} is an invalid volume type")),
    };
    if good {
        return Ok(());
    }
    Err(format!("hostPath type check failed: {} is not {wanted}", path.display()))
}

/// Returns the mount points at and under a folder, the deepest first.
fn mounts_under(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let plain = points.map(|point| PathBuf::from(point.replace("\\040", " ")));
    let mut found: Vec<_> = plain.filter(|point| point.starts_with(folder)).collect();
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    Ok(found)
}

/// Unmounts what is mounted at and under a folder, the deepest first.
pub(crate) fn unmount_below(folder: &Path) -> io::Result<()> {
    for mount in mounts_under(folder)? {
        rustix::mount::unmount(&mount, UnmountFlags::DETACH)?;
    }
    Ok(())
}

/// Tells whether something is mounted at a folder.
pub(crate) fn is_mounted(folder: &Path) -> io::Result<bool> {
    Ok(mounts_under(folder)?.iter().any(|mount| mount == folder))
}

/// Removes a pod's folder with everything in it, or a file or link of its own. What is mounted in there is unmounted first; what
/// cannot be is left alone, so that nothing of it is removed.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    unmount_below(folder)?;
    if !mounts_under(folder)?.is_empty() {
        return Err(io::Error::other(format!("{} has mounts", folder.display())));
    }
    let is_folder = fs::symlink_metadata(folder).is_ok_and(|it| it.is_dir());
    let removed = if is_folder { fs::remove_dir_all(folder) } else { fs::remove_file(folder) };
    remove_if_there(removed)
}

#[cfg(test)]
mod tests;
