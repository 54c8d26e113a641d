//! Nodes as a controller judges them.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::cluster::Cluster;
use super::key::Key;
use crate::time::Time;

/// The label that makes a node an edge node, without which nothing is pushed to it.
pub const EDGE_LABEL: &str = "node-role.kubernetes.io/edge";
/// The taint of a node that is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The port at which the API of a node with a tunnel is said to be: CloudCore's default.
pub const TUNNEL_PORT: u16 = 10_351;

/// A node as the node controller sees it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Whether its Ready condition holds and its lease was renewed in time.
    pub ready: bool,
    /// Why it is not ready; empty when it is.
    pub reason: String,
    /// The lease's renewTime, as the node wrote it.
    pub renew_time: Option<String>,
    /// How long ago the cloud saw the last renewal, in seconds.
    pub renewed_seconds_ago: Option<f64>,
    /// Whether the node has a session.
    pub connected: bool,
}

/// Returns the key of a node.
#[must_use]
pub fn key(name: &str) -> Key {
    Key::new("node", "null", name)
}

/// Returns the key of a node's lease.
#[must_use]
pub fn lease_key(name: &str) -> Key {
    Key::new("lease", "kube-node-lease", name)
}

/// Tells whether the node's own word is that it is ready.
#[must_use]
pub fn says_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

/// Judges a node by its condition and by when its lease was last renewed; a renewal counts for
/// `grace`.
#[must_use]
pub fn judge(
    cluster: &Cluster,
    name: &str,
    renewed: Option<Time>,
    connected: bool,
    (now, grace): (Time, Duration),
) -> Option<NodeView> {
    let node = cluster.get(&key(name))?;
    let lease = cluster.get(&lease_key(name));
    let reason = match renewed {
        _ if !says_ready(node) => "the node does not say that it is ready",
        None => "the lease was never renewed",
        Some(renewed) if now.since(renewed) > grace => "the lease was not renewed in time",
        Some(_) => "",
    };
    let renew_time = lease.and_then(|lease| lease["spec"]["renewTime"].as_str());
    Some(NodeView {
        name: name.to_owned(),
        ready: reason.is_empty(),
        reason: reason.to_owned(),
        renew_time: renew_time.map(str::to_owned),
        renewed_seconds_ago: renewed.map(|renewed| now.since(renewed).as_secs_f64()),
        connected,
    })
}

/// Chooses a node for a pod that has none: one that is ready, carries the labels that the pod asks
/// for and no taint that it does not tolerate, with the fewest pods.
#[must_use]
pub fn place(cluster: &Cluster, pod: &Value) -> Option<String> {
    let fits = |node: &Value| {
        let wanted = pod["spec"]["nodeSelector"].as_object();
        let labels = &node["metadata"]["labels"];
        let selected = wanted.into_iter().flatten().all(|(name, value)| labels[name] == *value);
        let taints = node["spec"]["taints"].as_array();
        selected && says_ready(node) && taints.into_iter().flatten().all(|it| tolerates(pod, it))
    };
    let load = |name: &str| {
        cluster.of_kind("pod").filter(|(_, pod)| pod["spec"]["nodeName"] == name).count()
    };
    let nodes = cluster.of_kind("node").filter(|(_, node)| fits(node));
    nodes.map(|(key, _)| key.name().to_owned()).min_by_key(|name| load(name))
}

fn tolerates(pod: &Value, taint: &Value) -> bool {
    let tolerations = pod["spec"]["tolerations"].as_array();
    taint["effect"] == "PreferNoSchedule"
        || tolerations.into_iter().flatten().any(|it| {
            let effect = it["effect"].is_null() || it["effect"] == taint["effect"];
            let key = it["key"].is_null() || it["key"] == taint["key"];
            effect && key && (it["operator"] == "Exists" || it["value"] == taint["value"])
        })
}
