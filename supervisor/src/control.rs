//! The operator's socket: who may connect, one bounded request line from each, one answer, and the
//! connection's end. Nothing here waits, and no connection lives long but one that watches a tap.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipc_proto::control::{MAX_REQUEST, MAX_RESPONSE, Request, Response};
use rustix::cmsg_space;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, accept_with,
    recvmsg, send,
};
use rustix::process::geteuid;

use crate::child::Millis;
use crate::say;

/// Connections at a time. An operator has one or two; the rest waits in the backlog.
const MAX_CONNECTIONS: usize = 16;

/// How long a connection may take to ask, and to read its answer.
const LIMIT: Millis = 5000;

/// A connection's number; never used twice.
pub(crate) type Id = u64;

/// The operator's connections.
#[derive(Debug, Default)]
pub(crate) struct Control {
    connections: Vec<Connection>,
    next: Id,
}

/// What a connection brought.
#[derive(Debug)]
pub(crate) enum News {
    /// A request, with the socket that was attached to it.
    Asked(Request, Option<OwnedFd>),
    /// The watcher of a tap is gone.
    Gone,
}

#[derive(Debug)]
struct Connection {
    id: Id,
    stream: OwnedFd,
    role: Role,
    /// When it is cut; never for a watcher.
    until: Option<Millis>,
}

#[derive(Debug)]
enum Role {
    /// It has not finished its request.
    Asking { line: Vec<u8>, attached: Option<OwnedFd> },
    /// It waits for its answer.
    Waiting,
    /// It was answered, and has not taken everything yet.
    Answering { bytes: Vec<u8>, sent: usize, stays: bool },
    /// It keeps a tap open.
    Watching,
}

impl Control {
    /// Tells whether another connection may be accepted.
    pub(crate) const fn has_room(&self) -> bool {
        self.connections.len() < MAX_CONNECTIONS
    }

    /// Returns what to poll for.
    pub(crate) fn interests(&self) -> impl Iterator<Item = (Id, BorrowedFd<'_>, PollFlags)> {
        self.connections.iter().map(|connection| {
            let flags = match connection.role {
                Role::Asking { .. } | Role::Watching => PollFlags::IN,
                Role::Answering { .. } => PollFlags::OUT,
                Role::Waiting => PollFlags::empty(),
            };
            (connection.id, connection.stream.as_fd(), flags)
        })
    }

