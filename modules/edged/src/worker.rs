//! The actor of one pod: looks at what there is, has a plan made, takes its steps, tells the cloud,
//! and waits for the next reason to look.

mod act;
mod admit;
mod class;
mod devices;
mod image;
mod look;
mod mirror;
mod mounts;
mod sandbox;
mod start;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info};

use crate::config::Config;
use crate::cri::Runtime;
use crate::csi::Csi;
use crate::devices::Devices;
use crate::env::Facts;
use crate::notes::{About, Notes};
use crate::pod::backoff::adopted;
use crate::pod::names;
use crate::pod::placement::Terms;
use crate::pod::plan::{Ledger, Plan, Sick, Stage, Step, is_ahead, plan};
use crate::pod::seen::Seen;
use crate::pod::spec::Pod;
use crate::pressure::Pressures;
use crate::probes::{Finding, Probes, Purpose, Tally};
use crate::status::{self, Transitions, Verdict};
use crate::store::{Lack, Store};
use crate::volumes::{Folders, pod_folder};

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) runtime: Runtime,
    pub(crate) store: Store,
    pub(crate) config: Config,
    pub(crate) facts: watch::Receiver<NodeFacts>,
    pub(crate) notes: Notes,
    pub(crate) tally: Tally,
    pub(crate) devices: Devices,
    /// What the node is short of.
    pub(crate) pressures: watch::Receiver<Pressures>,
    pub(crate) csi: Csi,
}

/// What the node knows about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    /// Its addresses, at most one of each family.
    pub(crate) addresses: Vec<String>,
    /// Thousandths of a core that pods may use.
    pub(crate) cpu: i64,
    /// Bytes of memory that there are.
    pub(crate) memory: i64,
    /// Bytes of memory that pods may use.
    pub(crate) room: i64,
    /// Bytes of the disk that pods may use.
    pub(crate) storage: i64,
    /// What it is chosen by, as far as it heard.
    pub(crate) terms: Arc<Terms>,
    /// What the runtime calls itself; empty until it was reached.
    pub(crate) runtime: String,
    /// The handlers of the runtime that can keep from writing what is mounted below a volume.
    pub(crate) recursive: Arc<BTreeSet<String>>,
    /// Whether the cloud took the node's state and its lease, as far as it was last told.
    pub(crate) acknowledged: bool,
    /// Why no pod can run here as the runtime makes control groups; empty when they can.
    pub(crate) clash: String,
}

impl NodeFacts {
    /// Returns what every pod's status says of the node: its addresses, and the runtime's name.
    fn told(&self) -> (Vec<String>, String) {
        (self.addresses.clone(), self.runtime.clone())
    }
}

/// What a worker is told.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) pod: Arc<Pod>,
    /// Whether the store does not have the pod any more.
    pub(crate) removed: bool,
    /// Why the pod cannot be taken at all, if it cannot.
    pub(crate) refused: Option<Verdict>,
    /// Set when the pod is to stop until the host is back: the seconds that it may take.
    pub(crate) halt: Option<i64>,
    /// Counts the reasons to look again.
    pub(crate) nudges: u64,
    /// Counts the changes of what the pod refers to.
    pub(crate) refreshes: u64,
    /// Set when the pod is a static one.
    pub(crate) local: Option<Local>,
}

impl Order {
    /// Makes the order to run a pod.
    pub(crate) const fn new(pod: Arc<Pod>) -> Self {
        Self {
            pod,
            removed: false,
            refused: None,
            halt: None,
            nudges: 0,
            refreshes: 0,
            local: None,
        }
    }
}

/// What a static pod has beside the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Local {
    /// All of it, as JSON.
    pub(crate) object: Arc<str>,
    /// What the cloud shows of it, if it shows something.
    pub(crate) mirror: Option<Mirror>,
}

/// What the cloud shows of a static pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) uid: String,
    /// The hash of the static pod that it was made of.
    pub(crate) hash: String,
    /// Whether somebody deleted it.
    pub(crate) ending: bool,
}

/// How long a worker waits at the most before it looks again.
const LOOK: Duration = Duration::from_secs(90);

/// How long a worker waits for a runtime or a store that does not answer.
const RETRY: Duration = Duration::from_secs(2);

/// How often the files of a pod that has tokens or fields in them are looked after.
const REFRESH: i64 = 60_000;

/// Findings that wait for the worker.
const FINDINGS: usize = 16;

