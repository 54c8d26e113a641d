//! Keys: made as PKCS#8, kept as SEC1 (`EC PRIVATE KEY`), which is what the Go edgecore reads.

/// The bytes before the private number in the SEC1 form of a P-256 key.
const SEC1_HEAD: &[u8] = &[0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20];

/// The bytes between the private number and the public point: the curve's name, and the point's
/// header.
const SEC1_CURVE: &[u8] = &[
    0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0xa1, 0x44, 0x03, 0x42,
    0x00,
];

/// The bytes between the private number and the public point inside PKCS#8, where the curve stands
/// before the key.
const PKCS8_POINT: &[u8] = &[0xa1, 0x44, 0x03, 0x42, 0x00];

/// The bytes of the private number.
const NUMBER: usize = 32;

/// The bytes of the public point, uncompressed.
const POINT: usize = 65;

/// Rewrites a P-256 key from PKCS#8, as ring writes it, to SEC1. Nothing for anything else.
pub(crate) fn sec1(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let (rest, point) = pkcs8.split_at_checked(pkcs8.len().checked_sub(POINT)?)?;
    let rest = rest.strip_suffix(PKCS8_POINT)?;
    let (rest, number) = rest.split_at_checked(rest.len().checked_sub(NUMBER)?)?;
    // Version 1 and an octet string of 32 bytes stand before the number.
    if !rest.ends_with(&SEC1_HEAD[2..]) || point.first() != Some(&4) {
        return None;
    }
    Some([SEC1_HEAD, number, SEC1_CURVE, point].concat())
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData as _;
    use tokio_rustls::rustls::crypto::ring::sign::any_ecdsa_type;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivateSec1KeyDer};

    use super::*;

    #[test]
    fn a_key_stays_the_same_key() {
        let key = rcgen::KeyPair::generate().expect("there is randomness");
        let sec1 = sec1(key.serialized_der()).expect("ring writes P-256 keys so");
        assert_eq!(sec1.len(), 121);
        let sec1 = PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(sec1));
        let signer = any_ecdsa_type(&sec1).expect("a key");
        let public = signer.public_key().expect("its public half");
        assert_eq!(public.as_ref(), key.subject_public_key_info());
    }

    #[test]
    fn anything_else_is_none() {
        for rubbish in [&b""[..], &[4; 65], &[0x30; 138], &[0; 200]] {
            assert_eq!(sec1(rubbish), None);
        }
    }
}
