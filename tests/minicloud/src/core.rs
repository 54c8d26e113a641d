//! The cloud's decisions: events and the time in, effects out. No IO, no clock, no randomness but
//! what its seed gives.
//!
//! An event changes the cluster; the controllers react to each change, and the nodes that it
//! concerns are told of it by way of the hub.

pub mod cluster;
mod controllers;
mod defaults;
mod downstream;
pub mod ids;
pub mod key;
pub mod kinds;
mod listeners;
mod merge;
pub mod nodes;
pub mod received;
pub mod router;
pub mod status;
mod upstream;

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_proto::{Content, Group, Message, Resource, Route};
use serde_json::{Value, json};

use self::cluster::{Change, Cluster, fields, version_of};
use self::downstream::Notice;
use self::key::Key;
use self::listeners::Listeners;
use self::nodes::{NodeView, TUNNEL_PORT};
use self::received::Log;
use self::status::Status;
use crate::hub::core::{Effect, Hub, SessionId};
use crate::time::Time;

/// What the cloud is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a lease counts.
    pub node_grace: Duration,
    /// How often the ObjectSyncs are compared with the cluster.
    pub sync_interval: Duration,
    /// The address that the cloud writes into the annotations of nodes.
    pub address: String,
    /// The certificate authority of the cluster, in PEM.
    pub ca_pem: String,
    /// The key that signs tokens of service accounts.
    pub token_key: Vec<u8>,
}

/// The cloud.
#[derive(Debug)]
pub struct Cloud {
    settings: Settings,
    cluster: Cluster,
    hub: Hub,
    log: Log,
    /// When the cloud last saw the leases of nodes renewed.
    renewed: BTreeMap<Box<str>, Time>,
    /// What nodes watch through their local API.
    listeners: Listeners,
    next_sync: Time,
}

/// A message to a node, as tests compose it: the parts of its route as the wire writes them.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// Who sends it, such as `router_eventbus`.
    pub source: String,
    /// The group, such as `user`.
    pub group: String,
    /// What it asks for.
    pub operation: String,
    /// What it is about, without the `node/<node>/` that CloudHub strips.
    #[serde(default)]
    pub resource: String,
    /// The version of the object carried; empty for none.
    #[serde(default)]
    pub version: String,
    /// The body.
    #[serde(default)]
    pub content: Value,
}

impl Cloud {
    /// Starts a cloud; its cluster may have had a life before.
    #[must_use]
    pub fn new(settings: Settings, cluster: Cluster, hub: Hub, now: Time) -> Self {
        let next_sync = now.after(settings.sync_interval);
        let (log, renewed, listeners) = (Log::default(), BTreeMap::new(), Listeners::default());
        Self { settings, cluster, hub, log, renewed, listeners, next_sync }
    }

    /// Returns the cluster.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Returns the hub.
    #[must_use]
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Returns what nodes sent.
    #[must_use]
    pub const fn received(&self) -> &Log {
        &self.log
    }

    /// Returns a node as the node controller judges it.
    #[must_use]
    pub fn node(&self, now: Time, name: &str) -> Option<NodeView> {
        let connected = self.hub.session_of(name).is_some();
        let renewed = self.renewed.get(name).copied();
        nodes::judge(&self.cluster, name, renewed, connected, (now, self.settings.node_grace))
    }

    /// A node's socket is open.
    pub fn connect(&mut self, now: Time, id: SessionId, node: &str, out: &mut Vec<Effect>) {
        self.hub.connect(now, id, node, out);
    }

    /// The cloud's processes died and are back: sessions and what was queued are gone, the
    /// informers start anew, and nobody remembers when leases were renewed.
    pub fn restart(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.hub.restart();
        self.renewed.clear();
        self.listeners.clear();
        self.cluster.announce();
        self.settle(now, out);
    }

    /// Returns the certificate requests that nobody has signed or refused: key and request (PEM in
    /// base64).
    #[must_use]
    pub fn unsigned(&self) -> Vec<(Key, String)> {
        let open = |csr: &Value| {
            csr["status"].get("certificate").is_none() && csr["status"].get("conditions").is_none()
        };
        let requests = self.cluster.of_kind("certificatesigningrequest");
        let unsigned = requests.filter(|(_, csr)| open(csr));
        let text = |csr: &Value| csr["spec"]["request"].as_str().unwrap_or_default().to_owned();
        unsigned.map(|(key, csr)| (key.clone(), text(csr))).collect()
    }

    /// Stores what became of a certificate request: the certificate (PEM in base64) or a refusal.
    pub fn certify(&mut self, now: Time, key: &Key, certificate: Option<&str>) {
        let word = if certificate.is_some() { "Approved" } else { "Denied" };
        let condition = json!({"type": word, "status": "True", "reason": "AutoApproved",
            "lastUpdateTime": now.text()});
        let edit = |csr: &mut Value| {
            let status = fields(fields(csr).entry("status").or_insert(Value::Null));
            status.insert("conditions".to_owned(), json!([condition]));
            if let Some(certificate) = certificate {
                status.insert("certificate".to_owned(), certificate.into());
            }
        };
        self.cluster.modify(key, edit).ok();
    }

