//! How a worker takes the steps of a plan. What fails is held for a while, with the reason for the
//! status, and is planned again then.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use tracing::{info, warn};

use super::Worker;
use crate::cri::words as w;
use crate::notes::About;
use crate::pod::names;
use crate::pod::plan::{Hold, Plan, SANDBOX, Step};
use crate::pod::spec::{Container, Handler};
use crate::probes::action;
use crate::volumes::{pod_folder, tree};

/// How long something that failed is left alone, in milliseconds.
pub(super) const HOLD: i64 = 10_000;

/// The least time that a container gets to end: as kubelet.
const LEAST: Duration = Duration::from_secs(2);

/// Why a container could not be started.
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) hold: i64,
}

impl Failure {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), hold: HOLD }
    }
}

impl Worker {
    /// Takes the steps of a plan; the stops among them at once.
    pub(super) async fn take(&mut self, plan: Plan) {
        let (stops, others): (Vec<_>, Vec<_>) =
            plan.steps.into_iter().partition(|step| matches!(step, Step::Stop { .. }));
        let stopped = join_all(stops.iter().map(|step| self.stop(step))).await;
        for (id, message) in stopped.into_iter().flatten() {
            self.hold(&id, Failure::new("", message));
        }
        for step in others {
            let runtime = &self.host.runtime;
            let (what, done) = match step {
                Step::Stop { .. } => continue,
                Step::StopSandbox(id) => {
                    let request = w::StopPodSandboxRequest { pod_sandbox_id: id.clone() };
                    (id, runtime.stop_sandbox(request).await.map(drop))
                }
                Step::Remove(id) => {
                    let request = w::RemoveContainerRequest { container_id: id.clone() };
                    (id, runtime.remove_container(request).await.map(drop))
                }
                Step::RemoveSandbox(id) => {
                    let request = w::RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
                    (id, runtime.remove_sandbox(request).await.map(drop))
                }
                Step::MakeSandbox { attempt } => {
                    if let Err(failure) = self.make_sandbox(attempt).await {
                        self.hold(SANDBOX, failure);
                        return;
                    }
                    self.ledger.holds.remove(SANDBOX);
                    continue;
                }
                Step::Start { name, sandbox, restarts } => {
                    match self.start(&name, &sandbox, restarts).await {
                        Ok(()) => drop(self.ledger.holds.remove(&name)),
                        Err(failure) => self.hold(&name, failure),
                    }
                    continue;
                }
            };
            if let Err(trouble) = done
                && !trouble.is_not_found()
            {
                self.hold(&what, Failure::new("", trouble.to_string()));
            }
        }
    }

    fn hold(&mut self, what: &str, failure: Failure) {
        let Failure { reason, message, hold } = failure;
        let known = self.ledger.holds.get(what).is_some_and(|known| known.message == message);
        if !known {
            warn!(pod = %self.pod.metadata.name, what, "{reason} {message}");
        }
        let until = module_runtime::unix_millis() + hold;
        let hold = Hold { until, reason: reason.to_owned(), message };
        self.ledger.holds.insert(what.to_owned(), hold);
    }

    /// Stops a container: its hook first, which is part of its time.
    pub(super) async fn stop(&self, step: &Step) -> Option<(String, String)> {
        let Step::Stop { id, name, grace, why } = step else { return None };
        info!(pod = %self.pod.metadata.name, container = %name, grace, %why, "stopping a container");
        let about = About::container(&self.pod, name);
        self.host.notes.normal(about.clone(), "Killing", why.said(name));
        let mut left = Duration::from_secs(u64::try_from(*grace).unwrap_or_default());
        let container = self.pod.spec.container(name);
        let hook = container.and_then(|it| it.lifecycle.as_ref()?.pre_stop.as_ref());
        if let (Some(container), Some(hook), true) = (container, hook, !left.is_zero()) {
            let begin = tokio::time::Instant::now();
            match tokio::time::timeout(left, self.run_hook(hook, container, id)).await {
                Ok(Ok(())) => {}
                Ok(Err(said)) => {
                    warn!(pod = %self.pod.metadata.name, container = %name, "preStop: {said}");
                    self.host.notes.warning(about, "FailedPreStopHook", said);
                }
                Err(_) => {
                    warn!(pod = %self.pod.metadata.name, container = %name, grace, "preStop takes too long");
                }
            }
            left = left.saturating_sub(begin.elapsed());
        }
        match self.host.runtime.stop_container(id, left.max(LEAST)).await {
            Err(trouble) if !trouble.is_not_found() => Some((id.clone(), trouble.to_string())),
            Ok(()) | Err(_) => None,
        }
    }

    pub(super) async fn run_hook(
        &self,
        hook: &Handler,
        container: &Container,
        id: &str,
    ) -> Result<(), String> {
        let ip = self.facts().pod_ips.first().cloned().unwrap_or_default();
        let place = action::Place { runtime: &self.host.runtime, container, id, ip: &ip };
        action::hook(hook, &place).await
    }

    /// Removes the pod's folder.
    pub(super) async fn drop_folder(&mut self) -> Result<(), String> {
        let uid = self.pod.metadata.uid.clone();
        if !names::is_plain(&uid) {
            return Ok(());
        }
        let folder: PathBuf = pod_folder(&self.host.config.root, &uid);
        self.folders = None;
        let removed = tokio::task::spawn_blocking(move || tree::remove(&folder)).await;
        removed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// Removes all that is left of a pod that the store does not have any more; tells whether
    /// nothing is left.
    pub(super) async fn remove_all(&mut self) -> bool {
        let metadata = &self.pod.metadata;
        for sandbox in self.seen.sandboxes.clone() {
            let request = w::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id };
            if let Err(trouble) = self.host.runtime.remove_sandbox(request).await
                && !trouble.is_not_found()
            {
                warn!(pod = %metadata.name, "cannot remove a sandbox: {trouble}");
                return false;
            }
        }
        let logs = names::log_folder(&self.host.config.logs, &self.pod);
        if let Err(error) = fs::remove_dir_all(&logs)
            && error.kind() != ErrorKind::NotFound
        {
            warn!(pod = %metadata.name, "cannot remove {}: {error}", logs.display());
        }
        if let Err(error) = self.drop_folder().await {
            warn!(pod = %self.pod.metadata.name, "cannot remove the folder of a pod: {error}");
            return false;
        }
        // The runtime may still be leaving it.
        if let Some(groups) = &self.host.config.groups
            && let Err(error) = groups.remove(&self.pod.metadata.uid)
        {
            let pod = &self.pod.metadata.name;
            warn!(%pod, "cannot remove the control group of a pod yet: {error}");
            return false;
        }
        info!(pod = %self.pod.metadata.name, "nothing is left of a pod");
        true
    }
}
