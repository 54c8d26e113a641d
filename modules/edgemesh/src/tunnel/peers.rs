//! The nodes that are connected with this one, and the streams to them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::OnceCell;

use super::counts::Counts;
use super::splice::Stream;
use super::words::{Answer, Length, Request};
use crate::node::NodeId;

/// How long a connection through a relay stays without a stream.
const IDLE: Duration = Duration::from_secs(60);

/// How many nodes may be connected with this one, in each of the ways.
pub(super) const MOST: usize = 1024;

/// Why a connection ends, for the other side.
pub(super) const ENDED: VarInt = VarInt::from_u32(0);
pub(super) const REFUSED: VarInt = VarInt::from_u32(1);

/// A connection with another node, in which either side opens streams.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// As its certificate says.
    pub(super) name: Rc<str>,
    pub(super) connection: Connection,
    /// How many streams are open.
    streams: Rc<Cell<usize>>,
    /// What passes through the tunnel.
    counts: Rc<Counts>,
}

/// A stream, which counts as open as long as this lives.
#[derive(Debug)]
pub(super) struct Open {
    streams: Rc<Cell<usize>>,
    pub(super) counts: Rc<Counts>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.streams.set(self.streams.get() - 1);
    }
}

impl Peer {
    pub(super) fn new(name: String, connection: Connection, counts: &Rc<Counts>) -> Self {
        Self { name: name.into(), connection, streams: Rc::default(), counts: Rc::clone(counts) }
    }

    pub(super) fn is_standing(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.get()
    }

    fn count(&self) -> Open {
        self.streams.set(self.streams.get() + 1);
        Open { streams: Rc::clone(&self.streams), counts: Rc::clone(&self.counts) }
    }

    /// Takes a stream that the other side has opened.
    pub(super) fn stream(&self, send: SendStream, receive: RecvStream) -> Stream {
        Stream { send, receive, open: self.count() }
    }

    /// Opens a stream to an endpoint of it.
    pub(super) async fn open(&self, request: &Request) -> io::Result<Stream> {
        let open = self.count();
        let (mut send, mut receive) = self.connection.open_bi().await?;
        send.write_all(&request.write()).await?;
        let message = read(&mut receive).await?;
        match Answer::read(&message).map_err(io::Error::other)? {
            Answer::Connected => Ok(Stream { send, receive, open }),
            Answer::Failed(reason) => {
                Err(io::Error::other(format!("node '{}' says: {reason}", self.name)))
            }
        }
    }
}

/// Reads a message with its length before it.
pub(super) async fn read(receive: &mut RecvStream) -> io::Result<Vec<u8>> {
    let mut length = Length::default();
    let mut byte = [0];
    loop {
        receive.read_exact(&mut byte).await.map_err(io::Error::other)?;
        if let Some(length) = length.take(byte[0]).map_err(io::Error::other)? {
            let mut message = vec![0; length];
            receive.read_exact(&mut message).await.map_err(io::Error::other)?;
            return Ok(message);
        }
    }
}

/// A connection through a relay, which may still be in the making.
#[derive(Debug, Default)]
pub(super) struct Relayed {
    pub(super) peer: OnceCell<Peer>,
    /// Since when it has no stream.
    idle: Cell<Option<Instant>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Those that dialled this node.
    pub(super) accepted: BTreeMap<NodeId, Peer>,
    /// Those that this node dialled, by their place in the configuration.
    pub(super) dialled: BTreeMap<usize, Peer>,
    /// Through a relay.
    pub(super) relayed: BTreeMap<NodeId, Rc<Relayed>>,
}

impl Peers {
    /// Returns a node that is reached without a relay.
    pub(super) fn direct(&self, node: NodeId) -> Option<Peer> {
        let dialled = || self.dialled.values().find(|peer| NodeId::of(&peer.name) == node);
        let peer = self.accepted.get(&node).or_else(dialled);
        peer.filter(|peer| peer.is_standing()).cloned()
    }

    /// Returns the connection to a node through a relay, to be made where it is not.
    pub(super) fn relayed(&mut self, node: NodeId) -> Rc<Relayed> {
        let ended =
            |relayed: &&mut Rc<Relayed>| relayed.peer.get().is_some_and(|peer| !peer.is_standing());
        if let Some(relayed) = self.relayed.get_mut(&node).filter(ended) {
            *relayed = Rc::default();
        }
        Rc::clone(self.relayed.entry(node).or_default())
    }

    /// Takes a connection through a relay that the other side has made.
    pub(super) fn welcome(&mut self, node: NodeId, peer: &Peer) {
        let relayed = self.relayed(node);
        // where there is one already, each side uses its own
        let _there_is_one = relayed.peer.set(peer.clone());
    }

    /// Forgets what has ended, and ends what is not used.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.accepted.retain(|_, peer| peer.is_standing());
        self.dialled.retain(|_, peer| peer.is_standing());
        self.relayed.retain(|_, relayed| match relayed.peer.get() {
            // someone makes it
            None => Rc::strong_count(relayed) > 1,
            Some(peer) => peer.is_standing() && !relayed.is_idle(peer, now),
        });
    }
}

impl Relayed {
    /// Ends the connection when it is idle for long enough; tells whether it did.
    fn is_idle(&self, peer: &Peer, now: Instant) -> bool {
        if peer.streams() > 0 {
            self.idle.set(None);
            return false;
        }
        let since = self.idle.get().unwrap_or(now);
        self.idle.set(Some(since));
        let is_idle = now.saturating_duration_since(since) >= IDLE;
        if is_idle {
            peer.connection.close(ENDED, b"not used");
        }
        is_idle
    }
}
