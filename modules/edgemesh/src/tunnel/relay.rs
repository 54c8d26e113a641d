//! Connections that come: other nodes that dial this one, for its own endpoints or as their relay.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{Endpoint, Incoming};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use super::credentials::node_at;
use super::peers::{MOST, Peer, REFUSED};
use super::serve::serve;
use super::{Tunnel, words};
use crate::node::{LENGTH, NodeId};

/// How many handshakes there are at a time; from half of them on, who dials has to show first that it
/// is where it says.
const HANDSHAKES: usize = 32;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How nodes are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    Relayed,
}

/// Takes connections for as long as this process lives.
pub(super) async fn accept(tunnel: Rc<Tunnel>, endpoint: Endpoint, way: Way) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    while let Some(incoming) = endpoint.accept().await {
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let busy = places.available_permits() < HANDSHAKES / 2;
        if busy
            && way == Way::Direct
            && incoming.may_retry()
            && !incoming.remote_address_validated()
        {
            // what cannot be retried is forgotten
            let _forgotten = incoming.retry();
            continue;
        }
        let tunnel = Rc::clone(&tunnel);
        tokio::task::spawn_local(async move {
            let address = incoming.remote_address();
            let welcomed = welcome(&tunnel, incoming, way).await;
            drop(place);
            match welcomed {
                Ok(peer) if way == Way::Direct => {
                    let relayed = relay(&tunnel, &peer);
                    tokio::join!(relayed, serve(Rc::clone(&tunnel), peer.clone()));
                    tunnel.changed.notify_one();
                }
                Ok(peer) => serve(tunnel, peer).await,
                Err(reason) => debug!("a connection of {address} is refused: {reason}"),
            }
        });
    }
}

/// Looks who it is, and takes the connection among the others.
async fn welcome(tunnel: &Tunnel, incoming: Incoming, way: Way) -> Result<Peer, String> {
    let connecting = incoming.accept().map_err(|error| error.to_string())?;
    let connection = timeout(HANDSHAKE, connecting).await.map_err(|_| "it is too slow")?;
    let connection = connection.map_err(|error| error.to_string())?;
    let refuse = |reason: &str| {
        connection.close(REFUSED, reason.as_bytes());
        Err(reason.to_owned())
    };
    let Some(name) = node_at(&connection) else { return refuse("the certificate is no node's") };
    if name == *tunnel.name {
        return refuse("this is the node itself");
    }
    let node = NodeId::of(&name);
    let mut peers = tunnel.peers.borrow_mut();
    let has_room = match way {
        Way::Direct => peers.accepted.len() < MOST || peers.accepted.contains_key(&node),
        Way::Relayed => peers.relayed.len() < MOST || peers.relayed.contains_key(&node),
    };
    if !has_room {
        return refuse("there are too many nodes");
    }
    let peer = Peer::new(name, connection.clone(), &tunnel.counts);
    match way {
        Way::Direct => {
            if let Some(before) = peers.accepted.insert(node, peer.clone()) {
                before.connection.close(REFUSED, b"the node has dialled again");
            }
        }
        Way::Relayed => peers.welcome(node, &peer),
    }
    tunnel.changed.notify_one();
    Ok(peer)
}

/// Passes on the packets that a node sends to others, until it is gone.
pub(super) async fn relay(tunnel: &Tunnel, peer: &Peer) {
    let from = NodeId::of(&peer.name);
    while let Ok(datagram) = peer.connection.read_datagram().await {
        let Some(to) = words::receiver(&datagram) else { continue };
        if to == tunnel.id {
            // what there is no room for is lost, as with UDP
            if tunnel.incoming.try_send((from, datagram.slice(LENGTH..))).is_err() {
                tunnel.counts.lost();
            }
            continue;
        }
        let other = tunnel.config.relay.then(|| tunnel.peers.borrow().accepted.get(&to).cloned());
        let sent = match other.flatten().filter(Peer::is_standing) {
            Some(other) => {
                tunnel.counts.relayed(datagram.len());
                if other.connection.datagram_send_buffer_space() < datagram.len() {
                    // the oldest makes way
                    tunnel.counts.lost();
                }
                other.connection.send_datagram(readdressed(datagram, from))
            }
            None => peer.connection.send_datagram(words::packet(to, &[])),
        };
        if let Err(error) = sent {
            tunnel.counts.lost();
            debug!("a packet of node '{}' is lost: {error}", peer.name);
        }
        tokio::task::coop::consume_budget().await;
    }
    if let Some(reason) = peer.connection.close_reason() {
        debug!("node '{}' is gone: {reason}", peer.name);
    }
}

/// Puts the sender in the place of the receiver.
fn readdressed(datagram: Bytes, from: NodeId) -> Bytes {
    let mut datagram = datagram.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    datagram[..LENGTH].copy_from_slice(&from.0);
    datagram.freeze()
}
