//! The runtime folder: where everything in it stands, and that it is ours alone.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipc_proto::{Module, control};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The runtime folder's path.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

/// Why a runtime folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// It cannot be made or looked at.
    #[error(
        "cannot use runtime folder {path}: {cause}, expected one that can be written, see --runtime-dir"
    )]
    Unusable { path: PathBuf, cause: io::Error },
    /// It is something else.
    #[error("runtime folder {0} is not a folder")]
    NoFolder(PathBuf),
    /// Somebody else's.
    #[error("runtime folder {path} belongs to user {owner}, expected user {expected}")]
    Foreign { path: PathBuf, owner: u32, expected: u32 },
    /// Anybody could put sockets into it.
    #[error(
        "runtime folder {path} has mode {mode:04o}, expected one that only its owner can write"
    )]
    Open { path: PathBuf, mode: u32 },
    /// Another supervisor has it.
    #[error("runtime folder {path} is in use by supervisor {pid}, expected one of its own")]
    InUse { path: PathBuf, pid: String },
}

impl Folder {
    /// Takes the folder for this process and makes what belongs into it. The lock lasts as long as
    /// the returned descriptor, or a copy of it, is open anywhere.
    ///
    /// # Errors
    /// [`FolderError`] when it is not ours, or another supervisor's.
    pub(crate) fn take(path: &Path) -> Result<(Self, OwnedFd), FolderError> {
        let unusable = |cause| FolderError::Unusable { path: path.to_owned(), cause };
        DirBuilder::new().recursive(true).mode(0o755).create(path).or_else(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(unusable(error)) }
        })?;
        let meta = path.metadata().map_err(unusable)?;
        let expected = rustix::process::geteuid().as_raw();
        if !meta.is_dir() {
            return Err(FolderError::NoFolder(path.to_owned()));
        }
        if meta.uid() != expected {
            return Err(FolderError::Foreign {
                path: path.to_owned(),
                owner: meta.uid(),
                expected,
            });
        }
        if meta.mode() & 0o022 != 0 {
            return Err(FolderError::Open { path: path.to_owned(), mode: meta.mode() & 0o7777 });
        }
        let folder = Self(path.to_owned());
        let lock = folder.lock()?;
        for part in ["log", "evidence"] {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o750).create(folder.0.join(part)).map_err(unusable)?;
        }
        Ok((folder, lock))
    }

    /// Takes over a folder that an earlier image of this process has locked.
    pub(crate) const fn adopt(path: PathBuf) -> Self {
        Self(path)
    }

    fn lock(&self) -> Result<OwnedFd, FolderError> {
        let unusable = |cause| FolderError::Unusable { path: self.0.clone(), cause };
        let path = self.0.join("supervisor.lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file: File = options.open(path).map_err(unusable)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                file.take(16).read_to_string(&mut pid).map_err(unusable)?;
                return Err(FolderError::InUse {
                    path: self.0.clone(),
                    pid: pid.trim().to_owned(),
                });
            }
            Err(errno) => return Err(unusable(errno.into())),
        }
        file.set_len(0).map_err(unusable)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(unusable)?;
        Ok(file.into())
    }

    /// Returns the folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of the operator's socket.
    pub(crate) fn control(&self) -> PathBuf {
        self.0.join(control::SOCKET_NAME)
    }

    /// Returns the path of the socket at which metrics are asked for.
    pub(crate) fn metrics(&self) -> PathBuf {
        self.0.join(control::METRICS_SOCKET_NAME)
    }

    /// Returns the path of a module's listening socket.
    pub(crate) fn socket(&self, module: Module) -> PathBuf {
        self.0.join(module.socket_name())
    }

    /// Returns the path of a module's log.
    pub(crate) fn log(&self, module: Module) -> PathBuf {
        self.0.join("log").join(format!("{module}.log"))
    }

    /// Returns the path of what is kept of a module's last death.
    pub(crate) fn evidence(&self, module: Module) -> PathBuf {
        self.0.join("evidence").join(format!("{module}.json"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_has_one_supervisor_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run/edgecore");
        let (folder, lock) = Folder::take(&path).unwrap();
        assert!(folder.log(Module::Edged).ends_with("log/edged.log"));
        let refused = Folder::take(&path).unwrap_err().to_string();
        let own = std::process::id();
        assert!(refused.contains(&format!("is in use by supervisor {own},")), "{refused}");
        drop(lock);
        Folder::take(&path).unwrap();
    }

    #[test]
    fn a_folder_that_others_can_write_in_or_that_is_none_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::set_permissions(parent.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let refused = Folder::take(parent.path()).unwrap_err().to_string();
        assert!(refused.contains("has mode 0777, expected"), "{refused}");
        let file = parent.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let refused = Folder::take(&file).unwrap_err().to_string();
        assert!(refused.ends_with("file is not a folder"), "{refused}");
    }
}