    /// A socket is closed.
    pub fn disconnect(&mut self, id: SessionId) {
        self.hub.disconnect(id);
    }

    /// A node sent a message.
    pub fn receive(&mut self, now: Time, id: SessionId, message: &Message, out: &mut Vec<Effect>) {
        let Some(node) = self.hub.node_of(id).map(str::to_owned) else { return };
        self.log.push(now, &node, message);
        upstream::receive(self, now, (id, &node), message, out);
        self.settle(now, out);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.hub.tick(now, out);
        if now >= self.next_sync {
            self.next_sync = now.after(self.settings.sync_interval);
            self.resync(now, out);
        }
        self.settle(now, out);
    }

    /// Returns when [`Cloud::tick`] is next due.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        self.hub.next_deadline().map_or(self.next_sync, |due| due.min(self.next_sync))
    }

    /// Makes an object what its author says.
    ///
    /// # Errors
    /// When it is no object, or the cluster is full.
    pub fn apply(
        &mut self,
        now: Time,
        mut object: Value,
        out: &mut Vec<Effect>,
    ) -> Result<Key, Status> {
        controllers::admit(&self.cluster, &mut object);
        let key = self.cluster.apply(now, object)?;
        self.settle(now, out);
        Ok(key)
    }

    /// Deletes an object. A pod on a node ends first, unless it is `force`d away.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn delete(
        &mut self,
        now: Time,
        key: &Key,
        force: bool,
        out: &mut Vec<Effect>,
    ) -> Result<(), Status> {
        controllers::delete(&mut self.cluster, now, key, force)?;
        self.settle(now, out);
        Ok(())
    }

    /// Notes that a node's API is reached through its tunnel, as cloudstream does: Kubernetes' API
    /// server asks at the port that stands in the node's status.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn tunnel(&mut self, now: Time, node: &str, out: &mut Vec<Effect>) -> Result<(), Status> {
        let edit = |node: &mut Value| {
            node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] = TUNNEL_PORT.into();
        };
        self.cluster.modify(&nodes::key(node), edit)?;
        self.settle(now, out);
        Ok(())
    }

    /// Sends a message that a test composed.
    pub fn push(&mut self, now: Time, node: &str, push: &Push, out: &mut Vec<Effect>) {
        let group = Group::parse(&push.group);
        let route = Route {
            source: ipc_proto::Source::parse(&push.source),
            operation: ipc_proto::Operation::parse(&push.operation),
            resource: Resource::parse(&group, &push.resource),
            group,
        };
        let mut message = self.message(now, route, &push.content);
        message.header.resource_version = push.version.as_str().into();
        self.hub.send(now, node, message, out);
    }

    /// Lets the controllers and the nodes know what changed.
    pub fn settle(&mut self, now: Time, out: &mut Vec<Effect>) {
        while let Some(change) = self.cluster.next_change() {
            controllers::react(&mut self.cluster, now, &change, &self.settings.ca_pem);
            self.forget(&change);
            let watched = self.listeners.notices(&change);
            for notice in downstream::notices(&self.cluster, &change).into_iter().chain(watched) {
                self.deliver(now, notice, out);
            }
        }
    }

    /// A node that is gone takes its ObjectSyncs along (WIRE.md §4.6).
    fn forget(&mut self, change: &Change) {
        if change.kind == cluster::ChangeKind::Removed && change.key.kind() == "node" {
            let gone = change.key.name();
            self.hub.retain_syncs(|(node, _), _| **node != *gone);
            self.renewed.remove(gone);
        }
    }

    /// Does the sync controller's round.
    fn resync(&mut self, now: Time, out: &mut Vec<Effect>) {
        let syncs = self.hub.syncs().iter();
        // What is on its way already need not be sent for.
        let connected = syncs.filter(|((node, uid), _)| {
            self.hub.session_of(node).is_some() && !self.hub.is_queued(node, uid)
        });
        let notice = |((node, uid), sync): (&(Box<str>, Box<str>), &crate::hub::core::Sync)| {
            downstream::resync(&self.cluster, node, (&sync.resource, uid, sync.version))
        };
        let notices: Vec<_> = connected.filter_map(notice).collect();
        for notice in notices {
            self.deliver(now, notice, out);
        }
    }

    fn deliver(&mut self, now: Time, notice: Notice, out: &mut Vec<Effect>) {
        let Notice { node, route, version, mut content } = notice;
        if route.resource == Resource::Membership {
            let fields = fields(&mut content);
            fields.insert("event_id".to_owned(), self.cluster.ids.uid().into());
            fields.insert("timestamp".to_owned(), now.millis().into());
        }
        let mut message = self.message(now, route, &content);
        if version > 0 {
            message.header.resource_version = version.to_string().into();
        }
        self.hub.send(now, &node, message, out);
    }

    fn message(&mut self, now: Time, route: Route, content: &Value) -> Message {
        let content = Content::from_raw(content.to_string().into());
        Message::new(self.cluster.ids.message(), now.millis(), route, content)
    }
}

/// Takes kind and version off an object, as envelopes and the sync controller send it.
fn untype(object: &mut Value) {
    let fields = fields(object);
    fields.remove("kind");
    fields.remove("apiVersion");
}
