//! The exporter: serves metrics to Prometheus and its like, and ends when nobody asks any more.
//!
//! The supervisor makes it when somebody knocks at one of its doors and gives it these as descriptors
//! 0 and 1. It is one loop in one thread. All that comes from outside is bounded: the head of a
//! request, the time that a connection may take, and their number; when there is no room the oldest
//! connection makes way, so that those who say nothing keep nobody out. It has no capabilities, and
//! when it dies the next knock makes another.

mod families;
mod http;
mod page;
mod told;
pub(crate) mod trial;
mod usage;

#[cfg(test)]
mod tests;

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use ipc_proto::control::{MAX_RESPONSE, Request, Response, SOCKET_NAME, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

use http::{Connection, Step};
use page::Format;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 16;

/// How long a connection may take, from its beginning to the last byte of the answer.
const LIMIT: Duration = Duration::from_secs(5);

/// How long the exporter waits for the next question before it ends. Scrapes are a minute apart at most.
const IDLE: Duration = Duration::from_secs(150);

/// How long an answer is given again, so that a flood of questions costs the supervisor one a second.
const FRESH: Duration = Duration::from_secs(1);

/// How long the supervisor may take. It waits for nobody.
const PATIENCE: Duration = Duration::from_secs(2);

/// Serves metrics at the doors that this process was given; prints them once where there are none.
///
/// # Errors
/// When the supervisor cannot be asked, or the kernel does not let this process wait.
pub(crate) fn run(runtime_dir: &Path) -> Result<Vec<u8>, String> {
    let doors = doors().map_err(|error| format!("cannot take the doors: {error}"))?;
    if doors.is_empty() {
        return Ok(page(runtime_dir, Format::Text)?.trim_end().into());
    }
    confine().map_err(|error| format!("cannot give up the powers of root: {error}"))?;
    let mut server = Server {
        runtime_dir: runtime_dir.to_owned(),
        doors,
        connections: Vec::new(),
        pages: [None, None],
        asked: Instant::now(),
    };
    server.serve().map_err(|error| format!("cannot wait for connections: {error}"))?;
    Ok(Vec::new())
}

/// Takes those of the descriptors 0 and 1 that are sockets.
fn doors() -> io::Result<Vec<OwnedFd>> {
    let given = [rustix::stdio::stdin(), rustix::stdio::stdout()];
    let sockets = given.into_iter().filter(|fd| {
        fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
    });
    sockets.map(|fd| fd.try_clone_to_owned()).collect()
}

/// Nothing here needs a power of root but to be root, which the supervisor asks of who asks it.
fn confine() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(set_no_new_privs(true)?)
}

/// What was answered last in each format, and when.
type Pages = [Option<(Instant, Result<String, String>)>; 2];

struct Server {
    runtime_dir: PathBuf,
    doors: Vec<OwnedFd>,
    /// The oldest first.
    connections: Vec<Connection>,
    pages: Pages,
    /// When somebody knocked last.
    asked: Instant,
}

impl Server {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let now = Instant::now();
            self.connections.retain(|connection| now < connection.until);
            let rest = (self.asked + IDLE).saturating_duration_since(now);
            if self.connections.is_empty() && rest.is_zero() {
                return Ok(());
            }
            let until = self.connections.iter().map(|connection| connection.until).min();
            let within = until.map_or(rest, |until| until.saturating_duration_since(now));
            let (connections, doors) = self.wait(within)?;
            self.advance(&connections);
            for door in doors {
                self.accept(door);
            }
        }
    }

    /// Waits until something is ready; returns which connections and which doors are.
    fn wait(&self, within: Duration) -> io::Result<(Vec<bool>, Vec<usize>)> {
        let mut fds: Vec<PollFd<'_>> = self.connections.iter().map(Connection::interest).collect();
        let doors = self.doors.iter().map(|door| PollFd::new(door, PollFlags::IN));
        fds.extend(doors);
        match poll(&mut fds, Some(&Timespec::try_from(within).unwrap_or_default())) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let (connections, doors) = fds.split_at(self.connections.len());
        let doors = doors.iter().enumerate().filter(|(_, fd)| ready(fd)).map(|(at, _)| at);
        Ok((connections.iter().map(ready).collect(), doors.collect()))
    }

    /// Moves the connections on that are ready, and forgets those that have ended.
    fn advance(&mut self, ready: &[bool]) {
        let Self { connections, pages, runtime_dir, .. } = self;
        let mut ready = ready.iter();
        connections.retain_mut(|connection| {
            if ready.next() != Some(&true) {
                return true;
            }
            match connection.advance() {
                Step::Waits => true,
                Step::Ended => false,
                Step::Asked(question) => {
                    let page = fresh(pages, runtime_dir, question.format);
                    connection.answer(question, page) == Step::Waits
                }
            }
        });
    }

    fn accept(&mut self, door: usize) {
        self.asked = Instant::now();
        // Whoever gave up in the meantime is no error.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(stream) = accept_with(&self.doors[door], flags) else { return };
        if self.connections.len() >= MAX_CONNECTIONS {
            self.connections.remove(0);
        }
        self.connections.push(Connection::new(stream, self.asked + LIMIT));
    }
}

/// Returns the metrics, of a second ago at most, or why there are none.
fn fresh<'p>(
    pages: &'p mut Pages,
    runtime_dir: &Path,
    format: Format,
) -> &'p Result<String, String> {
    let kept = &mut pages[format as usize];
    if kept.as_ref().is_some_and(|(at, _)| at.elapsed() >= FRESH) {
        *kept = None;
    }
    let (_, answer) = kept.get_or_insert_with(|| (Instant::now(), page(runtime_dir, format)));
    answer
}

/// Asks the supervisor and the machine.
fn page(runtime_dir: &Path, format: Format) -> Result<String, String> {
    let socket = runtime_dir.join(SOCKET_NAME);
    let status =
        status(&socket).map_err(|error| format!("cannot ask {}: {error}", socket.display()))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(families::page(&status, now.as_secs_f64(), Path::new("/"), format))
}

/// Asks the supervisor for the state of everything, as an operator does.
fn status(socket: &Path) -> io::Result<Status> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(&Request::Status)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    stream.take(MAX_RESPONSE as u64).read_to_end(&mut answer)?;
    match serde_json::from_slice(&answer)? {
        Response::Status(status) => Ok(*status),
        Response::Failed { reason } => Err(io::Error::other(reason)),
        Response::Done => Err(io::Error::other("it answers a question with 'done'")),
    }
}
