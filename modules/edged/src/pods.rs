//! The actors of all pods: who is there, what each is told, and what of the runtime and the disk
//! belongs to nobody.

mod admit;
mod evict;
mod local;
mod orphans;
mod restart;
mod wanted;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

pub(crate) use local::drop_mirror;

use crate::Report;
use crate::pod::last::LastStatus;
use crate::pod::names;
use crate::pod::spec::{Metadata, Pod, Spec};
use crate::runtime::{Listing, Trace};
use crate::statics::{self, Static};
use crate::status::Verdict;
use crate::volumes::pod_folder;
use crate::worker::{self, Host, Mirror, Order};

/// All pods.
pub(crate) struct Pods {
    node: String,
    host: Arc<Host>,
    /// By uid.
    orders: HashMap<String, watch::Sender<Order>>,
    /// The status of each, by uid, as it is told the cloud.
    statuses: HashMap<String, watch::Receiver<Arc<str>>>,
    workers: JoinSet<String>,
    /// What the runtime had when it was listed last.
    traces: Vec<Trace>,
    /// Whether the store has told which pods there are.
    told: bool,
    /// Whether the runtime has told what it has.
    listed: bool,
    /// The static pods; none known before they were read.
    statics: Option<Vec<Static>>,
    /// What the cloud shows of static pods, by namespace and name.
    mirrors: HashMap<(String, String), (Mirror, LastStatus)>,
    /// Mirrors of no pod whose deletion was asked for, by uid.
    dropped: HashSet<String>,
    /// Whether the disk was searched for what belongs to no pod.
    searched: bool,
    /// Whether the host is shutting down.
    leaving: bool,
    /// What was reported last.
    pub(crate) said: Option<Report>,
}

/// A pod as it is shown on the node itself.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) pod: Arc<Pod>,
    /// The patch of its status as the cloud is told it; empty before the pod was looked at.
    pub(crate) status: Arc<str>,
    /// All of a static pod, as JSON; of the others the store has it.
    pub(crate) object: Option<Arc<str>>,
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
        Self {
            node,
            host,
            orders: HashMap::new(),
            statuses: HashMap::new(),
            workers: JoinSet::new(),
            traces: Vec::new(),
            told: false,
            listed: false,
            statics: None,
            mirrors: HashMap::new(),
            dropped: HashSet::new(),
            searched: false,
            leaving: false,
            said: None,
        }
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.orders.len()
    }

    /// Returns all that are known, with those that are ending.
    pub(crate) fn all(&self) -> Vec<Shown> {
        let show = |(uid, order): (&String, &watch::Sender<Order>)| {
            let status = self.statuses.get(uid).map(|status| Arc::clone(&status.borrow()));
            let order = order.borrow();
            let object = order.local.as_ref().map(|local| Arc::clone(&local.object));
            Shown { pod: Arc::clone(&order.pod), status: status.unwrap_or_default(), object }
        };
        self.orders.iter().map(show).collect()
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
        let before = std::mem::take(&mut self.mirrors);
        let uids: HashSet<String> =
            pods.iter().filter_map(|pod| self.apply(pod.get().as_bytes())).collect();
        for (uid, order) in &self.orders {
            if !uids.contains(uid) {
                order.send_if_modified(|order| {
                    order.local.is_none() && !std::mem::replace(&mut order.removed, true)
                });
            }
        }
        before.keys().for_each(|name| self.show_mirror(name));
        self.adopt();
        self.drop_mirrors();
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
                    Some(Verdict::new("InvalidPod", format!("the pod cannot be read: {error}"))),
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
        if statics::mirrored(&pod).is_some() {
            self.mirror(pod);
            return None;
        }
        let pod = Arc::new(pod);
        match self.orders.get(&uid) {
            Some(order) => drop(order.send_if_modified(|order| {
                // Most often what comes is the status that this node has told.
                let told = self.statuses.get(&uid).map(|status| Arc::clone(&status.borrow()));
                let known = order.pod.wants_same(&pod)
                    && told.is_some_and(|told| pod.status.agrees_with(&told));
                let refused = refused.or_else(|| order.refused.clone());
                let news = order.removed || order.refused != refused || !known;
                order.pod = pod;
                order.refused = refused;
                order.removed = false;
                news
            })),
            None => {
                let gone = self.evicted(&uid);
                let refused = refused.or(gone).or_else(|| self.refusal(&pod));
                self.begin(Order { refused, ..Order::new(pod) });
            }
        }
        Some(uid)
    }

    /// Takes it that the store does not have a pod any more.
    pub(crate) fn remove(&mut self, namespace: &str, name: &str, object: &[u8]) {
        let uid = serde_json::from_slice::<Bare>(object).unwrap_or_default().metadata.uid;
        self.mirror_gone(namespace, name, &uid);
        for order in self.orders.values() {
            order.send_if_modified(|order| {
                let metadata = &order.pod.metadata;
                let meant = order.local.is_none()
                    && metadata.is_named(namespace, name)
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
        self.listed = true;
        self.begin_statics();
        self.adopt();
    }

    /// Lets a pod go that is held back until somebody on the node says so.
    pub(crate) fn release(&mut self, namespace: &str, name: &str) {
        for (uid, order) in &self.orders {
            if !order.borrow().pod.metadata.is_named(namespace, name) {
                continue;
            }
            // The folder is the mark: it is still there when this process dies before it acts.
            let folder = pod_folder(&self.host.config.root, uid);
            if let Err(error) = std::fs::create_dir_all(&folder) {
                warn!(pod = %name, "cannot make {}: {error}", folder.display());
            }
            info!(pod = %name, %namespace, "the pod is let go");
        }
        for order in self.orders.values() {
            order.send_if_modified(|order| {
                let meant = order.pod.metadata.is_named(namespace, name);
                order.nudges += u64::from(meant);
                meant
            });
        }
    }

    fn begin(&mut self, order: Order) {
        let uid = order.pod.metadata.uid.clone();
        let (sender, receiver) = watch::channel(order);
        let (host, mine) = (Arc::clone(&self.host), uid.clone());
        let (shown, status) = watch::channel(Arc::default());
        self.workers.spawn(async move {
            worker::run(host, receiver, shown).await;
            mine
        });
        self.statuses.insert(uid.clone(), status);
        self.orders.insert(uid, sender);
    }

    /// Waits until nothing is left of a pod; nothing when there are none.
    pub(crate) async fn next_ended(&mut self) -> Option<()> {
        let ended = self.workers.join_next().await?;
        if let Ok(uid) = ended {
            // What the list still shows of it is gone by now.
            self.traces.retain(|trace| trace.uid != uid);
            self.statuses.remove(&uid);
            if let Some(order) = self.orders.remove(&uid)
                && !order.borrow().removed
            {
                // It came back while its last was removed.
                let order = order.borrow().clone();
                self.begin(order);
            }
        }
        self.begin_statics();
        self.drop_mirrors();
        Some(())
    }
}
