//! How a worker starts a container.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;

use ipc_proto::Kind;
use tracing::{info, warn};

use super::Worker;
use super::act::Failure;
use crate::cri::words as w;
use crate::env;
use crate::env::services::{Links, Service};
use crate::notes::About;
use crate::pod::plan::Step;
use crate::pod::seen::State;
use crate::pod::spec::Container;
use crate::pod::why::Why;
use crate::pod::{make, names};
use crate::status::rfc3339;
use crate::volumes;

impl Worker {
    /// Makes and starts a container, and runs what is to follow its start.
    pub(super) async fn start(
        &mut self,
        name: &str,
        sandbox: &str,
        restarts: u32,
    ) -> Result<(), Failure> {
        let started = self.try_start(name, sandbox, restarts).await;
        if let Err(failure) = &started
            && failure.reason != "PostStartHookError"
        {
            let about = About::container(&self.pod, name);
            let message = match failure.reason {
                "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" => {
                    format!("Error: {}", failure.reason)
                }
                _ => format!("Error: {}", failure.message),
            };
            self.host.notes.warning(about, "Failed", message);
        }
        started
    }

    async fn try_start(&mut self, name: &str, sandbox: &str, restarts: u32) -> Result<(), Failure> {
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
        let images = self.volume_images(container).await?;
        if container.volume_mounts.iter().any(|mount| mount.recursive_read_only.is_some()) {
            self.choose_handler().await?;
        }
        let mounts =
            self.mounts(&pod, container, &facts.pod_ips, &variables, &images).map_err(bad)?;
        let target = self.target(container).map_err(bad)?;
        if let Some(ended) = self.seen.latest(name).filter(|it| it.state == State::Exited) {
            let pause = self.ledger.pauses.entry(name.to_owned()).or_default();
            pause.grow(ended.finished, module_runtime::unix_millis());
        }
        let memory = self.host.facts.borrow().memory;
        let host_dns = fs::read_to_string(&self.host.config.resolv_conf).unwrap_or_default();
        let settings = self.settings(make::Dns::parse(&host_dns), memory);
        let mut devices = self.devices(container).await?;
        devices.devices.extend(self.volume_devices(container).map_err(bad)?);
        let parts = make::Parts { restarts, image: image.id, variables, mounts, target, devices };
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
        let about = About::container(&pod, name);
        self.host.notes.normal(about.clone(), "Created", format!("Created container: {name}"));
        let request = w::StartContainerRequest { container_id: id.clone() };
        let begun = self.host.runtime.start_container(request).await;
        begun.map_err(|trouble| Failure::new("RunContainerError", trouble.to_string()))?;
        self.host.notes.normal(about, "Started", format!("Started container {name}"));
        info!(pod = %pod.metadata.name, container = %name, restarts, "a container runs");
        self.after_start(container, &id).await
    }

    /// Returns the container whose processes an ephemeral one is to see, as the runtime calls it;
    /// empty for none.
    fn target(&self, container: &Container) -> Result<String, String> {
        let name = &container.target_container_name;
        if name.is_empty() {
            return Ok(String::new());
        }
        let found = self.seen.latest(name).map(|target| target.id.clone());
        found.ok_or_else(|| format!("unable to find target container \"{name}\""))
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
            why: Why::HookFailed,
        };
        let about = About::container(&self.pod, &container.name);
        self.host.notes.warning(about, "FailedPostStartHook", said.clone());
        if let Some((_, trouble)) = self.stop(&stop).await {
            warn!(container = %container.name, "cannot stop a container: {trouble}");
        }
        Err(Failure::new("PostStartHookError", said))
    }
}
