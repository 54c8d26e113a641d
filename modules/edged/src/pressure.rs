//! The node defends itself before it runs short: it looks at what there is of memory, disks and
//! processes, tells what it is short of, makes room, and lets pods go when that does not help. What is
//! to be done [`core`] decides, and which pod goes first [`rank`].

pub(crate) mod core;
mod figures;
mod rank;
pub(crate) mod threshold;
mod usage;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{info, warn};

pub(crate) use self::core::Pressures;
pub(crate) use rank::EVICTED;

use self::core::Past;
use crate::api::Ask;
use crate::gc::{self, Gc};
use crate::notes::About;
use crate::pod::amounts::is_critical;
use crate::pod::last::LastStatus;
use crate::pod::spec::Pod;
use crate::pods::Shown;
use crate::status::Verdict;
use crate::volumes::{LOCAL, pod_folder};
use crate::worker::Host;
use figures::Places;
use rank::{Candidate, Parts, Usage};
use threshold::{Readings, Signal, Threshold};

/// How often the node looks.
const LOOK: Duration = Duration::from_secs(10);

/// How long it waits for a pod that has to go before it lets another go, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(30);
const GONE: Duration = Duration::from_millis(500);

/// A pod that has to go, and why.
#[derive(Clone, Debug)]
pub(crate) struct Eviction {
    pub(crate) uid: String,
    pub(crate) verdict: Verdict,
    /// Whether the pod is no worse for it, and runs again when the node is back.
    pub(crate) returns: bool,
}

/// What looks after the node.
pub(crate) struct Guard {
    host: Arc<Host>,
    node: String,
    asks: mpsc::Sender<Ask>,
    evictions: mpsc::Sender<Eviction>,
    pressures: watch::Sender<Pressures>,
    places: Places,
    gc: Gc,
    past: Past,
    /// What stands on the disk of the past.
    written: Past,
    /// A clock that does not jump: its beginning, in Unix milliseconds, too.
    begin: (Instant, i64),
    /// When pods with limits on the disk were measured last, in milliseconds of that clock.
    measured: Option<i64>,
    /// When images and containers are looked at next.
    due: (Instant, Instant),
    /// Pods that were let go and are still here.
    sent: HashSet<String>,
}

impl Guard {
    /// Makes it and looks once, so that no pod comes in before it is known what the node is short of.
    pub(crate) fn new(
        host: Arc<Host>,
        node: &str,
        asks: mpsc::Sender<Ask>,
        evictions: mpsc::Sender<Eviction>,
        pressures: watch::Sender<Pressures>,
    ) -> Self {
        let now = Instant::now();
        let past = remembered(&host.config.root);
        let defence = &host.config.defence;
        let groups = host.config.groups.as_ref().filter(|_| defence.bounds_pods);
        let places = Places {
            proc: PathBuf::from("/proc"),
            groups: PathBuf::from(crate::cgroup::MOUNT),
            root: host.config.root.clone(),
            images: None,
            pods: groups.map(|groups| groups.of_all()),
        };
        let mut guard = Self {
            gc: Gc::new(Arc::clone(&host), node),
            host,
            node: node.to_owned(),
            asks,
            evictions,
            pressures,
            places,
            written: past.clone(),
            past,
            begin: (now, module_runtime::unix_millis()),
            measured: None,
            due: (now, now),
            sent: HashSet::new(),
        };
        let readings = guard.places.read();
        // What has to be done about it waits until it is known which pods there are.
        guard.judge(&readings);
        guard
    }

    /// Reads the kernel's tables from these folders instead of the host's.
    #[cfg(test)]
    pub(crate) fn reading(mut self, proc: PathBuf, groups: PathBuf) -> Self {
        (self.places.proc, self.places.groups) = (proc, groups);
        self
    }

    /// Looks after the node, for ever.
    pub(crate) async fn run(mut self) {
        loop {
            self.look().await;
            tokio::time::sleep(LOOK).await;
        }
    }

    fn now(&self) -> i64 {
        let (begin, at) = self.begin;
        at.saturating_add(i64::try_from(begin.elapsed().as_millis()).unwrap_or_default())
    }

    /// Looks once and does what has to be done; as long as pods have to go it looks again when one
    /// has gone.
    pub(crate) async fn look(&mut self) {
        self.collect().await;
        loop {
            let readings = self.read().await;
            let act = self.judge(&readings);
            self.remember();
            let gone = self.enforce(&readings, &act).await;
            if gone.is_empty() {
                return;
            }
            self.wait_for(&gone).await;
        }
    }

