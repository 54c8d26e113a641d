//! The part of SPDY/3.1 that streams of a container need, as a client: streams are opened, carry
//! data and are half closed. Pure.
//!
//! Headers go out uncompressed in a compressed form's clothes (stored blocks), and those that come
//! in say nothing of interest, so there is no compression here.

/// The length of a frame's head, in bytes.
const HEAD: usize = 8;

/// The longest frame that is taken, in bytes.
const MAX_FRAME: usize = 1024 * 1024;

/// The longest frame that is sent, in bytes.
pub(super) const MAX_DATA: usize = 32 * 1024;

const SYN_STREAM: u8 = 1;
const SYN_REPLY: u8 = 2;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;

/// Says that nothing follows on a stream.
const FIN: u8 = 1;

/// What the other side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A stream is taken.
    Reply(u32),
    /// A stream carries this, and ends with it or not.
    Data(u32, Vec<u8>, bool),
    /// A stream is over for both sides.
    Reset(u32),
    /// The frame that answers a ping.
    Ping(Vec<u8>),
    /// It will end.
    GoAway,
    /// Nothing of interest.
    Other,
}

/// Returns the frame that opens a stream. `first` is whether it is the connection's first.
pub(super) fn open(stream: u32, kind: &str, first: bool) -> Vec<u8> {
    let mut headers = Vec::new();
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend(length(text.len()).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    headers.extend(1_u32.to_be_bytes());
    text(&mut headers, "streamtype");
    text(&mut headers, kind);
    let size = u16::try_from(headers.len()).expect("one short header");
    let mut body = stream.to_be_bytes().to_vec();
    // No stream that it belongs to, no priority.
    body.extend([0; 6]);
    if first {
        // zlib's head: deflate, no dictionary.
        body.extend([0x78, 0x01]);
    }
    // A block that is stored as it is, and an empty one that has it handed on.
    body.push(0);
    body.extend(size.to_le_bytes());
    body.extend((!size).to_le_bytes());
    body.extend(headers);
    body.extend([0, 0, 0, 0xff, 0xff]);
    let mut frame = vec![0x80, 3, 0, SYN_STREAM];
    frame.extend(length(body.len()).to_be_bytes());
    frame.extend(body);
    frame
}

/// Returns the frame that carries data; without data it says that nothing follows.
pub(super) fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    let mut frame = stream.to_be_bytes().to_vec();
    let flags = if bytes.is_empty() { u32::from(FIN) << 24 } else { 0 };
    frame.extend((flags | length(bytes.len())).to_be_bytes());
    frame.extend_from_slice(bytes);
    frame
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("frames are short")
}

/// Takes the first frame out of what came; nothing when it is not all there yet.
///
/// # Errors
/// A text that says what is wrong.
pub(super) fn take(input: &mut Vec<u8>) -> Result<Option<Said>, String> {
    let Some(head) = input.first_chunk::<HEAD>().copied() else { return Ok(None) };
    let number =
        |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (flags, size) = (head[4], number(4) & 0x00ff_ffff);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > MAX_FRAME {
        return Err(format!("a frame of {size} bytes, expected at most {MAX_FRAME}"));
    }
    if input.len() < HEAD + size {
        return Ok(None);
    }
    let frame: Vec<u8> = input.drain(..HEAD + size).collect();
    let body = &frame[HEAD..];
    if head[0] & 0x80 == 0 {
        return Ok(Some(Said::Data(number(0), body.to_vec(), flags & FIN != 0)));
    }
    let stream = body.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    Ok(Some(match (head[3], stream) {
        (SYN_REPLY, Some(stream)) => Said::Reply(stream),
        (RST_STREAM, Some(stream)) => Said::Reset(stream),
        (PING, Some(_)) => Said::Ping(frame),
        (GO_AWAY, _) => Said::GoAway,
        _ => Said::Other,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_opened_in_stored_blocks() {
        let frame = open(1, "error", true);
        assert_eq!(frame[..12], [0x80, 3, 0, 1, 0, 0, 0, 49, 0, 0, 0, 1]);
        assert_eq!(frame[18..25], [0x78, 1, 0, 27, 0, 228, 255]);
        assert_eq!(frame[25..], *b"\0\0\0\x01\0\0\0\x0astreamtype\0\0\0\x05error\0\0\0\xff\xff");
        assert_eq!(open(3, "stdin", false).len(), frame.len() - 2);
    }

    #[test]
    fn frames_come_in_pieces_and_out_whole() {
        let mut input = Vec::new();
        let mut said = Vec::new();
        let mut bytes = data(3, b"hi");
        bytes.extend(data(3, b""));
        bytes.extend([0x80, 3, 0, 2, 0, 0, 0, 6, 0, 0, 0, 5, 9, 9]);
        bytes.extend([0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 7, 0, 0, 0, 1]);
        bytes.extend([0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2]);
        for byte in bytes {
            input.push(byte);
            said.extend(take(&mut input).unwrap());
        }
        let ping = vec![0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2];
        let expected = [
            Said::Data(3, b"hi".to_vec(), false),
            Said::Data(3, Vec::new(), true),
            Said::Reply(5),
            Said::Reset(7),
            Said::Ping(ping),
        ];
        assert_eq!(said, expected);
        assert!(take(&mut vec![0, 0, 0, 1, 0, 255, 255, 255]).is_err());
    }
}
