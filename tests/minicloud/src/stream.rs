//! CloudCore's cloudstream: the nodes' tunnels, and the HTTP server through which Kubernetes' API
//! server, or a test, uses them (WIRE.md §9). Written on its own, against the recordings: it shares
//! no code with the module that it tests.

mod front;
mod http;
mod tunnel;
mod ws;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use front::serve as serve_front;
pub(crate) use tunnel::serve as serve_tunnel;

/// What may wait for a tunnel, or for a user.
const QUEUE: usize = 64;

/// A fault of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelFault {
    /// The connection is closed, without a word.
    Cut,
    /// The cloud neither reads nor writes any more, but keeps the connection.
    HalfOpen,
    /// These bytes are written to the connection as they are.
    Raw(Vec<u8>),
    /// One message with these bytes is sent.
    Message(Vec<u8>),
}

/// What a tunnel's task is told.
pub(crate) enum ToTunnel {
    /// A user comes; bytes and end of the node go there, the connection's number to the reply.
    Connect { connect: Connect, user: mpsc::Sender<Bytes>, reply: oneshot::Sender<u64> },
    /// Bytes of a user.
    Data(u64, Bytes),
    /// A user has gone.
    Remove(u64),
    /// A fault begins.
    Fault(TunnelFault),
}

/// A user's request.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    /// The kind of the first frame.
    pub(crate) kind: u8,
    pub(crate) method: Option<String>,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: BTreeMap<String, Vec<String>>,
}

/// A standing tunnel.
#[derive(Clone, Debug)]
pub(crate) struct Tunnel {
    /// Counts the tunnels of all nodes.
    pub(crate) number: u64,
    pub(crate) orders: mpsc::Sender<ToTunnel>,
}

/// Bytes of a user that make one frame: CloudCore's.
pub const PIECE: usize = 256;

/// What is known of the tunnels.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// By the node's name and by its address; a later one replaces an earlier one.
    pub(crate) tunnels: BTreeMap<String, Tunnel>,
    /// Tunnels so far.
    pub(crate) last: u64,
    /// Users so far.
    pub(crate) users: u64,
    /// How often nodes said that a connection was over, by its number.
    pub(crate) removed: BTreeMap<u64, u64>,
    /// Frames of data so far, and their bytes.
    pub(crate) frames: (u64, u64),
    /// How long a tunnel that was taken waits until it is served.
    pub(crate) hesitation: Duration,
    /// Bytes of a user that make one frame, at most.
    pub(crate) piece: usize,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            tunnels: BTreeMap::new(),
            last: 0,
            users: 0,
            removed: BTreeMap::new(),
            frames: (0, 0),
            hesitation: Duration::ZERO,
            piece: PIECE,
        }
    }
}

/// The tunnels, shared by their servers.
#[derive(Clone, Debug)]
pub(crate) struct Tunnels(pub(crate) Arc<watch::Sender<Known>>);

impl Default for Tunnels {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Known::default())))
    }
}

impl Tunnels {
    /// Finds the tunnel of a node, by name or address.
    pub(crate) fn find(&self, key: &str) -> Option<Tunnel> {
        self.0.borrow().tunnels.get(key).cloned()
    }
}
