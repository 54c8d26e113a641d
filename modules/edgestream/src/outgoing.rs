//! The way up: what waits to go out, and who writes it.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::frames::{self, HEAD};
use crate::trouble::Trouble;
use crate::words::{self, Kind, MAX_HEAD};

/// A frame to go out: [`HEAD`] bytes of room, then the payload.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) kind: frames::Kind,
    buffer: BytesMut,
}

impl Outgoing {
    /// A message of the tunnel, with its room.
    pub(crate) const fn text(buffer: BytesMut) -> Self {
        Self { kind: frames::Kind::Text, buffer }
    }

    /// A ping or the answer to one.
    pub(crate) fn control(kind: frames::Kind, payload: &[u8]) -> Self {
        let mut buffer = BytesMut::zeroed(HEAD);
        buffer.extend_from_slice(payload);
        Self { kind, buffer }
    }

    /// A word of the tunnel itself on a connection.
    pub(crate) fn said(connection: u64, kind: Kind, data: &[u8]) -> Self {
        let mut buffer = BytesMut::with_capacity(HEAD + MAX_HEAD + data.len());
        buffer.resize(HEAD, 0);
        words::write_head(&mut buffer, connection, kind);
        buffer.extend_from_slice(data);
        Self::text(buffer)
    }
}

/// Writes what is queued until the tunnel ends; `pinged` hears of each ping that is
/// out, and how many bytes went before it.
pub(crate) async fn write<S: AsyncWrite + Unpin>(
    mut sink: S,
    mut queue: mpsc::Receiver<Outgoing>,
    patience: Duration,
    pinged: watch::Sender<usize>,
) -> Trouble {
    let mut before = 0;
    while let Some(Outgoing { kind, mut buffer }) = queue.recv().await {
        let [mask @ .., _, _, _, _] = module_runtime::instance().0.to_ne_bytes();
        let start = frames::seal(&mut buffer, kind, mask);
        buffer.advance(start);
        while !buffer.is_empty() {
            match timeout(patience, sink.write(&buffer)).await {
                Ok(Ok(written)) => {
                    buffer.advance(written);
                    before += written;
                }
                Ok(Err(error)) => return Trouble::Broken(error),
                Err(_) => return Trouble::Stalled(patience),
            }
        }
        if queue.is_empty() {
            match timeout(patience, sink.flush()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Trouble::Broken(error),
                Err(_) => return Trouble::Stalled(patience),
            }
        }
        if kind == frames::Kind::Ping {
            pinged.send_replace(std::mem::take(&mut before));
        }
    }
    Trouble::Ending
}
