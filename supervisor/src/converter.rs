//! Runs the converter: the same program as a short-lived child, which reads the operator's files and
//! prints the supervisor's configuration. What it says on standard error is for the operator.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::Options;
use crate::child::Millis;
use crate::clock;

/// How long the converter may take. Under the shortest sensible patience with modules, since nothing
/// else is done meanwhile; it takes some ten milliseconds.
const LIMIT: Millis = 5000;

/// The greatest configuration in bytes: one of 64 KiB for each module, and some.
const MAX_OUTPUT: usize = 1024 * 1024;

/// The greatest text on standard error in bytes.
const MAX_WORDS: usize = 64 * 1024;

/// What the converter said.
#[derive(Debug)]
pub(crate) struct Converted {
    /// The configuration as it was printed; none where there are errors.
    pub(crate) config: Option<Vec<u8>>,
    /// What is wrong with the files; never empty without a configuration.
    pub(crate) errors: Vec<String>,
    /// What the operator should look at.
    pub(crate) warnings: Vec<String>,
}

/// What the configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A start, at which a token that has done its work is taken out of the file.
    Start,
    /// A reload, which changes nothing that the operator did not change.
    Reload,
}

/// Runs the converter of `program` on the operator's files.
///
/// # Errors
/// When it cannot be run, takes too long or prints too much.
pub(crate) fn run(program: &Path, options: &Options, purpose: Purpose) -> io::Result<Converted> {
    let mut child = Command::new(program)
        .arg("config")
        .arg("--config")
        .arg(&options.config)
        .arg("--supervisor-config")
        .arg(&options.supervisor_config)
        .args((purpose == Purpose::Start).then_some("--forget-token"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let heard = listen(&mut child);
    if heard.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    let (output, words) = heard?;
    let mut converted = Converted { config: None, errors: Vec::new(), warnings: Vec::new() };
    for line in String::from_utf8_lossy(&words).lines() {
        match line.strip_prefix("warning: ") {
            Some(warning) => converted.warnings.push(warning.to_owned()),
            None => converted.errors.push(line.strip_prefix("error: ").unwrap_or(line).to_owned()),
        }
    }
    if status.success() {
        converted.config = Some(output);
    } else if converted.errors.is_empty() {
        converted.errors.push(format!("the converter ended with {status}"));
    }
    Ok(converted)
}

/// Reads standard output and standard error to their ends.
fn listen(child: &mut Child) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let until = clock::now().saturating_add(LIMIT);
    let mut output = Pipe::new(child.stdout.take().map(OwnedFd::from), MAX_OUTPUT);
    let mut errors = Pipe::new(child.stderr.take().map(OwnedFd::from), MAX_WORDS);
    loop {
        let mut open: Vec<&mut Pipe> =
            [&mut output, &mut errors].into_iter().filter(|pipe| pipe.source.is_some()).collect();
        if open.is_empty() {
            return Ok((output.bytes, errors.bytes));
        }
        let mut fds: Vec<PollFd<'_>> = open
            .iter()
            .filter_map(|pipe| pipe.source.as_ref())
            .map(|source| PollFd::from_borrowed_fd(source.as_fd(), PollFlags::IN))
            .collect();
        let left = until.saturating_sub(clock::now());
        match poll(&mut fds, Some(&clock::timespec(left))) {
            Ok(0) => return Err(io::Error::other(format!("no configuration within {LIMIT} ms"))),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (pipe, _) in open.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            pipe.read()?;
        }
    }
}

/// One output of the converter.
struct Pipe {
    source: Option<File>,
    bytes: Vec<u8>,
    bound: usize,
}

impl Pipe {
    fn new(source: Option<OwnedFd>, bound: usize) -> Self {
        Self { source: source.map(File::from), bytes: Vec::new(), bound }
    }

    /// Reads what is there; the end of the output closes it.
    fn read(&mut self) -> io::Result<()> {
        let Some(source) = &mut self.source else { return Ok(()) };
        let mut part = [0; 4096];
        let count = source.read(&mut part)?;
        self.bytes.extend_from_slice(&part[..count]);
        if self.bytes.len() > self.bound {
            let bound = self.bound;
            return Err(io::Error::other(format!("the converter printed over {bound} bytes")));
        }
        if count == 0 {
            self.source = None;
        }
        Ok(())
    }
}
