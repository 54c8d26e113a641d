//! Certificates and keys in files, as modules use them for TLS. Whoever reads them for each
//! connection takes a renewed one at once.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The greatest file that is read, in bytes: KubeEdge's own bound on certificates.
const MAX_FILE: u64 = 1024 * 1024;

/// A certificate and its key, by their files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate's file, with those between it and its authority behind it.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

impl Identity {
    /// Takes the values of two keys of a configuration, of which an empty one names no file.
    ///
    /// # Errors
    /// Says so when one of the two is empty; `keys` are their names, the certificate's first.
    pub fn configured(
        keys: [&str; 2],
        certificate: PathBuf,
        key: PathBuf,
    ) -> Result<Option<Self>, String> {
        match [&certificate, &key].map(|path| path.as_os_str().is_empty()) {
            [false, false] => Ok(Some(Self { certificate, key })),
            [true, true] => Ok(None),
            [true, false] | [false, true] => {
                let ([first, second], certificate, key) =
                    (keys, certificate.display(), key.display());
                Err(format!(
                    "{first} is '{certificate}' and {second} is '{key}', expected both files or none"
                ))
            }
        }
    }

    /// Reads both files.
    ///
    /// # Errors
    /// When one of them cannot be read, or has not what it is to have.
    pub fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|error| anyhow!("{} has no private key: {error}", self.key.display()))?;
        Ok((certificates(&self.certificate)?, key))
    }
}

/// What secures a connection that this node makes, by its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The authority that the other side's certificate is of.
    pub ca: PathBuf,
    /// This node's certificate and key, if it shows one.
    pub identity: Option<Identity>,
}

impl Files {
    /// Reads the files: the other side is verified against the authority, this node shows its
    /// certificate.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn load(&self) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).with_context(|| format!("{} is no CA", self.ca.display()))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let Some(identity) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let (certificates, key) = identity.load()?;
        builder.with_client_auth_cert(certificates, key).with_context(|| {
            let (certificate, key) = (identity.certificate.display(), identity.key.display());
            format!("{certificate} and {key} do not go together")
        })
    }
}

/// Reads the certificates of a file, at least one: PEM, or one DER as KubeEdge once wrote them.
///
/// # Errors
/// When the file cannot be read, or has none.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(file)?;
    let mut found: Vec<_> = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect();
    if found.is_empty() && bytes.first() == Some(&0x30) {
        found.push(bytes.into());
    }
    ensure!(!found.is_empty(), "{} has no certificate", file.display());
    Ok(found)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let failed = || format!("cannot read {}", file.display());
    let mut bytes = Vec::new();
    let opened = File::open(file).with_context(failed)?;
    opened.take(MAX_FILE + 1).read_to_end(&mut bytes).with_context(failed)?;
    ensure!(bytes.len() as u64 <= MAX_FILE, "{} is over 1 MiB", file.display());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_an_identity_is_an_error_that_names_both_keys() {
        let of = |certificate: &str, key: &str| {
            Identity::configured(["a.crt", "a.key"], certificate.into(), key.into())
        };
        assert_eq!(of("", ""), Ok(None));
        let both = Identity { certificate: "/c".into(), key: "/k".into() };
        assert_eq!(of("/c", "/k"), Ok(Some(both)));
        let said = "a.crt is '/c' and a.key is '', expected both files or none";
        assert_eq!(of("/c", ""), Err(said.to_owned()));
        assert!(of("", "/k").is_err());
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_name() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("empty"), "")?;
        std::fs::write(path("der"), [0x30, 0x82])?;
        std::fs::write(path("large"), vec![b'x'; 1024 * 1024 + 1])?;
        let said = |name: &str| format!("{:#}", certificates(&path(name)).unwrap_err());
        assert!(said("none").starts_with(&format!("cannot read {}: ", path("none").display())));
        assert_eq!(said("empty"), format!("{} has no certificate", path("empty").display()));
        assert_eq!(said("large"), format!("{} is over 1 MiB", path("large").display()));
        assert_eq!(certificates(&path("der"))?.len(), 1);
        let identity = Identity { certificate: path("der"), key: path("empty") };
        let error = identity.load().unwrap_err().to_string();
        assert!(error.contains("has no private key"), "{error}");
        Ok(())
    }
}
