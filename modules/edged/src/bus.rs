//! A client of D-Bus, as small as what is asked over it: logind lets a shutdown wait. One call at a
//! time; signals that come meanwhile are kept.

mod wire;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

pub(crate) use wire::{Body, Cursor};
use wire::{Kind, Message};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Signals that are kept while nobody asks for them; more than that nobody here waits for.
const SIGNALS: usize = 64;

/// Whom a call is for: the peer's name, the object, and the interface.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) peer: &'static str,
    pub(crate) object: &'static str,
    pub(crate) interface: &'static str,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The peer refused: the name of the error, and its text.
    Refused(String, String),
    /// The connection is of no use any more.
    Broken(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(name, text) => write!(f, "{name}: {text}"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl Trouble {
    fn broken(why: impl fmt::Display) -> Self {
        Self::Broken(why.to_string())
    }
}

/// A connection.
pub(crate) struct Bus {
    stream: UnixStream,
    serial: u32,
    read: Vec<u8>,
    attached: VecDeque<OwnedFd>,
    signals: VecDeque<Message>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    body: Vec<u8>,
    /// The descriptor that came with it.
    pub(crate) descriptor: Option<OwnedFd>,
}

impl Answer {
    /// Reads it.
    pub(crate) fn read(&self) -> Cursor<'_> {
        Cursor::new(&self.body)
    }
}

impl Bus {
    /// Connects to who listens on a socket.
    ///
    /// # Errors
    /// When nobody is there, or does not take this user.
    pub(crate) async fn to_peer(socket: &Path) -> Result<Self, Trouble> {
        let connected = tokio::time::timeout(PATIENCE, Self::connect(socket)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        connected.map_err(|error| {
            Trouble::Broken(format!("cannot connect to {}: {error}", socket.display()))
        })
    }

    /// Connects to the bus that all services of the host share.
    ///
    /// # Errors
    /// As [`Self::to_peer`].
    pub(crate) async fn shared(socket: &Path) -> Result<Self, Trouble> {
        let mut bus = Self::to_peer(socket).await?;
        bus.call(BUS, "Hello", Body::default()).await?;
        Ok(bus)
    }

    async fn connect(socket: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket).await?;
        // Who we are the peer asks the kernel; it is to be said all the same, in hex of decimal.
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        for (line, expected) in [
            (format!("\0AUTH EXTERNAL {hex}\r\n"), "OK "),
            ("NEGOTIATE_UNIX_FD\r\n".to_owned(), "AGREE_UNIX_FD"),
        ] {
            stream.write_all(line.as_bytes()).await?;
            let said = line_of(&mut stream).await?;
            if !said.starts_with(expected) {
                return Err(io::Error::other(format!("it said '{said}', expected '{expected}'")));
            }
        }
        stream.write_all(b"BEGIN\r\n").await?;
        let (read, attached, signals) = (Vec::new(), VecDeque::new(), VecDeque::new());
        Ok(Self { stream, serial: 0, read, attached, signals })
    }

    /// Makes a call and waits for its answer.
    ///
    /// # Errors
    /// What the peer says, or that it says nothing.
    pub(crate) async fn call(
        &mut self,
        target: Target,
        method: &str,
        body: Body,
    ) -> Result<Answer, Trouble> {
        self.serial += 1;
        let serial = self.serial;
        let bytes = wire::call(serial, target, method, &body);
        let answer = async {
            self.stream.write_all(&bytes).await.map_err(Trouble::broken)?;
            loop {
                let message = self.message().await?;
                match message.kind {
                    Kind::Signal if self.signals.len() < SIGNALS => self.signals.push_back(message),
                    _ if message.answers != serial => {}
                    Kind::Error => {
                        let text = Cursor::new(&message.body).text().unwrap_or_default();
                        return Err(Trouble::Refused(message.error, text));
                    }
                    Kind::Answer => {
                        // What came with messages that nobody waited for goes with them.
                        let descriptor = self.attached.drain(..).next_back();
                        return Ok(Answer { body: message.body, descriptor });
                    }
                    Kind::Call | Kind::Signal => {}
                }
            }
        };
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble::Broken(format!(
                "{} did not answer to {method} within {} s",
                target.peer,
                PATIENCE.as_secs()
            ))),
        }
    }

    /// Returns a property of an object.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub(crate) async fn property(&mut self, of: Target, name: &str) -> Result<Answer, Trouble> {
        let mut body = Body::default();
        body.text(of.interface);
        body.text(name);
        let properties = Target { interface: "org.freedesktop.DBus.Properties", ..of };
        self.call(properties, "Get", body).await
    }

    /// Waits for the next signal that was asked for; returns its name.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) async fn signal(&mut self) -> Result<String, Trouble> {
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self.message().await?,
            };
            if message.kind == Kind::Signal {
                return Ok(message.member);
            }
        }
    }

    /// Waits for the next message. What was read stays when nobody waits any more.
    async fn message(&mut self) -> Result<Message, Trouble> {
        loop {
            if let Some(length) = wire::length(&self.read).map_err(Trouble::broken)?
                && self.read.len() >= length
            {
                let message = wire::message(&self.read[..length]).map_err(Trouble::broken);
                self.read.drain(..length);
                return message;
            }
            self.fill().await.map_err(Trouble::broken)?;
        }
    }

    /// Reads what is there, with the descriptors that come with it.
    async fn fill(&mut self) -> io::Result<()> {
        let mut part = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut attached = RecvAncillaryBuffer::new(&mut space);
        let stream = &self.stream;
        let receive = || {
            let parts = &mut [IoSliceMut::new(&mut part)];
            Ok(recvmsg(stream.as_fd(), parts, &mut attached, RecvFlags::CMSG_CLOEXEC)?)
        };
        let count = stream.async_io(Interest::READABLE, receive).await?.bytes;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed"));
        }
        for message in attached.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.attached.extend(descriptors);
            }
        }
        self.read.extend_from_slice(&part[..count]);
        Ok(())
    }
}

/// The bus itself.
pub(crate) const BUS: Target = Target {
    peer: "org.freedesktop.DBus",
    object: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// systemd.
pub(crate) const SYSTEMD: Target = Target {
    peer: "org.freedesktop.systemd1",
    object: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

/// Reads a line of the greeting, which is short.
async fn line_of(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        if line.len() > 256 {
            return Err(io::Error::other("its greeting has no end"));
        }
        line.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
pub(crate) mod tests;
