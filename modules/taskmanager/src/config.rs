//! What taskmanager is told: where the files are that jobs change.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

/// The configuration, as it comes.
#[derive(Debug, Deserialize)]
pub(crate) struct Sections {
    files: Files,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Files {
    config: PathBuf,
    supervisor_config: PathBuf,
}

/// The files of the installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// `edgecore.yaml`.
    pub(crate) config: PathBuf,
    /// `supervisor.yaml`; may be missing.
    pub(crate) supervisor_config: PathBuf,
    /// The program that runs: the installed one, or the one on trial.
    pub(crate) program: PathBuf,
    /// Where the supervisor's socket is.
    pub(crate) runtime_dir: PathBuf,
}

/// The name of the program on trial, in the folder of the installed one.
pub(crate) const ON_TRIAL: &str = "edgecore.trial";

/// The name of the program that is to be tried.
const FETCHED: &str = "edgecore.fetched";

/// The folder that a container puts the programs into.
const IN_BOX: &str = "edgecore.box";

/// The name of the installed program.
pub(crate) const INSTALLED: &str = "edgecore";

/// The operator's command, beside the installed program, and the one of the program to be tried.
pub(crate) const COMMAND: &str = "edgectl";
const COMMAND_FETCHED: &str = "edgectl.fetched";

impl Sections {
    /// Puts the places together as they are now: an upgrade changes which program runs.
    ///
    /// # Errors
    /// When this process's program cannot be found.
    pub(crate) fn places(&self, runtime_dir: &Path) -> anyhow::Result<Places> {
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let Files { config, supervisor_config } = self.files.clone();
        Ok(Places { config, supervisor_config, program, runtime_dir: runtime_dir.into() })
    }
}

impl Places {
    /// Returns the name of the file that runs; the kernel adds a word to that of one that is gone.
    fn name(&self) -> &str {
        let name = self.program.file_name().and_then(|name| name.to_str()).unwrap_or(INSTALLED);
        name.strip_suffix(" (deleted)").unwrap_or(name)
    }

    /// Tells whether the program that runs is on trial.
    pub(crate) fn is_on_trial(&self) -> bool {
        self.name() == ON_TRIAL
    }

    /// Returns where the installed program is.
    pub(crate) fn installed(&self) -> PathBuf {
        self.program.with_file_name(if self.is_on_trial() { INSTALLED } else { self.name() })
    }

    pub(crate) fn on_trial(&self) -> PathBuf {
        self.program.with_file_name(ON_TRIAL)
    }

    pub(crate) fn fetched(&self) -> PathBuf {
        self.program.with_file_name(FETCHED)
    }

    /// Returns where the operator's command is, which goes with the program where it is beside it.
    pub(crate) fn command(&self) -> PathBuf {
        self.program.with_file_name(COMMAND)
    }

    pub(crate) fn command_fetched(&self) -> PathBuf {
        self.program.with_file_name(COMMAND_FETCHED)
    }

    pub(crate) fn in_box(&self) -> PathBuf {
        self.program.with_file_name(IN_BOX)
    }

    /// Returns the folder of back-ups of a version, where KubeEdge has it: beside the folder
    /// `config`.
    pub(crate) fn backup(&self, version: &str) -> PathBuf {
        let folder = self.config.parent().unwrap_or(Path::new("/"));
        let above = folder.parent().filter(|_| folder.file_name().is_some_and(|it| it == "config"));
        above.unwrap_or(folder).join("backup").join(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_place() {
        let places = |program: &str, config: &str| Places {
            config: config.into(),
            supervisor_config: "/s".into(),
            program: program.into(),
            runtime_dir: "/run".into(),
        };
        let usual = places("/usr/bin/edgecore", "/etc/kubeedge/config/edgecore.yaml");
        assert!(!usual.is_on_trial());
        assert_eq!(usual.backup("v1"), Path::new("/etc/kubeedge/backup/v1"));
        let trial = places("/usr/bin/edgecore.trial", "/x/edgecore.yaml");
        assert!(trial.is_on_trial());
        assert_eq!(trial.installed(), Path::new("/usr/bin/edgecore"));
        assert_eq!(trial.backup("v1"), Path::new("/x/backup/v1"));
        let replaced = places("/usr/bin/edgecore (deleted)", "/x/edgecore.yaml");
        assert_eq!(replaced.installed(), Path::new("/usr/bin/edgecore"));
    }
}
