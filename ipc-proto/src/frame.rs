//! Frames: how messages and settlements travel on the one connection that a pair of modules shares.
//!
//! ```text
//! u32 little-endian: length of what follows | u8 version | u8 kind | body
//! hello, welcome, refused, settle:  body = postcard
//! message:                          body = u64 little-endian: sequence | postcard head | content
//! ```
//!
//! The content is the frame's tail, so it goes in and out without a copy. Version and length are
//! checked before anything else is looked at. A change of any encoded type must raise [`VERSION`];
//! a golden test fails until it does.

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::Instance;
use crate::message::{Content, Header, Message, Route};
use crate::module::Module;

/// The version of everything that modules say to each other.
pub const VERSION: u8 = 1;

/// The greatest content of a message in bytes: what CloudCore's own packer allows (WIRE.md §2.2).
pub const MAX_CONTENT: usize = 32 * 1024 * 1024;

/// The greatest encoded header and route in bytes; names in Kubernetes end at 253 letters, MQTT
/// topics at 65,535.
pub const MAX_HEAD: usize = 128 * 1024;

/// The greatest frame in bytes, not counting the length field itself.
pub const MAX_FRAME: usize = MAX_CONTENT + MAX_HEAD + PREFIX;

/// The bytes of the length field.
pub const LENGTH: usize = 4;

/// Version and kind, and the sequence number of a message.
const PREFIX: usize = 2 + 8;

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSED: u8 = 3;
const MESSAGE: u8 = 4;
const SETTLE: u8 = 5;

/// The place of a message in the stream from one process to another; the first is 1. Answers to
/// requests are a stream of their own, see [`ANSWERS`].
pub type Sequence = u64;

/// The bit that is set in the places of answers, the first of which is 1 with this bit. The window
/// does not hold them back, nor do they count in it: who has its window full of messages that it
/// can only settle when it is answered would wait for ever.
pub const ANSWERS: Sequence = 1 << 63;

/// What a receiver is ready to hold of messages that it has not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Messages, at least 1.
    pub messages: u32,
    /// Bytes of frames; one message may pass it when no other is in flight.
    pub bytes: u32,
}

/// The first frame of either side: who speaks, and what it can hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The module that speaks.
    pub from: Module,
    /// The module that it means to speak to.
    pub to: Module,
    /// The life of the process that speaks.
    pub instance: Instance,
    /// What it is ready to hold.
    pub window: Window,
}

/// How a receiver ended its work on a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The work is done, and durable where it has to be.
    Done,
    /// The message will never be taken; the text says why.
    Refused(Box<str>),
}

/// The settlement of `count` messages that follow each other, from `first` on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// The first message.
    pub first: Sequence,
    /// How many; at least 1.
    pub count: u32,
    /// How they ended.
    pub outcome: Outcome,
}

/// A frame, decoded.
#[expect(clippy::large_enum_variant, reason = "nearly all frames are messages, moved on at once")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The dialling side's first frame.
    Hello(Hello),
    /// The accepting side's answer to it.
    Welcome(Hello),
    /// The accepting side's refusal, with the reason; the connection then ends.
    Refused(Box<str>),
    /// A message and its place.
    Message(Sequence, Message),
    /// Settlements of messages that went the other way.
    Settle(Vec<Settlement>),
}

/// A frame that cannot be read or written. Each ends the connection that it came on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field is over the bound.
    #[error("frame of {0} bytes, expected at most {MAX_FRAME}")]
    TooLong(usize),
    /// The length field is too small for a version and a kind.
    #[error("frame of {0} bytes, expected at least 2")]
    TooShort(usize),
    /// Another version of the protocol.
    #[error("frame of protocol version {0}, expected {VERSION}")]
    Version(u8),
    /// No kind of this version.
    #[error("frame of unknown kind {0}")]
    Kind(u8),
    /// The body is not what its kind says.
    #[error("frame of kind {kind} has a malformed body")]
    Malformed {
        /// The frame's kind.
        kind: u8,
    },
    /// Header and route are over the bound.
    #[error("header of {0} bytes, expected at most {MAX_HEAD}")]
    HeadTooLong(usize),
    /// The content is over the bound.
    #[error("content of {0} bytes, expected at most {MAX_CONTENT}")]
    ContentTooLong(usize),
}

/// Returns the length of the whole first frame in `buffer`, the length field included, as soon as
/// that field is there.
///
/// # Errors
/// [`FrameError::TooLong`] or [`FrameError::TooShort`]: nothing that follows can be trusted then.
pub fn frame_length(buffer: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(field) = buffer.first_chunk::<LENGTH>() else { return Ok(None) };
    let length = u32::from_le_bytes(*field) as usize;
    match length {
        0..2 => Err(FrameError::TooShort(length)),
        2..=MAX_FRAME => Ok(Some(LENGTH + length)),
        _ => Err(FrameError::TooLong(length)),
    }
}

/// Takes the first frame off `buffer`, or nothing while it is not whole. The content of a message
/// shares the buffer's memory.
///
/// # Errors
/// [`FrameError`]: the connection cannot be read any further.
pub fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    match frame_length(buffer)? {
        Some(length) if buffer.len() >= length => {
            let frame = buffer.split_to(length).freeze();
            decode(&frame.slice(LENGTH..)).map(Some)
        }
        Some(_) | None => Ok(None),
    }
}

