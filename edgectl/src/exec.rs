//! `edgectl exec`: a command in a container of this node, with its streams and its exit code.
//!
//! One loop over one connection: standard input is read only when all that was read before has been
//! written, so nothing grows, whoever is slow.

mod spdy;
mod terminal;

use std::collections::HashSet;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::Deserialize;
use signal_hook::consts::{SIGHUP, SIGTERM, SIGWINCH};

use crate::cli::ExecArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::node::{Node, Stream, encoded};
use crate::screen::Screen;
use spdy::Said;
use terminal::Terminal;

const ERROR: u32 = 1;
const STDIN: u32 = 3;
const STDOUT: u32 = 5;
const STDERR: u32 = 7;
const RESIZE: u32 = 9;

/// The most that waits to be written before standard input is read again, in bytes.
const PART: usize = 64 * 1024;

/// Runs a command in a container.
pub(crate) fn run(
    arguments: &ExecArguments,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let node = Node::find(client)?;
    let container = arguments.place.path(&node)?;
    let tty = arguments.tty && io::stdin().is_terminal();
    let command = arguments.command.iter().map(|word| format!("&command={}", encoded(word)));
    let stdin = if arguments.stdin { "&input=1" } else { "" };
    // A terminal has one output.
    let outputs = if tty { "&tty=1" } else { "&error=1" };
    let command: String = command.collect();
    let target = format!("/exec/{container}?output=1{outputs}{stdin}{command}");
    let protocol = "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io";
    let answer = node.upgrade(&target, protocol)?;
    let (stream, input) = answer.into_parts();
    let mut session = Session::new(stream, input, tty, arguments.stdin)?;
    let _raw = if tty && arguments.stdin { Some(Terminal::raw()?) } else { None };
    session.run(screen)?;
    session.result()
}

/// The result of a command, as the runtime tells it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    status: String,
    message: String,
    details: Details,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

struct Session {
    stream: Stream,
    /// Says that the terminal has another size.
    resized: UnixStream,
    /// Says that this process is to end, which must not leave the terminal as it is now.
    ended: UnixStream,
    /// What came and was not taken apart yet.
    input: Vec<u8>,
    /// What is to be written.
    output: Vec<u8>,
    /// The streams that the other side has not ended.
    open: HashSet<u32>,
    /// Whether standard input is passed on: the other side has taken the stream, and there is more.
    feeds: bool,
    tty: bool,
    /// What came on the stream for errors.
    status: Vec<u8>,
}

impl Session {
    fn new(stream: Stream, input: Vec<u8>, tty: bool, stdin: bool) -> Result<Self, Failure> {
        let begin = || {
            stream.set_nonblocking(true)?;
            let (resized, signal) = UnixStream::pair()?;
            signal_hook::low_level::pipe::register(SIGWINCH, signal)?;
            resized.set_nonblocking(true)?;
            let (ended, signal) = UnixStream::pair()?;
            signal_hook::low_level::pipe::register(SIGTERM, signal.try_clone()?)?;
            signal_hook::low_level::pipe::register(SIGHUP, signal)?;
            Ok((resized, ended))
        };
        let (resized, ended) = begin().map_err(|error: io::Error| broken(&error))?;
        let wanted = [
            (ERROR, "error", true),
            (STDIN, "stdin", stdin),
            (STDOUT, "stdout", true),
            (STDERR, "stderr", !tty),
            (RESIZE, "resize", tty),
        ];
        let mut output = Vec::new();
        for (stream, kind, _) in wanted.into_iter().filter(|(.., is_wanted)| *is_wanted) {
            output.extend(spdy::open(stream, kind, stream == ERROR));
        }
        let open = HashSet::from([ERROR, STDOUT]);
        let open = if tty { open } else { open.into_iter().chain([STDERR]).collect() };
        let status = Vec::new();
        Ok(Self { stream, resized, ended, input, output, open, feeds: false, tty, status })
    }

    /// Passes everything on until the command has ended.
    fn run(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        loop {
            while let Some(said) = spdy::take(&mut self.input).map_err(Failure::Failed)? {
                self.take(said, screen)?;
            }
            if self.open.is_empty() || !self.turn()? {
                return Ok(());
            }
        }
    }

