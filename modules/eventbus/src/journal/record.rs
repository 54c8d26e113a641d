//! What is written down, so that it survives this process: one record for each change.
//!
//! A record on the disk is its length, its checksum, and its words; a message's body stands behind
//! them as it came.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::core::QueueId;
use crate::mqtt::{Options, Qos};

/// Length and checksum.
const HEAD: usize = 8;

/// No record is larger than the largest packet, with the names of all who are to have it.
const MAX_RECORD: usize = crate::mqtt::MAX_PACKET + 1024 * 1024;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// Whose journal it is, and the number of the last message; the first record.
    Begin {
        /// Drawn once, when the journal was made.
        identity: u64,
        /// The last number that a message had.
        sequence: u64,
    },
    /// A message.
    Message(Kept),
    /// One who was to have a message has it.
    Done {
        /// Who.
        queue: QueueId,
        /// The message.
        sequence: u64,
    },
    /// One who was to have a message exactly once has seen it.
    Received {
        /// Who.
        queue: QueueId,
        /// The message.
        sequence: u64,
    },
    /// A client's session that outlives its connection, or what changed of it.
    Session {
        /// Its queue.
        queue: QueueId,
        /// The client.
        client: Box<str>,
        /// How long it outlives the connection, in seconds.
        expiry: u32,
        /// When it ends, in Unix milliseconds; absent while the client is connected.
        ends: Option<i64>,
    },
    /// A session ended.
    Gone {
        /// Its queue.
        queue: QueueId,
    },
    /// A session subscribed.
    Subscribed {
        /// Its queue.
        queue: QueueId,
        /// To what.
        filter: Box<str>,
        /// How.
        options: Options,
    },
    /// A session no longer wants what it subscribed to.
    Unsubscribed {
        /// Its queue.
        queue: QueueId,
        /// What.
        filter: Box<str>,
    },
    /// A message with QoS 2 came from a client.
    Inbound {
        /// The queue of its session.
        queue: QueueId,
        /// The identity of the packet.
        id: u16,
    },
    /// The client will not send it again.
    Released {
        /// The queue of its session.
        queue: QueueId,
        /// The identity of the packet.
        id: u16,
    },
    /// The cloud wants a topic, or no longer.
    Topic {
        /// The topic, or a filter.
        topic: Box<str>,
        /// Whether it is wanted.
        wanted: bool,
    },
}

/// A message, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Its number.
    pub(crate) sequence: u64,
    /// When it came, in Unix milliseconds.
    pub(crate) at: i64,
    /// When it is worth nothing any more, in Unix milliseconds.
    pub(crate) expires: Option<i64>,
    /// Its topic.
    pub(crate) topic: Box<str>,
    /// How surely it was published.
    pub(crate) qos: Qos,
    /// Whether it is the one to be kept for later subscribers of its topic.
    pub(crate) retain: bool,
    /// What of its properties is passed on.
    pub(crate) properties: Vec<u8>,
    /// Who is to have it.
    pub(crate) to: Vec<Address>,
    /// Its body.
    #[serde(skip)]
    pub(crate) payload: Bytes,
}

/// Who is to have a message, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    /// Who.
    pub(crate) queue: QueueId,
    /// The identity of the packet that takes it there.
    pub(crate) id: u16,
    /// How surely.
    pub(crate) qos: Qos,
    /// Whether the packet says that it was kept.
    pub(crate) retain: bool,
}

impl Record {
    /// Appends the record as it stands on the disk.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_bytes(0, HEAD);
        let words = postcard::to_stdvec(self).expect("records have no shape that can fail");
        out.put_slice(&words);
        if let Self::Message(kept) = self {
            out.put_slice(&kept.payload);
        }
        let body = &out[start + HEAD..];
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let sum = checksum(body).to_le_bytes();
        out[start..start + 4].copy_from_slice(&length);
        out[start + 4..start + HEAD].copy_from_slice(&sum);
    }

    /// Takes the first record out of `from`; nothing when it is not whole: there a write was cut
    /// off, and nobody was told of what it held.
    pub(crate) fn read(from: &mut Bytes) -> Option<Self> {
        let mut head = from.clone();
        let length = usize::try_from(head.try_get_u32_le().ok()?).ok()?;
        let sum = head.try_get_u32_le().ok()?;
        if length > MAX_RECORD || head.len() < length {
            return None;
        }
        let body = head.split_to(length);
        if checksum(&body) != sum {
            return None;
        }
        let (mut record, rest) = postcard::take_from_bytes::<Self>(&body).ok()?;
        if let Self::Message(kept) = &mut record {
            kept.payload = body.slice_ref(rest);
        } else if !rest.is_empty() {
            return None;
        }
        from.advance(HEAD + length);
        Some(record)
    }
}

/// The table of CRC-32 (IEEE 802.3).
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u32;
    while byte < 256 {
        let mut sum = byte;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
            bit += 1;
        }
        table[byte as usize] = sum;
        byte += 1;
    }
    table
};

fn checksum(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(u32::MAX, |sum, byte| sum >> 8 ^ TABLE[usize::from(sum.to_le_bytes()[0] ^ byte)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
    }

    proptest! {
        #[test]
        fn records_come_back_up_to_where_a_write_was_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut disk = BytesMut::new();
            let mut ends = Vec::new();
            let records: Vec<Record> = payloads.into_iter().enumerate().map(|(at, payload)| {
                let to = vec![Address { queue: 1, id: 7, qos: Qos::AtLeastOnce, retain: false }];
                Record::Message(Kept {
                    sequence: at as u64, at: 1, expires: None, topic: "a/b".into(),
                    qos: Qos::AtLeastOnce, retain: false, properties: vec![1, 0], to,
                    payload: payload.into(),
                })
            }).collect();
            for record in &records {
                record.write(&mut disk);
                ends.push(disk.len());
            }
            let cut = cut.index(disk.len() + 1);
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let mut disk = disk.freeze().slice(..cut);
            let read: Vec<Record> = std::iter::from_fn(|| Record::read(&mut disk)).collect();
            prop_assert_eq!(&read[..], &records[..whole]);
        }

        #[test]
        fn rubbish_is_no_record(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = Bytes::from(bytes);
            while Record::read(&mut bytes).is_some() {}
        }
    }
}
