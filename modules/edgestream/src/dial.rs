//! The way to a standing tunnel: TCP, TLS both ways, the upgrade to WebSocket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::Empty;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use module_runtime::net::look_after;
use module_runtime::tls::Files;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::config::Config;
use crate::trouble::Trouble;

/// The greatest head of the cloud's answer.
const MAX_HEAD: usize = 16 * 1024;

/// Bytes that are read of the socket at once. TLS itself asks for a quarter of a record at a time.
const READ: usize = 64 * 1024;

/// The connection to the cloud.
pub(crate) type Stream = TlsStream<BufReader<TcpStream>>;

/// A standing tunnel.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) stream: Stream,
    /// What came behind the answer to the upgrade.
    pub(crate) early: BytesMut,
}

/// Dials the cloud.
pub(crate) async fn dial(config: &Config) -> Result<Dialled, Trouble> {
    let late = |_| Trouble::Timeout(config.server.clone(), config.handshake);
    tokio::time::timeout(config.handshake, connect(config)).await.map_err(late)?
}

async fn connect(config: &Config) -> Result<Dialled, Trouble> {
    let server = &config.server;
    let tls = Arc::new(certificates(&config.tls)?);
    let unreachable = |error| Trouble::Unreachable(server.clone(), error);
    let stream = TcpStream::connect((&*server.host, server.port)).await.map_err(unreachable)?;
    look_after(&stream, config.write_deadline).map_err(unreachable)?;
    let own = stream.local_addr().map_err(unreachable)?;
    let name = ServerName::try_from(server.host.clone())
        .map_err(|_| unreachable(io::ErrorKind::InvalidInput.into()))?;
    let stream = TlsConnector::from(tls)
        .connect(name, BufReader::with_capacity(READ, stream))
        .await
        .map_err(|error| Trouble::Tls(server.clone(), error))?;
    upgrade(config, own, stream).await
}

/// Reads the certificates that edgehub keeps, anew at each dial, so that a renewed one is used at
/// the next.
fn certificates(files: &Files) -> Result<ClientConfig, Trouble> {
    files.load().map_err(|error| match error.downcast_ref::<io::Error>() {
        Some(why) if why.kind() == io::ErrorKind::NotFound => Trouble::NoCertificate(error),
        Some(_) | None => Trouble::Certificate(error),
    })
}

async fn upgrade(config: &Config, own: SocketAddr, stream: Stream) -> Result<Dialled, Trouble> {
    let server = &config.server;
    let failed =
        |error: &dyn std::fmt::Display| Trouble::Upgrade(server.clone(), error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    tokio::spawn(connection.with_upgrades());
    let key = generate_key();
    let request = request(config, own, &key).map_err(|error| failed(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(failed(&format_args!("it answered {}", answer.status())));
    }
    let accepted = answer.headers().get("sec-websocket-accept").map(|value| value.as_bytes());
    if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(failed(&"it is no WebSocket server"));
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(|error| failed(&error))?;
    let parts = upgraded
        .downcast::<TokioIo<Stream>>()
        .map_err(|_| failed(&"the connection changed its kind"))?;
    Ok(Dialled { stream: parts.io.into_inner(), early: parts.read_buf.into() })
}

/// Makes the request; `Origin` has to be absent.
fn request(
    config: &Config,
    own: SocketAddr,
    key: &str,
) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let Config { node, node_ip, server, .. } = config;
    // By this address the cloud finds the tunnel when numbers of the node are asked for.
    let address = node_ip.unwrap_or_else(|| own.ip());
    Request::get("/v1/kubeedge/connect")
        .header(HOST, server.to_string())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", key)
        .header("SessionHostNameOverride", node)
        .header("SessionInternalIP", address.to_string())
        .body(Empty::new())
}
