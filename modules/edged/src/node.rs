//! The node itself: its object, its conditions, its lease. It is registered when there is a cloud
//! to register with, and again when the cloud has lost it.

pub(crate) mod host;

use std::sync::Arc;
use std::time::Duration;

use ipc_proto::{Content, Kind, Operation, Resource, Scope};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::runtime::State;
use crate::status::rfc3339;
use crate::store::{Lack, Store, object};
use crate::worker::NodeFacts;
use host::HostFacts;

/// What the node tells as its kubelet's version: tools read what stands behind `-kubeedge-`.
const VERSION: &str = "v1.32.10-kubeedge-v1.23.1";

/// How often the lease is renewed, and the node's state looked at.
const PERIOD: Duration = Duration::from_secs(10);

/// How often the node's state is told although nothing changed, in milliseconds.
const REPORT: i64 = 300_000;

/// How long a failed registration waits, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(7));

/// How long the node counts as alive after its lease was renewed, in seconds.
const LEASE: u32 = 40;

/// The namespace of all nodes' leases.
const LEASES: &str = "kube-node-lease";

/// The node's life towards the cloud.
pub(crate) struct Node {
    name: String,
    config: Config,
    store: Store,
    facts: watch::Sender<NodeFacts>,
    runtime: watch::Receiver<State>,
    /// Told that the cloud is back.
    linked: Arc<Notify>,
    uid: Option<String>,
    lease: Option<Value>,
    /// Whether a lease stood since the node was registered.
    leased: bool,
    /// What was told last, but for times, and when.
    told: Option<(Value, i64)>,
    /// Whether it was ready when it was told last, and since when.
    ready: Option<(bool, i64)>,
    /// Since when there is enough of everything: since this process began to look.
    begun: i64,
    /// When it was last said that the cloud does not take the node.
    complained: i64,
}

