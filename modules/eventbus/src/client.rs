//! The way to the external broker: dialled again and again, with growing pauses.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::BytesMut;
use module_runtime::message_id;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::config::External;
use crate::connection::{Happening, pair, prepare};
use crate::core::TO_BROKER;
use crate::mqtt::{self, Connect, Packet, Version};
use crate::tls::explain;

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
                let begin = Instant::now();
                let (port, mut line) =
                    pair(TO_BROKER, Some(Version::V4), buffer, happenings.clone());
                line.ping = Some(Duration::from_secs(u64::from(KEEP_ALIVE) / 2));
                line.silence = Some(Duration::from_secs(KEEP_ALIVE.into()));
                if happenings.send(Happening::Opened(TO_BROKER, port)).await.is_err() {
                    return;
                }
                line.serve(stream).await;
                pause = pause_after(pause, begin.elapsed());
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

/// Returns the pause after a connection that stood for some time: the first one, unless it was cut
/// at once, as a broker does that has another client of this name, or none behind its gate.
fn pause_after(pause: Duration, stood: Duration) -> Duration {
    if stood < PAUSES.0 { pause } else { PAUSES.0 }
}

/// Returns between half of `pause` and the whole, so that many nodes do not come at once.
fn jittered(pause: Duration) -> Duration {
    let drawn = message_id().to_string().bytes().fold(0_u32, |sum, byte| sum + u32::from(byte));
    pause / 2 + pause / 2 * (drawn % 64) / 64
}

async fn dial(external: &External) -> Result<(Box<dyn Stream>, BytesMut)> {
    let tcp = TcpStream::connect((external.host.as_str(), external.port)).await?;
    prepare(&tcp)?;
    let Some(files) = &external.tls else { return greet(external, Box::new(tcp)).await };
    let name = ServerName::try_from(external.host.clone())
        .with_context(|| format!("'{}' is no name of a server", external.host))?;
    // Read for each connection, so that a renewed certificate counts at once.
    let connector = TlsConnector::from(Arc::new(files.load()?));
    let secured = async {
        let stream = connector.connect(name, tcp).await?;
        greet(external, Box::new(stream)).await
    };
    secured.await.map_err(|error| explain(files, &external.host, error))
}

/// Introduces this node, and waits until it is let in.
async fn greet(
    external: &External,
    mut stream: Box<dyn Stream>,
) -> Result<(Box<dyn Stream>, BytesMut)> {
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
            let what = "it closed the connection before it answered";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what).into());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_cuts_at_once_is_not_dialled_ever_faster() {
        let long = Duration::from_secs(8);
        assert_eq!(pause_after(long, Duration::from_millis(3)), long);
        assert_eq!(pause_after(long, Duration::from_secs(1)), PAUSES.0);
    }
}
