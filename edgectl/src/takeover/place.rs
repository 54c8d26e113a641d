//! A file that is KubeEdge's, or gives way to ours. One rename makes it the other, so that it is one
//! of them at every instant; KubeEdge's waits beside it meanwhile.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::course::Agent;

/// The place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// Our file, which the place becomes a link to. Without one the place is ours when it is empty:
    /// a unit is found in another folder then.
    pub(super) ours: Option<PathBuf>,
}

impl Place {
    /// Returns where KubeEdge's file is while ours has its place.
    pub(super) fn aside(&self) -> PathBuf {
        self.with(".kubeedge")
    }

    fn with(&self, ending: &str) -> PathBuf {
        let mut name: OsString = self.path.as_os_str().to_owned();
        name.push(ending);
        name.into()
    }

    /// Tells who has the place; nothing where a file is missing.
    pub(super) fn holder(&self) -> Option<Agent> {
        let empty = self.path.symlink_metadata().is_err();
        let Some(ours) = &self.ours else {
            return Some(if empty { Agent::Ours } else { Agent::Kubeedge });
        };
        if empty {
            return None;
        }
        let leads = |path: &Path| path.canonicalize().ok();
        let there = leads(&self.path).is_some_and(|path| leads(ours) == Some(path));
        Some(if there { Agent::Ours } else { Agent::Kubeedge })
    }

    /// Gives the place to an agent; nothing is done when that has it.
    ///
    /// # Errors
    /// The operating system's; the place is as it was then.
    pub(super) fn give(&self, agent: Agent) -> io::Result<()> {
        let holder = self.holder();
        match (agent, &self.ours) {
            _ if holder == Some(agent) => {}
            (Agent::Ours, Some(ours)) => {
                if holder == Some(Agent::Kubeedge) {
                    self.keep()?;
                }
                let new = self.with(".new");
                remove(&new)?;
                symlink(ours, &new)?;
                fs::rename(&new, &self.path)?;
            }
            (Agent::Ours, None) => fs::rename(&self.path, self.aside())?,
            (Agent::Kubeedge, _) => fs::rename(self.aside(), &self.path)?,
        }
        self.sync()
    }

    /// Gives KubeEdge's file a second name, over what an earlier takeover may have left there.
    fn keep(&self) -> io::Result<()> {
        let (aside, new) = (self.aside(), self.with(".new"));
        remove(&new)?;
        fs::hard_link(&self.path, &new)?;
        fs::rename(&new, &aside)?;
        // Two names of one file: the rename did nothing, and the third name is still there.
        remove(&new)?;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    /// Tells whether a process runs KubeEdge's file, wherever that stands now.
    pub(super) fn is_run_by(&self, process: &Path) -> bool {
        let Ok(own) = process.join("exe").metadata() else { return false };
        let same = |path: &Path| {
            let found = path.metadata();
            found.is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino()))
        };
        if self.ours.as_deref().is_some_and(same) {
            return false;
        }
        let link = fs::read_link(process.join("exe")).unwrap_or_default();
        let name = link.to_string_lossy();
        let name = Path::new(name.strip_suffix(" (deleted)").unwrap_or(&name)).to_owned();
        same(&self.path) || same(&self.aside()) || name == self.path || name == self.aside()
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
