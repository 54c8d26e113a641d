//! Identities: of a message, and of one life of a process.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The identity of a message (`msg_id` on the wire, WIRE.md §1.1).
///
/// KubeEdge writes lower-case UUIDs; those take 16 bytes and no allocation. Any other text is kept
/// as it came, because a reply must name it letter for letter.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MessageId {
    /// A UUID in the usual lower-case form with four dashes.
    Uuid([u8; 16]),
    /// Anything else, kept to the letter.
    Text(Box<str>),
}

impl MessageId {
    /// Makes a version 4 UUID of 16 random bytes, which the caller draws.
    #[must_use]
    pub const fn from_random(mut random: [u8; 16]) -> Self {
        random[6] = random[6] & 0x0f | 0x40;
        random[8] = random[8] & 0x3f | 0x80;
        Self::Uuid(random)
    }

    /// Takes an id as it stands on the wire.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        parse_uuid(text.as_bytes()).map_or_else(|| Self::Text(text.into()), Self::Uuid)
    }
}

/// The places of the dashes in a UUID's text.
const DASHES: [usize; 4] = [8, 13, 18, 23];

fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 || DASHES.iter().any(|&at| text[at] != b'-') {
        return None;
    }
    let mut digits = text.iter().enumerate().filter(|(at, _)| !DASHES.contains(at));
    let mut uuid = [0; 16];
    for byte in &mut uuid {
        let (_, high) = digits.next()?;
        let (_, low) = digits.next()?;
        *byte = hex(*high)? << 4 | hex(*low)?;
    }
    Some(uuid)
}

/// Returns the value of a lower-case hexadecimal digit; upper case is not taken, because it would
/// not come back as it was.
const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Uuid(uuid) => {
                let mut text = [b'-'; 36];
                let places = (0..36).filter(|at| !DASHES.contains(at));
                let nibbles = uuid.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
                for (at, nibble) in places.zip(nibbles) {
                    text[at] = b"0123456789abcdef"[usize::from(nibble)];
                }
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

/// The identity of one life of a process: drawn at random at its start, so that a peer can tell a
/// connection that was cut from a process that died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Instance(pub u64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_comes_back_as_it_was(text in ".{0,80}") {
            prop_assert_eq!(MessageId::parse(&text).to_string(), text);
        }

        #[test]
        fn every_uuid_comes_back_and_takes_no_text(random in any::<[u8; 16]>()) {
            let id = MessageId::from_random(random);
            let text = id.to_string();
            prop_assert_eq!(text.as_bytes()[14], b'4');
            prop_assert_eq!(MessageId::parse(&text), id);
        }
    }

    #[test]
    fn upper_case_stays_upper_case() {
        let text = "07FC34EE-832f-4364-89eb-579fc0e49c7d";
        assert!(matches!(MessageId::parse(text), MessageId::Text(_)));
        assert_eq!(MessageId::parse(text).to_string(), text);
    }
}