/// Decodes one frame without its length field.
///
/// # Errors
/// [`FrameError`] when version, kind or body are not of this protocol.
pub fn decode(frame: &Bytes) -> Result<Frame, FrameError> {
    let &[version, kind, ref body @ ..] = frame.as_ref() else {
        return Err(FrameError::TooShort(frame.len()));
    };
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    match kind {
        HELLO => whole(kind, body).map(Frame::Hello),
        WELCOME => whole(kind, body).map(Frame::Welcome),
        REFUSED => whole(kind, body).map(Frame::Refused),
        SETTLE => whole(kind, body).map(Frame::Settle),
        MESSAGE => message(frame, body).map(|(seq, message)| Frame::Message(seq, message)),
        _ => Err(FrameError::Kind(kind)),
    }
}

/// Decodes a body of which nothing may be left over.
fn whole<T: DeserializeOwned>(kind: u8, body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(FrameError::Malformed { kind }),
    }
}

fn message(frame: &Bytes, body: &[u8]) -> Result<(Sequence, Message), FrameError> {
    let malformed = FrameError::Malformed { kind: MESSAGE };
    let Some((sequence, rest)) = body.split_first_chunk::<8>() else { return Err(malformed) };
    let Ok(((header, route), content)) = postcard::take_from_bytes::<(Header, Route)>(rest) else {
        return Err(malformed);
    };
    let head = rest.len() - content.len();
    if head > MAX_HEAD {
        return Err(FrameError::HeadTooLong(head));
    }
    if content.len() > MAX_CONTENT {
        return Err(FrameError::ContentTooLong(content.len()));
    }
    let content = Content::from_raw(frame.slice_ref(content));
    Ok((u64::from_le_bytes(*sequence), Message { header, route, content }))
}

/// Encodes a frame that is no message.
fn control(kind: u8, body: &impl Serialize) -> Bytes {
    let mut frame = BytesMut::with_capacity(64);
    frame.put_u32_le(0);
    frame.put_u8(VERSION);
    frame.put_u8(kind);
    append(&mut frame, body);
    finish(&mut frame, 0);
    frame.freeze()
}

/// Encodes the dialling side's first frame.
#[must_use]
pub fn hello(hello: &Hello) -> Bytes {
    control(HELLO, hello)
}

/// Encodes the accepting side's answer.
#[must_use]
pub fn welcome(hello: &Hello) -> Bytes {
    control(WELCOME, hello)
}

/// Encodes the accepting side's refusal.
#[must_use]
pub fn refused(reason: &str) -> Bytes {
    control(REFUSED, &reason)
}

/// Encodes settlements.
#[must_use]
pub fn settle(settlements: &[Settlement]) -> Bytes {
    control(SETTLE, &settlements)
}

/// Encodes all of a message's frame but the content, which follows it on the wire as it is. The
/// sequence number is still 0: [`set_sequence`] writes it once the message has its place.
///
/// # Errors
/// [`FrameError::HeadTooLong`] or [`FrameError::ContentTooLong`].
pub fn message_head(message: &Message) -> Result<BytesMut, FrameError> {
    let content = message.content.raw().len();
    if content > MAX_CONTENT {
        return Err(FrameError::ContentTooLong(content));
    }
    let mut frame = BytesMut::with_capacity(160);
    frame.put_u32_le(0);
    frame.put_u8(VERSION);
    frame.put_u8(MESSAGE);
    frame.put_u64_le(0);
    append(&mut frame, &(&message.header, &message.route));
    let head = frame.len() - LENGTH - PREFIX;
    if head > MAX_HEAD {
        return Err(FrameError::HeadTooLong(head));
    }
    finish(&mut frame, content);
    Ok(frame)
}

/// Writes the place of a message into what [`message_head`] returned.
pub fn set_sequence(head: &mut BytesMut, sequence: Sequence) {
    head[LENGTH + 2..LENGTH + 2 + 8].copy_from_slice(&sequence.to_le_bytes());
}

/// Appends a value in postcard's encoding.
fn append(frame: &mut BytesMut, value: &impl Serialize) {
    /// Lets postcard write straight into the frame.
    struct Tail<'a>(&'a mut BytesMut);

    impl postcard::ser_flavors::Flavor for Tail<'_> {
        type Output = ();

        fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
            self.0.put_u8(byte);
            Ok(())
        }

        fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }

        fn finalize(self) -> postcard::Result<()> {
            Ok(())
        }
    }

    postcard::serialize_with_flavor(value, Tail(frame))
        .expect("the protocol's types have known lengths and the frame grows");
}

/// Writes the length field, for `more` bytes that follow beside the frame's own.
fn finish(frame: &mut BytesMut, more: usize) {
    let length = frame.len() - LENGTH + more;
    let length = u32::try_from(length).expect("frames are bounded far below 4 GiB");
    frame[..LENGTH].copy_from_slice(&length.to_le_bytes());
}
