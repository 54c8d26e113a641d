//! The server's side of a WebSocket, as gorilla's: text is not checked for UTF-8.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The greatest frame that is taken.
const MAX_FRAME: u64 = 2 << 20;

/// A frame of the node.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// Reads a frame, whose mask has to be there.
///
/// # Errors
/// When the connection ends, or the frame is none that a node may send.
pub(crate) async fn read<R: AsyncRead + Unpin>(source: &mut R) -> io::Result<Frame> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let first = source.read_u8().await?;
    let second = source.read_u8().await?;
    if first & 0xf0 != 0x80 {
        return Err(wrong("a node sends whole messages without extensions"));
    }
    if second & 0x80 == 0 {
        return Err(wrong("a node masks its frames"));
    }
    let length = match second & 0x7f {
        126 => u64::from(source.read_u16().await?),
        127 => source.read_u64().await?,
        short => u64::from(short),
    };
    if length > MAX_FRAME {
        return Err(wrong("the frame is too long"));
    }
    let mut mask = [0; 4];
    source.read_exact(&mut mask).await?;
    let mut payload = vec![0; usize::try_from(length).map_err(|_| wrong("the frame is too long"))?];
    source.read_exact(&mut payload).await?;
    // Four at a time: what a test measures should not be this.
    for four in payload.chunks_mut(4) {
        for (byte, mask) in four.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
    Ok(Frame { opcode: first & 0x0f, payload })
}

/// Writes a message in one frame.
///
/// # Errors
/// When the connection ends.
pub(crate) async fn write<W: AsyncWrite + Unpin>(
    sink: &mut W,
    opcode: u8,
    payload: &[u8],
) -> io::Result<()> {
    let mut frame = vec![0x80 | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(short),
        (_, Ok(middle)) => {
            frame.push(126);
            frame.extend(middle.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    sink.write_all(&frame).await
}
