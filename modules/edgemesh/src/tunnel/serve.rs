//! Streams that other nodes open: each to an endpoint of this node's, and to nothing else.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use module_runtime::net::look_after;
use rustix::net::sockopt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::debug;

use super::Tunnel;
use super::peers::{Peer, read};
use super::splice::Stream;
use super::words::{Answer, Carriage, Request};
use crate::model::Protocol;
use crate::services::Table;

/// How long a request may take to come.
const REQUEST: Duration = Duration::from_secs(5);

/// How long an endpoint may take to accept: less than the asking side waits, so that it hears of it.
const DIAL: Duration = Duration::from_millis(1500);

/// How long an endpoint may confirm nothing of what was sent to it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The connection to an endpoint.
enum Endpoint {
    Tcp(TcpStream),
    Datagrams(UdpSocket),
}

/// Serves the streams that a peer opens until its connection ends.
pub(super) async fn serve(tunnel: Rc<Tunnel>, peer: Peer) {
    while let Ok((send, receive)) = peer.connection.accept_bi().await {
        let tunnel = Rc::clone(&tunnel);
        let stream = peer.stream(send, receive);
        let name = Rc::clone(&peer.name);
        tokio::task::spawn_local(async move {
            if let Err(error) = one(&tunnel, &name, stream).await {
                debug!("a stream of node '{name}' ends: {error}");
            }
        });
    }
}

/// Serves one stream to its end.
async fn one(tunnel: &Tunnel, from: &str, mut stream: Stream) -> io::Result<()> {
    let message = timeout(REQUEST, read(&mut stream.receive)).await??;
    let opened = open(tunnel, &message).await;
    let answer = match &opened {
        Ok(_) => Answer::Connected,
        Err(reason) => Answer::Failed(reason.clone()),
    };
    stream.send.write_all(&answer.write()).await?;
    match opened {
        Ok((Endpoint::Tcp(endpoint), _place)) => {
            look_after(&endpoint, PATIENCE)?;
            let carried = stream.carry(&endpoint, &tunnel.scratch).await;
            if carried.is_err() {
                // the endpoint sees a reset and not the end of a request
                let _closed_anyhow = sockopt::set_socket_linger(&endpoint, Some(Duration::ZERO));
            }
            carried
        }
        Ok((Endpoint::Datagrams(socket), _place)) => {
            stream.carry_datagrams(&socket, &tunnel.scratch).await
        }
        Err(reason) => {
            debug!("node '{from}' is refused: {reason}");
            stream.send.finish().map_err(Into::into)
        }
    }
}

/// Connects to the endpoint that is asked for; an error is for the one who asks.
async fn open(tunnel: &Tunnel, message: &[u8]) -> Result<(Endpoint, OwnedSemaphorePermit), String> {
    let Request { carriage, node, endpoint } =
        Request::read(message).map_err(|malformed| malformed.to_string())?;
    if node != *tunnel.name {
        return Err(format!("this is node '{}', not '{node}'", tunnel.name));
    }
    let table = tunnel.services.now().ok_or("the services are not known yet")?;
    if !is_own(&table, &tunnel.name, carriage, endpoint) {
        return Err(format!("{endpoint} is no endpoint of a service on this node"));
    }
    let place = Arc::clone(&tunnel.places).try_acquire_owned();
    let place = place.map_err(|_| "there are too many connections".to_owned())?;
    let dialled = timeout(DIAL, connect(carriage, endpoint)).await;
    let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    dialled.map(|opened| (opened, place)).map_err(|error| format!("{endpoint}: {error}"))
}

async fn connect(carriage: Carriage, endpoint: SocketAddr) -> io::Result<Endpoint> {
    match carriage {
        Carriage::Tcp => TcpStream::connect(endpoint).await.map(Endpoint::Tcp),
        Carriage::Datagrams => {
            let any: IpAddr = match endpoint {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(endpoint).await?;
            Ok(Endpoint::Datagrams(socket))
        }
    }
}

/// Tells whether a service has this endpoint on the node. The node's own loopback is none, whoever
/// says so.
fn is_own(table: &Table, node: &str, carriage: Carriage, endpoint: SocketAddr) -> bool {
    let protocol = match carriage {
        Carriage::Tcp => Protocol::Tcp,
        Carriage::Datagrams => Protocol::Udp,
    };
    let address = endpoint.ip();
    let canonical = address.to_canonical();
    if canonical.is_loopback() || canonical.is_unspecified() || canonical.is_multicast() {
        return false;
    }
    let carried = table.values().filter(|backed| backed.is_carried);
    carried.flat_map(|backed| &backed.endpoints).any(|known| {
        known.address == address
            && known.node.as_deref() == Some(node)
            && known
                .ports
                .iter()
                .any(|(_, of, number)| *of == protocol && *number == endpoint.port())
    })
}
