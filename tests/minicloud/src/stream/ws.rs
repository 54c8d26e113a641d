//! The server's side of a WebSocket, as gorilla's: text is not checked for UTF-8.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The greatest frame that is taken.
const MAX_FRAME: u64 = 2 << 20;

/// Bytes that a read has room for at the least.
const READ: usize = 64 * 1024;

/// Bytes of a mask.
const MASK: usize = 4;

/// A frame of the node.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Bytes,
}

/// What the node sends.
#[derive(Debug)]
pub(crate) struct Source<R> {
    stream: R,
    /// What was read and is no frame yet.
    input: BytesMut,
}

impl<R: AsyncRead + Unpin> Source<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, input: BytesMut::new() }
    }

    /// Reads a frame, whose mask has to be there.
    ///
    /// # Errors
    /// When the connection ends, or the frame is none that a node may send.
    pub(crate) async fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some((opcode, head, length)) = head(&self.input)?
                && self.input.len() >= head + length
            {
                let mut payload = self.input.split_to(head + length);
                payload.advance(head - MASK);
                let mask = payload.split_to(MASK);
                unmask(&mut payload, &mask);
                return Ok(Frame { opcode, payload: payload.freeze() });
            }
            self.input.reserve(READ);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Reads the head of a frame: its opcode, and the lengths of head and payload; nothing as long as it
/// is not there.
fn head(input: &[u8]) -> io::Result<Option<(u8, usize, usize)>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let [first, second, rest @ ..] = input else { return Ok(None) };
    if first & 0xf0 != 0x80 {
        return Err(wrong("a node sends whole messages without extensions"));
    }
    if second & 0x80 == 0 {
        return Err(wrong("a node masks its frames"));
    }
    let (length, head) = match (second & 0x7f, rest) {
        (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10)
        }
        (126 | 127, _) => return Ok(None),
        (short, _) => (u64::from(short), 2),
    };
    match usize::try_from(length) {
        Ok(payload) if length <= MAX_FRAME => Ok(Some((first & 0x0f, head + MASK, payload))),
        Ok(_) | Err(_) => Err(wrong("the frame is too long")),
    }
}

/// Takes the mask off, eight bytes at a time: what a test measures should not be this.
fn unmask(payload: &mut [u8], mask: &[u8]) {
    let mask: [u8; 8] = std::array::from_fn(|index| mask[index % MASK]);
    let mut words = payload.chunks_exact_mut(mask.len());
    for word in &mut words {
        word.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
    words.into_remainder().iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

/// Writes a message, whose parts follow each other, in one frame.
///
/// # Errors
/// When the connection ends.
pub(crate) async fn write<W: AsyncWrite + Unpin>(
    sink: &mut W,
    opcode: u8,
    parts: &[&[u8]],
) -> io::Result<()> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = Vec::with_capacity(10 + length);
    frame.push(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => frame.push(short),
        (_, Ok(middle)) => {
            frame.push(126);
            frame.extend(middle.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    for part in parts {
        frame.extend_from_slice(part);
    }
    sink.write_all(&frame).await
}
