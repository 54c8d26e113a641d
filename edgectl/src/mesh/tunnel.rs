//! `edgectl mesh tunnel`: the way to other networks, as the running mesh tells it.

use std::fmt::Write as _;

use ipc_proto::Module;
use serde::{Deserialize, Serialize};

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
    nodes: usize,
    peers: Vec<Node>,
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
    rtt_millis: u64,
    streams: usize,
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
        [self.name.as_str().into(), self.via.as_str().into(), rtt.into(), streams.into()]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn people_see_relays_and_nodes() {
        let tunnel: Tunnel = serde_json::from_value(json!({
            "listen": "0.0.0.0:20006", "relay": true, "nodes": 3,
            "relays": [
                {"endpoint": "r1:20006", "connected": true, "node": "hub", "rttMillis": 12},
                {"endpoint": "r2:20006", "connected": false, "reason": "r2:20006: timed out"}],
            "peers": [{"name": "hub", "via": "direct", "rttMillis": 12, "streams": 2}]}))
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
                "2 more nodes are connected.",
            ]
        );
    }
}
