//! `edgectl`, run as its user runs it.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use anyhow::{Context, Result, ensure};

use super::{Rig, SOON, binaries, wait_for};

/// Lines of a running command that may wait to be looked at.
const LINES: usize = 1024;

/// What a command left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// What a command leaves behind that did its work and has nothing to say.
    #[must_use]
    pub const fn done() -> Self {
        Self { code: 0, out: String::new(), err: String::new() }
    }

    /// Takes what a command left behind.
    ///
    /// # Errors
    /// When a signal ended it.
    pub fn of(output: Output) -> Result<Self> {
        let code = output.status.code().with_context(|| format!("ended by {}", output.status))?;
        let [out, err] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok(Self { code, out, err })
    }

    /// Returns standard output as JSON.
    ///
    /// # Errors
    /// When the command failed or did not write JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        ensure!(self.code == 0, "exit code {}: {}", self.code, self.err);
        serde_json::from_str(&self.out).with_context(|| format!("no JSON: {}", self.out))
    }
}

/// Makes an `edgectl` command line for a runtime folder.
///
/// # Errors
/// When the program cannot be built.
pub fn edgectl(runtime_dir: &std::path::Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binaries::program("edgectl")?);
    command.arg("--runtime-dir").arg(runtime_dir).args(arguments);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null());
    Ok(command)
}

impl Rig {
    /// Runs `edgectl` to its end.
    ///
    /// # Errors
    /// When it cannot be run, or a signal ended it.
    pub fn edgectl(&self, arguments: &[&str]) -> Result<Said> {
        Said::of(edgectl(&self.runtime_dir(), arguments)?.output()?)
    }

    /// Runs an `edgectl` command that goes on until it is told to end.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn edgectl_live(&self, arguments: &[&str]) -> Result<Live> {
        Live::start(edgectl(&self.runtime_dir(), arguments)?)
    }
}

/// A command that goes on; it is killed when dropped.
#[derive(Debug)]
pub struct Live {
    /// The process.
    pub child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Live {
    /// Starts a command whose output is read line by line.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let output = child.stdout.take().context("standard output was piped")?;
        let (sender, lines) = sync_channel(LINES);
        thread::spawn(move || {
            let mut output: BufReader<ChildStdout> = BufReader::new(output);
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|length| length > 0) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines, seen: Vec::new() })
    }

    /// Waits for a line that is as wanted, and returns it. Lines before it are gone through too.
    ///
    /// # Errors
    /// When none comes soon; the text tells those that came.
    pub fn wait_line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let found = wait_for(what, SOON, || self.look(&wanted));
        found.with_context(|| format!("lines so far: {:#?}", self.seen))
    }

    /// Goes through the lines that are there and returns the first that is as wanted.
    pub fn look(&mut self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        while let Ok(line) = self.lines.try_recv() {
            self.seen.push(line.clone());
            if wanted(&line) {
                return Some(line);
            }
        }
        None
    }

    /// Returns every line seen so far.
    #[must_use]
    pub fn seen(&self) -> &[String] {
        &self.seen
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
