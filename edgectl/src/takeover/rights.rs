//! Who owns what: the Go edgecore writes everything as root, and most of our modules are another
//! user. What such a module writes is given to its user; root, and so the Go edgecore, can read and
//! write it all the same.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use ipc_proto::Module;
use serde::Deserialize;

use crate::program;

/// A folder with fewer parts is shared with others: `/etc/kubeedge`, `/var/lib`, `/srv/node`.
const PARTS: usize = 3;

/// What the agent's program says of a module.
#[derive(Clone, Debug, Deserialize)]
struct Told {
    enabled: bool,
    user: Option<(u32, u32)>,
    writable: Vec<PathBuf>,
}

/// A folder of root's that a module of another user writes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) module: Module,
    pub(super) folder: PathBuf,
    user: (u32, u32),
    /// Whether it can be given: nothing of others is in it.
    pub(super) grantable: bool,
}

/// Finds the folders that have to change their owner.
///
/// # Errors
/// With a sentence when the configuration cannot be taken.
pub(super) fn claims(config: &Path, supervisor_config: &Path) -> Result<Vec<Claim>, String> {
    #[derive(Deserialize)]
    struct All {
        modules: Vec<Told>,
    }
    let (config_text, supervisor) = (config.to_string_lossy(), supervisor_config.to_string_lossy());
    let words = ["config", "--config", &config_text, "--supervisor-config", &supervisor];
    let All { modules } =
        serde_json::from_slice(&program::ask(words)?).map_err(|error| program::foreign(&error))?;
    let owned_by_root = |folder: &Path| folder.metadata().is_ok_and(|it| it.uid() == 0);
    let mut claims = Vec::new();
    for (module, told) in Module::ALL.into_iter().zip(modules) {
        let Some(user) = told.user.filter(|(uid, _)| *uid != 0 && told.enabled) else { continue };
        for folder in told.writable.into_iter().filter(|folder| owned_by_root(folder)) {
            let grantable = is_grantable(&folder, config);
            claims.push(Claim { module, folder, user, grantable });
        }
    }
    Ok(claims)
}

/// A folder above the configuration's must stay root's: its owner could exchange what is below.
fn is_grantable(folder: &Path, config: &Path) -> bool {
    folder.components().count() > PARTS && !config.starts_with(folder)
}

impl Claim {
    /// Gives the folder, and what of root's stands in it itself, to the module's user.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn grant(&self) -> io::Result<()> {
        let (uid, gid) = self.user;
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let found = path.symlink_metadata()?;
            if found.is_file() && found.uid() == 0 && found.nlink() == 1 {
                lchown(&path, Some(uid), Some(gid))?;
            }
        }
        lchown(&self.folder, Some(uid), Some(gid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_the_node_s_own_are_given_away() {
        let config = Path::new("/etc/kubeedge/config/edgecore.yaml");
        for (folder, expected) in [
            ("/etc/kubeedge/certs", true),
            ("/var/lib/kubeedge", true),
            ("/etc/kubeedge/", false),
            ("/etc/kubeedge/config", false),
            ("/var/lib", false),
            ("/srv/node", false),
            ("/", false),
        ] {
            assert_eq!(is_grantable(Path::new(folder), config), expected, "{folder}");
        }
    }
}
