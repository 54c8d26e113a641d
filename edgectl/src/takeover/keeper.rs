//! Who starts and stops the agent on this host: systemd, or an init script.
//!
//! An agent is exchanged by one order, `restart`: whoever gave it may be killed right after, and it
//! is carried out all the same.

use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::screen::pause;
use crate::service::{self, UNIT};

/// How long an init script may take to end one agent and to start the other.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Where an init script is, unless one is named.
const SCRIPT: &str = "/etc/init.d/edgecore";

/// Who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Keeper {
    Systemd,
    /// It is called with the one word `restart`, and returns when the agent was started.
    Script(PathBuf),
}

/// What systemd says of the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// The file that it is.
    pub(super) file: PathBuf,
    /// What it starts, and with which arguments.
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// A file of the same name in a folder that comes later, which it hides.
    pub(super) hidden: Option<PathBuf>,
    /// Files that change it, whichever it is.
    pub(super) changed_by: Vec<PathBuf>,
}

impl Keeper {
    /// Takes who was named, or finds who there is.
    ///
    /// # Errors
    /// When there is nobody.
    pub(super) fn find(named: Option<&str>) -> Result<Self, Failure> {
        match named {
            Some("systemd") => Ok(Self::Systemd),
            Some(script) => Ok(Self::Script(script.into())),
            None if service::is_there() => Ok(Self::Systemd),
            None if Path::new(SCRIPT).exists() => Ok(Self::Script(SCRIPT.into())),
            None => Err(Failure::Usage(format!(
                "neither systemd nor {SCRIPT} is there: name a script with --service that \
                 'restart' makes end the agent and start it"
            ))),
        }
    }

    /// Asks for the unit; nothing where there are no units.
    ///
    /// # Errors
    /// When systemd does not know it.
    pub(super) fn unit(&self) -> Result<Option<Unit>, Failure> {
        if *self != Self::Systemd {
            return Ok(None);
        }
        let properties = "--property=FragmentPath,ExecStart,DropInPaths";
        let told = systemctl(&["show", UNIT, properties])?;
        let folders = systemctl(&["show", "--property=UnitPath"])?;
        Unit::read(&told, &folders, Path::exists).map(Some).map_err(Failure::Failed)
    }

    /// Has the service stopped and started anew, with the unit and the program that are there now;
    /// `log` takes what a script says.
    ///
    /// # Errors
    /// When that does not work, or takes too long.
    pub(super) fn restart(&self, log: &Path) -> Result<(), Failure> {
        match self {
            Self::Systemd => {
                systemctl(&["daemon-reload"])?;
                // Whether it is enabled stays as it is: a link of the unit's name, wherever it leads.
                systemctl(&["reset-failed", UNIT]).ok();
                systemctl(&["restart", UNIT]).map(drop)
            }
            Self::Script(script) => run_script(script, log),
        }
    }
}

impl Unit {
    /// Reads what `systemctl show` says of the unit and of the folders of units.
    fn read(told: &str, folders: &str, exists: impl Fn(&Path) -> bool) -> Result<Self, String> {
        let value = |text: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().to_owned()
        };
        let file = PathBuf::from(value(told, "FragmentPath"));
        if file.as_os_str().is_empty() {
            return Err(format!("systemd has no {UNIT}"));
        }
        let started = value(told, "ExecStart");
        let part = |key: &str| {
            let mut parts = started.split(" ; ");
            let part = parts.find_map(|part| {
                part.trim_start_matches("{ ").strip_prefix(key)?.strip_prefix('=')
            });
            part.unwrap_or_default().trim()
        };
        let program = PathBuf::from(part("path"));
        if program.as_os_str().is_empty() {
            return Err(format!("{} starts nothing", file.display()));
        }
        let words = part("argv[]").split_whitespace();
        let folders = value(folders, "UnitPath");
        let mut later = folders.split_whitespace().map(|folder| Path::new(folder).join(UNIT));
        let _own = later.find(|path| *path == file);
        Ok(Self {
            hidden: later.find(|path| exists(path)),
            arguments: words.skip(1).map(str::to_owned).collect(),
            changed_by: value(told, "DropInPaths").split_whitespace().map(PathBuf::from).collect(),
            file,
            program,
        })
    }
}

/// Runs systemctl; returns what it printed. It is not of this command's process group, so that
/// Ctrl-C does not reach it.
fn systemctl(words: &[&str]) -> Result<String, Failure> {
    let line = words.join(" ");
    let cannot = |reason: String| Failure::Failed(format!("'systemctl {line}' failed: {reason}"));
    let output =
        Command::new("systemctl").args(words).process_group(0).stdin(Stdio::null()).output();
    let output = output.map_err(|error| cannot(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(cannot(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Runs an init script, as soon as the one is done that a command called which was killed since.
/// What it says goes to a file: a pipe would break with this command, and the agent may keep it open
/// for ever.
fn run_script(script: &Path, log: &Path) -> Result<(), Failure> {
    let cannot = |reason: String| {
        Failure::Failed(format!("'{} restart' failed: {reason}", script.display()))
    };
    let deadline = Instant::now() + PATIENCE;
    let late = || cannot(format!("it takes over {} s", PATIENCE.as_secs()));
    while is_at_work(script) {
        if Instant::now() >= deadline {
            return Err(late());
        }
        pause(LOOK)?;
    }
    let mut child = start(script, log).map_err(|error| cannot(error.to_string()))?;
    loop {
        match child.try_wait().map_err(|error| cannot(error.to_string()))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(cannot(format!("{status}, see {}", log.display()))),
            None if Instant::now() >= deadline => return Err(late()),
            None => pause(LOOK)?,
        }
    }
}

fn start(script: &Path, log: &Path) -> std::io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new(script);
    command.arg("restart").process_group(0).stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log).spawn()
}

/// Tells whether somebody runs the script.
fn is_at_work(script: &Path) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| {
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        let calls = |pair: &[&[u8]]| pair == [script.as_os_str().as_bytes(), b"restart"];
        words.windows(2).any(calls)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As systemd 252 prints it.
    const SHOWN: &str = "\
ExecStart={ path=/usr/local/bin/edgecore ; argv[]=/usr/local/bin/edgecore --v=4 ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }
FragmentPath=/etc/systemd/system/edgecore.service
DropInPaths=/etc/systemd/system/edgecore.service.d/a.conf
";
    const FOLDERS: &str = "UnitPath=/etc/systemd/system.control /etc/systemd/system /run/systemd/system /usr/lib/systemd/system\n";

    #[test]
    fn a_unit_is_read_with_what_it_hides() {
        let ours = Path::new("/usr/lib/systemd/system/edgecore.service");
        let unit = Unit::read(SHOWN, FOLDERS, |path| path == ours).unwrap();
        assert_eq!(unit.program, Path::new("/usr/local/bin/edgecore"));
        assert_eq!(unit.arguments, ["--v=4"]);
        assert_eq!(unit.hidden.as_deref(), Some(ours));
        assert_eq!(unit.changed_by, [Path::new("/etc/systemd/system/edgecore.service.d/a.conf")]);
        let alone = Unit::read(SHOWN, FOLDERS, |_| false).unwrap();
        assert_eq!(alone.hidden, None);
    }

    #[test]
    fn a_unit_that_is_not_there_is_said() {
        let missing = "FragmentPath=\nExecStart=\n";
        assert_eq!(
            Unit::read(missing, "", |_| true).unwrap_err(),
            "systemd has no edgecore.service"
        );
    }
}
