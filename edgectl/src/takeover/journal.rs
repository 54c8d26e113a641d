//! What outlives the command: how far it has come, and what it found when it began. On the disk
//! before each step.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::containers::Container;
use super::course::Course;
use super::keeper::Keeper;
use super::place::Place;
use crate::failure::Failure;
use crate::whole_file::Staged;

/// The journal, and what keeps two commands from writing it.
const JOURNAL: &str = "journal.json";
const LOCK: &str = "lock";

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Journal {
    pub(super) course: Course,
    pub(super) site: Site,
    /// What ran when the course began, and in which life of the host.
    pub(super) containers: Vec<Container>,
    pub(super) boot: String,
}

/// What does not change on the way.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Site {
    /// Who starts and stops the agent.
    pub(super) keeper: Keeper,
    /// What the service starts.
    pub(super) program: Place,
    /// KubeEdge's unit, where it hides ours and is to give way.
    pub(super) unit: Option<Place>,
    pub(super) config: PathBuf,
    pub(super) supervisor_config: PathBuf,
}

/// The folder of the journal and the copies, held by this command alone.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes the folder; it is made for root alone where it is missing.
    ///
    /// # Errors
    /// Also when another command has it.
    pub(super) fn take(path: &Path) -> Result<Self, Failure> {
        let cannot = |error: io::Error| {
            let busy = error.kind() == io::ErrorKind::WouldBlock;
            let reason = if busy {
                "another takeover or rollback is at work".to_owned()
            } else {
                error.to_string()
            };
            Failure::Failed(format!("cannot use {}: {reason}", path.display()))
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(cannot)?;
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(path.join(LOCK)).map_err(cannot)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| cannot(error.into()))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Returns where a file of this name is in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads the journal; nothing where there is none.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub(super) fn read(&self) -> Result<Option<Journal>, Failure> {
        let path = self.file(JOURNAL);
        let cannot =
            |reason: String| Failure::Failed(format!("cannot read {}: {reason}", path.display()));
        match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|error| cannot(error.to_string()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(cannot(error.to_string())),
        }
    }

    /// Writes the journal; it is on the disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written; the former one stands then.
    pub(super) fn write(&self, journal: &Journal) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(journal).expect("a journal has only text keys");
        let path = self.file(JOURNAL);
        Staged::write(&path, &text)
            .and_then(Staged::publish)
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
    }
}
