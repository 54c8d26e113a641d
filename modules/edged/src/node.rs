//! The node itself: its object, its conditions, its lease. It is registered when there is a cloud
//! to register with, and again when the cloud has lost it.

mod addresses;
mod conditions;
mod devices;
pub(crate) mod dummy;
pub(crate) mod host;
mod images;
mod lease;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipc_proto::{Content, Kind, Operation, Resource, Scope};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::devices::Amounts;
use crate::notes::About;
use crate::pod::amounts::Room;
use crate::pod::placement::Terms;
use crate::pod::plan::is_ahead;
use crate::pressure::Pressures;
use crate::runtime::State;
use crate::store::Lack;
use crate::worker::{Host, NodeFacts};
use addresses::Addresses;
use conditions::{Condition, Conditions};
use host::HostFacts;
use images::Images;
use ipc_proto::lifeline::Standing;

/// What the node tells as its kubelet's version: tools read what stands behind `-kubeedge-`.
const VERSION: &str = "v1.32.10-kubeedge-v1.23.1";

/// How often the lease is renewed, and the node's state looked at.
const PERIOD: Duration = Duration::from_secs(10);

/// How often the node's state is told although nothing changed, in milliseconds.
const REPORT: i64 = 300_000;

/// How long a failed registration waits, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(7));

/// Changes of addresses come in crowds.
const GATHER: Duration = Duration::from_millis(200);

/// How long the cloud's answer to the node's state is waited for: the lease must not wait for it.
const ANSWER: Duration = Duration::from_secs(5);

/// How soon the lease of a node follows that had to be registered again.
const ANEW: Duration = Duration::from_secs(1);

/// Where the node hears of what it tells.
pub(crate) struct Sources {
    /// How the runtime is.
    pub(crate) runtime: watch::Receiver<State>,
    /// How the agent's modules are.
    pub(crate) fleet: watch::Receiver<Vec<Standing>>,
    /// What the node is short of.
    pub(crate) pressures: watch::Receiver<Pressures>,
    /// Told that the cloud is back.
    pub(crate) linked: Arc<Notify>,
    /// The devices of plug-ins.
    pub(crate) devices: watch::Receiver<Amounts>,
    /// Told whether the host is shutting down.
    pub(crate) leaving: watch::Receiver<bool>,
}

/// The node's life towards the cloud.
pub(crate) struct Node {
    name: String,
    host: Arc<Host>,
    known: watch::Sender<NodeFacts>,
    sources: Sources,
    facts: HostFacts,
    uid: Option<String>,
    lease: Option<Value>,
    /// Whether a lease stood since the node was registered.
    leased: bool,
    /// Whether the lease could not be renewed last time.
    doubted: bool,
    told: Option<Told>,
    conditions: Conditions,
    images: Images,
    /// What pods choose it by, as the cloud has it, or else as it is registered.
    terms: Arc<Terms>,
    /// When it was last said that the cloud does not take the node.
    complained: i64,
}

impl Node {
    /// Makes it; what the node knows of itself goes into `known`.
    pub(crate) fn new(
        name: &str,
        host: Arc<Host>,
        known: watch::Sender<NodeFacts>,
        sources: Sources,
    ) -> Self {
        let mut node = Self {
            name: name.to_owned(),
            facts: HostFacts::read(&host.config),
            host,
            known,
            sources,
            uid: None,
            lease: None,
            leased: false,
            doubted: false,
            told: None,
            conditions: Conditions::new(name),
            images: Images::default(),
            terms: Arc::default(),
            complained: 0,
        };
        node.terms = Arc::new(Terms::of(&node.object()));
        // Pods that come before the first look at the runtime have to find the node's size.
        node.learn();
        node
    }

