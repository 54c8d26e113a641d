//! A peer without manners: speaks to a module's socket in frames of its own making.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use ipc_proto::frame::{self, Frame, Hello, Outcome, Sequence, Settlement, Window};
use ipc_proto::{Content, Group, Instance, Message, Module, Operation, Resource, Route, Source};
use module_runtime::{instance, message_id};

use super::{Rig, SOON};

/// A connection to a module's socket on which anything can be said.
#[derive(Debug)]
pub struct Hostile {
    stream: UnixStream,
    received: BytesMut,
    sent: Sequence,
}

impl Hostile {
    /// Connects to a module and says nothing yet.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn dial(rig: &Rig, to: Module) -> Result<Self> {
        Self::dial_in(&rig.runtime_dir(), to)
    }

    /// Connects to a module of a runtime folder and says nothing yet.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn dial_in(runtime_dir: &Path, to: Module) -> Result<Self> {
        let path = runtime_dir.join(to.socket_name());
        let stream = UnixStream::connect(&path)
            .with_context(|| format!("cannot connect to {}", path.display()))?;
        stream.set_write_timeout(Some(SOON))?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(Self { stream, received: BytesMut::new(), sent: 0 })
    }

    /// Says hello as one life of a process and hangs up.
    ///
    /// # Errors
    /// When the module has ended the connection already.
    pub fn say_hello_as(mut self, from: Module, to: Module, instance: Instance) -> Result<()> {
        self.say(&hello_as(from, to, instance))
    }

    /// Connects as `from` and is welcomed.
    ///
    /// # Errors
    /// When the module does not welcome it.
    pub fn welcomed(rig: &Rig, from: Module, to: Module) -> Result<Self> {
        let mut peer = Self::dial(rig, to)?;
        peer.say(&hello(from, to))?;
        match peer.hear()? {
            Some(Frame::Welcome(_)) => Ok(peer),
            other => bail!("{to} does not welcome {from}: {other:?}"),
        }
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// When the module has ended the connection, or does not read for long.
    pub fn say(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot write to the module")
    }

    /// Writes as many bytes as the module takes without being waited for, at most all of them.
    ///
    /// # Errors
    /// When the module has ended the connection.
    pub fn push(&mut self, bytes: &[u8], patience: Duration) -> Result<usize> {
        self.stream.set_write_timeout(Some(patience))?;
        let mut taken = 0;
        while taken < bytes.len() {
            match self.stream.write(&bytes[taken..]) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("cannot write to the module"),
            }
        }
        Ok(taken)
    }

    /// Reads the next frame; nothing when the module ended the connection.
    ///
    /// # Errors
    /// When no whole frame comes soon.
    pub fn hear(&mut self) -> Result<Option<Frame>> {
        let mut chunk = [0; 64 * 1024];
        loop {
            if let Some(frame) = frame::take(&mut self.received)? {
                return Ok(Some(frame));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error).context("the module says nothing"),
            }
        }
    }

    /// Waits until the module refuses, and returns the reason.
    ///
    /// # Errors
    /// When it says something else.
    pub fn refusal(&mut self) -> Result<String> {
        match self.hear()? {
            Some(Frame::Refused(reason)) => Ok(reason.into()),
            other => bail!("expected a refusal, got {other:?}"),
        }
    }

    /// Waits until the module has ended the connection, whatever it says before.
    ///
    /// # Errors
    /// When it keeps the connection.
    pub fn wait_until_cut(&mut self) -> Result<()> {
        while self.hear()?.is_some() {}
        Ok(())
    }
}

impl Hostile {
    /// Sends a message as the next one of this connection.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn send(&mut self, message: &Message) -> Result<Sequence> {
        self.sent += 1;
        let frame = whole(self.sent, message)?;
        self.say(&frame)?;
        Ok(self.sent)
    }

    /// Sends a request and returns its answer, which is settled.
    ///
    /// # Errors
    /// When no answer comes soon.
    pub fn ask(&mut self, request: &Message) -> Result<Message> {
        self.send(request)?;
        loop {
            match self.hear()? {
                Some(Frame::Message(first, answer)) => {
                    let outcome = Outcome::Done;
                    self.say(&frame::settle(&[Settlement { first, count: 1, outcome }]))?;
                    if answer.header.parent.as_ref() == Some(&request.header.id) {
                        return Ok(answer);
                    }
                }
                Some(Frame::Settle(_)) => {}
                other => bail!("expected an answer, got {other:?}"),
            }
        }
    }

    /// Sends a message and returns how the module settled it.
    ///
    /// # Errors
    /// When it is not settled soon.
    pub fn outcome(&mut self, message: &Message) -> Result<Outcome> {
        let sequence = self.send(message)?;
        loop {
            match self.hear()? {
                Some(Frame::Settle(settled)) => {
                    let covers = |part: &&Settlement| {
                        (part.first..part.first + u64::from(part.count)).contains(&sequence)
                    };
                    if let Some(part) = settled.iter().find(covers) {
                        return Ok(part.outcome.clone());
                    }
                }
                Some(Frame::Message(..)) => {}
                other => bail!("expected a settlement, got {other:?}"),
            }
        }
    }
}

/// Makes a first frame of a process that nobody has heard of yet.
#[must_use]
pub fn hello(from: Module, to: Module) -> Bytes {
    hello_as(from, to, instance())
}

fn hello_as(from: Module, to: Module, instance: Instance) -> Bytes {
    let window = Window { messages: 1024, bytes: 4 << 20 };
    frame::hello(&Hello { from, to, instance, window })
}

/// Makes a message's whole frame.
///
/// # Errors
/// When it is over the bounds.
pub fn whole(sequence: Sequence, message: &Message) -> Result<Bytes> {
    let mut whole = frame::message_head(message)?;
    frame::set_sequence(&mut whole, sequence);
    whole.extend_from_slice(message.content.raw());
    Ok(whole.freeze())
}

/// Makes a request that every module answers with the same content.
#[must_use]
pub fn echo(size: usize) -> Message {
    diagnostic(Operation::Echo, Content::text(&"x".repeat(size)))
}

/// Makes a request that every module's main loop answers.
#[must_use]
pub fn ping() -> Message {
    diagnostic(Operation::Ping, Content::NULL)
}

fn diagnostic(operation: Operation, content: Content) -> Message {
    let group = Group::Diagnostic;
    message(Route { source: Source::None, group, operation, resource: Resource::None }, content)
}

/// Makes a message of any kind.
#[must_use]
pub fn message(route: Route, content: Content) -> Message {
    Message::new(message_id(), 0, route, content)
}
