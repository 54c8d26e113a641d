//! A host that is about to shut down: its pods end in order and with the time that they are given
//! before it does, as kubelet has it. systemd's logind tells of a shutdown and waits with it.

pub(crate) mod core;
mod logind;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::api::Ask;
use crate::cri::words as w;
use crate::notes::About;
use crate::pod::last::LastStatus;
use crate::pod::names;
use crate::pods::Shown;
use crate::pressure::Eviction;
use crate::status::Verdict;
use crate::worker::Host;
use logind::Logind;

/// Why a pod ended.
pub(crate) const TERMINATED: &str = "Terminated";
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";

/// How soon logind is asked for again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How often it is looked whether pods have ended.
const LOOK: Duration = Duration::from_millis(250);

/// Where logind is found and configured.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) bus: PathBuf,
    /// The file that says how long a shutdown may wait; kubelet's own.
    pub(crate) file: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            bus: "/run/dbus/system_bus_socket".into(),
            file: "/etc/systemd/logind.conf.d/99-kubelet.conf".into(),
        }
    }
}

/// What ends the pods of a host that shuts down.
pub(crate) struct Shutdown {
    pub(crate) host: Arc<Host>,
    pub(crate) node: String,
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) evictions: mpsc::Sender<Eviction>,
    pub(crate) places: Places,
    /// Told whether the host is shutting down.
    pub(crate) leaving: watch::Sender<bool>,
}

impl Shutdown {
    /// Waits for shutdowns, for ever; without an order of ends there is nothing to do.
    pub(crate) async fn run(self) {
        let needed = self.host.config.defence.turns.iter().map(|turn| turn.seconds).sum();
        if needed == 0 {
            return;
        }
        let (mut pause, mut said) = (RETRY.0, String::new());
        loop {
            let why = match Logind::begin(&self.places, needed).await {
                Ok(mut logind) => {
                    info!(
                        seconds = needed,
                        "logind waits with a shutdown until the pods have ended"
                    );
                    (pause, said) = (RETRY.0, String::new());
                    self.serve(&mut logind).await
                }
                Err(why) => why,
            };
            let why = why.to_string();
            if why != said {
                warn!("shutdownGracePeriod is set, but logind does not wait for the pods: {why}");
                said = why;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Ends the pods whenever the host shuts down; returns why it hears of that no more.
    async fn serve(&self, logind: &mut Logind) -> crate::bus::Trouble {
        loop {
            let leaves = match logind.next().await {
                Ok(leaves) => leaves,
                Err(trouble) => return trouble,
            };
            let what = if leaves { "event" } else { "cancellation" };
            let message = format!("Shutdown manager detected shutdown {what}");
            self.host.notes.normal(About::node(&self.node), "NodeShutdown", message);
            self.leaving.send_replace(leaves);
            if leaves {
                self.end_all().await;
                logind.release();
            } else if let Err(trouble) = logind.hold().await {
                return trouble;
            }
        }
    }

    /// Ends all pods, the least important first.
    async fn end_all(&self) {
        let (ask, answer) = oneshot::channel();
        drop(self.asks.send(ask).await);
        let pods = answer.await.unwrap_or_default();
        let is_over =
            |it: &Shown| it.pod.status.is_over() || LastStatus::told(&it.status).is_over();
        let living: Vec<_> = pods.into_iter().filter(|it| !is_over(it)).map(|it| it.pod).collect();
        // What nobody can replace runs again when the host is back.
        let returns = !self.host.facts.borrow().acknowledged;
        for (seconds, pods) in core::ends(&self.host.config.defence.turns, &living) {
            info!(pods = pods.len(), seconds, "pods end because the host shuts down");
            let mut uids = BTreeSet::new();
            for (pod, grace) in pods {
                let uid = pod.metadata.uid.clone();
                let verdict = Verdict {
                    grace: Some(grace),
                    disrupts: true,
                    ..Verdict::new(TERMINATED, MESSAGE)
                };
                uids.insert(uid.clone());
                drop(self.evictions.send(Eviction { uid, verdict, returns }).await);
            }
            self.wait_for(&uids, Duration::from_secs(seconds)).await;
        }
    }

    /// Waits until nothing of these pods runs any more, but no longer than they were given.
    async fn wait_for(&self, uids: &BTreeSet<String>, patience: Duration) {
        let begin = Instant::now();
        let running = i32::from(w::ContainerState::Running);
        while begin.elapsed() < patience {
            let all = w::ListContainersRequest { filter: None };
            if let Ok(listed) = self.host.runtime.list_containers(all).await {
                let mut running = listed.containers.iter().filter(|it| it.state == running);
                let of = |it: &w::Container| {
                    it.labels.get(names::POD_UID).is_some_and(|uid| uids.contains(uid))
                };
                if !running.any(of) {
                    return;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        warn!("pods did not end in their time; the host goes on to shut down");
    }
}
