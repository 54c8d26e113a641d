//! HTTP as probes and hooks speak it: one GET on a connection of its own, no verification of the
//! server's certificate (as kubelet: what is asked is whether the pod's own server answers), and
//! redirections followed while they stay with the host.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{HeaderName, HeaderValue, LOCATION};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, SignatureScheme};

use crate::pod::spec::HttpHeader;

/// How many redirections are followed.
const REDIRECTS: u32 = 10;

/// Where something is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) https: bool,
    /// A name or an address, an IPv6 one in brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query.
    pub(super) path: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { https, host, port, path } = self;
        write!(f, "http{}://{host}:{port}{path}", if *https { "s" } else { "" })
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server speaks no TLS.
    NoTls(String),
    /// Anything else.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NoTls(text) | Self::Other(text)) = self;
        f.write_str(text)
    }
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    location: Option<String>,
}

/// Asks for a page as a probe does; returns what is odd about the answer, if it is a good one.
///
/// # Errors
/// Why it is none, or no good one.
pub(super) async fn probe(
    mut target: Target,
    headers: &[HttpHeader],
) -> Result<Option<String>, String> {
    for _ in 0..=REDIRECTS {
        let answer = ask(&target, headers, "probe").await.map_err(|failure| failure.to_string())?;
        let moved = matches!(answer.status, 301..=303 | 307 | 308);
        match answer.location.filter(|_| moved) {
            Some(location) => match follow(&target, &location)? {
                Some(next) => target = next,
                None => return Ok(Some("Probe terminated redirects".to_owned())),
            },
            None if (200..400).contains(&answer.status) => return Ok(None),
            None => return Err(format!("HTTP probe failed with statuscode: {}", answer.status)),
        }
    }
    Err(format!("Get \"{target}\": stopped after {REDIRECTS} redirects"))
}

/// Returns where a redirection leads, unless it leads to another host.
pub(super) fn follow(from: &Target, location: &str) -> Result<Option<Target>, String> {
    let broken = || format!("Get \"{from}\": failed to parse Location header '{location}'");
    let full = if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("http{}://{rest}", if from.https { "s" } else { "" })
    } else if location.starts_with('/') {
        return Ok(Some(Target { path: location.to_owned(), ..from.clone() }));
    } else {
        let path = from.path.split('?').next().unwrap_or_default();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        return Ok(Some(Target { path: format!("{folder}/{location}"), ..from.clone() }));
    };
    let uri: Uri = full.parse().map_err(|_| broken())?;
    let (scheme, host) = (uri.scheme_str().ok_or_else(broken)?, uri.host().ok_or_else(broken)?);
    if host != from.host {
        return Ok(None);
    }
    let https = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err(broken()),
    };
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Ok(Some(Target { https, host: host.to_owned(), port, path }))
}

/// Takes the brackets off an address of IPv6.
pub(super) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Asks for a page once.
///
/// # Errors
/// Why there is no answer.
pub(super) async fn ask(
    target: &Target,
    headers: &[HttpHeader],
    purpose: &str,
) -> Result<Answer, Failure> {
    let failed = |error: &dyn fmt::Display| Failure::Other(format!("Get \"{target}\": {error}"));
    let request = request(target, headers, purpose).map_err(|error| failed(&error))?;
    let host = bare(&target.host);
    let stream = TcpStream::connect((host, target.port)).await;
    let stream = stream.map_err(|error| failed(&format!("dial tcp: {error}")))?;
    if !target.https {
        return exchange(stream, request).await.map_err(|error| failed(&error));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
    let connector = TlsConnector::from(Arc::new(tls().map_err(|error| failed(&error))?));
    match connector.connect(name, stream).await {
        Ok(stream) => exchange(stream, request).await.map_err(|error| failed(&error)),
        Err(error) => {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            if matches!(inner, Some(rustls::Error::InvalidMessage(_))) {
                let why = "server gave HTTP response to HTTPS client";
                Err(Failure::NoTls(format!("Get \"{target}\": {why}")))
            } else {
                Err(failed(&error))
            }
        }
    }
}

fn request(
    target: &Target,
    headers: &[HttpHeader],
    purpose: &str,
) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let mut request = Request::get(target.path.as_str()).body(Empty::new())?;
    let fields = request.headers_mut();
    for header in headers {
        let name: HeaderName = header.name.parse()?;
        fields.append(name, HeaderValue::from_str(&header.value)?);
    }
    let usual = if target.https { 443 } else { 80 };
    let host = match target.port {
        port if port == usual => target.host.clone(),
        port => format!("{}:{port}", target.host),
    };
    let agent = format!("kube-{purpose}/1.32");
    for (name, value) in
        [("host", host.as_str()), ("user-agent", agent.as_str()), ("accept", "*/*")]
    {
        match fields.get(name) {
            // What is set to nothing is left out.
            Some(own) if own.is_empty() => drop(fields.remove(name)),
            Some(_) => {}
            None => {
                fields.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
            }
        }
    }
    fields.insert("connection", HeaderValue::from_static("close"));
    Ok(request)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    request: Request<Empty<Bytes>>,
) -> Result<Answer, hyper::Error> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut asked = std::pin::pin!(sender.send_request(request));
    let response = tokio::select! {
        biased;
        response = &mut asked => response,
        // A server that closes at once may have answered before.
        _ended = connection => asked.await,
    };
    let response = response?;
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    Ok(Answer { status: response.status().as_u16(), location: location.map(str::to_owned) })
}

fn tls() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let anyone = Arc::new(Anyone(Arc::clone(&provider)));
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth())
}

/// Takes any server for the right one.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
