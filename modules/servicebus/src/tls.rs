//! TLS of the listener: a certificate for servers, nothing less.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use module_runtime::tls::Identity;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Reads the files.
///
/// # Errors
/// When they cannot be read, do not belong together, or the certificate is not for servers.
pub(crate) fn acceptor(identity: &Identity) -> Result<TlsAcceptor> {
    let (certificates, key) = identity.load()?;
    let name = identity.certificate.display();
    ensure!(
        certificates.first().is_some_and(is_for_servers),
        "{name} is not for servers, expected a certificate with the extended usage serverAuth"
    );
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .with_context(|| format!("{name} and its key cannot be used"))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
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
