//! The tunnel's own words (WIRE.md §9.2): `uvarint connection | uvarint kind | data`.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Deserialize;

/// The most bytes that connection and kind take together.
pub const MAX_HEAD: usize = 11;

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The cloud wants a log.
    Logs,
    /// The cloud wants a command run.
    Exec,
    /// The cloud wants numbers.
    Metrics,
    /// Bytes of a connection.
    Data,
    /// A connection is over.
    Remove,
    /// The cloud does not want the tunnel.
    Close,
    /// The cloud wants a running process.
    Attach,
}

impl Kind {
    const fn of(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Logs,
            1 => Self::Exec,
            2 => Self::Metrics,
            3 => Self::Data,
            4 => Self::Remove,
            5 => Self::Close,
            6 => Self::Attach,
            _ => return None,
        })
    }

    const fn number(self) -> u8 {
        match self {
            Self::Logs => 0,
            Self::Exec => 1,
            Self::Metrics => 2,
            Self::Data => 3,
            Self::Remove => 4,
            Self::Close => 5,
            Self::Attach => 6,
        }
    }
}

/// A frame, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Of which connection, by the cloud's number.
    pub connection: u64,
    /// What it is about.
    pub kind: Kind,
    /// The rest.
    pub data: Bytes,
}

impl Frame {
    /// Reads a frame; nothing when it is none, or of a kind that is not known.
    #[must_use]
    pub fn read(mut bytes: Bytes) -> Option<Self> {
        let connection = uvarint(&mut bytes)?;
        let kind = Kind::of(uvarint(&mut bytes)?)?;
        Some(Self { connection, kind, data: bytes })
    }
}

/// Reads a number as Go's encoding/binary writes it.
fn uvarint(bytes: &mut Bytes) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        if bytes.is_empty() {
            return None;
        }
        let byte = bytes.get_u8();
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Writes what a frame begins with.
pub fn write_head(buffer: &mut BytesMut, mut connection: u64, kind: Kind) {
    loop {
        let [low, ..] = (connection & 0x7f).to_le_bytes();
        connection >>= 7;
        if connection == 0 {
            buffer.put_u8(low);
            break;
        }
        buffer.put_u8(0x80 | low);
    }
    buffer.put_u8(kind.number());
}

/// What the cloud wants, as it writes it. The number of the connection is in the frame, too, and
/// taken from there.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Connect {
    /// What is asked for.
    #[serde(default)]
    pub url: Url,
    /// `null` where a Go map was never made.
    #[serde(default)]
    pub header: Option<BTreeMap<String, Vec<String>>>,
    /// Of an exec or attach.
    #[serde(default)]
    pub method: String,
}

/// Go's `url.URL`, as far as it matters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Url {
    /// `http`.
    pub scheme: String,
    /// Of addresses without a host; not used here.
    pub opaque: String,
    /// With the port.
    pub host: String,
    /// Without escapes.
    pub path: String,
    /// With escapes, where they are not the usual ones.
    pub raw_path: String,
    /// With escapes.
    pub raw_query: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_frame_is_none() {
        for bytes in [&b""[..], b"\x01", b"\x80", b"\x01\x07", &[0xff; 12]] {
            assert_eq!(Frame::read(Bytes::copy_from_slice(bytes)), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn frames_are_read_as_written(connection: u64, kind in 0u64..7, data: Vec<u8>) {
            let kind = Kind::of(kind).unwrap();
            let mut buffer = BytesMut::new();
            write_head(&mut buffer, connection, kind);
            prop_assert!(buffer.len() <= MAX_HEAD);
            buffer.extend_from_slice(&data);
            let read = Frame::read(buffer.freeze());
            prop_assert_eq!(read, Some(Frame { connection, kind, data: data.into() }));
        }

        #[test]
        fn rubbish_never_panics(bytes: Vec<u8>) {
            let _whatever = Frame::read(bytes.clone().into());
            let _whatever = serde_json::from_slice::<Connect>(&bytes);
        }
    }
}
