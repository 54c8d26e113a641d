//! One bounded HTTPS request: what the cloud's certificate service needs (WIRE.md §3.1).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use module_runtime::net::Endpoint;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::tcp;
use crate::trouble::Trouble;

/// The greatest body that is read: KubeEdge's own bound on certificates.
const MAX_BODY: usize = 1024 * 1024;

/// The greatest head of a reply.
const MAX_HEAD: usize = 16 * 1024;

/// What a whole request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request.
#[derive(Debug)]
pub(crate) struct Get<'a> {
    /// Where to.
    pub(crate) endpoint: &'a Endpoint,
    /// How.
    pub(crate) tls: Arc<ClientConfig>,
    /// The path, without parameters.
    pub(crate) path: &'static str,
    /// Headers beside those that every request has.
    pub(crate) headers: &'a [(&'static str, &'a str)],
    /// The body; KubeEdge sends one with a GET.
    pub(crate) body: Bytes,
}

/// A reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Reply {
    /// Returns the body as text for an operator: one line, bounded.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
    }
}

impl Get<'_> {
    /// Sends the request on a connection of its own and reads the reply.
    pub(crate) async fn send(self) -> Result<Reply, Trouble> {
        let endpoint = self.endpoint.clone();
        tokio::time::timeout(PATIENCE, self.exchange())
            .await
            .unwrap_or(Err(Trouble::Timeout(endpoint, PATIENCE)))
    }

    async fn exchange(self) -> Result<Reply, Trouble> {
        let endpoint = self.endpoint;
        let bad = |error: &dyn std::fmt::Display| {
            Trouble::BadAnswer(endpoint.clone(), "HTTP reply", error.to_string())
        };
        let stream = tcp::connect(endpoint, PATIENCE).await?;
        let name = server_name(endpoint)?;
        let stream = TlsConnector::from(self.tls)
            .connect(name, stream)
            .await
            .map_err(|error| Trouble::of_tls(endpoint, error))?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| bad(&error))?;
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(self.path)
            .header(hyper::header::HOST, endpoint.to_string());
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(self.body)).map_err(|error| bad(&error))?;
        let reply = async {
            let reply =
                sender.send_request(request).await.map_err(|error| broken(endpoint, &error))?;
            let (head, body) = reply.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| bad(&error))?;
            Ok(Reply { status: head.status, body: body.to_bytes() })
        };
        tokio::pin!(reply);
        tokio::select! {
            reply = &mut reply => reply,
            // The connection's end lets the reply end too, with the better reason.
            _ = connection => reply.await,
        }
    }
}

/// Sorts a failure under an HTTP exchange: TLS 1.3 tells only then that it refuses a certificate.
fn broken(endpoint: &Endpoint, error: &hyper::Error) -> Trouble {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && let Some(tls) =
                io.get_ref().and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>())
        {
            return Trouble::of_tls(endpoint, std::io::Error::other(tls.clone()));
        }
        source = cause.source();
    }
    Trouble::BadAnswer(endpoint.clone(), "HTTP reply", error.to_string())
}

/// Returns the name that the server's certificate has to bear.
pub(crate) fn server_name(endpoint: &Endpoint) -> Result<ServerName<'static>, Trouble> {
    ServerName::try_from(endpoint.host.clone()).map_err(|_| {
        let invalid = std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a host name");
        Trouble::Resolve(endpoint.host.clone(), invalid)
    })
}