    /// Looks after images and containers that ended, when that is due.
    async fn collect(&mut self) {
        if self.places.images.is_none() {
            self.places.images = self.gc.place().await;
        }
        let now = Instant::now();
        if now >= self.due.0 && self.places.images.is_some() {
            self.due.0 = now + gc::IMAGES;
            let places = self.places.clone();
            let disk = async {
                let readings = off_thread(places).await;
                readings.get(&Signal::ImageFs).map(|it| (it.available, it.capacity))
            };
            self.gc.look_at_images(disk).await;
        }
        if now >= self.due.1 && self.host.config.defence.dead.all >= 0 {
            self.due.1 = now + gc::CONTAINERS;
            let over = over(&self.pods().await);
            self.gc.count_dead(&over).await;
        }
    }

    async fn read(&self) -> Readings {
        off_thread(self.places.clone()).await
    }

    /// Judges what was read, and tells what the node is short of.
    fn judge(&mut self, readings: &Readings) -> Vec<Threshold> {
        let defence = &self.host.config.defence;
        let now = self.now();
        let act = self.past.look(&defence.thresholds, defence.transition, readings, now);
        let news = self.past.pressures();
        self.pressures.send_if_modified(|told| {
            let changes = *told != news;
            *told = news;
            changes
        });
        act
    }

    /// Lets pods go that use more of the disk than they may, and else makes room, and else lets one
    /// pod go; returns those that go.
    async fn enforce(&mut self, readings: &Readings, act: &[Threshold]) -> Vec<String> {
        let defence = &self.host.config.defence;
        let (limits_disk, measure, now) = (defence.limits_disk, defence.measure, self.now());
        let due = limits_disk && self.measured.is_none_or(|at| now - at >= measure);
        if !due && act.is_empty() {
            return Vec::new();
        }
        let mut pods = self.pods().await;
        self.sent.retain(|uid| pods.iter().any(|it| it.pod.metadata.uid == *uid));
        pods.retain(|it| !self.sent.contains(&it.pod.metadata.uid));
        if due {
            self.measured = Some(now);
            let gone = self.keep_limits(&pods).await;
            if !gone.is_empty() {
                return gone;
            }
        }
        let Some(cause) = act.first() else { return Vec::new() };
        let resource = cause.signal.resource().name();
        warn!(resource, "the node is short of something");
        let message = format!("Attempting to reclaim {resource}");
        self.host.notes.warning(About::node(&self.node), "EvictionThresholdMet", message);
        if self.makes_room(cause.signal) {
            self.gc.free_all(&over(&pods)).await;
            let readings = self.read().await;
            let thresholds = &self.host.config.defence.thresholds;
            if !thresholds.iter().any(|it| it.is_met(&readings, true)) {
                info!(resource, "there is room again, and no pod has to go");
                return Vec::new();
            }
        }
        self.evict_one(&pods, cause, act, readings).await
    }

    /// Tells whether something can be removed where there is too little of this.
    fn makes_room(&self, signal: Signal) -> bool {
        match signal {
            Signal::ImageFs | Signal::ImageInodes => true,
            // Images and containers are elsewhere, then.
            Signal::NodeFs | Signal::NodeInodes => !self.places.is_split(),
            Signal::Memory | Signal::PodMemory | Signal::Pids => false,
        }
    }

    async fn evict_one(
        &mut self,
        pods: &[Shown],
        cause: &Threshold,
        act: &[Threshold],
        readings: &Readings,
    ) -> Vec<String> {
        let living: Vec<&Shown> = pods.iter().filter(|it| is_living(it)).collect();
        let all = living.iter().map(|it| Arc::clone(&it.pod)).collect();
        let mut measured = usage::measure(&self.host, self.places.groups.clone(), all).await;
        let mut candidates: Vec<Candidate> = living
            .iter()
            .filter(|it| !is_critical(&it.pod, it.object.is_some()))
            .map(|it| {
                let usage = measured.remove(&it.pod.metadata.uid);
                Candidate { pod: Arc::clone(&it.pod), usage }
            })
            .collect();
        let parts = match (self.places.is_split(), cause.signal) {
            (false, _) => Parts::All,
            (true, Signal::ImageFs | Signal::ImageInodes) => Parts::Layers,
            (true, _) => Parts::Files,
        };
        rank::rank(&mut candidates, cause.signal.resource(), parts);
        let Some(first) = candidates.first() else {
            warn!("no pod can go from here");
            return Vec::new();
        };
        let most = self.host.config.defence.most_grace;
        let verdict = rank::verdict(first, cause, act, readings, most);
        vec![self.evict(&first.pod, verdict).await]
    }

