//! TLS to the external broker: its certificate is checked, and what is wrong with it or with this
//! node's is said in words.

use std::io;

use anyhow::{Error, anyhow};
use module_runtime::tls::Files;
use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

/// Says why a connection to `host` failed, where its TLS did.
pub(crate) fn explain(files: &Files, host: &str, error: Error) -> Error {
    match tls_error(&error) {
        Some(rustls::Error::InvalidCertificate(why)) => explain_theirs(files, host, why),
        Some(rustls::Error::AlertReceived(alert)) if is_about_ours(*alert) => {
            anyhow!("{} ({alert:?})", ours(files))
        }
        // A broker that refuses a certificate closes the connection, and the reason can get
        // lost on its way.
        None if is_cut(&error) => anyhow!("{error:#}; perhaps {}", ours(files)),
        Some(_) | None => error,
    }
}

fn explain_theirs(files: &Files, host: &str, why: &CertificateError) -> Error {
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
            files.ca.display()
        ),
        other => anyhow!("its certificate cannot be trusted: {other}"),
    }
}

/// What to say when the broker does not take this node's certificate.
fn ours(files: &Files) -> String {
    match &files.identity {
        Some(identity) => format!(
            "it does not take this node's certificate {}, see eventBusTLS.tlsMqttCertFile",
            identity.certificate.display()
        ),
        None => "it wants a certificate of this node, see eventBusTLS.tlsMqttCertFile".to_owned(),
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
