//! The actor of one pod: looks at what there is, has a plan made, takes its steps, tells the cloud,
//! and waits for the next reason to look.

mod act;
mod look;
mod mounts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipc_proto::{Content, Kind, Operation};
use module_runtime::RequestError;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::cri::Runtime;
use crate::env::Facts;
use crate::pod::backoff::Backoff;
use crate::pod::names;
use crate::pod::plan::{Ledger, Plan, Stage, plan};
use crate::pod::seen::Seen;
use crate::pod::spec::Pod;
use crate::probes::{Finding, Probes, Purpose};
use crate::status::{self, Situation, Transitions, Verdict};
use crate::store::{Store, object};
use crate::volumes::Folders;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) runtime: Runtime,
    pub(crate) store: Store,
    pub(crate) config: Config,
    pub(crate) facts: watch::Receiver<NodeFacts>,
}

/// What the node knows about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    pub(crate) address: String,
    /// Thousandths of a core that pods may use.
    pub(crate) cpu: i64,
    /// Bytes of memory that there are.
    pub(crate) memory: i64,
    /// What the runtime calls itself; empty until it was reached.
    pub(crate) runtime: String,
}

/// What a worker is told.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) pod: Arc<Pod>,
    /// Whether the store does not have the pod any more.
    pub(crate) removed: bool,
    /// Why the pod cannot be taken at all, if it cannot.
    pub(crate) refused: Option<String>,
    /// Counts the reasons to look again.
    pub(crate) nudges: u64,
    /// Counts the changes of what the pod refers to.
    pub(crate) refreshes: u64,
}

/// How long a worker waits at the most before it looks again.
const LOOK: Duration = Duration::from_secs(90);

/// How long a worker waits for a runtime or a store that does not answer.
const RETRY: Duration = Duration::from_secs(2);

/// How long a worker waits for the store to take a status before it goes on without.
const MOMENT: Duration = Duration::from_millis(200);

/// How often the files of a pod that has tokens or fields in them are looked after.
const REFRESH: i64 = 60_000;

/// How often an init container is looked at, and for how long, in milliseconds. After that it is
/// enough to hear of its end.
const INIT_LOOK: i64 = 100;
const INIT_LOOKS: i64 = 3000;

/// Findings that wait for the worker.
const FINDINGS: usize = 16;

struct Worker {
    host: Arc<Host>,
    pod: Arc<Pod>,
    seen: Seen,
    ledger: Ledger,
    ends: BTreeMap<String, crate::pod::seen::Contained>,
    folders: Option<Folders>,
    refreshed: i64,
    probes: Probes,
    transitions: Transitions,
    start: i64,
    verdict: Option<Verdict>,
    stage: Stage,
    /// A status on its way to the store, and the task that waits until it is there.
    telling: Option<(String, JoinHandle<Result<(), RequestError>>)>,
    /// The status that the store took last.
    told: Option<String>,
    deletion_told: bool,
    adopted: bool,
    was_ready: bool,
}

/// What a round came to.
enum Round {
    /// Take these steps and look again.
    Act(Plan),
    /// Wait, until this Unix millisecond at the latest.
    Wait(Option<i64>),
    /// Nothing is left of the pod.
    Gone,
}

