//! A file system of a few kibibytes, to be filled.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

/// A small file system in memory. It goes when it is dropped.
pub(crate) struct SmallDisk {
    path: PathBuf,
    own: Option<tempfile::TempDir>,
}

impl SmallDisk {
    /// Makes one of so many KiB in a folder of its own. It takes root's powers.
    pub(crate) fn new(kibibytes: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let mut disk = Self::at(&path, kibibytes);
        disk.own = Some(folder);
        disk
    }

    /// Makes one of so many KiB at a folder, which is made.
    pub(crate) fn at(path: &Path, kibibytes: u32) -> Self {
        fs::create_dir_all(path).unwrap();
        let options = CString::new(format!("size={kibibytes}k")).unwrap();
        let flags = MountFlags::empty();
        rustix::mount::mount("tmpfs", path, "tmpfs", flags, options.as_c_str()).unwrap();
        Self { path: path.to_owned(), own: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves no byte.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.path.join("filling")).unwrap();
        while file.write_all(&[1; 1024]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Memory volumes of pods may be mounted below it.
        rustix::mount::unmount(&self.path, UnmountFlags::DETACH).unwrap();
    }
}
