//! Why there is no tunnel, each as one sentence; the operator reads it in `edgectl status`.

use std::io;
use std::time::Duration;

use module_runtime::net::Endpoint;

use crate::frames::Broken;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("no certificate yet, edgehub fetches it: {0:#}")]
    NoCertificate(anyhow::Error),
    #[error("{0:#}")]
    Certificate(anyhow::Error),
    #[error("cannot reach the cloud's tunnel at {0}")]
    Unreachable(Endpoint, #[source] io::Error),
    #[error("{0} did not answer within {1:?}")]
    Timeout(Endpoint, Duration),
    #[error("TLS with {0} failed")]
    Tls(Endpoint, #[source] io::Error),
    #[error("{0} does not serve the tunnel: {1}")]
    Upgrade(Endpoint, String),
    #[error("the cloud does not want the tunnel: {0}")]
    Unwanted(String),
    #[error("the cloud closed the tunnel")]
    Closed,
    #[error("the tunnel broke")]
    Broken(#[source] io::Error),
    #[error("the cloud sent what is no frame: {0}")]
    Frame(#[from] Broken),
    #[error("the cloud answers no ping any more: found after {0:?}")]
    Silent(Duration),
    #[error("the cloud takes nothing any more: a write made no progress for {0:?}")]
    Stalled(Duration),
    #[error("this module is ending")]
    Ending,
}

impl Trouble {
    /// Returns the sentence with its causes.
    pub(crate) fn sentence(&self) -> String {
        module_runtime::sentence(self)
    }
}