/// The annotation that holds a pod back until somebody on the node lets it go.
const HELD: &str = "edge.kubeedge.io/hold-upgrade";

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
    /// The status that is on its way to the store.
    telling: Option<tell::Telling>,
    /// The status that the store took last.
    told: Option<Arc<str>>,
    /// The status as it is now, for who asks on the node itself.
    shown: watch::Sender<Arc<str>>,
    deletion_told: bool,
    adopted: bool,
    /// Whether it was asked once if the pod may run here.
    admitted: bool,
    /// When the pod is to have ended, if it is to end: Unix milliseconds.
    end_by: Option<i64>,
    /// The steps taken last, and when.
    last: (Vec<Step>, i64),
    /// Until when the pauses last that were noted, by container.
    pauses_noted: BTreeMap<String, i64>,
    /// A mirror on its way, and when it may be tried again.
    mirroring: Option<JoinHandle<Result<(), Lack>>>,
    mirror_due: i64,
    /// What the cloud showed when that was looked at last.
    mirror: Option<Mirror>,
    /// Whether the pod waits for somebody on the node to let it go.
    held: bool,
    /// What of the runtime runs the pod; its default is empty.
    handler: String,
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

/// Runs a pod until nothing is left of it. What is told of its status is in `shown`, too.
pub(crate) async fn run(
    host: Arc<Host>,
    mut orders: watch::Receiver<Order>,
    shown: watch::Sender<Arc<str>>,
) {
    let (sender, mut findings) = mpsc::channel(FINDINGS);
    let first = orders.borrow_and_update().clone();
    let mut facts = host.facts.clone();
    let mut refreshes = first.refreshes;
    let mut worker = Worker::new(host, first.pod, sender, shown);
    loop {
        let order = orders.borrow_and_update().clone();
        if order.refreshes != refreshes {
            refreshes = order.refreshes;
            worker.refresh_soon();
        }
        worker.replace_pod(&order.pod);
        if order.refused.is_some() {
            worker.verdict.clone_from(&order.refused);
        }
        let told = worker.host.facts.borrow().told();
        let wait = match worker.round(&order).await {
            Round::Gone => return,
            Round::Act(plan) => {
                let ending = worker.end_by.is_some();
                tokio::select! {
                    () = worker.take(plan) => {}
                    // Whatever is under way makes no sense any more, or takes too long now.
                    true = told_to_end(orders.clone(), ending.then_some(&order)) => {}
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
            Ok(_) = facts.wait_for(|facts| facts.told() != told) => {}
            Some(finding) = findings.recv() => worker.on_finding(&finding),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Waits until the pod is to end, or to end sooner than by `known`; false when nobody will say so
/// any more.
async fn told_to_end(mut orders: watch::Receiver<Order>, known: Option<&Order>) -> bool {
    let grace = |order: &Order| order.pod.metadata.deletion_grace_period_seconds;
    let ends = |order: &Order| match known {
        None => {
            order.removed
                || order.refused.is_some()
                || order.halt.is_some()
                || order.pod.metadata.deletion_timestamp.is_some()
        }
        Some(known) => grace(order).is_some_and(|now| grace(known).is_none_or(|was| now < was)),
    };
    orders.wait_for(ends).await.is_ok()
}

impl Worker {
    fn new(
        host: Arc<Host>,
        pod: Arc<Pod>,
        findings: mpsc::Sender<Finding>,
        shown: watch::Sender<Arc<str>>,
    ) -> Self {
        let start = pod.status.start_time.as_deref().and_then(status::millis);
        Self {
            probes: Probes::new(
                host.runtime.clone(),
                &pod.metadata.uid,
                findings,
                host.notes.clone(),
                host.tally.clone(),
            ),
            transitions: status::transitions(&pod),
            start: start.unwrap_or_else(module_runtime::unix_millis),
            ledger: Ledger { kept: host.config.defence.dead, ..Ledger::default() },
            host,
            pod,
            seen: Seen::default(),
            ends: BTreeMap::new(),
            folders: None,
            refreshed: 0,
            verdict: None,
            stage: Stage::Living,
            telling: None,
            told: None,
            shown,
            deletion_told: false,
            adopted: false,
            admitted: false,
            end_by: None,
            last: (Vec::new(), 0),
            pauses_noted: BTreeMap::new(),
            mirroring: None,
            mirror_due: 0,
            mirror: None,
            held: false,
            handler: String::new(),
        }
    }

    /// Takes the pod as the cloud has it now. A status there that is not the one that was told last
    /// (it was told too early, or somebody else's came after it) is told again, as kubelet does.
    fn replace_pod(&mut self, pod: &Arc<Pod>) {
        if !Arc::ptr_eq(&self.pod, pod) {
            self.pod = Arc::clone(pod);
            self.told = self.told.take().filter(|told| pod.status.agrees_with(told));
        }
    }

    /// Returns in how many seconds the pod is to end, if it is. The time runs from when it was said
    /// first, and may only become shorter.
    fn end(&mut self, order: &Order, now: i64) -> Option<i64> {
        let Some(asked) = self.asked_to_end(order) else {
            self.end_by = None;
            return None;
        };
        let by = now.saturating_add(asked.max(1).saturating_mul(1000));
        let by = self.end_by.map_or(by, |before| before.min(by));
        self.end_by = Some(by);
        Some((by - now + 999).div_euclid(1000).max(0))
    }

    /// Returns how many seconds the pod is given to end, if it is to end.
    fn asked_to_end(&self, order: &Order) -> Option<i64> {
        let Pod { metadata, spec, status } = &*self.pod;
        let usual = spec.termination_grace_period_seconds.unwrap_or(names::DEFAULT_GRACE);
        if metadata.deletion_timestamp.is_some() {
            Some(metadata.deletion_grace_period_seconds.unwrap_or(usual))
        } else if order.removed && spec.containers.is_empty() {
            // Nothing but what the runtime has is known of it.
            self.seen.containers.iter().filter_map(|it| it.grace).max().or(Some(usual))
        } else {
            let own = self.verdict.as_ref().and_then(|verdict| verdict.grace);
            let ends = order.removed || status.is_over() || self.verdict.is_some();
            if ends { Some(own.unwrap_or(usual)) } else { order.halt }
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
        self.admit(order).await;
        self.judge(order, now);
        self.watch_health(now);
        let end = self.end(order, now);
        self.held = end.is_none() && self.is_held();
        let mut plan = plan(&self.pod, &self.seen, &self.ledger, end, now);
        if self.held {
            plan.steps.clear();
        }
        if plan.stage != Stage::Living && self.stage == Stage::Living {
            self.release_devices().await;
        }
        self.stage = plan.stage;
        self.note_pauses(now);
        // A pod that only stops is told of as it was: it is to run when the host is back.
        let halts = order.halt.is_some() && self.pod.metadata.deletion_timestamp.is_none();
        let told = order.removed || halts || self.tell(order, &plan.steps, now).await;
        if !plan.steps.is_empty() {
            return self.act(plan, now);
        }
        if plan.stage == Stage::Ended {
            if order.removed {
                return if self.remove_all().await {
                    Round::Gone
                } else {
                    Round::Wait(Some(now + 2000))
                };
            }
            if halts {
                return Round::Wait(None);
            }
            self.drop_local_volumes().await;
            if self.pod.metadata.deletion_timestamp.is_some() && told && !self.tell_deletion().await
            {
                return Round::Wait(Some(now + 2000));
            }
        }
        let refresh = self.refresh_files(now).await;
        let init = self.inits_soon(now);
        let retry = (!told).then_some(now + 500);
        let deadline = self.deadline();
        let mirror = self.keep_mirror(order, now).await;
        let wakes = [plan.wake, refresh, retry, deadline, init, mirror, self.soften(now)];
        Round::Wait(wakes.into_iter().flatten().min())
    }

    /// Takes the steps of a plan, but not the same ones again and again: a runtime that says it did
    /// what it did not would keep the processor busy.
    fn act(&mut self, plan: Plan, now: i64) -> Round {
        let pause = i64::try_from(RETRY.as_millis()).unwrap_or_default();
        let (last, at) = &self.last;
        if *last == plan.steps && is_ahead(at + pause, pause, now) {
            return Round::Wait(Some(at + pause));
        }
        self.last = (plan.steps.clone(), now);
        Round::Act(plan)
    }

    /// Tells whether the pod waits for somebody on the node to let it go, which the pod's folder
    /// shows (KubeEdge's hold of upgrades).
    fn is_held(&self) -> bool {
        let Pod { metadata, status, .. } = &*self.pod;
        let annotation = metadata.annotations.as_ref().and_then(|texts| texts.get(HELD));
        annotation.is_some_and(|text| text == "true")
            && matches!(status.phase.as_str(), "" | "Pending")
            && self.seen.sandboxes.is_empty()
            && !pod_folder(&self.host.config.root, &metadata.uid).exists()
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
        if over && self.asked_to_end(order).is_none() {
            let message =
                "Pod was active on the node longer than the specified deadline".to_owned();
            let reason = "DeadlineExceeded";
            self.host.notes.normal(About::pod(&self.pod), reason, message.clone());
            self.verdict = Some(Verdict::new(reason, message));
        }
    }

    /// Takes over what was there before this process: pauses are as long as they would have grown.
    fn adopt(&mut self, now: i64) {
        if std::mem::replace(&mut self.adopted, true) {
            return;
        }
        for (name, pause) in adopted(&self.seen, self.pod.spec.host_network, now) {
            self.ledger.pauses.entry(name).or_insert(pause);
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
                let grace = probe.and_then(|probe| probe.termination_grace_period_seconds);
                health.sick = Some(Sick { probe: purpose.name(), grace });
            }
            (Purpose::Liveness, true) => {}
        }
    }

    /// Returns what variables and files are made from.
    fn facts(&self) -> Facts {
        let node = self.host.facts.borrow();
        Facts {
            pod_ips: status::ips(&self.pod, &self.seen, &node.addresses),
            node: node.name.clone(),
            host_ips: node.addresses.clone(),
            cpu: node.cpu,
            memory: node.memory,
        }
    }
}
