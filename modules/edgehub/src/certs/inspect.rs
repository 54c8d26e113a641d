//! What a certificate says of itself.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The part of its life after which a certificate is renewed, in percent: between these two, as
/// KubeEdge's (WIRE.md §3.5).
const RENEWED: (i64, i64) = (70, 90);

/// What matters of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The subject's common name.
    pub(crate) common_name: String,
    /// Unix seconds.
    pub(crate) not_before: i64,
    /// Unix seconds.
    pub(crate) not_after: i64,
    /// A number from 0 to 255 that is this certificate's own.
    spread: u8,
}

impl Facts {
    /// Reads a certificate; nothing when it is none.
    pub(crate) fn read(certificate: &[u8]) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
        let validity = parsed.validity();
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        Some(Self {
            common_name: name.to_owned(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            spread: digest.as_ref().first().copied().unwrap_or(0),
        })
    }

    /// Tells whether the certificate holds no longer at `now`, in Unix seconds.
    pub(crate) const fn is_expired(&self, now: i64) -> bool {
        now > self.not_after
    }

    /// Returns when it is to be renewed, in Unix seconds: the same for this certificate at every
    /// start, and different from node to node.
    pub(crate) fn renew_at(&self) -> i64 {
        let life = (self.not_after - self.not_before).max(0);
        let (from, to) = RENEWED;
        let permille = from * 10 + i64::from(self.spread) * (to - from) * 10 / 255;
        let part = i128::from(life) * i128::from(permille) / 1000;
        self.not_before.saturating_add(i64::try_from(part).unwrap_or(i64::MAX))
    }

    /// Returns when it expires, as RFC 3339.
    pub(crate) fn expires(&self) -> String {
        rfc3339(self.not_after)
    }

    /// Returns the start of its life in Unix seconds, 0 for one before 1970.
    pub(crate) fn not_before_unsigned(&self) -> u64 {
        u64::try_from(self.not_before).unwrap_or(0)
    }
}

/// Writes Unix seconds as RFC 3339; a number that no calendar reaches as it is.
pub(crate) fn rfc3339(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| seconds.to_string())
}

/// Returns the common name of a node's certificate.
pub(crate) fn common_name(node: &str) -> String {
    format!("system:node:{node}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn renewal_falls_between_seventy_and_ninety_percent(
            not_before in -10_000i64..4_000_000_000, life in 1000i64..4_000_000_000, spread: u8,
        ) {
            let facts = Facts {
                common_name: String::new(), not_before, not_after: not_before + life, spread,
            };
            let part = (facts.renew_at() - not_before) as f64 / life as f64;
            prop_assert!((0.69..=0.901).contains(&part), "{part}");
        }

        #[test]
        fn rubbish_is_no_certificate(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Facts::read(&bytes), None);
        }
    }

    #[test]
    fn times_are_written_as_operators_read_them() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(i64::MAX), i64::MAX.to_string());
    }
}
