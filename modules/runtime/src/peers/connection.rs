//! One connection to a peer: bytes in batches, both ways.
//!
//! Memory for reading is taken when there is something to read and given back when all of it was
//! taken, so an idle connection holds none. What goes out is written as it lies, without a copy.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use ipc_proto::frame::{self, Frame, FrameError};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// The first read of a burst, in bytes: many small messages, or the head of a large one.
const FIRST_READ: usize = 8 * 1024;

/// The greatest read in bytes: beyond this a larger one saves nothing, and memory of this size
/// still goes back to the heap and not to the kernel.
const LARGEST_READ: usize = 64 * 1024;

/// Parts written in one call, at most; the kernel allows 1,024.
const PARTS: usize = 256;

/// Bytes that are lined up for one write, at most, as soon as more than one message is.
const BATCH: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    input: BytesMut,
    next_read: usize,
    output: VecDeque<Bytes>,
    output_bytes: usize,
}

/// Why [`Connection::ready`] came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// There are new bytes to take frames from.
    Read,
    /// The peer's end was closed.
    End,
    /// There is room to write what was left over.
    Write,
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            next_read: FIRST_READ,
            output: VecDeque::new(),
            output_bytes: 0,
        }
    }

    /// Waits until something came in, or until what is left over can be written.
    pub(crate) async fn ready(&mut self) -> io::Result<Ready> {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(read) = self.poll_read(cx)? {
                return Poll::Ready(Ok(read));
            }
            if self.output.is_empty() {
                return Poll::Pending;
            }
            self.stream.poll_write_ready(cx).map_ok(|()| Ready::Write)
        })
        .await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ready!(self.stream.poll_read_ready(cx))?;
        let wanted = frame::frame_length(&self.input).ok().flatten().unwrap_or(0);
        let missing = wanted.saturating_sub(self.input.len());
        self.input.reserve(missing.max(self.next_read));
        let room = self.input.capacity() - self.input.len();
        let read = pin!(self.stream.read_buf(&mut self.input)).poll(cx);
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        match ready!(read) {
            Ok(0) => Poll::Ready(Ok(Ready::End)),
            Ok(read) => {
                if read == room {
                    self.next_read = (self.next_read * 2).min(LARGEST_READ);
                }
                Poll::Ready(Ok(Ready::Read))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Takes the next whole frame of what was read, and how many bytes it took.
    pub(crate) fn take(&mut self) -> Result<Option<(Frame, u32)>, FrameError> {
        let before = self.input.len();
        let frame = frame::take(&mut self.input)?;
        if self.input.is_empty() && self.input.capacity() > 0 {
            self.input = BytesMut::new();
            self.next_read = FIRST_READ;
        }
        let taken = u32::try_from(before - self.input.len()).unwrap_or(u32::MAX);
        Ok(frame.map(|frame| (frame, taken)))
    }

    /// Lines bytes up for writing.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.output_bytes += bytes.len();
            self.output.push_back(bytes);
        }
    }

    /// Tells whether enough is lined up for one write.
    pub(crate) fn is_batch(&self) -> bool {
        self.output_bytes >= BATCH || self.output.len() >= PARTS - 1
    }

    /// Tells whether all was written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// Writes what the kernel takes now; the rest waits for [`Ready::Write`].
    pub(crate) fn write(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            let mut parts = [IoSlice::new(&[]); PARTS];
            let count = self.output.len().min(PARTS);
            for (part, bytes) in parts.iter_mut().zip(&self.output) {
                *part = IoSlice::new(bytes);
            }
            match self.stream.try_write_vectored(&parts[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn written(&mut self, mut count: usize) {
        self.output_bytes -= count;
        while let Some(first) = self.output.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.output.pop_front();
        }
    }
}
