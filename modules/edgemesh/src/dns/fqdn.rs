//! Names in DNS (RFC 1035 §3.1): labels of bytes, compared without regard to the case of ASCII letters.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name, in bytes of the wire.
const MAX: usize = 255;

/// The longest label, in bytes.
const MAX_LABEL: usize = 63;

/// A name, as on the wire without pointers: each label behind its length, and a zero.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Domain(Box<[u8]>);

impl Domain {
    /// Joins labels; nothing when one is empty or too long, or the whole is.
    pub(super) fn of<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut wire = Vec::new();
        for label in labels {
            let length = u8::try_from(label.len()).ok().filter(|_| label.len() <= MAX_LABEL)?;
            if length == 0 {
                return None;
            }
            wire.push(length);
            wire.extend_from_slice(label);
        }
        wire.push(0);
        (wire.len() <= MAX).then(|| Self(wire.into()))
    }

    /// Reads a name as people write it; a dot at its end is passed over.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.trim_end_matches('.') {
            "" => Self::of([]),
            text => Self::of(text.split('.').map(str::as_bytes)),
        }
    }

    /// Returns this name behind further labels.
    pub(super) fn under<'a>(&'a self, labels: &[&'a str]) -> Option<Self> {
        Self::of(labels.iter().map(|label| label.as_bytes()).chain(self.labels()))
    }

    pub(super) fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first()?;
            let (label, after) = behind.split_at_checked(usize::from(*length))?;
            rest = after;
            (*length > 0).then_some(label)
        })
    }

    /// Returns the bytes of the wire.
    pub(super) fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Returns the name in lower case, which stands for all its spellings.
    pub(super) fn folded(&self) -> Self {
        // A length is at most 63, which is no letter.
        Self(self.0.to_ascii_lowercase().into())
    }

    /// Returns the labels before `zone`, if the name is in it, in lower case.
    pub(super) fn within(&self, zone: &Self) -> Option<Vec<String>> {
        let labels: Vec<_> = self.labels().collect();
        let of_zone: Vec<_> = zone.labels().collect();
        let split = labels.len().checked_sub(of_zone.len())?;
        let (before, end) = labels.split_at(split);
        let is_in = end.iter().zip(&of_zone).all(|(one, other)| one.eq_ignore_ascii_case(other));
        let text =
            |label: &&[u8]| String::from_utf8_lossy(&label.to_ascii_lowercase()).into_owned();
        is_in.then(|| before.iter().map(text).collect())
    }

    /// Returns the address whose name this is in the reverse zones.
    pub(super) fn reversed(&self) -> Option<IpAddr> {
        if let Some(labels) = self.within(&Self::parse("in-addr.arpa")?) {
            let mut bytes = [0; 4];
            let digits = labels.iter().rev();
            for (byte, label) in bytes.iter_mut().zip(digits) {
                *byte = label.parse().ok()?;
            }
            return (labels.len() == 4).then(|| Ipv4Addr::from(bytes).into());
        }
        let labels = self.within(&Self::parse("ip6.arpa")?)?;
        let mut bits: u128 = 0;
        for label in labels.iter().rev() {
            let digit = label.chars().next().filter(|_| label.len() == 1)?.to_digit(16)?;
            bits = bits << 4 | u128::from(digit);
        }
        (labels.len() == 32).then(|| Ipv6Addr::from(bits).into())
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in self.labels() {
            write!(f, "{}.", label.escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
