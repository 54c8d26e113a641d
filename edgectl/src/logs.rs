//! `edgectl logs`: journald's entries where modules log there, else the module's own file.
//!
//! The supervisor bounds that file: it copies it to `<module>.log.1` and cuts it to nothing. Who
//! follows finds what it has not yet seen in the copy, at the place where it was.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ipc_proto::Module;
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::cli::{self, Format, LogsArguments};
use crate::failure::Failure;
use crate::screen::{Screen, View, Wake, harmless};

/// Where journald takes entries; modules look for the same socket.
const JOURNALD: &str = "/run/systemd/journal/socket";

/// The greatest part of a log file that is read at once. The supervisor cuts it at a quarter.
const MAX_FILE: u64 = 1024 * 1024;

/// Shows a module's log.
pub(crate) fn run(
    arguments: &LogsArguments,
    runtime_dir: &Path,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let module = cli::module(&arguments.module)?;
    if !arguments.file && Path::new(JOURNALD).exists() {
        let error = journalctl(module, arguments).exec();
        if error.kind() != io::ErrorKind::NotFound {
            return Err(Failure::Failed(format!("cannot run journalctl: {error}")));
        }
    }
    // Before the first look, so that nothing which is written in between goes unnoticed.
    let changes = arguments.follow.then(|| watch(runtime_dir)).transpose()?;
    let mut log = Log::open(runtime_dir, module);
    let lines = usize::try_from(arguments.lines).unwrap_or(usize::MAX);
    let old = log.last_lines(lines).map_err(|error| cannot_read(&log.path, &error));
    match (old, &changes) {
        (Ok(lines), _) => print(lines, module, arguments.output.format, screen)?,
        (Err(Absent::Missing(_)), Some(_)) => {}
        (Err(absent), _) => return Err(absent.into()),
    }
    match changes {
        Some(changes) => follow(&mut log, &changes, module, arguments.output.format, screen),
        None => Ok(()),
    }
}

/// Returns the last lines of a module's log file.
pub(crate) fn tail(runtime_dir: &Path, module: Module, count: usize) -> io::Result<Vec<String>> {
    Log::open(runtime_dir, module).last_lines(count)
}

fn journalctl(module: Module, arguments: &LogsArguments) -> Command {
    let mut command = Command::new("journalctl");
    command.arg("--no-pager").arg(format!("--lines={}", arguments.lines));
    if arguments.follow {
        command.arg("--follow");
    }
    if arguments.output.format == Format::Json {
        command.arg("--output=json");
    }
    command.arg(format!("SYSLOG_IDENTIFIER={module}"));
    command
}

/// Why there are no lines.
enum Absent {
    Missing(PathBuf),
    Unreadable(String),
}

impl From<Absent> for Failure {
    fn from(absent: Absent) -> Self {
        Self::Failed(match absent {
            Absent::Missing(path) => {
                format!(
                    "no log {}: the module has not run since the machine started",
                    path.display()
                )
            }
            Absent::Unreadable(reason) => reason,
        })
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Absent {
    if error.kind() == io::ErrorKind::NotFound {
        Absent::Missing(path.to_owned())
    } else {
        Absent::Unreadable(format!("cannot read {}: {error}", path.display()))
    }
}

/// A module's log and how much of it was seen.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// What the file held before it was cut last.
    copy: PathBuf,
    /// Bytes of the file that were read.
    seen: u64,
    /// The beginning of a line whose end is not yet written.
    rest: Vec<u8>,
}

impl Log {
    fn open(runtime_dir: &Path, module: Module) -> Self {
        let folder = log_folder(runtime_dir);
        Self {
            path: folder.join(format!("{module}.log")),
            copy: folder.join(format!("{module}.log.1")),
            seen: 0,
            rest: Vec::new(),
        }
    }

    /// Returns the last lines, also those before the cut, and from then on counts them as seen.
    fn last_lines(&mut self, count: usize) -> io::Result<Vec<String>> {
        let start = std::fs::metadata(&self.path)?.len().saturating_sub(MAX_FILE);
        let current = read_from(&self.path, start)?;
        self.seen = start + current.len() as u64;
        let mut bytes = read_from(&self.copy, 0).unwrap_or_default();
        bytes.extend(current);
        let mut last = VecDeque::new();
        for line in self.complete(&bytes) {
            last.push_back(line);
            if last.len() > count {
                last.pop_front();
            }
        }
        Ok(last.into())
    }

    /// Returns the lines that were written since.
    ///
    /// A cut is seen by the file being shorter than before. That it grew back to its old length
    /// between two looks takes more writing in that time than a module may log.
    fn new_lines(&mut self) -> io::Result<Vec<String>> {
        let length = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        if length < self.seen {
            bytes = read_from(&self.copy, self.seen).unwrap_or_default();
            self.seen = 0;
        }
        let new = read_from(&self.path, self.seen)?;
        self.seen += new.len() as u64;
        bytes.extend(new);
        Ok(self.complete(&bytes))
    }

    /// Cuts bytes into lines and keeps a beginning without end for the next time.
    fn complete(&mut self, bytes: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(bytes);
        let end = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.rest.drain(..end).collect();
        // A line without end is not kept for ever either.
        if self.rest.len() as u64 > MAX_FILE {
            self.rest.clear();
        }
        String::from_utf8_lossy(&lines).lines().map(str::to_owned).collect()
    }
}

fn log_folder(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("log")
}

fn read_from(path: &Path, offset: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Asks to be told of writes in the folder of logs; the file may not be there yet.
fn watch(runtime_dir: &Path) -> Result<rustix::fd::OwnedFd, Failure> {
    let folder = log_folder(runtime_dir);
    let watch = || {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let changes = inotify::init(flags)?;
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
        inotify::add_watch(&changes, &folder, events)?;
        Ok(changes)
    };
    watch().map_err(|error: Errno| {
        let folder = folder.display();
        Failure::Failed(match error {
            Errno::NOENT => format!("no folder {folder}: edgecore has not run here"),
            _ => format!("cannot watch {folder}: {}", io::Error::from(error)),
        })
    })
}

fn follow(
    log: &mut Log,
    changes: &rustix::fd::OwnedFd,
    module: Module,
    format: Format,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let view = View::begin()?;
    let mut events = [0; 4096];
    loop {
        // Until there are none: what is read at once has a bound.
        loop {
            let lines = log.new_lines().map_err(|error| cannot_read(&log.path, &error))?;
            if lines.is_empty() {
                break;
            }
            print(lines, module, format, screen)?;
        }
        if view.wait(&[changes.as_fd()], None)? == Wake::Ended {
            return Ok(());
        }
        // The events say that something changed; what it was, the file tells.
        while rustix::io::read(changes, &mut events).is_ok_and(|count| count > 0) {}
    }
}

/// Prints lines; as JSON under the names that journald uses, so that a script reads both.
fn print(
    lines: Vec<String>,
    module: Module,
    format: Format,
    screen: &mut Screen,
) -> Result<(), Failure> {
    for line in lines {
        match format {
            Format::Text if screen.is_terminal() => writeln!(screen, "{}", harmless(&line))?,
            Format::Text => writeln!(screen, "{line}")?,
            Format::Json => screen
                .json_line(&serde_json::json!({ "SYSLOG_IDENTIFIER": module, "MESSAGE": line }))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
