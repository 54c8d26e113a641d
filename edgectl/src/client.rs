//! The supervisor's control socket: connect, one request line, one bounded answer line.
//!
//! Every step has a deadline, so that the command ends also when what listens there is stuck or is
//! no supervisor.

use std::io::{self, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipc_proto::control::{MAX_RESPONSE, Request, Response, SOCKET_NAME, Status};
use ipc_proto::tap::Filter;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};

use crate::failure::{Failure, Unreachable};

/// How long the whole exchange may take. The supervisor waits for nobody and answers within
/// milliseconds; the rest is for a machine that swaps.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the supervisor listens, and how long it may take.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    patience: Duration,
}

impl Client {
    /// A client of the supervisor that serves this runtime folder.
    pub(crate) fn new(runtime_dir: &Path) -> Self {
        Self { socket: runtime_dir.join(SOCKET_NAME), patience: PATIENCE }
    }

    #[cfg(test)]
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks for the state of everything.
    pub(crate) fn status(&self) -> Result<Status, Failure> {
        match self.ask(&Request::Status)? {
            Response::Status(status) => Ok(*status),
            Response::Failed { reason } => Err(Failure::Failed(reason)),
            Response::Done => Err(self.foreign("it answers a question with 'done'").into()),
        }
    }

    /// Gives an order.
    pub(crate) fn order(&self, request: &Request) -> Result<(), Failure> {
        self.accepted(self.ask(request)?)
    }

    /// Asks for the records of messages on the other end of `records`. The tap lasts as long as
    /// the returned connection.
    pub(crate) fn tap(&self, filter: Filter, records: OwnedFd) -> Result<UnixStream, Failure> {
        let deadline = Instant::now() + self.patience;
        let mut stream = self.connect()?;
        self.send(&stream, &Request::Tap { filter }, Some(records.as_fd()))?;
        drop(records);
        self.accepted(self.receive(&mut stream, deadline)?)?;
        stream.set_nonblocking(true).map_err(|error| self.unreachable(error))?;
        Ok(stream)
    }

    fn ask(&self, request: &Request) -> Result<Response, Unreachable> {
        let deadline = Instant::now() + self.patience;
        let mut stream = self.connect()?;
        self.send(&stream, request, None)?;
        self.receive(&mut stream, deadline)
    }

    fn accepted(&self, response: Response) -> Result<(), Failure> {
        match response {
            Response::Done => Ok(()),
            Response::Failed { reason } => Err(Failure::Failed(reason)),
            Response::Status(_) => Err(self.foreign("it answers an order with its status").into()),
        }
    }

    fn connect(&self) -> Result<UnixStream, Unreachable> {
        let dial = || {
            let address = SocketAddrUnix::new(&*self.socket)?;
            let kind = (AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC);
            let socket = socket_with(kind.0, kind.1, kind.2, None)?;
            // Set before connecting: with a full backlog it is the connecting that takes long.
            set_socket_timeout(&socket, Timeout::Send, Some(self.patience))?;
            connect(&socket, &address)?;
            Ok(UnixStream::from(socket))
        };
        dial().map_err(|error: Errno| self.unreachable(error.into()))
    }

    /// Sends the request line, the descriptor attached to its first byte.
    fn send(
        &self,
        stream: &UnixStream,
        request: &Request,
        attached: Option<BorrowedFd<'_>>,
    ) -> Result<(), Unreachable> {
        let mut line = serde_json::to_vec(request).expect("a request has no map with other keys");
        line.push(b'\n');
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = attached.into_iter().collect();
        if !descriptors.is_empty() {
            let fits = ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
            assert!(fits, "the buffer was measured for one descriptor");
        }
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let part = [IoSlice::new(rest)];
            let sent = sendmsg(stream, &part, &mut ancillary, SendFlags::NOSIGNAL)
                .map_err(|error| self.unreachable(error.into()))?;
            ancillary.clear();
            rest = &rest[sent..];
        }
        Ok(())
    }

    /// Reads up to the end of the line; what follows it is not looked at.
    fn receive(&self, stream: &mut UnixStream, deadline: Instant) -> Result<Response, Unreachable> {
        let mut answer = Vec::new();
        let mut part = [0; 16 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.silent());
            }
            let count = stream
                .set_read_timeout(Some(left))
                .and_then(|()| stream.read(&mut part))
                .map_err(|error| self.unreachable(error))?;
            if count == 0 && answer.is_empty() {
                return Err(self.foreign("it hung up before it answered"));
            }
            let part = &part[..count];
            let end = part.iter().position(|&byte| byte == b'\n');
            answer.extend_from_slice(&part[..end.unwrap_or(count)]);
            if answer.len() > MAX_RESPONSE {
                return Err(self.foreign(format!("its answer is over {MAX_RESPONSE} bytes")));
            }
            if end.is_some() {
                return serde_json::from_slice(&answer).map_err(|error| {
                    self.foreign(format!("its answer is not understood: {error}"))
                });
            }
            if count == 0 {
                return Err(self.foreign("it hung up in the middle of its answer"));
            }
        }
    }

    fn unreachable(&self, error: io::Error) -> Unreachable {
        let socket = self.socket.display().to_string();
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => Unreachable::NotRunning(format!("no socket {socket}")),
            Some(Errno::CONNREFUSED) => {
                Unreachable::NotRunning(format!("nobody listens on {socket}"))
            }
            Some(Errno::ACCESS | Errno::PERM) => Unreachable::Denied(socket),
            Some(Errno::AGAIN | Errno::TIMEDOUT) => self.silent(),
            Some(Errno::CONNRESET | Errno::PIPE) => self.foreign("it hung up before it answered"),
            _ => Unreachable::Broken { socket, error },
        }
    }

    fn silent(&self) -> Unreachable {
        let socket = self.socket.display().to_string();
        Unreachable::Silent { socket, seconds: self.patience.as_secs() }
    }

    fn foreign(&self, reason: impl Into<String>) -> Unreachable {
        Unreachable::Foreign { socket: self.socket.display().to_string(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests;
