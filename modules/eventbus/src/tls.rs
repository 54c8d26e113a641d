//! TLS to the external broker: its certificate is checked, and what is wrong with it or with this
//! node's is said in words.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Error, Result, anyhow};
use module_runtime::tls::{Identity, certificates};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, RootCertStore};

/// What secures a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The authority that the broker's certificate is of.
    pub(crate) ca: PathBuf,
    /// This node's certificate and key.
    pub(crate) identity: Option<Identity>,
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub(crate) fn load(&self) -> Result<ClientConfig> {
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

    /// Says why a connection to `host` failed, where its TLS did.
    pub(crate) fn explain(&self, host: &str, error: Error) -> Error {
        match tls_error(&error) {
            Some(rustls::Error::InvalidCertificate(why)) => self.explain_theirs(host, why),
            Some(rustls::Error::AlertReceived(alert)) if is_about_ours(*alert) => {
                anyhow!("{} ({alert:?})", self.ours())
            }
            // A broker that refuses a certificate closes the connection, and the reason can get
            // lost on its way.
            None if is_cut(&error) => anyhow!("{error:#}; perhaps {}", self.ours()),
            Some(_) | None => error,
        }
    }

    fn explain_theirs(&self, host: &str, why: &CertificateError) -> Error {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is as rare as it is clear")]
        match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                anyhow!("its certificate has expired, or this host's clock is wrong ({why})")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                anyhow!("its certificate is not valid yet, or this host's clock is wrong ({why})")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                anyhow!("its certificate is not for '{host}' ({why})")
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => anyhow!(
                "its certificate is not of the authority in {}, see eventBusTLS.tlsMqttCAFile",
                self.ca.display()
            ),
            other => anyhow!("its certificate cannot be trusted: {other}"),
        }
    }

    /// What to say when the broker does not take this node's certificate.
    fn ours(&self) -> String {
        match &self.identity {
            Some(identity) => format!(
                "it does not take this node's certificate {}, see eventBusTLS.tlsMqttCertFile",
                identity.certificate.display()
            ),
            None => {
                "it wants a certificate of this node, see eventBusTLS.tlsMqttCertFile".to_owned()
            }
        }
    }
}

fn tls_error(error: &Error) -> Option<&rustls::Error> {
    let io = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io.filter_map(|error| error.get_ref()?.downcast_ref()).next()
}

fn is_cut(error: &Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        )
    })
}

fn is_about_ours(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    )
}
