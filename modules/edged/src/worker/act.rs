//! How a worker takes the steps of a plan. What fails is held for a while, with the reason for the
//! status, and is planned again then.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use ipc_proto::Kind;
use tracing::{info, warn};

use super::{REFRESH, Worker};
use crate::cri::{Trouble, words as w};
use crate::env;
use crate::env::services::{Links, Service};
use crate::pod::backoff::Backoff;
use crate::pod::plan::{Hold, Plan, SANDBOX, Step};
use crate::pod::seen::State;
use crate::pod::spec::{Container, Handler};
use crate::pod::{make, names, unsupported};
use crate::probes::action;
use crate::status::rfc3339;
use crate::volumes::{self, pod_folder, tree};

/// How long something that failed is left alone, in milliseconds.
const HOLD: i64 = 10_000;

/// How long volumes that are not there are left alone: what they need may come any moment.
const VOLUME_HOLD: i64 = 2000;

/// The least time that a container gets to end: as kubelet.
const LEAST: Duration = Duration::from_secs(2);

/// Why a container could not be started.
struct Failure {
    reason: &'static str,
    message: String,
    hold: i64,
}

impl Failure {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
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
    async fn stop(&self, step: &Step) -> Option<(String, String)> {
        let Step::Stop { id, name, grace, why } = step else { return None };
        info!(pod = %self.pod.metadata.name, container = %name, grace, why, "stopping a container");
        let mut left = Duration::from_secs(u64::try_from(*grace).unwrap_or_default());
        let container = self.pod.spec.container(name);
        let hook = container.and_then(|it| it.lifecycle.as_ref()?.pre_stop.as_ref());
        if let (Some(container), Some(hook), true) = (container, hook, !left.is_zero()) {
            let begin = tokio::time::Instant::now();
            match tokio::time::timeout(left, self.run_hook(hook, container, id)).await {
                Ok(Ok(())) => {}
                Ok(Err(said)) => {
                    warn!(pod = %self.pod.metadata.name, container = %name, "preStop: {said}");
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

    async fn run_hook(
        &self,
        hook: &Handler,
        container: &Container,
        id: &str,
    ) -> Result<(), String> {
        let ip = self.facts().pod_ips.first().cloned().unwrap_or_default();
        let place = action::Place { runtime: &self.host.runtime, container, id, ip: &ip };
        action::hook(hook, &place).await
    }

    async fn make_sandbox(&mut self, attempt: u32) -> Result<(), Failure> {
        if let Some(what) = unsupported(&self.pod) {
            return Err(Failure { hold: 6 * HOLD, ..Failure::new("", what) });
        }
        let config = &self.host.config;
        let logs = names::log_folder(&config.logs, &self.pod);
        let folder = pod_folder(&config.root, &self.pod.metadata.uid);
        for (folder, mode) in [(&logs, 0o755), (&folder, 0o750)] {
            let made = fs::DirBuilder::new().recursive(true).mode(mode).create(folder);
            made.map_err(|error| {
                Failure::new("", format!("cannot make {}: {error}", folder.display()))
            })?;
        }
        self.put_volumes().await?;
        let memory = self.host.facts.borrow().memory;
        let host_dns = fs::read_to_string(&self.host.config.resolv_conf).unwrap_or_default();
        let settings = self.settings(make::Dns::parse(&host_dns), memory);
        let seen = rfc3339(self.start);
        let config = Some(make::sandbox(&self.pod, &settings, attempt, &seen));
        let request = w::RunPodSandboxRequest { config, runtime_handler: String::new() };
        let made = self.host.runtime.run_sandbox(request).await;
        made.map(drop)
            .map_err(|trouble| Failure::new("", format!("Failed to create pod sandbox: {trouble}")))
    }

    fn settings(&self, host_dns: make::Dns, memory: i64) -> make::Settings<'_> {
        let config = &self.host.config;
        make::Settings {
            host_dns,
            cluster_dns: &config.cluster_dns,
            cluster_domain: &config.cluster_domain,
            logs: Some(&config.logs),
            root: Some(&config.root),
            seccomp_default: config.seccomp_default,
            memory,
        }
    }

    async fn put_volumes(&mut self) -> Result<(), Failure> {
        let (host, facts) = (&self.host, self.facts());
        let put = volumes::prepare(&host.store, &host.config.root, &self.pod, &facts).await;
        let failed = |why| Failure { hold: VOLUME_HOLD, ..Failure::new("", why) };
        self.folders = Some(put.map_err(failed)?);
        self.refreshed = module_runtime::unix_millis();
        Ok(())
    }

    /// Brings the files of a running pod up to date when that is due; returns when it is next.
    pub(super) async fn refresh_files(&mut self, now: i64) -> Option<i64> {
        let runs = self.seen.containers.iter().any(|it| it.state == State::Running);
        let changes = self.pod.spec.volumes.iter().any(|volume| {
            volume.config_map.is_some()
                || volume.secret.is_some()
                || volume.projected.is_some()
                || volume.downward_api.is_some()
        });
        if !runs || !changes || self.pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        if now < self.refreshed + REFRESH {
            return Some(self.refreshed + REFRESH);
        }
        if let Err(failure) = self.put_volumes().await {
            warn!(pod = %self.pod.metadata.name, "{}", failure.message);
            self.refreshed = now;
        }
        Some(now + REFRESH)
    }

    async fn start(&mut self, name: &str, sandbox: &str, restarts: u32) -> Result<(), Failure> {
        let pod = self.pod.clone();
        let Some(container) = pod.spec.container(name) else { return Ok(()) };
        let image = self.image(container).await?;
        let bad = |message: String| Failure::new("CreateContainerConfigError", message);
        make::check_user(&pod, container, &image).map_err(bad)?;
        let needs = env::needs(container);
        let found = volumes::find(&self.host.store, &pod.metadata.namespace, needs).await;
        let facts = self.facts();
        let links = self.links().await;
        let variables =
            env::variables(&pod, container, &facts, &found.map_err(bad)?, &links).map_err(bad)?;
        if self.folders.is_none() {
            self.put_volumes().await.map_err(|failure| bad(failure.message))?;
        }
        let mounts = self.mounts(&pod, container, &facts.pod_ips, &variables).map_err(bad)?;
        if let Some(ended) = self.seen.latest(name).filter(|it| it.state == State::Exited) {
            let pause = self.ledger.pauses.entry(name.to_owned()).or_default();
            pause.grow(ended.finished, module_runtime::unix_millis());
        }
        let memory = self.host.facts.borrow().memory;
        let host_dns = fs::read_to_string(&self.host.config.resolv_conf).unwrap_or_default();
        let settings = self.settings(make::Dns::parse(&host_dns), memory);
        let parts = make::Parts { restarts, image: image.id, variables, mounts };
        let config = make::container(&pod, container, &settings, parts);
        let logs = names::log_folder(&self.host.config.logs, &pod).join(name);
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&logs);
        made.map_err(|error| bad(format!("cannot make {}: {error}", logs.display())))?;
        let sandbox_config = Some(make::sandbox(&pod, &settings, 0, &rfc3339(self.start)));
        let request = w::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config,
        };
        let made = self.host.runtime.create_container(request).await;
        let id = made
            .map_err(|trouble| Failure::new("CreateContainerError", trouble.to_string()))?
            .container_id;
        let request = w::StartContainerRequest { container_id: id.clone() };
        let begun = self.host.runtime.start_container(request).await;
        begun.map_err(|trouble| Failure::new("RunContainerError", trouble.to_string()))?;
        info!(pod = %pod.metadata.name, container = %name, restarts, "a container runs");
        self.after_start(container, &id).await
    }

    /// Makes the variables of the services that the store has.
    async fn links(&self) -> Links {
        let services: Vec<Service> = self.host.store.all(Kind::Service).await;
        let api = self.host.config.api.as_ref();
        env::services::links(&self.pod, &services, api.map(|(host, port)| (host.as_str(), *port)))
    }

    async fn after_start(&mut self, container: &Container, id: &str) -> Result<(), Failure> {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let Err(said) = self.run_hook(hook, container, id).await else { return Ok(()) };
        let stop = Step::Stop {
            id: id.to_owned(),
            name: container.name.clone(),
            grace: self.pod.spec.termination_grace_period_seconds.unwrap_or(names::DEFAULT_GRACE),
            why: "its postStart hook failed",
        };
        if let Some((_, trouble)) = self.stop(&stop).await {
            warn!(container = %container.name, "cannot stop a container: {trouble}");
        }
        Err(Failure::new("PostStartHookError", said))
    }

    /// Sees to it that an image is here.
    async fn image(&mut self, container: &Container) -> Result<w::Image, Failure> {
        let name = &container.image;
        let spec = || Some(w::ImageSpec { image: name.clone() });
        let runtime = self.host.runtime.clone();
        let tagged = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        let latest = !tagged || name.ends_with(":latest");
        let policy = match container.image_pull_policy.as_str() {
            "" if latest => "Always",
            "" => "IfNotPresent",
            policy => policy,
        };
        let failed = |trouble: Trouble| Failure::new("ImageInspectError", trouble.to_string());
        let here =
            runtime.image_status(w::ImageStatusRequest { image: spec() }).await.map_err(failed)?;
        match (policy, here.image) {
            ("Never" | "IfNotPresent", Some(image)) => return Ok(image),
            ("Never", None) => {
                let message =
                    format!("Container image \"{name}\" is not present with pull policy of Never");
                return Err(Failure::new("ErrImageNeverPull", message));
            }
            (_, _) => {}
        }
        let pulled = self.pull(name).await;
        let key = format!("image {name}");
        if let Err(message) = pulled {
            let now = module_runtime::unix_millis();
            let pause: &mut Backoff = self.ledger.pauses.entry(key).or_default();
            pause.grow(now, now);
            return Err(Failure { reason: "ErrImagePull", message, hold: pause.pause });
        }
        self.ledger.pauses.remove(&key);
        let here =
            runtime.image_status(w::ImageStatusRequest { image: spec() }).await.map_err(failed)?;
        here.image
            .ok_or_else(|| Failure::new("ErrImagePull", format!("image \"{name}\" came and went")))
    }

    /// Fetches an image with the credentials of the pod's secrets, one after the other.
    async fn pull(&self, name: &str) -> Result<(), String> {
        let mut all = Vec::new();
        for secret in &self.pod.spec.image_pull_secrets {
            match self.host.store.secret(&self.pod.metadata.namespace, &secret.name).await {
                Ok(entries) => all.extend(crate::registry::credentials(&entries, name)),
                Err(lack) => warn!(secret = %secret.name, ?lack, "cannot use an imagePullSecret"),
            }
        }
        let mut said = String::new();
        for auth in all.into_iter().map(Some).chain([None]) {
            let image = Some(w::ImageSpec { image: name.to_owned() });
            let request = w::PullImageRequest { image, auth, sandbox_config: None };
            match self.host.runtime.pull_image(request).await {
                Ok(_) => return Ok(()),
                Err(trouble) => said = trouble.to_string(),
            }
        }
        Err(said)
    }

    /// Shows in the status that an image is not tried again at once, as soon as it was shown that
    /// it did not come. Returns when to show it.
    pub(super) fn soften(&mut self, now: i64) -> Option<i64> {
        let mut changed = None;
        for (name, hold) in &mut self.ledger.holds {
            let image = self.pod.spec.container(name).map_or("", |container| &container.image);
            if hold.reason == "ErrImagePull" && hold.until > now {
                hold.reason = "ImagePullBackOff".to_owned();
                hold.message =
                    format!("Back-off pulling image \"{image}\": ErrImagePull: {}", hold.message);
                changed = Some(now + 1000);
            }
        }
        changed
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
        info!(pod = %self.pod.metadata.name, "nothing is left of a pod");
        true
    }
}
