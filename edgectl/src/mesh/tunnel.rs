//! `edgectl mesh tunnel`: the way to other networks, as the running mesh tells it.

use std::fmt::Write as _;

use ipc_proto::Module;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Client;
use crate::failure::Failure;
use crate::screen::{Paint, Style};
use crate::table::{self, Cell};

/// How the tunnel is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tunnel {
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<String>,
    relay: bool,
    relays: Vec<Relay>,
    #[serde(default)]
    direct: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stand_ins: Option<String>,
    nodes: usize,
    peers: Vec<Node>,
    #[serde(default)]
    unreached: Vec<Unreached>,
    #[serde(default)]
    counts: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Relay {
    endpoint: String,
    connected: bool,
    node: Option<String>,
    rtt_millis: Option<u64>,
    reason: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    name: String,
    via: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    relay: Option<String>,
    rtt_millis: u64,
    streams: usize,
}

/// A node to which no stream could be opened of late.
#[derive(Debug, Serialize, Deserialize)]
struct Unreached {
    name: String,
    reason: String,
}

/// The way to a node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Way {
    /// Whether the tunnel to the node stands.
    stands: bool,
    /// The relay by which it is reached; nothing where it is reached without one, or not.
    relay: Option<String>,
    rtt_millis: Option<u64>,
    /// Why no stream could be opened, or no tunnel can stand.
    reason: Option<String>,
}

impl Way {
    pub(super) fn cell(&self) -> Cell {
        let rtt = self.rtt_millis.map(millis).unwrap_or_default();
        match (&self.reason, &self.relay) {
            (Some(reason), _) => Cell::new(Paint::Bad, format!("through the tunnel: {reason}")),
            (None, _) if !self.stands => Cell::from("through the tunnel, which nobody uses now"),
            (None, Some(relay)) => {
                Cell::new(Paint::Good, format!("through the tunnel by relay {relay} in {rtt}"))
            }
            (None, None) => {
                Cell::new(Paint::Good, format!("through the tunnel without a relay in {rtt}"))
            }
        }
    }
}

impl Tunnel {
    /// Tells how a node is reached.
    pub(super) fn way(&self, node: &str) -> Way {
        let peer = self.peers.iter().find(|peer| peer.name == node);
        let failure = self.unreached.iter().find(|unreached| unreached.name == node);
        let is_away = !self.relays.is_empty() && self.relays.iter().all(|relay| !relay.connected);
        let away = || {
            let why = self.relays.iter().filter_map(|relay| relay.reason.as_deref());
            format!("no relay is connected: {}", why.collect::<Vec<_>>().join("; "))
        };
        let reason = match failure {
            Some(failure) => Some(failure.reason.clone()),
            None => self.trouble.clone().or_else(|| (peer.is_none() && is_away).then(away)),
        };
        Way {
            stands: peer.is_some(),
            relay: peer.and_then(|peer| peer.relay.clone()),
            rtt_millis: peer.map(|peer| peer.rtt_millis),
            reason,
        }
    }
}

/// Returns what a trace has to know of the tunnel, of what the mesh reports of it.
pub(super) fn asked(report: &Value) -> Option<Value> {
    let known = |key: &str| report[key].clone();
    report.is_object().then(|| json!({"direct": known("direct"), "standIns": known("standIns")}))
}

/// Asks the supervisor for what the mesh has reported.
pub(super) fn of(client: &Client) -> Result<Tunnel, Failure> {
    let status = client.status()?;
    let mesh = status.modules.into_iter().find(|module| module.name == Module::Edgemesh);
    let report = mesh
        .and_then(|mesh| mesh.pid.and(mesh.report))
        .ok_or_else(|| Failure::Failed("the mesh does not run, see 'edgectl status'".to_owned()))?;
    let off = || {
        let key = "modules.edgemesh.tunnel.enabled";
        Failure::Failed(format!("the tunnel is off: {key} of supervisor.yaml does not say true"))
    };
    let tunnel = report.get("tunnel").cloned().ok_or_else(off)?;
    let foreign = |error: serde_json::Error| Failure::Failed(crate::program::foreign(&error));
    serde_json::from_value(tunnel).map_err(foreign)
}

