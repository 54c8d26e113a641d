//! WebSocket frames (RFC 6455, the client's side): bytes in, messages out, and back.
//!
//! KubeEdge's tunnel puts arbitrary bytes into text messages (WIRE.md §9.2). Libraries that check
//! text for UTF-8, as the standard wants them to, cannot carry it.

use bytes::{Buf, Bytes, BytesMut};

/// The greatest message that is taken: KubeEdge's bound of 1 MiB on a frame's data, and its head.
pub const MAX_MESSAGE: usize = 1024 * 1024 + 32;

/// The greatest payload of a control frame, by the standard.
const MAX_CONTROL: usize = 125;

/// Room that the head of a frame may need: two bytes, the long length, the mask.
pub const HEAD: usize = 14;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A message, text or binary, whole.
    Data(Bytes),
    /// To be answered with a pong of the same bytes.
    Ping(Bytes),
    /// The answer to a ping.
    Pong,
    /// The other side ends the connection.
    Close,
}

/// What is no WebSocket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Its first byte, with what no server sends.
    #[error("a frame with reserved bits or an unknown kind: first byte {0:#04x}")]
    Kind(u8),
    /// Only clients mask.
    #[error("a masked frame from the server")]
    Masked,
    /// The standard forbids both.
    #[error("a control frame that is cut in pieces or over 125 bytes")]
    Control,
    /// Its length, as far as it is known.
    #[error("a message of {0} bytes, expected at most {MAX_MESSAGE}")]
    TooLong(u64),
    /// Pieces come one after the other.
    #[error("a piece of a message where none was begun, or a new message inside another")]
    Order,
}

/// The head of a frame, read.
struct Head {
    fin: bool,
    kind: u8,
    /// Bytes of the head itself.
    head: usize,
    /// Bytes of the payload.
    length: usize,
}

/// Puts messages together from what is read.
#[derive(Debug)]
pub struct Decoder {
    /// What was read and not taken yet.
    pub input: BytesMut,
    /// The pieces of a message that is not whole yet.
    pieces: Option<BytesMut>,
}

impl Decoder {
    /// Begins with what was read already.
    #[must_use]
    pub const fn new(input: BytesMut) -> Self {
        Self { input, pieces: None }
    }

    /// Takes the next message, if it is there.
    ///
    /// # Errors
    /// When the input is no WebSocket, or a message is too long; bounds are checked before the
    /// payload is there.
    #[expect(clippy::should_implement_trait, reason = "an iterator has no failures")]
    pub fn next(&mut self) -> Result<Option<Message>, Broken> {
        while let Some(head) = self.head()? {
            if self.input.len() < head.head + head.length {
                return Ok(None);
            }
            self.input.advance(head.head);
            let payload = self.input.split_to(head.length);
            match (head.kind, head.fin) {
                (CLOSE, _) => return Ok(Some(Message::Close)),
                (PING, _) => return Ok(Some(Message::Ping(payload.freeze()))),
                (PONG, _) => return Ok(Some(Message::Pong)),
                (CONTINUATION, fin) => {
                    let mut whole = self.pieces.take().ok_or(Broken::Order)?;
                    whole.unsplit(payload);
                    if fin {
                        return Ok(Some(Message::Data(whole.freeze())));
                    }
                    self.pieces = Some(whole);
                }
                (_, true) => return Ok(Some(Message::Data(payload.freeze()))),
                (_, false) => self.pieces = Some(payload),
            }
        }
        Ok(None)
    }

    /// Reads and checks the head of the frame that the input begins with.
    fn head(&self) -> Result<Option<Head>, Broken> {
        let [first, second, rest @ ..] = &*self.input else { return Ok(None) };
        let (fin, kind) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 || !matches!(kind, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG)
        {
            return Err(Broken::Kind(*first));
        }
        if second & 0x80 != 0 {
            return Err(Broken::Masked);
        }
        let (length, head) = match (second & 0x7f, rest) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10)
            }
            (126 | 127, _) => return Ok(None),
            (length, _) => (u64::from(length), 2),
        };
        if kind >= CLOSE && (!fin || length > MAX_CONTROL as u64) {
            return Err(Broken::Control);
        }
        if matches!(kind, TEXT | BINARY) && self.pieces.is_some() {
            return Err(Broken::Order);
        }
        let begun = match kind {
            CONTINUATION => self.pieces.as_ref().ok_or(Broken::Order)?.len() as u64,
            _ => 0,
        };
        let whole = length.saturating_add(begun);
        match usize::try_from(length) {
            Ok(length) if whole <= MAX_MESSAGE as u64 => Ok(Some(Head { fin, kind, head, length })),
            Ok(_) | Err(_) => Err(Broken::TooLong(whole)),
        }
    }
}

/// What goes out in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message of the tunnel.
    Text,
    /// A sign of life.
    Ping,
    /// The answer to one.
    Pong,
}

/// Makes a frame of `buffer`, whose first [`HEAD`] bytes are room for the head and whose rest is
/// the payload, in place; returns the index at which the frame begins.
pub fn seal(buffer: &mut [u8], kind: Kind, mask: [u8; 4]) -> usize {
    let length = buffer.len() - HEAD;
    let first = 0x80
        | match kind {
            Kind::Text => TEXT,
            Kind::Ping => PING,
            Kind::Pong => PONG,
        };
    apply_mask(&mut buffer[HEAD..], mask);
    buffer[HEAD - 4..HEAD].copy_from_slice(&mask);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => {
            buffer[HEAD - 6..HEAD - 4].copy_from_slice(&[first, 0x80 | short]);
            HEAD - 6
        }
        (_, Ok(middle)) => {
            buffer[HEAD - 8..HEAD - 6].copy_from_slice(&[first, 0x80 | 126]);
            buffer[HEAD - 6..HEAD - 4].copy_from_slice(&middle.to_be_bytes());
            HEAD - 8
        }
        (_, Err(_)) => {
            buffer[..2].copy_from_slice(&[first, 0x80 | 127]);
            buffer[2..HEAD - 4].copy_from_slice(&(length as u64).to_be_bytes());
            0
        }
    }
}

/// Masks bytes in place, eight at a time.
fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let mut eight = [0; 8];
        eight.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
