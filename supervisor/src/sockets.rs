//! The listening sockets. They are bound once and outlive every module: who dials a dead module
//! waits in its backlog until the next life accepts.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use ipc_proto::{Module, ModuleSet};

use crate::folder::Folder;

/// All listening sockets.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// The operator's.
    pub(crate) control: OwnedFd,
    /// The modules', by [`Module::index`].
    pub(crate) modules: [OwnedFd; Module::COUNT],
}

/// Why a socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// There is something else in its place.
    #[error("{0} is in the way of a socket, expected nothing or a socket there")]
    InTheWay(PathBuf),
    /// Anything else.
    #[error("cannot bind {path}: {cause}")]
    Bind { path: PathBuf, cause: io::Error },
}

impl Sockets {
    /// Binds every socket; those that a dead supervisor left behind make way, since the folder's
    /// lock is ours.
    ///
    /// # Errors
    /// [`SocketError`] naming the socket.
    pub(crate) fn bind(folder: &Folder) -> Result<Self, SocketError> {
        let control = bind(&folder.control(), 0o600)?;
        let mut modules = Vec::with_capacity(Module::COUNT);
        for module in Module::ALL {
            modules.push(bind(&folder.socket(module), 0o600)?);
        }
        let Ok(modules) = modules.try_into() else { unreachable!("one socket for each module") };
        Ok(Self { control, modules })
    }
}

pub(crate) fn bind(path: &Path, mode: u32) -> Result<OwnedFd, SocketError> {
    let failed = |cause| SocketError::Bind { path: path.to_owned(), cause };
    match path.symlink_metadata() {
        Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path).map_err(failed)?,
        Ok(_) => return Err(SocketError::InTheWay(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(failed)?;
    Ok(listener.into())
}

/// Lets the modules that dial a module connect to its socket, and as few others as file permissions
/// can tell apart. Who speaks is checked again when it says hello; this keeps strangers out of the
/// backlog.
///
/// `users` gives each module's user and group, none for root, who may connect anyway.
///
/// # Errors
/// When the socket's owner or mode cannot be changed.
pub(crate) fn admit(
    folder: &Folder,
    module: Module,
    enabled: ModuleSet,
    users: &[Option<(u32, u32)>; Module::COUNT],
) -> io::Result<()> {
    let diallers = module.dialled_by().filter(|dialler| enabled.contains(*dialler));
    let mut groups: Vec<u32> =
        diallers.filter_map(|dialler| users[dialler.index()]).map(|(_, group)| group).collect();
    groups.sort_unstable();
    groups.dedup();
    let path = folder.socket(module);
    let (group, mode) = match groups[..] {
        [] => (None, 0o600),
        [group] => (Some(group), 0o660),
        _ => (None, 0o666),
    };
    chown(&path, None, group)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::adopt(parent.path().to_owned());
        (parent, folder)
    }

    #[test]
    fn a_stale_socket_makes_way_and_a_file_does_not() {
        let (_parent, folder) = folder();
        drop(Sockets::bind(&folder).unwrap());
        assert!(UnixStream::connect(folder.socket(Module::Edged)).is_err());
        let sockets = Sockets::bind(&folder).unwrap();
        UnixStream::connect(folder.socket(Module::Edged)).unwrap();
        drop(sockets);
        std::fs::remove_file(folder.socket(Module::Edged)).unwrap();
        std::fs::write(folder.socket(Module::Edged), b"notes").unwrap();
        let refused = Sockets::bind(&folder).unwrap_err().to_string();
        assert!(refused.contains("edged.sock is in the way of a socket"), "{refused}");
        assert_eq!(std::fs::read(folder.socket(Module::Edged)).unwrap(), b"notes");
    }

    #[test]
    fn only_diallers_may_connect() {
        let (_parent, folder) = folder();
        let _sockets = Sockets::bind(&folder).unwrap();
        let own = rustix::process::getegid().as_raw();
        let mut users = [Some((1000, own)); Module::COUNT];
        let all = Module::ALL.into_iter().collect();
        let mode = |module| folder.socket(module).metadata().unwrap().mode() & 0o777;
        admit(&folder, Module::Metamanager, all, &users).unwrap();
        assert_eq!(mode(Module::Metamanager), 0o660);
        admit(&folder, Module::Edgemesh, all, &users).unwrap();
        assert_eq!(mode(Module::Edgemesh), 0o600);
        users[Module::Edgehub.index()] = Some((1001, own + 1));
        admit(&folder, Module::Metamanager, all, &users).unwrap();
        assert_eq!(mode(Module::Metamanager), 0o666);
    }
}