    /// Waits until something can be read or written, and does it; false when the connection ended.
    fn turn(&mut self) -> Result<bool, Failure> {
        let stdin = rustix::stdio::stdin();
        let feeds = self.feeds && self.output.is_empty();
        let writes = if self.output.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let stream = self.stream.as_fd();
        let mut polled = vec![
            PollFd::from_borrowed_fd(stream, PollFlags::IN | writes),
            PollFd::new(&self.resized, PollFlags::IN),
            PollFd::new(&self.ended, PollFlags::IN),
        ];
        polled.extend(feeds.then(|| PollFd::new(&stdin, PollFlags::IN)));
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(broken(&error.into())),
        }
        let ready: Vec<bool> = polled.iter().map(|it| !it.revents().is_empty()).collect();
        if ready[2] {
            return Ok(false);
        }
        if ready[1] {
            let mut signals = [0; 64];
            // It only wakes.
            drop(self.resized.read(&mut signals));
            self.resize();
        }
        if ready.get(3) == Some(&true) {
            self.feed()?;
        }
        self.write().map_err(|error| broken(&error))?;
        if ready[0] { self.read().map_err(|error| broken(&error)) } else { Ok(true) }
    }

    /// Passes a part of standard input on.
    fn feed(&mut self) -> Result<(), Failure> {
        let mut part = vec![0; PART];
        let count = loop {
            match rustix::io::read(rustix::stdio::stdin(), &mut part) {
                Ok(count) => break count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => {
                    return Err(Failure::Failed(format!("cannot read standard input: {error}")));
                }
            }
        };
        for piece in part[..count].chunks(spdy::MAX_DATA) {
            self.output.extend(spdy::data(STDIN, piece));
        }
        if count == 0 {
            self.output.extend(spdy::data(STDIN, &[]));
            self.feeds = false;
        }
        Ok(())
    }

    /// Writes what the connection takes just now.
    fn write(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What the other side said before it hung up is still read.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.output.clear(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there; false at the end.
    fn read(&mut self) -> io::Result<bool> {
        let mut part = vec![0; PART];
        match self.stream.read(&mut part) {
            Ok(count) => {
                self.input.extend_from_slice(&part[..count]);
                Ok(count > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, said: Said, screen: &mut Screen) -> Result<(), Failure> {
        match said {
            Said::Reply(STDIN) => self.feeds = true,
            Said::Reply(RESIZE) => self.resize(),
            Said::Data(stream, bytes, last) => {
                match stream {
                    STDOUT => {
                        screen.write_all(&bytes)?;
                        screen.flush()?;
                    }
                    STDERR => io::stderr().write_all(&bytes)?,
                    ERROR => self.status.extend(bytes),
                    _ => {}
                }
                if last {
                    self.open.remove(&stream);
                }
            }
            Said::Reset(STDIN) => self.feeds = false,
            Said::Reset(stream) => drop(self.open.remove(&stream)),
            Said::Ping(frame) => self.output.extend(frame),
            Said::Reply(_) | Said::GoAway | Said::Other => {}
        }
        Ok(())
    }

    /// Tells the command how large its terminal is.
    fn resize(&mut self) {
        if let Some((width, height)) = terminal::size().filter(|_| self.tty) {
            let size = format!("{{\"Width\":{width},\"Height\":{height}}}\n");
            self.output.extend(spdy::data(RESIZE, size.as_bytes()));
        }
    }

    /// Says how the command ended.
    fn result(&self) -> Result<(), Failure> {
        let Ok(status) = serde_json::from_slice::<Status>(&self.status) else {
            let text = "the connection broke off before the command ended";
            return Err(Failure::Failed(text.to_owned()));
        };
        if status.status == "Success" {
            return Ok(());
        }
        let code = status.details.causes.iter().find(|cause| cause.reason == "ExitCode");
        let code = code.and_then(|cause| cause.message.parse().ok());
        Err(code.map_or(Failure::Failed(status.message), Failure::Command))
    }
}

fn broken(error: &io::Error) -> Failure {
    Failure::Failed(format!("the connection to the container broke off: {error}"))
}
