//! The connection to a relay, or to a node that is reached directly: dialled, and dialled again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use module_runtime::net::Endpoint as FarEnd;
use module_runtime::{Now, Redial, chance};
use quinn::Connection;
use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::credentials::node_at;
use super::peers::{Peer, REFUSED};
use super::serve::serve;
use super::{NAME, Tunnel, words};

/// How long a dial may take.
const DIAL: Duration = Duration::from_secs(5);

/// How much is said of a trouble, in characters.
const MOST_SAID: usize = 200;

/// Keeps the connection to the far end at this place of the configuration standing, for ever.
pub(super) async fn keep(tunnel: Rc<Tunnel>, place: usize) {
    let mut redial = Redial::default();
    loop {
        let began = Now::read().at;
        let trouble = match dial(&tunnel, &tunnel.config.relays[place]).await {
            Ok(peer) => carry(&tunnel, place, peer, began).await,
            Err(trouble) => trouble,
        };
        tunnel.say(place, &trouble);
        let lifetime = Now::read().at.saturating_duration_since(began);
        sleep(redial.after(lifetime, chance())).await;
    }
}

/// Dials; an error is a sentence.
async fn dial(tunnel: &Tunnel, far: &FarEnd) -> Result<Peer, String> {
    let late = |_| format!("{far} does not answer within {} s", DIAL.as_secs());
    let connection = timeout(DIAL, connect(tunnel, far)).await.map_err(late)?;
    let connection = connection.map_err(|error| format!("{far}: {error}"))?;
    let refuse = |reason: &str| {
        connection.close(REFUSED, reason.as_bytes());
        Err(format!("{far}: {reason}"))
    };
    match node_at(&connection) {
        None => refuse("the certificate is no node's"),
        Some(name) if name == *tunnel.name => refuse("this is the node itself"),
        Some(name) => Ok(Peer::new(name, connection, &tunnel.counts)),
    }
}

async fn connect(tunnel: &Tunnel, far: &FarEnd) -> io::Result<Connection> {
    let (endpoint, config) = tunnel.outer().ok_or(io::ErrorKind::NotConnected)?;
    let is_v4 = endpoint.local_addr()?.is_ipv4();
    let found = lookup_host((far.host.as_str(), far.port)).await?;
    let address = found.filter_map(|address| as_family(address, is_v4)).next();
    let none = || io::Error::new(io::ErrorKind::NotFound, "it has no address that can be dialled");
    let connecting = endpoint.connect_with(config, address.ok_or_else(none)?, NAME);
    Ok(connecting.map_err(io::Error::other)?.await?)
}

/// Returns an address as a socket of a family takes it: one of IPv6 speaks both.
fn as_family(address: SocketAddr, is_v4: bool) -> Option<SocketAddr> {
    match address {
        SocketAddr::V4(v4) if !is_v4 => Some((v4.ip().to_ipv6_mapped(), v4.port()).into()),
        SocketAddr::V6(v6) if is_v4 => {
            let v4: Option<Ipv4Addr> = v6.ip().to_ipv4_mapped();
            v4.map(|v4| (v4, v6.port()).into())
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => Some(address),
    }
}

/// Uses a connection until it ends; returns why it did.
async fn carry(tunnel: &Rc<Tunnel>, place: usize, peer: Peer, began: Instant) -> String {
    let connection = peer.connection.clone();
    let far = &tunnel.config.relays[place];
    let took = Now::read().at.saturating_duration_since(began);
    info!(node = &*peer.name, ?took, "connected with {far}");
    tunnel.counts.connected();
    tunnel.peers.borrow_mut().dialled.insert(place, peer.clone());
    tunnel.routes.send_modify(|routes| routes.connected(place, connection.clone()));
    tunnel.changed.notify_one();
    let packets = async {
        while let Ok(datagram) = connection.read_datagram().await {
            take(tunnel, place, datagram);
            tokio::task::coop::consume_budget().await;
        }
    };
    tokio::join!(packets, serve(Rc::clone(tunnel), peer));
    tunnel.routes.send_modify(|routes| routes.lost(place));
    tunnel.peers.borrow_mut().dialled.remove(&place);
    let reason = connection.closed().await;
    format!("{far}: {reason}")
}

/// Takes a packet that a relay has passed on.
fn take(tunnel: &Tunnel, place: usize, datagram: Bytes) {
    let Some((from, packet)) = words::unpack(datagram) else { return };
    if packet.is_empty() {
        tunnel.routes.send_modify(|routes| routes.not_there(from, place));
        return;
    }
    let now = Now::read().at;
    // nobody waits for this to change
    tunnel.routes.send_if_modified(|routes| {
        routes.heard(from, place, now);
        false
    });
    if tunnel.incoming.try_send((from, packet)).is_err() {
        tunnel.counts.lost();
        debug!("a packet is lost: there are too many");
    }
}

impl Tunnel {
    /// Tells operator and log why there is no connection; the log once for each reason.
    fn say(&self, place: usize, trouble: &str) {
        // what the other side says is part of it
        let trouble: String = trouble.chars().filter(|c| !c.is_control()).take(MOST_SAID).collect();
        let before = self.troubles.borrow_mut().insert(place, trouble.clone());
        if before.as_ref() == Some(&trouble) {
            debug!("no tunnel: {trouble}");
        } else {
            warn!("no tunnel: {trouble}");
        }
        self.changed.notify_one();
    }
}