    /// Lets pods go that use more of the disk than they may.
    async fn keep_limits(&mut self, pods: &[Shown]) -> Vec<String> {
        let limited = |it: &&Shown| is_living(it) && rank::is_limited(&it.pod);
        let limited: Vec<&Shown> = pods.iter().filter(limited).collect();
        if limited.is_empty() {
            return Vec::new();
        }
        let all = limited.iter().map(|it| Arc::clone(&it.pod)).collect();
        let measured: BTreeMap<String, Usage> =
            usage::measure(&self.host, self.places.groups.clone(), all).await;
        let mut gone = Vec::new();
        for Shown { pod, object, .. } in limited {
            let Some(usage) = measured.get(&pod.metadata.uid) else { continue };
            let on_disk = !self.places.is_split();
            if let Some(verdict) = rank::over_limit(pod, usage, on_disk)
                && !is_critical(pod, object.is_some())
            {
                gone.push(self.evict(pod, verdict).await);
            }
        }
        gone
    }

    async fn evict(&mut self, pod: &Arc<Pod>, verdict: Verdict) -> String {
        let uid = pod.metadata.uid.clone();
        warn!(pod = %pod.metadata.name, "a pod has to go: {}", verdict.message);
        self.host.notes.warning(About::pod(pod), EVICTED, verdict.message.clone());
        // Nobody hears it any more when the engine ends.
        drop(self.evictions.send(Eviction { uid: uid.clone(), verdict, returns: false }).await);
        self.sent.insert(uid.clone());
        uid
    }

    /// Asks the engine which pods there are.
    async fn pods(&self) -> Vec<Shown> {
        let (ask, answer) = oneshot::channel();
        drop(self.asks.send(ask).await);
        answer.await.unwrap_or_default()
    }

    /// Waits until nothing of these pods runs and their volumes are gone, but not for ever.
    async fn wait_for(&self, gone: &[String]) {
        let begin = Instant::now();
        let root = &self.host.config.root;
        let fills = |uid: &str| {
            let volumes = pod_folder(root, uid).join("volumes");
            LOCAL.iter().any(|kind| volumes.join(kind).exists())
        };
        while begin.elapsed() < PATIENCE {
            let pods = self.pods().await;
            let runs = |it: &Shown| {
                let uid = &it.pod.metadata.uid;
                gone.contains(uid) && (it.status.contains("\"running\":{") || fills(uid))
            };
            if !pods.iter().any(runs) {
                return;
            }
            tokio::time::sleep(GONE).await;
        }
    }

    /// Writes down what the next life of this process has to know, when that changed. A disk that is
    /// full keeps nobody from acting.
    fn remember(&mut self) {
        if !self.past.differs(&self.written) {
            return;
        }
        let file = file(&self.host.config.root);
        let next = file.with_extension("next");
        let text = serde_json::to_vec(&self.past).unwrap_or_default();
        let done = fs::create_dir_all(&self.host.config.root)
            .and_then(|()| fs::write(&next, text))
            .and_then(|()| fs::rename(&next, &file));
        match done {
            Ok(()) => self.written = self.past.clone(),
            Err(error) => warn!("cannot write {}: {error}", file.display()),
        }
    }
}

async fn off_thread(places: Places) -> Readings {
    tokio::task::spawn_blocking(move || places.read()).await.unwrap_or_default()
}

/// Tells whether a pod has something that could be ended: it is not over, and is not ending.
fn is_living(shown: &Shown) -> bool {
    let over = shown.pod.status.is_over() || LastStatus::told(&shown.status).is_over();
    !over && shown.pod.metadata.deletion_timestamp.is_none()
}

/// Returns the uids of the pods that are over, and of which the store knows it.
fn over(pods: &[Shown]) -> HashSet<String> {
    let over = pods.iter().filter(|it| it.pod.status.is_over());
    over.map(|it| it.pod.metadata.uid.clone()).collect()
}

/// Where the past is written.
fn file(root: &Path) -> PathBuf {
    root.join("edged-pressure.json")
}

fn remembered(root: &Path) -> Past {
    let text = fs::read(file(root)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}
