//! A file that is either wholly there or not at all: written beside its place, synced, and renamed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A file that is written and does not stand in its place yet; it goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Staged {
    path: PathBuf,
    place: PathBuf,
    /// Held as long as the file is not in its place.
    _lock: File,
}

impl Staged {
    /// Writes a file beside its place, for its owner alone. The folder is made where it is missing.
    /// What an interrupted one left behind is written over.
    ///
    /// # Errors
    /// The operating system's; also when somebody else is about to write the same file.
    pub(crate) fn write(place: &Path, text: &str) -> io::Result<Self> {
        let folder = place.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let path = folder.join(format!(".{name}.new"));
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let staged = Self { path, place: place.to_owned(), _lock: file.try_clone()? };
        file.set_len(0)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(staged)
    }

    /// Returns where it stands now.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it into its place, over what may stand there.
    ///
    /// # Errors
    /// The operating system's; the place is as it was then.
    pub(crate) fn publish(self) -> io::Result<()> {
        fs::rename(&self.path, &self.place)?;
        let folder = self.place.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // published, it is not there any more
        fs::remove_file(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_file_appears_whole_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a/b.yaml");
        let staged = Staged::write(&place, "one").unwrap();
        assert!(!place.exists());
        staged.publish().unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "one");
        assert_eq!(place.metadata().unwrap().mode() & 0o777, 0o600);
        Staged::write(&place, "two").unwrap().publish().unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "two");
    }

    #[test]
    fn two_do_not_write_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("b.yaml");
        let staged = Staged::write(&place, "one").unwrap();
        assert!(Staged::write(&place, "two").is_err());
        staged.publish().unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "one");
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Staged::write(&folder.path().join("b.yaml"), "one").unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
