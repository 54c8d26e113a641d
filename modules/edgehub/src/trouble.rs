//! What can be wrong with the way to the cloud, each as one sentence with the way out; the operator
//! reads it in `edgectl status`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use module_runtime::net::Endpoint;
use tokio_rustls::rustls;

/// Why there is no link, or no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("cannot resolve '{0}': check the name and this host's DNS")]
    Resolve(String, #[source] io::Error),
    #[error("nothing listens at {0}: check that CloudCore runs and that the address is right")]
    Refused(Endpoint),
    #[error("cannot reach {0}: {1}")]
    Unreachable(Endpoint, #[source] io::Error),
    #[error("{0} did not answer within {1:?}")]
    Timeout(Endpoint, Duration),
    #[error(
        "wrong CA: the certificate of {0} is not issued by the CA in the CA file; give this node a \
         token of that cloud (keadm gettoken)"
    )]
    WrongCa(Endpoint),
    #[error(
        "the certificate of {0} is not made for this name: add it to advertiseAddress or dnsNames \
         of CloudCore"
    )]
    WrongName(Endpoint),
    #[error("the certificate of {0} has expired: renew it in the cloud, or set this host's clock")]
    CloudExpired(Endpoint),
    #[error("clock: the certificate of {0} is not valid yet by this host's clock: set the clock")]
    Clock(Endpoint),
    #[error(
        "the cloud refuses this node's certificate ({1}): if the cloud's CA is new, give this node \
         a token of it (keadm gettoken)"
    )]
    CertificateRefused(Endpoint, String),
    #[error("TLS with {0} failed")]
    Tls(Endpoint, #[source] io::Error),
    #[error("{0} does not speak WebSocket there: it answered {1}")]
    Upgrade(Endpoint, String),
    #[error("no certificate and no token: put a token (keadm gettoken) into {0}")]
    NoToken(String),
    #[error("the token is none: {0}; expected the text that keadm gettoken prints")]
    BadToken(&'static str),
    #[error(
        "wrong CA: {0} has a CA of another hash than the token says; give this node a token of \
         that cloud (keadm gettoken)"
    )]
    CaHash(Endpoint),
    #[error(
        "{0} refuses the token ({1}): a token holds 24 h, give this node a new one (keadm gettoken)"
    )]
    TokenRefused(Endpoint, String),
    #[error("{0} refuses to renew the certificate ({1}): give this node a token (keadm gettoken)")]
    RenewalRefused(Endpoint, String),
    #[error("{0} answered {1} to the request for {2}")]
    Status(Endpoint, u16, &'static str),
    #[error("{0} sent no usable {1}: {2}")]
    BadAnswer(Endpoint, &'static str, String),
    #[error("the certificate is of '{found}', this node is '{wanted}': give this node a token")]
    OtherNode { found: String, wanted: String },
    #[error("the certificate expired at {0}: give this node a token (keadm gettoken)")]
    Expired(String),
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
    #[error("{0} holds no usable {1}: remove it and give this node a token, or restore it")]
    BadFile(PathBuf, &'static str),
    #[error("certificate and key do not belong together: give this node a token, or restore them")]
    Mismatch,
    #[error("cannot make a key: {0}")]
    Key(String),
    #[error("the cloud closed the connection")]
    Closed,
    #[error("the cloud does not answer any more: found by a probe after {0:?}")]
    Silent(Duration),
    #[error("the cloud takes nothing any more: a write made no progress for {0:?}")]
    Stalled(Duration),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error(
        "the cloud keeps the connection open and does not serve it: its nodeLimit is reached, or \
         its authorization refuses this node"
    )]
    Unserved,
    #[error("the certificate was renewed")]
    Renewed,
    #[error("this module is ending")]
    Ending,
}

impl Trouble {
    /// Sorts a failure of TLS, which comes as an input/output error.
    pub(crate) fn of_tls(endpoint: &Endpoint, error: io::Error) -> Self {
        use rustls::{AlertDescription as Alert, CertificateError as Bad, Error};

        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        let endpoint = endpoint.clone();
        match inner {
            Some(Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. })) => {
                Self::CloudExpired(endpoint)
            }
            Some(Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. })) => {
                Self::Clock(endpoint)
            }
            Some(Error::InvalidCertificate(
                Bad::NotValidForName | Bad::NotValidForNameContext { .. },
            )) => Self::WrongName(endpoint),
            Some(Error::InvalidCertificate(_)) => Self::WrongCa(endpoint),
            Some(Error::AlertReceived(
                alert @ (Alert::BadCertificate
                | Alert::UnknownCA
                | Alert::DecryptError
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::CertificateRequired
                | Alert::CertificateRevoked
                | Alert::UnsupportedCertificate
                | Alert::AccessDenied),
            )) => Self::CertificateRefused(endpoint, format!("{alert:?}")),
            Some(_) | None => Self::Tls(endpoint, error),
        }
    }

    /// Tells whether a new certificate may be the cure, where a token is at hand.
    pub(crate) const fn wants_new_certificate(&self) -> bool {
        matches!(self, Self::WrongCa(_) | Self::CertificateRefused(..) | Self::RenewalRefused(..))
    }

    /// Returns the sentence with its causes.
    pub(crate) fn sentence(&self) -> String {
        module_runtime::sentence(self)
    }
}
