//! The HTTPS server: the authority's certificate, certificates for nodes, and whether a node is
//! known (WIRE.md §3.1).

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::core::nodes;
use crate::pki::Validity;
use crate::shared::Shared;
use crate::token;

/// The largest certificate request or report that is taken.
const MAX_BODY: usize = 1 << 20;
/// How long a handshake, or the head of a request, may take.
const PATIENCE: Duration = Duration::from_secs(30);

type Answer = Response<Full<Bytes>>;

/// Serves a connection until it ends.
pub(crate) async fn serve(stream: TcpStream, shared: Shared) {
    let accept = TlsAcceptor::from(shared.tls(|tls| &tls.https)).accept(stream);
    let Ok(Ok(stream)) = timeout(PATIENCE, accept).await else { return };
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate =
        certificates.and_then(|chain| chain.first()).map(|it| it.clone().into_owned());
    let service = service_fn(|request| {
        let (shared, certificate) = (shared.clone(), certificate.clone());
        async move { Ok::<_, Infallible>(answer(request, &shared, certificate.as_ref()).await) }
    });
    let server = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    // How a connection ends is the client's affair.
    server.await.ok();
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
    certificate: Option<&CertificateDer<'static>>,
) -> Answer {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/ca.crt") => bytes(StatusCode::OK, shared.authority.der().to_vec()),
        (&Method::GET, "/edge.crt") => issue(request, shared, certificate).await,
        (&Method::GET, path) if path.starts_with("/node/") => {
            find(path.trim_start_matches("/node/"), shared).await
        }
        (&Method::POST, "/nodeupgrade") => bytes(StatusCode::OK, b"ok".to_vec()),
        (&Method::POST, path) if path.starts_with("/task/") => {
            bytes(StatusCode::OK, b"ok".to_vec())
        }
        _ => bytes(StatusCode::NOT_FOUND, b"404 page not found".to_vec()),
    }
}

fn bytes(status: StatusCode, body: Vec<u8>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

async fn find(node: &str, shared: &Shared) -> Answer {
    let key = nodes::key(node);
    match shared.look(move |cloud, _| cloud.cluster().get(&key).is_some()).await {
        Ok(true) => bytes(StatusCode::OK, b"Node found".to_vec()),
        Ok(false) => bytes(StatusCode::NOT_FOUND, b"Node not found".to_vec()),
        Err(error) => bytes(StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    }
}

/// Issues a certificate to whom a token, or the certificate of the same node, speaks for.
async fn issue(
    request: Request<Incoming>,
    shared: &Shared,
    certificate: Option<&CertificateDer<'static>>,
) -> Answer {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let node = header("nodename").unwrap_or_default();
    let allowed = match certificate {
        Some(certificate) => shared.authority.check_node(certificate, node),
        None => check_token(header(AUTHORIZATION.as_str()).unwrap_or_default(), shared),
    };
    if let Err(error) = allowed {
        return bytes(StatusCode::UNAUTHORIZED, error.to_string().into_bytes());
    }
    let Ok(usages) = usages(header("extkeyusages")) else {
        return bytes(StatusCode::BAD_REQUEST, b"ExtKeyUsages is no array of 1 and 2".to_vec());
    };
    let Ok(body) = Limited::new(request.into_body(), MAX_BODY).collect().await else {
        return bytes(StatusCode::BAD_REQUEST, b"cannot read the request".to_vec());
    };
    let expired = shared.conditions.borrow().expired_nodes;
    let life = if expired { Validity::over() } else { Validity::from_now(shared.certificate_life) };
    match shared.authority.sign(&body.to_bytes(), usages, life) {
        Ok(der) => bytes(StatusCode::OK, der),
        Err(error) => bytes(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}").into_bytes()),
    }
}

/// The header is split at its one space; what stands before it is not looked at.
fn check_token(header: &str, shared: &Shared) -> anyhow::Result<()> {
    let parts: Vec<_> = header.split(' ').collect();
    let [_, token] = parts.as_slice() else { return Err(token::TokenError::Invalid.into()) };
    anyhow::ensure!(!shared.conditions.borrow().refuse_tokens, token::TokenError::Invalid);
    token::verify(shared.authority.key_der(), shared.clock.now(), token)?;
    Ok(())
}

/// Reads Go's numbers of extended key usages; none given means client authentication.
fn usages(header: Option<&str>) -> serde_json::Result<Vec<ExtendedKeyUsagePurpose>> {
    let numbers: Vec<u32> = serde_json::from_str(header.unwrap_or("[2]"))?;
    let usage = |number| match number {
        1 => Some(ExtendedKeyUsagePurpose::ServerAuth),
        2 => Some(ExtendedKeyUsagePurpose::ClientAuth),
        _ => None,
    };
    Ok(numbers.into_iter().filter_map(usage).collect())
}
