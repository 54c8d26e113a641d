//! TLS of the listener: a certificate for servers, nothing less.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::TlsFiles;

/// Reads the files.
///
/// # Errors
/// When they cannot be read, do not belong together, or the certificate is not for servers.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let certificates = certificates(&files.certificate)?;
    let name = files.certificate.display();
    let first = certificates.first().with_context(|| format!("{name} has no certificate"))?;
    ensure!(
        is_for_servers(first),
        "{name} is not for servers, expected a certificate with the extended usage serverAuth"
    );
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| anyhow!("{} has no private key: {error}", files.key.display()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .with_context(|| format!("{name} and its key cannot be used"))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(path)?;
    Ok(CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect())
}

fn is_for_servers(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let usage = certificate.extended_key_usage().ok().flatten();
    usage.is_some_and(|usage| usage.value.server_auth)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};

    use super::*;

    fn certificate(usages: Vec<ExtendedKeyUsagePurpose>) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = usages;
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_of_the_hub_is_none_for_servers() {
        assert!(is_for_servers(&certificate(vec![ExtendedKeyUsagePurpose::ServerAuth])));
        assert!(!is_for_servers(&certificate(vec![ExtendedKeyUsagePurpose::ClientAuth])));
        assert!(!is_for_servers(&certificate(Vec::new())));
        assert!(!is_for_servers(&CertificateDer::from(vec![1, 2, 3])));
    }
}