impl Node {
    /// Makes it; what the node knows of itself goes into `facts`.
    pub(crate) fn new(
        name: &str,
        config: Config,
        store: Store,
        facts: watch::Sender<NodeFacts>,
        runtime: watch::Receiver<State>,
        linked: Arc<Notify>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            config,
            store,
            facts,
            runtime,
            linked,
            uid: None,
            lease: None,
            leased: false,
            told: None,
            ready: None,
            begun: module_runtime::unix_millis(),
            complained: 0,
        }
    }

    /// Keeps the node registered, its state told and its lease renewed, for ever.
    pub(crate) async fn run(mut self) {
        // The first look at the runtime is quick, whatever comes of it.
        let looked = self.runtime.wait_for(|state| state.looked);
        drop(tokio::time::timeout(Duration::from_secs(3), looked).await);
        let linked = Arc::clone(&self.linked);
        let (mut pause, mut renewal) = (RETRY.0, Instant::now());
        loop {
            let facts = self.learn();
            if self.config.register && self.uid.is_none() {
                if let Err(lack) = self.register(&facts).await {
                    self.complain(&lack);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY.1),
                        () = linked.notified() => pause = RETRY.0,
                    }
                    continue;
                }
                pause = RETRY.0;
            }
            self.tell(&facts).await;
            if Instant::now() >= renewal {
                if let Err(lack) = self.renew().await {
                    debug!(?lack, "the lease was not renewed");
                }
                renewal = Instant::now() + PERIOD;
            }
            tokio::select! {
                () = tokio::time::sleep_until(renewal) => {}
                () = linked.notified() => renewal = Instant::now(),
                changed = self.runtime.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Looks at the host, and lets the pods know.
    fn learn(&self) -> HostFacts {
        let host = HostFacts::read(&self.config);
        let runtime = self.runtime.borrow().name.clone();
        let known = NodeFacts {
            name: self.name.clone(),
            address: host.address.map(|it| it.to_string()).unwrap_or_default(),
            cpu: i64::from(host.cpus) * 1000,
            memory: i64::try_from(host.memory).unwrap_or(i64::MAX),
            runtime: if runtime.is_empty() { self.facts.borrow().runtime.clone() } else { runtime },
        };
        self.facts.send_if_modified(|facts| std::mem::replace(facts, known.clone()) != known);
        host
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

    async fn register(&mut self, facts: &HostFacts) -> Result<(), Lack> {
        let node = self.object(facts);
        let content = Content::from_raw(node.to_string().into());
        let resource = self.resource(Kind::Node);
        let there = match self.store.exchange(Operation::Insert, resource.clone(), content).await {
            Ok(made) => made,
            Err(Lack::Exists) => self.store.query(resource.clone(), Content::NULL).await?,
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
            if let Err(error) = self.store.tell(Operation::Update, resource, content).await {
                warn!("cannot bring the labels of the node up to date: {error}");
            }
        }
        let uid = there["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        info!(node = %self.name, uid, "the node is registered");
        self.uid = Some(uid);
        self.told = None;
        Ok(())
    }

    fn object(&self, facts: &HostFacts) -> Value {
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
        let own = self.config.labels.iter();
        labels.extend(own.map(|(key, value)| (key.clone(), value.as_str().into())));
        let taints = self.config.taints.iter();
        let taints: Vec<Value> = taints.filter_map(|it| serde_json::from_str(it).ok()).collect();
        let mut spec = Map::new();
        if !taints.is_empty() {
            spec.insert("taints".to_owned(), taints.into());
        }
        if !self.config.schedulable {
            spec.insert("unschedulable".to_owned(), true.into());
        }
        let now = module_runtime::unix_millis();
        let mut status = self.status(facts);
        status["conditions"] = self.conditions(self.ready.map_or(now, |ready| ready.1), now);
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
    fn status(&self, facts: &HostFacts) -> Value {
        let runtime = self.runtime.borrow();
        let name = if runtime.name.is_empty() { "containerd" } else { &runtime.name };
        let version = if runtime.version.is_empty() { "Unknown" } else { &runtime.version };
        let (memory, disk) = (facts.memory, facts.disk);
        let pods = self.config.max_pods.to_string();
        let mut addresses: Vec<Value> = Vec::new();
        addresses.extend(facts.address.map(|it| json!({"type": "InternalIP", "address": it})));
        addresses.push(json!({"type": "Hostname", "address": self.name}));
        json!({
            "capacity": {
                "cpu": facts.cpus.to_string(),
                "memory": format!("{}Ki", memory / 1024),
                "ephemeral-storage": format!("{}Ki", disk / 1024),
                "pods": pods,
            },
            "allocatable": {
                "cpu": facts.cpus.to_string(),
                "memory": format!("{}Ki", memory.saturating_sub(self.config.memory_kept) / 1024),
                "ephemeral-storage": self.config.disk_kept.of(disk).to_string(),
                "pods": pods,
            },
            "addresses": addresses,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.config.port}},
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
        })
    }

    fn conditions(&self, since: i64, now: i64) -> Value {
        let runtime = self.runtime.borrow();
        let condition = |kind: &str, holds: bool, reason: &str, message: &str, since: i64| {
            json!({
                "type": kind, "status": if holds { "True" } else { "False" }, "reason": reason,
                "message": message, "lastHeartbeatTime": rfc3339(now), "lastTransitionTime": rfc3339(since),
            })
        };
        let ready = if runtime.trouble.is_empty() {
            ("EdgeReady", "edge is posting ready status")
        } else {
            ("KubeletNotReady", runtime.trouble.as_str())
        };
        json!([
            condition(
                "MemoryPressure",
                false,
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
                self.begun,
            ),
            condition(
                "DiskPressure",
                false,
                "KubeletHasNoDiskPressure",
                "kubelet has no disk pressure",
                self.begun,
            ),
            condition(
                "PIDPressure",
                false,
                "KubeletHasSufficientPID",
                "kubelet has sufficient PID available",
                self.begun,
            ),
            condition("Ready", runtime.trouble.is_empty(), ready.0, ready.1, since),
        ])
    }

    /// Tells the cloud how the node is, when that is news or due.
    async fn tell(&mut self, facts: &HostFacts) {
        if self.uid.is_none() {
            return;
        }
        let now = module_runtime::unix_millis();
        let trouble = self.runtime.borrow().trouble.clone();
        let since = match self.ready {
            Some((was, since)) if was == trouble.is_empty() => since,
            Some(_) | None => now,
        };
        self.ready = Some((trouble.is_empty(), since));
        let mut status = self.status(facts);
        let news = json!([status, trouble]);
        if self.told.as_ref().is_some_and(|(told, at)| *told == news && now - at < REPORT) {
            return;
        }
        status["conditions"] = self.conditions(since, now);
        let order = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]
            .map(|it| json!({"type": it}));
        status["$setElementOrder/conditions"] = order.to_vec().into();
        let patch = json!({"status": status}).to_string();
        let resource = self.resource(Kind::NodePatch);
        match self.store.tell(Operation::Patch, resource, Content::text(&patch)).await {
            Ok(()) => self.told = Some((news, now)),
            Err(error) => debug!("cannot tell the status of the node: {error}"),
        }
    }

    /// The cloud lost the lease, and with it most likely the node: somebody deleted it. It is to be
    /// registered again.
    fn lost(&mut self) {
        (self.lease, self.leased, self.uid) = (None, false, None);
    }

    /// Renews the lease, or makes it.
    async fn renew(&mut self) -> Result<(), Lack> {
        let resource = object(LEASES, Kind::Lease, &self.name);
        if self.lease.is_none() {
            match self.store.exchange(Operation::Query, resource.clone(), Content::NULL).await {
                Ok(lease) => self.lease = Some(slim(lease)),
                Err(Lack::NotFound) if self.leased => {
                    self.lost();
                    return Err(Lack::NotFound);
                }
                Err(Lack::NotFound) => {}
                Err(lack) => return Err(lack),
            }
        }
        let operation = if self.lease.is_some() { Operation::Update } else { Operation::Insert };
        let mut lease = self
            .lease
            .clone()
            .unwrap_or_else(|| json!({"metadata": {"name": self.name, "namespace": LEASES}}));
        if let Some(uid) = self.uid.as_ref().filter(|uid| !uid.is_empty()) {
            lease["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "v1", "kind": "Node", "name": self.name, "uid": uid}]);
        }
        lease["spec"] = json!({
            "holderIdentity": self.name, "leaseDurationSeconds": LEASE, "renewTime": micros_now(),
        });
        let content = Content::from_raw(lease.to_string().into());
        match self.store.exchange(operation, resource, content).await {
            Ok(lease) => (self.lease, self.leased) = (Some(slim(lease)), true),
            Err(Lack::NotFound) => self.lost(),
            Err(lack @ (Lack::Conflict | Lack::Exists)) => {
                self.lease = None;
                return Err(lack);
            }
            Err(lack) => return Err(lack),
        }
        Ok(())
    }
}

/// Keeps of a lease what has to go back.
fn slim(mut lease: Value) -> Value {
    if let Some(metadata) = lease["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    lease
}

/// Returns the time as leases have it.
fn micros_now() -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    let now = i128::from(module_runtime::unix_millis()) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(now).ok();
    time.and_then(|time| time.format(&format).ok()).unwrap_or_default()
}
