//! The tunnel's own words (WIRE.md §9.2): `uvarint connection | uvarint kind | data`.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Deserialize;

/// The most bytes that connection and kind take together.
pub(crate) const MAX_HEAD: usize = 11;

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
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
pub(crate) struct Frame {
    pub(crate) connection: u64,
    pub(crate) kind: Kind,
    pub(crate) data: Bytes,
}

impl Frame {
    /// Reads a frame; nothing when it is none, or of a kind that is not known.
    pub(crate) fn read(mut bytes: Bytes) -> Option<Self> {
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
pub(crate) fn write_head(buffer: &mut BytesMut, mut connection: u64, kind: Kind) {
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
pub(crate) struct Connect {
    #[serde(default)]
    pub(crate) url: Url,
    /// `null` where a Go map was never made.
    #[serde(default)]
    pub(crate) header: Option<BTreeMap<String, Vec<String>>>,
    #[serde(default)]
    pub(crate) method: String,
}

/// Go's `url.URL`, as far as it matters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Url {
    pub(crate) scheme: String,
    pub(crate) opaque: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) raw_path: String,
    pub(crate) raw_query: String,
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
