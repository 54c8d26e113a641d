//! What is asked of edgestream's decoders: WebSocket frames, and the tunnel's words in them.
//!
//! libFuzzer runs this function through `fuzz_targets/`, the ordinary tests through
//! `modules/edgestream/tests/decoders.rs`; both include this file.

use bytes::{Bytes, BytesMut};
use edgestream::frames::{self, Decoder, HEAD, MAX_MESSAGE, Message};
use edgestream::words::{self, Connect, Frame};

/// What a cloud sends: it comes out the same however it was cut, and a frame that is taken comes
/// back the same when it is written and read once more.
pub(crate) fn frames(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let (whole, broken) = decoded(bytes, usize::MAX);
    let (pieces, later) = decoded(bytes, usize::from(*cut).max(1));
    assert_eq!((&pieces, later), (&whole, broken), "cut every {cut} bytes");
    for message in whole {
        let Message::Data(bytes) = message else { continue };
        assert!(bytes.len() <= MAX_MESSAGE, "a message over the bound");
        let Some(frame) = Frame::read(bytes) else { continue };
        let written = written(&frame);
        let again = Frame::read(written.clone());
        assert_eq!(again.as_ref(), Some(&frame), "written and read once more");
        let _whatever = serde_json::from_slice::<Connect>(&frame.data);
        // Sealed by the node and with its mask of nothing taken away it is a server's frame.
        let mut sealed = BytesMut::zeroed(HEAD);
        sealed.extend_from_slice(&written);
        let start = frames::seal(&mut sealed, frames::Kind::Text, [0; 4]);
        let mut served = sealed[start..].to_vec();
        served[1] &= 0x7f;
        served.drain(HEAD - start - 4..HEAD - start);
        assert_eq!(decoded(&served, usize::MAX).0, [Message::Data(written)]);
    }
}

/// Decodes bytes that come in such pieces, up to their end or what is no frame.
fn decoded(bytes: &[u8], cut: usize) -> (Vec<Message>, bool) {
    let mut decoder = Decoder::new(BytesMut::new());
    let mut messages = Vec::new();
    for piece in bytes.chunks(cut) {
        decoder.input.extend_from_slice(piece);
        loop {
            match decoder.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
    }
    (messages, false)
}

fn written(frame: &Frame) -> Bytes {
    let mut buffer = BytesMut::new();
    words::write_head(&mut buffer, frame.connection, frame.kind);
    buffer.extend_from_slice(&frame.data);
    buffer.freeze()
}
