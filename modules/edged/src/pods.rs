//! The actors of all pods: who is there, what each is told, and what of the runtime belongs to
//! nobody.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::Report;
use crate::pod::names;
use crate::pod::spec::{Metadata, Pod, Spec};
use crate::runtime::{Listing, Trace};
use crate::worker::{self, Host, Order};

/// All pods.
pub(crate) struct Pods {
    node: String,
    host: Arc<Host>,
    /// By uid.
    orders: HashMap<String, watch::Sender<Order>>,
    workers: JoinSet<String>,
    /// What the runtime had when it was listed last.
    traces: Vec<Trace>,
    /// Whether the store has told which pods there are.
    told: bool,
    /// What was reported last.
    pub(crate) said: Option<Report>,
}

/// A pod of which nothing but its name can be read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Bare {
    metadata: Metadata,
    spec: BareSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BareSpec {
    node_name: String,
}

impl Pods {
    /// Makes it, without pods.
    pub(crate) fn new(node: &str, host: Arc<Host>) -> Self {
        let node = node.to_owned();
        let (orders, workers) = (HashMap::new(), JoinSet::new());
        Self { node, host, orders, workers, traces: Vec::new(), told: false, said: None }
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.orders.len()
    }

    /// Takes the array of all pods that the store has.
    pub(crate) fn set(&mut self, array: &Bytes) {
        let pods: Vec<&RawValue> = match serde_json::from_slice(array) {
            Ok(pods) => pods,
            Err(error) => {
                warn!("the store's list of pods cannot be read: {error}");
                return;
            }
        };
        self.told = true;
        let uids: Vec<String> =
            pods.iter().filter_map(|pod| self.apply(pod.get().as_bytes())).collect();
        for (uid, order) in &self.orders {
            if !uids.contains(uid) {
                order.send_if_modified(|order| !std::mem::replace(&mut order.removed, true));
            }
        }
        self.adopt();
    }

    /// Takes a pod that is new or changed; returns its uid if it is of this node.
    pub(crate) fn apply(&mut self, object: &[u8]) -> Option<String> {
        let (pod, refused) = match serde_json::from_slice::<Pod>(object) {
            Ok(pod) => (pod, None),
            Err(error) => {
                let Ok(Bare { metadata, spec }) = serde_json::from_slice(object) else {
                    warn!("a pod cannot be read: {error}");
                    return None;
                };
                let spec = Spec { node_name: spec.node_name, ..Spec::default() };
                (
                    Pod { metadata, spec, ..Pod::default() },
                    Some(format!("the pod cannot be read: {error}")),
                )
            }
        };
        let metadata = &pod.metadata;
        let uid = metadata.uid.clone();
        let plain =
            [&uid, &metadata.name, &metadata.namespace].into_iter().all(|it| names::is_plain(it));
        if pod.spec.node_name != self.node || !plain {
            if !plain {
                warn!(name = %metadata.name, %uid, "a pod whose names are no names of files is not taken");
            }
            return None;
        }
        let pod = Arc::new(pod);
        match self.orders.get(&uid) {
            Some(order) => order.send_modify(|order| {
                order.pod = pod;
                order.refused = refused;
                order.removed = false;
            }),
            None => self.begin(Order { pod, refused, removed: false, nudges: 0, refreshes: 0 }),
        }
        Some(uid)
    }

    /// Takes it that the store does not have a pod any more.
    pub(crate) fn remove(&mut self, namespace: &str, name: &str, object: &[u8]) {
        let uid = serde_json::from_slice::<Bare>(object).unwrap_or_default().metadata.uid;
        for order in self.orders.values() {
            order.send_if_modified(|order| {
                let metadata = &order.pod.metadata;
                let meant = metadata.namespace == namespace
                    && metadata.name == name
                    && (uid.is_empty() || uid == metadata.uid);
                meant && !std::mem::replace(&mut order.removed, true)
            });
        }
    }

    /// Takes it that a config map or a secret of a namespace changed.
    pub(crate) fn refresh(&mut self, namespace: &str) {
        for order in self.orders.values() {
            order.send_if_modified(|order| {
                let meant = order.pod.metadata.namespace == namespace;
                order.refreshes += u64::from(meant);
                meant
            });
        }
    }

    /// Takes what the runtime has.
    pub(crate) fn listed(&mut self, listing: Listing) {
        for uid in &listing.changed {
            if let Some(order) = self.orders.get(uid) {
                order.send_modify(|order| order.nudges += 1);
            }
        }
        self.traces = listing.all;
        self.adopt();
    }

    /// Begins the end of what belongs to no pod, once the store has told which there are.
    fn adopt(&mut self) {
        if !self.told {
            return;
        }
        for Trace { uid, namespace, name } in self.traces.clone() {
            if self.orders.contains_key(&uid) {
                continue;
            }
            info!(%namespace, %name, %uid, "the runtime has a pod that is gone: it is removed");
            let metadata = Metadata { name, namespace, uid, ..Metadata::default() };
            let pod = Arc::new(Pod { metadata, ..Pod::default() });
            self.begin(Order { pod, refused: None, removed: true, nudges: 0, refreshes: 0 });
        }
    }

    fn begin(&mut self, order: Order) {
        let uid = order.pod.metadata.uid.clone();
        let (sender, receiver) = watch::channel(order);
        let (host, mine) = (Arc::clone(&self.host), uid.clone());
        self.workers.spawn(async move {
            worker::run(host, receiver).await;
            mine
        });
        self.orders.insert(uid, sender);
    }

    /// Waits until nothing is left of a pod; nothing when there are none.
    pub(crate) async fn next_ended(&mut self) -> Option<()> {
        let ended = self.workers.join_next().await?;
        if let Ok(uid) = ended {
            // What the list still shows of it is gone by now.
            self.traces.retain(|trace| trace.uid != uid);
            if let Some(order) = self.orders.remove(&uid)
                && !order.borrow().removed
            {
                // It came back while its last was removed.
                let order = order.borrow().clone();
                self.begin(order);
            }
        }
        Some(())
    }
}
