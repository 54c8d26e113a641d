//! A part of a volume in a container. The volume's users write its links, so none of them may lead
//! out of it, also not while it is looked at: the kernel resolves the path inside the volume, and
//! what was found is mounted by its descriptor, not by its name.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

/// Mounts the part `sub` of a volume on `target`, which is made for it; a folder that is missing is
/// made. What was mounted there before goes.
///
/// # Errors
/// What is wrong with the path.
pub(crate) fn bind(volume: &Path, sub: &str, target: &Path) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("subPath '{sub}': {error}");
    let part = open(volume, sub).map_err(|error| match error {
        Errno::XDEV | Errno::LOOP => format!("subPath '{sub}' leads out of its volume"),
        Errno::NOSYS => format!("subPath '{sub}' needs Linux 5.6"),
        error => failed(&error),
    })?;
    let kind = rustix::fs::fstat(&part).map_err(|error| failed(&error))?;
    let is_folder = FileType::from_raw_mode(kind.st_mode) == FileType::Directory;
    // Fails where nothing is mounted.
    let _was = rustix::mount::unmount(target, UnmountFlags::DETACH);
    let folder = if is_folder { target } else { target.parent().unwrap_or(target) };
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(folder);
    made.map_err(|error| failed(&error))?;
    if !is_folder {
        let file = fs::OpenOptions::new().append(true).create(true).open(target);
        file.map_err(|error| failed(&error))?;
    }
    let source = format!("/proc/self/fd/{}", part.as_raw_fd());
    rustix::mount::mount_bind(source, target).map_err(|error| failed(&error))
}

/// Opens a part of a volume.
fn open(volume: &Path, sub: &str) -> Result<OwnedFd, Errno> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut components = Path::new(sub).components();
    if !components.all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(Errno::XDEV);
    }
    let root = rustix::fs::open(volume, folder, Mode::empty())?;
    let whole = || {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat2(root.as_fd(), sub, flags, Mode::empty(), inside)
    };
    match whole() {
        Err(Errno::NOENT) => {}
        found => return found,
    }
    let mut at = rustix::fs::openat2(root.as_fd(), ".", folder, Mode::empty(), inside)?;
    for part in Path::new(sub).components() {
        match rustix::fs::mkdirat(&at, part.as_os_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        at = rustix::fs::openat2(at.as_fd(), part.as_os_str(), folder, Mode::empty(), inside)?;
    }
    whole()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_part_is_found_or_made_inside_the_volume_only() {
        let folder = tempfile::tempdir().unwrap();
        let (volume, outside) = (folder.path().join("v"), folder.path().join("out"));
        fs::create_dir_all(volume.join("data")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(volume.join("data/file"), "x").unwrap();
        symlink("data/file", volume.join("good")).unwrap();
        symlink("../out", volume.join("up")).unwrap();
        symlink(&outside, volume.join("away")).unwrap();
        for sub in ["data", "data/file", "good", "new/folder"] {
            open(&volume, sub).unwrap();
        }
        assert!(volume.join("new/folder").is_dir());
        for sub in ["up", "away", "away/new", "up/new", "../out", "/etc", "a/../../out"] {
            let error = open(&volume, sub).unwrap_err();
            assert!(matches!(error, Errno::XDEV | Errno::LOOP), "{sub}: {error}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
