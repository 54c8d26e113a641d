//! netlink(7): messages in the making, a socket that carries them to the kernel, and what it answers.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send,
    socket_with, sockopt,
};

/// `NLM_F_REQUEST`, which every message of ours is.
const REQUEST: u16 = 0x1;

/// `NLM_F_ACK`: the kernel answers in any case.
pub(crate) const ACKNOWLEDGE: u16 = 0x4;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

/// `NLM_F_DUMP`: all that there is.
pub(crate) const DUMP: u16 = 0x300;

/// `NLA_F_NESTED`, which older parts of the kernel do not set.
const NESTED: u16 = 0x8000;

/// `NLMSG_ERROR`, which an acknowledgement is too, and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// The length of a message's header.
pub(crate) const HEADER: usize = 16;

/// The length of an attribute's header.
const ATTRIBUTE: usize = 4;

/// The most that the kernel tells in one piece.
const PIECE: usize = 32 * 1024;

/// Messages that are sent together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// The number under which the kernel complains of the messages to come.
    pub(crate) sequence: u32,
}

impl Batch {
    #[cfg(test)]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends a message.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Body<'_>)) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        body(&mut Body(&mut self.bytes));
        let length = u32::try_from(self.bytes.len() - at).unwrap_or(u32::MAX);
        self.bytes[at..at + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// What a message or a nested attribute says.
#[derive(Debug)]
pub(crate) struct Body<'a>(&'a mut Vec<u8>);

impl Body<'_> {
    /// Appends bytes as they are, whose number is a multiple of four.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends an attribute.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Appends a text with the zero at its end.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.put(kind, &[value.as_bytes(), b"\0"].concat());
    }

    /// Appends a number as netfilter has it.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Appends an attribute of attributes.
    pub(crate) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Body<'_>)) {
        let at = self.0.len();
        self.put(kind | NESTED, &[]);
        inner(&mut Body(self.0));
        let length = u16::try_from(self.0.len() - at).unwrap_or(u16::MAX);
        self.0[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// A message of the kernel's: its type, and what follows the header.
type Told<'a> = (u16, &'a [u8]);

/// Returns the first message of what the kernel told, and the rest; nothing when there is no more.
pub(crate) fn split(told: &[u8]) -> Option<(Told<'_>, &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*told.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*told.get(4..)?.first_chunk()?);
    let body = told.get(HEADER..length)?;
    Some(((kind, body), told.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Returns the attributes: the type of each, without its flags, and its value.
pub(crate) fn attributes(mut body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*body.first_chunk()?));
        let kind = u16::from_ne_bytes(*body.get(2..)?.first_chunk()?) & 0x3fff;
        let value = body.get(ATTRIBUTE..length)?;
        body = body.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Returns the value of an attribute.
pub(crate) fn attribute(body: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(body).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Opens a socket that hears what is told to these groups; without a protocol it is `NETLINK_ROUTE`.
///
/// # Errors
/// When the kernel does not let it.
pub(crate) fn open(
    protocol: Option<Protocol>,
    groups: u32,
    flags: SocketFlags,
) -> io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// What the kernel refuses: the number of the message, and why.
pub(crate) type Refusal = (u32, io::Error);

/// Tells the kernel something. It has done it, and answered, before this returns.
///
/// # Errors
/// The first message that it refuses.
pub(crate) fn tell(socket: &OwnedFd, batch: &Batch) -> Result<(), Refusal> {
    let amiss = |error: io::Error| (batch.sequence, error);
    // the whole has to fit at once; who is not root has what there is
    let room = batch.bytes.len() * 2 + PIECE;
    let _smaller = sockopt::set_socket_send_buffer_size_force(socket, room);
    send(socket, &batch.bytes, SendFlags::empty()).map_err(|error| amiss(error.into()))?;
    let mut refusal = None;
    let heard = hear(socket, |sequence, (kind, body)| {
        if kind == ERROR
            && let Err(error) = outcome(body)
        {
            refusal.get_or_insert((sequence, error));
        }
    });
    refusal.map_or_else(|| heard.map_err(amiss), Err)
}

/// Asks the kernel for all of something and hands on each message.
///
/// # Errors
/// When it refuses, or tells more than the socket can hold.
pub(crate) fn ask(socket: &OwnedFd, batch: &Batch, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    send(socket, &batch.bytes, SendFlags::empty())?;
    let mut refusal = Ok(());
    hear(socket, |_, told| match told {
        (ERROR, body) => refusal = outcome(body),
        (DONE, _) => {}
        (_, body) => each(body),
    })?;
    refusal
}

/// Reads what the kernel has answered, which it does before a call returns: the rest of what is asked
/// for is made while it is read.
fn hear(socket: &OwnedFd, mut each: impl FnMut(u32, Told<'_>)) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = match recv(socket, &mut piece, RecvFlags::DONTWAIT).map_err(io::Error::from) {
            Ok((length, _)) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut told = &piece[..length];
        while let Some((message, rest)) = split(told) {
            let sequence = told[8..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
            each(sequence, message);
            told = rest;
        }
    }
}

/// Reads how a request ended.
fn outcome(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("the kernel's answer is none")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut batch = Batch::default();
        for kind in [7, 8] {
            batch.message(kind, ACKNOWLEDGE, |body| {
                body.text(1, "abc");
                body.nest(2, |inner| inner.number(3, 4));
            });
        }
        let ((kind, body), rest) = split(&batch.bytes).unwrap();
        assert_eq!((kind, attribute(body, 1)), (7, Some(&b"abc\0"[..])));
        let inner = attribute(body, 2).unwrap();
        assert_eq!(attributes(inner).collect::<Vec<_>>(), [(3, &[0, 0, 0, 4][..])]);
        let ((kind, _), rest) = split(rest).unwrap();
        assert_eq!((kind, rest), (8, &[][..]));
    }

    proptest! {
        #[test]
        fn rubbish_is_read_without_harm(told in prop::collection::vec(any::<u8>(), 0..128)) {
            let mut rest = &told[..];
            while let Some(((_, body), further)) = split(rest) {
                attributes(body).for_each(drop);
                prop_assert!(further.len() < rest.len());
                rest = further;
            }
            attributes(&told).for_each(drop);
        }
    }
}
