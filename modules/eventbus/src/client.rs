//! The way to the external broker: dialled again and again, with growing pauses.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::BytesMut;
use module_runtime::message_id;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::config::{External, TlsFiles};
use crate::connection::{Happening, pair};
use crate::core::TO_BROKER;
use crate::mqtt::{self, Connect, Packet, Version};

/// The first pause after a dial that failed, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// How long a dial may take, and each step of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest silence on either side, in seconds.
const KEEP_ALIVE: u16 = 30;

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Keeps a connection to the broker for ever, and tells what happens on it.
pub(crate) async fn keep(external: External, happenings: mpsc::Sender<Happening>) {
    let mut pause = PAUSES.0;
    loop {
        let dialled = timeout(PATIENCE, dial(&external)).await;
        match dialled.unwrap_or_else(|_| Err(anyhow!("it did not answer within 10 s"))) {
            Ok((stream, buffer)) => {
                pause = PAUSES.0;
                let (port, mut line) =
                    pair(TO_BROKER, Some(Version::V4), buffer, happenings.clone());
                line.ping = Some(Duration::from_secs(u64::from(KEEP_ALIVE) / 2));
                line.silence = Some(Duration::from_secs(KEEP_ALIVE.into()));
                if happenings.send(Happening::Opened(TO_BROKER, port)).await.is_err() {
                    return;
                }
                line.serve(stream).await;
            }
            Err(error) => {
                let External { host, port, .. } = &external;
                let text = format!("cannot connect to the MQTT broker {host}:{port}: {error:#}");
                if happenings.send(Happening::Unreachable(text)).await.is_err() {
                    return;
                }
            }
        }
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Returns between half of `pause` and the whole, so that many nodes do not come at once.
fn jittered(pause: Duration) -> Duration {
    let drawn = message_id().to_string().bytes().fold(0_u32, |sum, byte| sum + u32::from(byte));
    pause / 2 + pause / 2 * (drawn % 64) / 64
}

async fn dial(external: &External) -> Result<(Box<dyn Stream>, BytesMut)> {
    let tcp = TcpStream::connect((external.host.as_str(), external.port)).await?;
    tcp.set_nodelay(true)?;
    let mut stream: Box<dyn Stream> = match &external.tls {
        None => Box::new(tcp),
        Some(files) => {
            let name = ServerName::try_from(external.host.clone())
                .with_context(|| format!("'{}' is no name of a server", external.host))?;
            let config = Arc::new(tls(files)?);
            Box::new(TlsConnector::from(config).connect(name, tcp).await?)
        }
    };
    let mut out = BytesMut::new();
    mqtt::write(&Packet::Connect(Box::new(connect(external))), Version::V4, &mut out);
    stream.write_all(&out).await?;
    stream.flush().await?;
    let mut buffer = BytesMut::new();
    loop {
        match mqtt::read(&mut buffer, Some(Version::V4))? {
            Some(Packet::Connack(connack)) if !connack.reason.is_failure() => break,
            Some(Packet::Connack(connack)) => bail!("{}", refusal(connack.reason)),
            Some(other) => bail!("it said {other:?} first, expected CONNACK"),
            None => {}
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            bail!("it closed the connection before it answered");
        }
    }
    Ok((stream, buffer))
}

fn connect(external: &External) -> Connect {
    let (user, password) = external.user.clone().unzip();
    Connect {
        version: Version::V4,
        // The broker keeps what comes while this module is away.
        clean: false,
        keep_alive: KEEP_ALIVE,
        client: external.client.as_str().into(),
        will: None,
        user: user.map(Into::into),
        password: password.map(Into::into),
        session_expiry: u32::MAX,
        receive_maximum: u16::MAX,
        maximum_packet: u32::MAX,
        authentication: false,
    }
}

fn refusal(reason: mqtt::Reason) -> &'static str {
    match reason {
        mqtt::Reason::PASSWORD => {
            "it refuses user and password, see eventBus.mqttUsername and mqttPassword"
        }
        mqtt::Reason::NOT_AUTHORIZED => {
            "it does not let this node in, see eventBus.mqttUsername and mqttPassword"
        }
        mqtt::Reason::CLIENT => "it refuses the client's name, see eventBus.mqttSubClientID",
        mqtt::Reason::VERSION => "it does not speak MQTT 3.1.1",
        _ => "it is not available",
    }
}

fn tls(files: &TlsFiles) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots.add(certificate).with_context(|| format!("{} is no CA", files.ca.display()))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &files.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| anyhow!("{} has no private key: {error}", key.display()))?;
    Ok(builder.with_client_auth_cert(certificates(certificate)?, private)?)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads the certificates of a file: PEM, or one DER as KubeEdge once wrote them.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect();
    if found.is_empty() && bytes.first() == Some(&0x30) {
        return Ok(vec![bytes.into()]);
    }
    if found.is_empty() {
        bail!("{} has no certificate", path.display());
    }
    Ok(found)
}