    /// Keeps the node registered, its state told and its lease renewed, for ever.
    pub(crate) async fn run(mut self) {
        let about = About::node(&self.name);
        self.host.notes.normal(about, "Starting", "Starting edged.".to_owned());
        // The first look at the runtime is quick, whatever comes of it.
        let looked = self.sources.runtime.wait_for(|state| state.looked);
        drop(tokio::time::timeout(Duration::from_secs(3), looked).await);
        let mut addresses = Addresses::listen();
        if let Err(error) = &addresses {
            warn!("changes of addresses are seen with the next lease only: {error}");
        }
        let linked = Arc::clone(&self.sources.linked);
        let (mut pause, mut renewal) = (RETRY.0, Instant::now());
        loop {
            self.learn();
            if self.host.config.register && self.uid.is_none() {
                if let Err(lack) = self.register().await {
                    self.complain(&lack);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY.1),
                        () = linked.notified() => pause = RETRY.0,
                    }
                    continue;
                }
                pause = RETRY.0;
            }
            self.tell().await;
            if Instant::now() >= renewal {
                self.renew_or_doubt().await;
                renewal = Instant::now() + PERIOD;
            }
            let heard = self.is_acknowledged();
            self.known
                .send_if_modified(|it| std::mem::replace(&mut it.acknowledged, heard) != heard);
            if self.host.config.register && self.uid.is_none() {
                renewal = Instant::now() + ANEW;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep_until(renewal) => {}
                () = linked.notified() => {
                    // Meanwhile the cloud may have given the node up, and marked it.
                    (renewal, self.told) = (Instant::now(), None);
                }
                () = changed(&mut addresses) => tokio::time::sleep(GATHER).await,
                Ok(()) = self.sources.runtime.changed() => {}
                Ok(()) = self.sources.fleet.changed() => {}
                Ok(()) = self.sources.devices.changed() => {}
                Ok(()) = self.sources.leaving.changed() => {}
                Ok(()) = self.sources.pressures.changed() => {}
            }
        }
    }

    /// Tells whether the cloud took the node's state and its lease.
    const fn is_acknowledged(&self) -> bool {
        self.leased && !self.doubted && self.told.is_some()
    }

    /// Looks at the host, and lets the pods know.
    fn learn(&mut self) {
        self.facts.look_again(&self.host.config);
        let runtime = self.sources.runtime.borrow_and_update().name.clone();
        let room = self.room();
        let known = NodeFacts {
            name: self.name.clone(),
            addresses: self.facts.addresses.iter().map(IpAddr::to_string).collect(),
            cpu: room.cpu,
            memory: i64::try_from(self.facts.memory).unwrap_or(i64::MAX),
            room: room.memory,
            storage: room.storage,
            terms: Arc::clone(&self.terms),
            recursive: Arc::clone(&self.sources.runtime.borrow().recursive),
            runtime: if runtime.is_empty() { self.known.borrow().runtime.clone() } else { runtime },
            acknowledged: self.is_acknowledged(),
            clash: self.sources.runtime.borrow().clash.clone(),
        };
        self.known.send_if_modified(|facts| std::mem::replace(facts, known.clone()) != known);
    }

    /// Returns what pods may have together of the node.
    fn room(&self) -> Room {
        let HostFacts { cpus, memory, disk, .. } = self.facts;
        self.host.config.room(cpus, memory, disk)
    }

    fn complain(&mut self, lack: &Lack) {
        let now = module_runtime::unix_millis();
        debug!(?lack, "the node is not registered");
        if now - self.complained >= 60_000 {
            self.complained = now;
            info!(?lack, "the node is not registered with the cloud yet");
        }
    }

    fn resource(&self, kind: Kind) -> Resource {
        Resource::object(Scope::Cluster, kind, &self.name)
    }

    async fn register(&mut self) -> Result<(), Lack> {
        let node = self.object();
        let content = Content::from_raw(node.to_string().into());
        let resource = self.resource(Kind::Node);
        let there =
            match self.host.store.exchange(Operation::Insert, resource.clone(), content).await {
                Ok(made) => made,
                Err(Lack::Exists) => self.host.store.query(resource.clone(), Content::NULL).await?,
                Err(lack) => return Err(lack),
            };
        let wanted = node["metadata"]["labels"].as_object();
        let lacks =
            |(key, value): (&String, &Value)| there["metadata"]["labels"].get(key) != Some(value);
        if wanted.is_some_and(|labels| labels.iter().any(lacks)) {
            let mut update = there.clone();
            let labels = &mut update["metadata"]["labels"];
            let mut merged = labels.as_object().cloned().unwrap_or_default();
            merged.extend(wanted.cloned().unwrap_or_default());
            *labels = Value::Object(merged);
            let content = Content::from_raw(update.to_string().into());
            if let Err(error) = self.host.store.tell(Operation::Update, resource, content).await {
                warn!("cannot bring the labels of the node up to date: {error}");
            }
        }
        let uid = there["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        info!(node = %self.name, uid, "the node is registered");
        self.conditions.learn(&there);
        let mut terms = Terms::of(&there);
        terms.labels.extend(Terms::of(&node).labels);
        self.terms = Arc::new(terms);
        let before = there["status"]["nodeInfo"]["bootID"].as_str().unwrap_or_default();
        if !before.is_empty() && before != self.facts.boot {
            let message =
                format!("Node {} has been rebooted, boot id: {}", self.name, self.facts.boot);
            self.host.notes.warning(About::node(&self.name), "Rebooted", message);
        }
        self.uid = Some(uid);
        self.told = None;
        Ok(())
    }

    /// Makes it as it is registered.
    pub(crate) fn object(&self) -> Value {
        let arch = host::architecture();
        let mut labels = Map::new();
        for (key, value) in [
            ("beta.kubernetes.io/arch", arch),
            ("beta.kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", arch),
            ("kubernetes.io/hostname", self.name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("node-role.kubernetes.io/agent", ""),
            ("node-role.kubernetes.io/edge", ""),
        ] {
            labels.insert(key.to_owned(), value.into());
        }
        let own = self.host.config.labels.iter();
        labels.extend(own.map(|(key, value)| (key.clone(), value.as_str().into())));
        let taints = self.host.config.taints.iter();
        let taints: Vec<Value> = taints.filter_map(|it| serde_json::from_str(it).ok()).collect();
        let mut spec = Map::new();
        if !taints.is_empty() {
            spec.insert("taints".to_owned(), taints.into());
        }
        if !self.host.config.schedulable {
            spec.insert("unschedulable".to_owned(), true.into());
        }
        let now = module_runtime::unix_millis();
        let mut status = self.status();
        // Told once: the cloud puts the port of the tunnel in its place, which has to stay.
        let port = self.host.config.port;
        status["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": port}});
        let trouble = self.trouble();
        // What happened is told once the node is known.
        let pressures = self.sources.pressures.borrow().clone();
        let (conditions, _) = Conditions::new(&self.name).look(&trouble, &pressures, &[], now);
        status["conditions"] = conditions.iter().map(|it| it.to_json(now)).collect();
        json!({
            "metadata": {
                "name": self.name,
                "labels": labels,
                "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
            },
            "spec": spec,
            "status": status,
        })
    }

    /// Makes the node's status but for its conditions.
    fn status(&self) -> Value {
        let facts = &self.facts;
        let runtime = self.sources.runtime.borrow();
        let name = if runtime.name.is_empty() { "containerd" } else { &runtime.name };
        let version = if runtime.version.is_empty() { "Unknown" } else { &runtime.version };
        let (memory, disk, room) = (facts.memory, facts.disk, self.room());
        let pods = self.host.config.max_pods.to_string();
        let internal = facts.addresses.iter();
        let internal = internal.map(|it| json!({"type": "InternalIP", "address": it}));
        let mut addresses: Vec<Value> = internal.collect();
        addresses.push(json!({"type": "Hostname", "address": self.name}));
        let mut status = json!({
            "capacity": {
                "cpu": facts.cpus.to_string(),
                "memory": format!("{}Ki", memory / 1024),
                "ephemeral-storage": format!("{}Ki", disk / 1024),
                "pods": pods,
            },
            "allocatable": {
                "cpu": if room.cpu % 1000 == 0 {
                    (room.cpu / 1000).to_string()
                } else {
                    format!("{}m", room.cpu)
                },
                "memory": format!("{}Ki", room.memory / 1024),
                "ephemeral-storage": room.storage.to_string(),
                "pods": pods,
            },
            "addresses": addresses,
            "images": self.images.to_json(),
            "nodeInfo": {
                "machineID": facts.machine,
                "systemUUID": facts.system,
                "bootID": facts.boot,
                "kernelVersion": facts.kernel,
                "osImage": facts.os,
                "containerRuntimeVersion": format!("{name}://{version}"),
                "kubeletVersion": VERSION,
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": host::architecture(),
            },
        });
        devices::add(&mut status, &self.sources.devices.borrow(), &self.host.csi);
        status
    }

    /// Returns why no pod can run; empty when they can.
    fn trouble(&self) -> String {
        let trouble = self.sources.runtime.borrow().trouble.clone();
        match (trouble.is_empty(), *self.sources.leaving.borrow()) {
            (_, false) => trouble,
            (true, true) => "node is shutting down".to_owned(),
            (false, true) => format!("{trouble}; node is shutting down"),
        }
    }

    /// Looks at everything that makes the node well or ill, and tells what happened.
    fn conditions(&mut self, now: i64) -> Vec<Condition> {
        let trouble = self.trouble();
        let fleet = self.sources.fleet.borrow_and_update().clone();
        let pressures = self.sources.pressures.borrow_and_update().clone();
        let (conditions, notes) = self.conditions.look(&trouble, &pressures, &fleet, now);
        for note in notes {
            self.host.notes.tell(note);
        }
        conditions
    }

    /// Tells the cloud how the node is, when that is news or due.
    async fn tell(&mut self) {
        if self.uid.is_none() {
            return;
        }
        let now = module_runtime::unix_millis();
        let conditions = self.conditions(now);
        let recent = |told: &Told| is_ahead(told.at + REPORT, REPORT, now);
        let due = !self.told.as_ref().is_some_and(recent);
        if due {
            self.images.look(&self.host.runtime, self.host.config.max_images).await;
        }
        let mut status = self.status();
        if self
            .told
            .as_ref()
            .is_some_and(|told| told.status == status && told.conditions == conditions)
            && !due
        {
            return;
        }
        let news = Told { status: status.clone(), conditions, at: now };
        let conditions = &news.conditions;
        status["conditions"] = conditions.iter().map(|it| it.to_json(now)).collect();
        status["$setElementOrder/conditions"] =
            conditions.iter().map(|it| json!({"type": it.kind})).collect();
        if self.facts.addresses.len() > 1 {
            // Their key in a patch is the type, which two of them share.
            let list = status["addresses"].as_array_mut();
            list.into_iter().for_each(|list| list.push(json!({"$patch": "replace"})));
        }
        let patch = json!({"status": status}).to_string();
        let resource = self.resource(Kind::NodePatch);
        let telling = self.host.store.patch(resource, Content::text(&patch));
        match tokio::time::timeout(ANSWER, telling).await {
            Ok(Ok(())) => self.told = Some(news),
            Ok(Err(Lack::NotFound)) => self.lost(),
            Ok(Err(lack)) => debug!(?lack, "the state of the node was not taken"),
            Err(_) => debug!("nobody answers to the state of the node"),
        }
    }

    /// The cloud has lost the node, or its lease, which goes with it: somebody deleted it. It is to
    /// be registered again.
    fn lost(&mut self) {
        info!(node = %self.name, "the cloud does not know the node any more");
        (self.lease, self.leased, self.uid) = (None, false, None);
    }
}

/// What was told of the node, but for the heartbeats.
struct Told {
    status: Value,
    conditions: Vec<Condition>,
    /// Unix milliseconds.
    at: i64,
}

/// Waits until an address changes; for ever where the kernel does not tell.
async fn changed(addresses: &mut std::io::Result<Addresses>) {
    match addresses {
        Ok(addresses) => addresses.changed().await,
        Err(_) => std::future::pending().await,
    }
}