    /// Returns when the next connection is to be cut.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.connections.iter().filter_map(|connection| connection.until).min()
    }

    /// Cuts the connections that took too long.
    pub(crate) fn expire(&mut self, now: Millis) {
        self.connections.retain(|connection| connection.until.is_none_or(|until| now < until));
    }

    /// Accepts a connection, if its user may ask: root, or whom the supervisor runs as.
    pub(crate) fn accept(&mut self, now: Millis, listener: &OwnedFd) {
        // Whoever gave up in the meantime is no error.
        let Ok(stream) = accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else {
            return;
        };
        match socket_peercred(&stream) {
            Ok(peer) if peer.uid.is_root() || peer.uid == geteuid() => {
                let role = Role::Asking { line: Vec::new(), attached: None };
                self.admit(stream, role, Some(now.saturating_add(LIMIT)));
            }
            Ok(peer) => {
                let (uid, own) = (peer.uid.as_raw(), geteuid().as_raw());
                say::warn(format_args!(
                    "refused user {uid} on the control socket, expected root or user {own}"
                ));
            }
            Err(errno) => {
                say::warn(format_args!("control connection without credentials: {errno}"));
            }
        }
    }

    /// Takes over a connection from an earlier image of this process: a tap's watcher, or who asked
    /// for the reload.
    pub(crate) fn adopt(&mut self, now: Millis, stream: OwnedFd, watching: bool) -> Id {
        if watching {
            self.admit(stream, Role::Watching, None)
        } else {
            self.admit(stream, Role::Waiting, Some(now.saturating_add(LIMIT)))
        }
    }

    fn admit(&mut self, stream: OwnedFd, role: Role, until: Option<Millis>) -> Id {
        let id = self.next;
        self.next += 1;
        self.connections.push(Connection { id, stream, role, until });
        id
    }

    /// Returns a connection's socket.
    pub(crate) fn stream(&self, id: Id) -> Option<BorrowedFd<'_>> {
        let connection = self.connections.iter().find(|connection| connection.id == id)?;
        Some(connection.stream.as_fd())
    }

    /// Moves a connection on that can be read or written, and returns what it brought.
    pub(crate) fn advance(&mut self, now: Millis, id: Id) -> Option<News> {
        let at = self.connections.iter().position(|connection| connection.id == id)?;
        match self.connections[at].role {
            Role::Asking { .. } => match self.connections[at].read() {
                Ok(None) => None,
                Ok(Some((request, attached))) => Some(News::Asked(request, attached)),
                Err(Some(reason)) => {
                    self.answer(now, id, &Response::Failed { reason }, false);
                    None
                }
                Err(None) => {
                    self.connections.swap_remove(at);
                    None
                }
            },
            Role::Answering { .. } => {
                self.write(at);
                None
            }
            // A watcher says nothing more: whatever comes is its end.
            Role::Watching => {
                self.connections.swap_remove(at);
                Some(News::Gone)
            }
            Role::Waiting => {
                self.connections.swap_remove(at);
                None
            }
        }
    }

    /// Answers a request; the connection ends with the answer, or `stays` to watch a tap.
    pub(crate) fn answer(&mut self, now: Millis, id: Id, response: &Response, stays: bool) {
        let Some(at) = self.connections.iter().position(|connection| connection.id == id) else {
            return;
        };
        let mut bytes = serde_json::to_vec(response).unwrap_or_default();
        if bytes.len() >= MAX_RESPONSE {
            let reason = format!("an answer of {} bytes, expected {MAX_RESPONSE}", bytes.len());
            bytes = serde_json::to_vec(&Response::Failed { reason }).unwrap_or_default();
        }
        bytes.push(b'\n');
        let connection = &mut self.connections[at];
        connection.role = Role::Answering { bytes, sent: 0, stays };
        connection.until = Some(now.saturating_add(LIMIT));
        self.write(at);
    }

    fn write(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        let Role::Answering { bytes, sent, stays } = &mut connection.role else { return };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match send(&connection.stream, &bytes[*sent..], flags) {
            Ok(count) if *sent + count < bytes.len() => *sent += count,
            Ok(_) if *stays => {
                connection.role = Role::Watching;
                connection.until = None;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => {
                self.connections.swap_remove(at);
            }
        }
    }
}

/// A request and its attached socket, once it is whole.
type Asked = Option<(Request, Option<OwnedFd>)>;

impl Connection {
    /// Reads what is there. The error is the reason to tell, or none where nobody would hear it.
    fn read(&mut self) -> Result<Asked, Option<String>> {
        let Role::Asking { line, attached } = &mut self.role else { return Ok(None) };
        let mut part = [0; 4096];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let iov = &mut [IoSliceMut::new(&mut part)];
        let count = match recvmsg(&self.stream, iov, &mut control, flags) {
            Ok(received) if received.bytes == 0 => return Err(None),
            Ok(received) => received.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(_) => return Err(None),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut sockets) = message {
                *attached = sockets.next();
            }
        }
        line.extend_from_slice(&part[..count]);
        let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
            if line.len() > MAX_REQUEST {
                return Err(Some(format!("request without an end in {MAX_REQUEST} bytes")));
            }
            return Ok(None);
        };
        let request = serde_json::from_slice(&line[..end])
            .map_err(|error| Some(format!("malformed request: {error}")))?;
        let attached = attached.take();
        self.role = Role::Waiting;
        Ok(Some((request, attached)))
    }
}

#[cfg(test)]
mod tests;