/// Runs a pod until nothing is left of it.
pub(crate) async fn run(host: Arc<Host>, mut orders: watch::Receiver<Order>) {
    let (sender, mut findings) = mpsc::channel(FINDINGS);
    let first = orders.borrow_and_update().clone();
    let mut refreshes = first.refreshes;
    let mut worker = Worker::new(host, first.pod, sender);
    loop {
        let order = orders.borrow_and_update().clone();
        if order.refreshes != refreshes {
            refreshes = order.refreshes;
            worker.refresh_soon();
        }
        worker.pod = Arc::clone(&order.pod);
        if let Some(message) = order.refused.clone() {
            worker.verdict = Some(Verdict { reason: "InvalidPod", message });
        }
        let wait = match worker.round(&order).await {
            Round::Gone => return,
            Round::Act(plan) => {
                let ending = worker.end(&order).is_some();
                tokio::select! {
                    () = worker.take(plan) => {}
                    // Whatever is under way makes no sense any more.
                    true = told_to_end(orders.clone()), if !ending => {}
                }
                continue;
            }
            Round::Wait(until) => until.map_or(LOOK, |until| {
                let millis = until.saturating_sub(module_runtime::unix_millis()).max(10);
                Duration::from_millis(u64::try_from(millis).unwrap_or_default()).min(LOOK)
            }),
        };
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            Some(finding) = findings.recv() => worker.on_finding(&finding),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Waits until the pod is to end; false when nobody will say so any more.
async fn told_to_end(mut orders: watch::Receiver<Order>) -> bool {
    let ends = |order: &Order| order.removed || order.pod.metadata.deletion_timestamp.is_some();
    orders.wait_for(ends).await.is_ok()
}

impl Worker {
    fn new(host: Arc<Host>, pod: Arc<Pod>, findings: mpsc::Sender<Finding>) -> Self {
        let start = pod.status.start_time.as_deref().and_then(status::millis);
        let is_ready =
            |it: &crate::pod::spec::LastCondition| it.r#type == "Ready" && it.status == "True";
        Self {
            probes: Probes::new(host.runtime.clone(), findings),
            transitions: status::transitions(&pod),
            start: start.unwrap_or_else(module_runtime::unix_millis),
            was_ready: pod.status.conditions.iter().any(is_ready),
            host,
            pod,
            seen: Seen::default(),
            ledger: Ledger::default(),
            ends: BTreeMap::new(),
            folders: None,
            refreshed: 0,
            verdict: None,
            stage: Stage::Living,
            telling: None,
            told: None,
            deletion_told: false,
            adopted: false,
        }
    }

    /// Returns in how many seconds the pod is to end, if it is.
    fn end(&self, order: &Order) -> Option<i64> {
        let Pod { metadata, spec, status } = &*self.pod;
        let over = matches!(status.phase.as_str(), "Succeeded" | "Failed");
        let usual = spec.termination_grace_period_seconds.unwrap_or(names::DEFAULT_GRACE);
        if metadata.deletion_timestamp.is_some() {
            Some(metadata.deletion_grace_period_seconds.unwrap_or(usual))
        } else if order.removed && spec.containers.is_empty() {
            // Nothing but what the runtime has is known of it.
            self.seen.containers.iter().filter_map(|it| it.grace).max().or(Some(usual))
        } else {
            (order.removed || over || self.verdict.is_some()).then_some(usual)
        }
    }

    async fn round(&mut self, order: &Order) -> Round {
        let now = module_runtime::unix_millis();
        if let Err(trouble) = self.look().await {
            debug!(pod = %self.pod.metadata.name, "cannot look at a pod: {trouble}");
            let retry = i64::try_from(RETRY.as_millis()).unwrap_or_default();
            return Round::Wait(Some(now + retry));
        }
        self.adopt(now);
        self.judge(order, now);
        self.watch_health(now);
        let plan = plan(&self.pod, &self.seen, &self.ledger, self.end(order), now);
        self.stage = plan.stage;
        let told = order.removed || self.tell(now).await;
        if !plan.steps.is_empty() {
            return Round::Act(plan);
        }
        if plan.stage == Stage::Ended {
            if order.removed {
                return if self.remove_all().await {
                    Round::Gone
                } else {
                    Round::Wait(Some(now + 2000))
                };
            }
            if self.pod.metadata.deletion_timestamp.is_some() && told && !self.tell_deletion().await
            {
                return Round::Wait(Some(now + 2000));
            }
        }
        let refresh = self.refresh_files(now).await;
        let init = self.inits_soon(now);
        let retry = (!told).then_some(now + 500);
        let deadline = self.deadline();
        let wakes = [plan.wake, refresh, retry, deadline, init, self.soften(now)];
        Round::Wait(wakes.into_iter().flatten().min())
    }

    /// Returns when to look at an init container that has just begun: most end soon, and the others
    /// wait for them.
    fn inits_soon(&self, now: i64) -> Option<i64> {
        let mut inits = self.pod.spec.init_containers.iter().filter(|init| !init.is_sidecar());
        let young = |it: &crate::pod::seen::Contained| {
            it.state == crate::pod::seen::State::Running && now - it.started < INIT_LOOKS
        };
        inits.any(|init| self.seen.latest(&init.name).is_some_and(young)).then_some(now + INIT_LOOK)
    }

    /// Returns when the pod has run for as long as it may.
    fn deadline(&self) -> Option<i64> {
        let seconds = self.pod.spec.active_deadline_seconds?;
        let living = self.verdict.is_none() && self.stage == Stage::Living;
        living.then(|| self.start.saturating_add(seconds.saturating_mul(1000)))
    }

    /// Ends a pod that has run for as long as it may.
    fn judge(&mut self, order: &Order, now: i64) {
        let over = self.deadline().is_some_and(|deadline| now >= deadline);
        if over && self.end(order).is_none() {
            let message =
                "Pod was active on the node longer than the specified deadline".to_owned();
            self.verdict = Some(Verdict { reason: "DeadlineExceeded", message });
        }
    }

    /// Takes over what was there before this process: pauses are as long as they would have grown.
    fn adopt(&mut self, now: i64) {
        if std::mem::replace(&mut self.adopted, true) {
            self.was_ready = false;
            return;
        }
        for container in &self.seen.containers {
            if container.restarts > 0 && !self.ledger.pauses.contains_key(&container.name) {
                let pause = Backoff::after(container.restarts, now);
                self.ledger.pauses.insert(container.name.clone(), pause);
            }
        }
    }

    /// Tells the cloud how the pod is, if that is news; false when it could not be told.
    async fn tell(&mut self, now: i64) -> bool {
        if !self.hear_of_telling().await {
            return false;
        }
        let facts = self.host.facts.borrow().clone();
        let situation = Situation {
            pod: &self.pod,
            seen: &self.seen,
            ledger: &self.ledger,
            stage: self.stage,
            verdict: self.verdict.as_ref(),
            runtime: &facts.runtime,
            host_ip: &facts.address,
            start: self.start,
            now,
        };
        let patch = status::patch(&situation, &mut self.transitions).to_string();
        if self.told.as_ref() == Some(&patch) {
            return true;
        }
        let metadata = &self.pod.metadata;
        let resource = object(&metadata.namespace, Kind::PodPatch, &metadata.name);
        let (store, content) = (self.host.store.clone(), Content::text(&patch));
        let task = async move { store.tell(Operation::Patch, resource, content).await };
        self.telling = Some((patch, tokio::spawn(task)));
        self.hear_of_telling().await
    }

    /// Waits a moment for the status that is on its way; tells whether none is on its way any more
    /// and the last arrived. A store that is dead holds up the status, not the pod.
    async fn hear_of_telling(&mut self) -> bool {
        let Some((patch, mut task)) = self.telling.take() else { return true };
        match tokio::time::timeout(MOMENT, &mut task).await {
            Ok(Ok(Ok(()))) => {
                self.told = Some(patch);
                true
            }
            Ok(Ok(Err(error))) => {
                warn!(pod = %self.pod.metadata.name, "cannot tell the status of a pod: {error}");
                false
            }
            Ok(Err(_)) => false,
            Err(_) => {
                self.telling = Some((patch, task));
                false
            }
        }
    }

    /// Asks the cloud to delete a pod that has ended; false when it could not be asked.
    async fn tell_deletion(&mut self) -> bool {
        if self.deletion_told {
            return true;
        }
        self.probes.retain(|_, _| false);
        let pod = Arc::clone(&self.pod);
        let metadata = &pod.metadata;
        if let Err(error) = self.drop_folder().await {
            warn!(pod = %metadata.name, "cannot remove the volumes of a pod: {error}");
            return false;
        }
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": metadata.uid}});
        let resource = object(&metadata.namespace, Kind::Pod, &metadata.name);
        let content = Content::from_raw(options.to_string().into());
        match self.host.store.tell(Operation::Delete, resource, content).await {
            Ok(()) => {
                info!(pod = %metadata.name, namespace = %metadata.namespace, "a pod has ended");
                self.deletion_told = true;
                true
            }
            Err(error) => {
                warn!(pod = %metadata.name, "cannot ask for the deletion of a pod: {error}");
                false
            }
        }
    }

    /// Lets everything that could not be done for want of something be tried again.
    fn refresh_soon(&mut self) {
        self.refreshed = 0;
        self.ledger.holds.retain(|_, hold| hold.reason.contains("Image"));
    }

    fn on_finding(&mut self, finding: &Finding) {
        let Finding { id, purpose, well, said } = finding;
        let Some(health) = self.ledger.health.get_mut(id) else { return };
        if !well {
            info!(pod = %self.pod.metadata.name, container = %id, ?purpose, "a probe failed: {said}");
        }
        match (purpose, well) {
            (Purpose::Startup, true) => health.started = true,
            (Purpose::Readiness, well) => health.ready = *well,
            (Purpose::Startup | Purpose::Liveness, false) => {
                let named = self.seen.containers.iter().find(|it| it.id == *id);
                let container = named.and_then(|it| self.pod.spec.container(&it.name));
                let probe = container.and_then(|container| match purpose {
                    Purpose::Startup => container.startup_probe.as_ref(),
                    Purpose::Liveness | Purpose::Readiness => container.liveness_probe.as_ref(),
                });
                health.sick = Some(probe.and_then(|probe| probe.termination_grace_period_seconds));
            }
            (Purpose::Liveness, true) => {}
        }
    }

    /// Returns what variables and files are made from.
    fn facts(&self) -> Facts {
        let node = self.host.facts.borrow();
        Facts {
            pod_ips: status::ips(&self.pod, &self.seen, &node.address),
            node: node.name.clone(),
            host_ip: node.address.clone(),
            cpu: node.cpu,
            memory: node.memory,
        }
    }
}