/// Writes it for people.
pub(super) fn text(tunnel: &Tunnel, style: Style) -> String {
    let mut text = String::new();
    if let Some(trouble) = &tunnel.trouble {
        writeln!(text, "The tunnel does not stand: {trouble}").expect(WRITTEN);
    }
    if let Some(listen) = &tunnel.listen {
        let role = if tunnel.relay { ", and relays for others" } else { "" };
        writeln!(text, "Other nodes dial this one at {listen}{role}.").expect(WRITTEN);
    }
    if !tunnel.relays.is_empty() {
        let rows: Vec<_> = tunnel.relays.iter().map(Relay::row).collect();
        text += &table::render(["RELAY", "STATE", "NODE", "RTT", "REASON"], &rows, style);
    }
    if !tunnel.peers.is_empty() {
        let rows: Vec<_> = tunnel.peers.iter().map(Node::row).collect();
        text += &table::render(["NODE", "VIA", "RTT", "STREAMS"], &rows, style);
    }
    if !tunnel.unreached.is_empty() {
        let row = |it: &Unreached| [it.name.as_str().into(), it.reason.as_str().into()];
        let rows: Vec<[Cell; 2]> = tunnel.unreached.iter().map(row).collect();
        text += &table::render(["NOT REACHED", "REASON"], &rows, style);
    }
    let more = tunnel.nodes.saturating_sub(tunnel.peers.len());
    if more > 0 {
        writeln!(text, "{more} more nodes are connected.").expect(WRITTEN);
    }
    text
}

const WRITTEN: &str = "a string takes what is written";

fn millis(millis: u64) -> String {
    format!("{millis} ms")
}

impl Relay {
    fn row(&self) -> [Cell; 5] {
        let (paint, state) =
            if self.connected { (Paint::Good, "connected") } else { (Paint::Bad, "not connected") };
        [
            self.endpoint.as_str().into(),
            Cell::new(paint, state),
            Cell::maybe(self.node.as_deref()),
            Cell::maybe(self.rtt_millis.map(millis)),
            Cell::maybe(self.reason.as_deref()),
        ]
    }
}

impl Node {
    fn row(&self) -> [Cell; 4] {
        let streams = self.streams.to_string();
        let rtt = millis(self.rtt_millis);
        let via = match &self.relay {
            Some(relay) => format!("{} {relay}", self.via),
            None => self.via.clone(),
        };
        [self.name.as_str().into(), via.into(), rtt.into(), streams.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_relays_and_nodes() {
        let tunnel: Tunnel = serde_json::from_value(json!({
            "listen": "0.0.0.0:20006", "relay": true, "nodes": 3,
            "relays": [
                {"endpoint": "r1:20006", "connected": true, "node": "hub", "rttMillis": 12},
                {"endpoint": "r2:20006", "connected": false, "reason": "r2:20006: timed out"}],
            "peers": [{"name": "hub", "via": "direct", "rttMillis": 12, "streams": 2},
                {"name": "edge2", "via": "relay", "relay": "hub", "rttMillis": 30, "streams": 1}],
            "unreached": [{"name": "edge3", "reason": "no relay is connected with the node"}]}))
        .unwrap();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = text(&tunnel, Style::PLAIN).lines().map(words).collect();
        assert_eq!(
            lines,
            [
                "Other nodes dial this one at 0.0.0.0:20006, and relays for others.",
                "RELAY STATE NODE RTT REASON",
                "r1:20006 connected hub 12 ms -",
                "r2:20006 not connected - - r2:20006: timed out",
                "NODE VIA RTT STREAMS",
                "hub direct 12 ms 2",
                "edge2 relay hub 30 ms 1",
                "NOT REACHED REASON",
                "edge3 no relay is connected with the node",
                "1 more nodes are connected.",
            ]
        );
        let (way, other) = (tunnel.way("edge2"), tunnel.way("edge3"));
        assert!(way.stands && way.reason.is_none() && way.relay.as_deref() == Some("hub"));
        assert!(!other.stands && other.reason.is_some_and(|why| why.starts_with("no relay")));
        assert!(!tunnel.way("edge4").stands, "nobody knows more of it");
    }
}
