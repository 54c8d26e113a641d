//! The public keys that service accounts' tokens are signed with.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
    VerificationAlgorithm,
};
use tokio_rustls::rustls::pki_types::pem::{PemObject as _, SectionKind};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey as Kind;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The greatest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// A key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublicKey {
    /// As PKCS#1 writes it.
    Rsa(Vec<u8>),
    /// A point of P-256 or P-384, uncompressed.
    Ec(Vec<u8>),
}

impl PublicKey {
    /// Reads the keys of a file: PEM, public keys or certificates.
    ///
    /// # Errors
    /// When the file cannot be read or has no key that is known here.
    pub(crate) fn read(file: &Path) -> Result<Vec<Self>> {
        let name = file.display();
        let metadata = file.metadata().with_context(|| format!("cannot read {name}"))?;
        ensure!(metadata.len() <= MAX_FILE, "{name} is over 1 MiB");
        let text = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
        let keys = Self::parse(&text).map_err(|error| anyhow!("{name}: {error}"))?;
        ensure!(!keys.is_empty(), "{name} has no public key of RSA, P-256 or P-384");
        Ok(keys)
    }

    fn parse(text: &[u8]) -> Result<Vec<Self>> {
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, der) = section.map_err(|error| anyhow!("no PEM: {error}"))?;
            if kind == SectionKind::Certificate {
                let parsed = X509Certificate::from_der(&der).ok();
                keys.extend(parsed.and_then(|(_, it)| of(it.public_key())));
            } else if kind == SectionKind::PublicKey {
                let parsed = SubjectPublicKeyInfo::from_der(&der).ok();
                keys.extend(parsed.and_then(|(_, it)| of(&it)));
            }
        }
        Ok(keys)
    }

    /// Tells whether a signature is by this key.
    pub(super) fn verifies(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        let (method, key): (&'static dyn VerificationAlgorithm, _) = match (self, algorithm) {
            (Self::Rsa(key), "RS256") => (&RSA_PKCS1_2048_8192_SHA256, key),
            (Self::Rsa(key), "RS384") => (&RSA_PKCS1_2048_8192_SHA384, key),
            (Self::Rsa(key), "RS512") => (&RSA_PKCS1_2048_8192_SHA512, key),
            (Self::Ec(key), "ES256") => (&ECDSA_P256_SHA256_FIXED, key),
            (Self::Ec(key), "ES384") => (&ECDSA_P384_SHA384_FIXED, key),
            _ => return false,
        };
        UnparsedPublicKey::new(method, key).verify(signed, signature).is_ok()
    }
}

/// Takes a key that is known here: RSA, or a point of a curve of the length of P-256 or P-384.
fn of(info: &SubjectPublicKeyInfo<'_>) -> Option<PublicKey> {
    match info.parsed().ok()? {
        Kind::RSA(_) => Some(PublicKey::Rsa(info.subject_public_key.data.to_vec())),
        Kind::EC(point) if matches!(point.data().len(), 65 | 97) => {
            Some(PublicKey::Ec(point.data().to_vec()))
        }
        Kind::EC(_)
        | Kind::DSA(_)
        | Kind::GostR3410(_)
        | Kind::GostR3410_2012(_)
        | Kind::Unknown(_) => None,
    }
}
