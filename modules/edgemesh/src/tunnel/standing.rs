//! What `edgectl` shows of the tunnel.

use std::net::SocketAddr;

use serde::Serialize;

use super::Tunnel;
use super::counts::Numbers;
use super::peers::Peer;
use super::unreached::Failure;
use crate::node::NodeId;

/// How many nodes are told of at most, how much of each name, and how much of all in bytes: a report
/// has its bound.
const SHOWN: usize = 16;
const OF_NAME: usize = 100;
const MOST_BYTES: usize = 6 * 1024;

/// How the tunnel is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Standing {
    /// Where other nodes dial this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    /// Whether it passes on what they send to each other.
    relay: bool,
    /// The far ends that it dials.
    relays: Vec<Relay>,
    /// The networks that are reached without it.
    direct: Vec<String>,
    /// The network of the addresses that stand for pods beyond it.
    #[serde(skip_serializing_if = "Option::is_none")]
    stand_ins: Option<String>,
    /// How many nodes are connected with this one, directly or through a relay.
    nodes: usize,
    /// Some of them.
    peers: Vec<Node>,
    /// How many streams there are with all of them.
    streams: usize,
    /// Nodes to which no stream could be opened of late.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreached: Vec<Failure>,
    counts: Numbers,
    /// Why it does not stand at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Relay {
    endpoint: String,
    connected: bool,
    /// The node that it is, where it is connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_millis: Option<u64>,
    /// Why it is not connected, or was not before.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    name: String,
    /// `direct` or `relay`.
    via: &'static str,
    /// The relay behind which it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    relay: Option<String>,
    rtt_millis: u64,
    streams: usize,
}

/// How a node is reached that is not reached directly.
const RELAY: &str = "relay";

impl Standing {
    /// Leaves out the least of what does not fit.
    fn shorten(&mut self) {
        let is_long = |it: &Self| serde_json::to_vec(it).is_ok_and(|text| text.len() > MOST_BYTES);
        while is_long(self) && (self.peers.pop().is_some() || self.unreached.pop().is_some()) {}
    }
}

fn clipped(name: &str) -> String {
    name.chars().take(OF_NAME).collect()
}

fn millis(peer: &Peer) -> u64 {
    u64::try_from(peer.connection.rtt().as_millis()).unwrap_or(u64::MAX)
}

impl Tunnel {
    /// Returns how it is now.
    pub(super) fn standing(&self) -> Standing {
        let peers = self.peers.borrow();
        let troubles = self.troubles.borrow();
        let relay = |(place, far): (usize, &module_runtime::net::Endpoint)| {
            let peer = peers.dialled.get(&place).filter(|peer| peer.is_standing());
            Relay {
                endpoint: clipped(&far.to_string()),
                connected: peer.is_some(),
                node: peer.map(|peer| clipped(&peer.name)),
                rtt_millis: peer.map(millis),
                reason: troubles.get(&place).filter(|_| peer.is_none()).cloned(),
            }
        };
        let routes = self.routes.borrow();
        let relay_of = |peer: &Peer| {
            let place = routes.behind(NodeId::of(&peer.name))?;
            peers.dialled.get(&place).map(|relay| clipped(&relay.name))
        };
        let direct =
            peers.accepted.values().chain(peers.dialled.values()).map(|peer| (peer, "direct"));
        let relayed = peers.relayed.values().filter_map(|it| it.peer.get()).map(|it| (it, RELAY));
        let all = direct.chain(relayed).filter(|(peer, _)| peer.is_standing());
        let mut nodes: Vec<Node> = all
            .map(|(peer, via)| Node {
                name: clipped(&peer.name),
                via,
                relay: relay_of(peer).filter(|_| via == RELAY),
                rtt_millis: millis(peer),
                streams: peer.streams(),
            })
            .collect();
        let count = nodes.len();
        let streams = nodes.iter().map(|node| node.streams).sum();
        // the busiest first
        nodes.sort_by(|one, other| (other.streams, &one.name).cmp(&(one.streams, &other.name)));
        nodes.truncate(SHOWN);
        let mut standing = Standing {
            listen: self.config.listen,
            relay: self.config.relay,
            relays: self.config.relays.iter().enumerate().map(relay).collect(),
            direct: self.config.direct.iter().map(ToString::to_string).collect(),
            stand_ins: self.config.stand_ins.map(|pool| pool.to_string()),
            nodes: count,
            peers: nodes,
            streams,
            unreached: self.unreached.borrow().all(),
            counts: self.counts.now(),
            trouble: self.trouble.borrow().clone(),
        };
        standing.shorten();
        standing
    }
}
