//! TLS as this module speaks it: TLS 1.2 and 1.3, the cloud verified against the CA of the CA file
//! and nothing else.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// The time for the check of certificates: this host's, but no earlier than the node's own
/// certificate was issued. A machine without a clock that starts in 1970 still joins a cloud that
/// it has been with before.
#[derive(Debug)]
pub(crate) struct NotBefore(pub(crate) u64);

impl TimeProvider for NotBefore {
    fn current_time(&self) -> Option<UnixTime> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let floor = std::time::Duration::from_secs(self.0);
        Some(UnixTime::since_unix_epoch(since.max(floor)))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(ca: &CertificateDer<'_>) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone().into_owned())?;
    Ok(Arc::new(roots))
}

/// Makes the configuration of a connection to a cloud whose CA is known.
///
/// # Errors
/// When `ca` is no certificate, or when certificate and key do not belong together.
pub(crate) fn client(
    ca: &CertificateDer<'_>,
    identity: Option<(&CertificateDer<'_>, &PrivateKeyDer<'_>)>,
    not_before: u64,
) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(NotBefore(not_before)))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?);
    let config = match identity {
        // The leaf alone: CloudHub's authorisation wants exactly one certificate (WIRE.md §4.7).
        Some((certificate, key)) => builder
            .with_client_auth_cert(vec![certificate.clone().into_owned()], key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Takes whichever certificate a server shows and remembers it, for the one request that fetches
/// the CA: what it brings is checked against the hash in the token, and then so is this.
#[derive(Debug)]
pub(crate) struct Remember {
    seen: OnceLock<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Remember {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { seen: OnceLock::new(), provider: provider() })
    }

    /// Makes the configuration of the connection.
    ///
    /// # Errors
    /// Never with the protocol versions of this build.
    pub(crate) fn client(self: &Arc<Self>) -> Result<Arc<ClientConfig>, Error> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Self>::clone(self))
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    /// Checks what the server showed against the CA that it sent.
    ///
    /// # Errors
    /// When the server's certificate is not of that CA, not of this name, or not of this time.
    pub(crate) fn verify(
        &self,
        ca: &CertificateDer<'_>,
        name: &ServerName<'_>,
        not_before: u64,
    ) -> Result<(), Error> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(ca)?, provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let seen = self.seen.get().ok_or(Error::NoCertificatesPresented)?;
        let now = NotBefore(not_before).current_time().ok_or(Error::FailedToGetCurrentTime)?;
        verifier.verify_server_cert(seen, &[], name, &[], now).map(|_| ())
    }
}

impl ServerCertVerifier for Remember {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let _first_one_counts = self.seen.set(end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Tells whether `ca` can be trusted as one.
pub(crate) fn is_ca(ca: &CertificateDer<'_>) -> bool {
    roots(ca).is_ok()
}
