//! The container runtime, asked by the test itself: what there is, and pods made by bare calls.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use edged::cri::{Runtime, words as w};
use private_containerd::IMAGE;

/// The label that says whose a sandbox or container is.
pub const POD_NAME: &str = "io.kubernetes.pod.name";

/// A handle on the runtime for tests without asynchronous code.
#[derive(Debug)]
pub struct Cri {
    tokio: tokio::runtime::Runtime,
    runtime: Runtime,
}

/// A container as the runtime lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contained {
    /// Its pod's name.
    pub pod: String,
    /// Its own name.
    pub name: String,
    /// How often its name was started before.
    pub attempt: u32,
    /// Its identity.
    pub id: String,
    /// Whether it runs.
    pub running: bool,
}

impl Cri {
    /// Makes a handle; it does not connect yet.
    ///
    /// # Errors
    /// When the system has no room for it.
    pub fn new(socket: PathBuf) -> Result<Self> {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = tokio.enter();
        let runtime = Runtime::new(socket);
        drop(inside);
        Ok(Self { tokio, runtime })
    }

    /// Makes calls and waits until they are done.
    pub fn ask<F: Future>(&self, work: impl FnOnce(Runtime) -> F) -> F::Output {
        self.tokio.block_on(work(self.runtime.clone()))
    }

    /// Lists sandboxes and containers.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub fn list(&self) -> Result<(Vec<w::PodSandbox>, Vec<w::Container>)> {
        Ok(self.ask(|runtime| async move { runtime.list(BTreeMap::new()).await })?)
    }

    /// Lists the containers, in order.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub fn containers(&self) -> Result<Vec<Contained>> {
        let (_, containers) = self.list()?;
        let mut containers: Vec<_> = containers.into_iter().map(Contained::of).collect();
        containers.sort();
        Ok(containers)
    }

    /// Lists the containers that run, in order.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub fn running(&self) -> Result<Vec<Contained>> {
        Ok(self.containers()?.into_iter().filter(|container| container.running).collect())
    }

    /// Returns what the runtime tells of a container.
    ///
    /// # Errors
    /// When it knows none such.
    pub fn container(&self, id: &str) -> Result<w::ContainerStatus> {
        let request = w::ContainerStatusRequest { container_id: id.to_owned() };
        let answer = self.ask(|runtime| async move { runtime.container_status(request).await })?;
        answer.status.context("a container without a status")
    }

    /// Ends a container as a crash would.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn crash(&self, id: &str) -> Result<()> {
        let end = |runtime: Runtime| async move {
            runtime.stop_container(id, std::time::Duration::ZERO).await
        };
        Ok(self.ask(end)?)
    }
}

impl Contained {
    fn of(container: w::Container) -> Self {
        let running = container.state() == w::ContainerState::Running;
        let metadata = container.metadata.unwrap_or_default();
        let pod = container.labels.get(POD_NAME).cloned().unwrap_or_default();
        Self { pod, name: metadata.name, attempt: metadata.attempt, id: container.id, running }
    }
}

/// Returns the configuration of a sandbox with nothing special about it.
#[must_use]
pub fn plain_sandbox(name: &str, folder: &std::path::Path) -> w::PodSandboxConfig {
    let own = |text: &str| text.to_owned();
    let metadata = w::PodSandboxMetadata {
        name: own(name),
        uid: format!("uid-{name}"),
        namespace: own("default"),
        attempt: 0,
    };
    w::PodSandboxConfig {
        metadata: Some(metadata),
        hostname: own(name),
        log_directory: folder.join(name).display().to_string(),
        linux: Some(w::LinuxPodSandboxConfig::default()),
        ..w::PodSandboxConfig::default()
    }
}

/// Returns the configuration of a container with nothing special about it.
#[must_use]
pub fn plain_container(name: &str, command: &[&str]) -> w::ContainerConfig {
    w::ContainerConfig {
        metadata: Some(w::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(w::ImageSpec { image: IMAGE.to_owned() }),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(w::LinuxContainerConfig::default()),
        ..w::ContainerConfig::default()
    }
}
