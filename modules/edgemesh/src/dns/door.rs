//! Where names are answered: datagrams and connections at one address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{Client, Desk, QUESTIONS, link};
use crate::config::Dns;
use crate::services::Services;

/// Connections at a time; more wait.
const CONNECTIONS: usize = 64;

/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(10);

/// How long to wait before an address that cannot be had is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest datagram that is taken, in bytes; a longer one is no query.
const DATAGRAM: usize = 4096;

/// How the door is, for `edgectl status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Standing {
    address: String,
    /// What the cluster's names end with.
    domain: String,
    serving: bool,
    /// Why it is not open.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// What connections bring: a packet, and where its answer goes.
type Asked = (Vec<u8>, oneshot::Sender<Vec<u8>>);

/// Answers for ever, and tells how that goes.
pub(crate) async fn open(config: Dns, services: Services, shown: watch::Sender<Standing>) {
    let (socket, listener) = listen(&config, &shown).await;
    let socket = Arc::new(socket);
    let (asking, mut asked) = mpsc::channel(QUESTIONS);
    tokio::spawn(accept(listener, asking));
    let (done, mut ended) = mpsc::channel(QUESTIONS);
    let mut desk = Desk::new(&config, services, Arc::clone(&socket), done);
    let mut buffer = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, from)) => {
                    desk.take(&buffer[..length], Client::Datagram(from), Instant::now());
                }
                // That an earlier client has gone is told here; it is no matter.
                Err(error) => tracing::debug!("a datagram was not received: {error}"),
            },
            Some((packet, reply)) = asked.recv() => {
                desk.take(&packet, Client::Stream(reply), Instant::now());
            }
            Some(done) = ended.recv() => desk.finish(done, Instant::now()),
        }
    }
}

/// Listens as soon as the address can be had.
async fn listen(config: &Dns, shown: &watch::Sender<Standing>) -> (UdpSocket, TcpListener) {
    let address = config.listen;
    let domain = config.zone.to_string();
    let mut standing = Standing { address: address.to_string(), domain, ..Standing::default() };
    loop {
        match bind(address).await {
            Ok(sockets) => {
                info!(%address, "names are answered");
                shown.send_replace(Standing { serving: true, reason: String::new(), ..standing });
                return sockets;
            }
            Err(reason) if standing.reason == reason => {}
            Err(reason) => {
                warn!("names are not answered: {reason}");
                standing.reason = reason;
                shown.send_replace(standing.clone());
            }
        }
        sleep(PAUSE).await;
    }
}

async fn bind(address: SocketAddr) -> Result<(UdpSocket, TcpListener), String> {
    let both = async || Ok((UdpSocket::bind(address).await?, TcpListener::bind(address).await?));
    let result: io::Result<_> = both().await;
    let result = match result {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            let (ip, name) = (address.ip(), link::NAME);
            link::make(ip).map_err(|error| {
                format!("no link has {ip}, and {name} with it cannot be made: {error}")
            })?;
            info!(%ip, link = name, "a link of the mesh's own has the address");
            both().await
        }
        other => other,
    };
    result.map_err(|error| format!("cannot listen on {address}: {error}"))
}

async fn accept(listener: TcpListener, asking: mpsc::Sender<Asked>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or so.
            sleep(PAUSE).await;
            continue;
        };
        let asking = asking.clone();
        tokio::spawn(async move {
            // How a connection ends is the client's affair.
            let _ended = connection(stream, asking).await;
            drop(place);
        });
    }
}

/// Answers what comes through a connection, one after the other (RFC 7766).
async fn connection(mut stream: TcpStream, asking: mpsc::Sender<Asked>) -> Option<()> {
    loop {
        let packet = timeout(IDLE, read(&mut stream)).await.ok()?.ok()?;
        let (reply, replied) = oneshot::channel();
        asking.send((packet, reply)).await.ok()?;
        let packet = replied.await.ok()?;
        let length = u16::try_from(packet.len()).ok()?;
        let framed = [&length.to_be_bytes(), &*packet].concat();
        timeout(IDLE, stream.write_all(&framed)).await.ok()?.ok()?;
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut packet = vec![0; length.into()];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}
