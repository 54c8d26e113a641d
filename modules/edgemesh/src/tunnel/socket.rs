//! What QUIC takes for a socket where two nodes speak through a relay: packets go into the connections
//! to the relays, and come from there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use module_runtime::Now;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Connection, UdpPoller};
use tokio::sync::{mpsc, watch};

use super::words;
use crate::node::NodeId;

/// How many nodes are remembered at most, with the relay behind which each is.
const REMEMBERED: usize = 4096;

/// How long a node may be silent before what goes to it is sent by all relays: its own may have died,
/// which shows only later. A packet that comes twice is taken once.
const SILENT: Duration = Duration::from_secs(1);

/// A packet, and from whom it is.
pub(super) type Packet = (NodeId, Bytes);

/// The ways through relays.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// The relays that are connected, by their place in the configuration.
    relays: BTreeMap<usize, Connection>,
    /// Behind which of them each node is heard, and when last.
    heard: BTreeMap<NodeId, (usize, Instant)>,
    /// The relays that said last of a node that it is not connected.
    absent: BTreeMap<NodeId, BTreeSet<usize>>,
}

impl Routes {
    pub(super) fn connected(&mut self, relay: usize, connection: Connection) {
        self.relays.insert(relay, connection);
    }

    pub(super) fn lost(&mut self, relay: usize) {
        self.relays.remove(&relay);
        self.heard.retain(|_, (behind, _)| *behind != relay);
        self.absent.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.relays.is_empty()
    }

    /// Tells whether all relays say that a node is not connected.
    pub(super) fn is_absent(&self, node: NodeId) -> bool {
        let said = self.absent.get(&node);
        said.is_some_and(|said| self.relays.keys().all(|relay| said.contains(relay)))
    }

    /// Returns the relay behind which a node is heard.
    pub(super) fn behind(&self, node: NodeId) -> Option<usize> {
        self.heard.get(&node).map(|(relay, _)| *relay)
    }

    /// Notes that a node was heard behind a relay. It is taken to be behind the one by which it is
    /// heard first, as long as it is not silent there.
    pub(super) fn heard(&mut self, node: NodeId, relay: usize, now: Instant) {
        self.absent.remove(&node);
        if let Some((behind, at)) = self.heard.get_mut(&node) {
            if *behind == relay || now.saturating_duration_since(*at) >= SILENT {
                (*behind, *at) = (relay, now);
            }
            return;
        }
        if self.heard.len() >= REMEMBERED {
            self.heard.clear();
        }
        self.heard.insert(node, (relay, now));
    }

    /// Notes that a node is not connected to a relay.
    pub(super) fn not_there(&mut self, node: NodeId, relay: usize) {
        if self.behind(node) == Some(relay) {
            self.heard.remove(&node);
        }
        if self.absent.len() >= REMEMBERED {
            self.absent.clear();
        }
        self.absent.entry(node).or_default().insert(relay);
    }

    /// Sends a packet by the relay behind which the node is, or by all where that is not sure. One
    /// that cannot be sent is lost, as with UDP.
    fn send(&self, to: NodeId, packet: &[u8], now: Instant) {
        let datagram = words::packet(to, packet);
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < SILENT;
        let fresh = self.heard.get(&to).filter(|(_, at)| is_fresh(*at));
        let known = fresh.and_then(|(relay, _)| self.relays.get(relay));
        let relays = known.map_or_else(|| self.relays.values().collect(), |relay| vec![relay]);
        for relay in relays {
            let _lost = relay.send_datagram(datagram.clone());
        }
    }
}

/// The socket.
#[derive(Debug)]
#[expect(
    clippy::disallowed_types,
    reason = "quinn lends its sockets to several tasks, of which one alone receives: nobody waits"
)]
pub(super) struct Socket {
    own: NodeId,
    routes: watch::Receiver<Routes>,
    incoming: std::sync::Mutex<mpsc::Receiver<Packet>>,
}

impl Socket {
    #[expect(clippy::disallowed_types, reason = "see the type")]
    pub(super) fn new(
        own: NodeId,
        routes: watch::Receiver<Routes>,
        incoming: mpsc::Receiver<Packet>,
    ) -> Self {
        Self { own, routes, incoming: std::sync::Mutex::new(incoming) }
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Always)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if let Some(to) = NodeId::of_address(transmit.destination) {
            self.routes.borrow().send(to, transmit.contents, Now::read().at);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut incoming = self.incoming.lock().map_err(|_| io::ErrorKind::Other)?;
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(metas) {
            let Poll::Ready(Some((from, packet))) = incoming.poll_recv(context) else { break };
            // one that is too long is none of QUIC's, and taken for rubbish
            let length = packet.len().min(buffer.len());
            buffer[..length].copy_from_slice(&packet[..length]);
            *meta = RecvMeta::default();
            (meta.addr, meta.len, meta.stride) = (from.address(), length, length);
            count += 1;
        }
        if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
    }

    fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        Ok(self.own.address())
    }
}

/// A packet can always be sent, or lost.
#[derive(Debug)]
struct Always;

impl UdpPoller for Always {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
