//! What there is of a pod, as the runtime tells.

use super::names;
use crate::cri::words as w;

/// All that the runtime has of one pod; the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<Contained>,
}

/// A sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) ready: bool,
    /// Its addresses; none in the host's network.
    pub(crate) ips: Vec<String>,
}

/// The state of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Created,
    Running,
    Exited,
    Unknown,
}

/// A container. Times are Unix milliseconds, 0 when it was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contained {
    pub(crate) id: String,
    pub(crate) sandbox: String,
    pub(crate) name: String,
    pub(crate) state: State,
    /// How often its name was started before.
    pub(crate) restarts: u32,
    /// Of the specification that it was made from.
    pub(crate) hash: Option<u32>,
    pub(crate) started: i64,
    pub(crate) finished: i64,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) image: String,
    pub(crate) image_ref: String,
    /// Seconds that it was given to end when it was made.
    pub(crate) grace: Option<i64>,
}

impl Seen {
    /// Returns the newest container of a name.
    pub(crate) fn latest(&self, name: &str) -> Option<&Contained> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// Returns the newest container of a name in one sandbox.
    pub(crate) fn latest_in(&self, sandbox: &str, name: &str) -> Option<&Contained> {
        let wanted = |container: &&Contained| container.name == name;
        self.containers.iter().filter(|container| container.sandbox == sandbox).find(wanted)
    }

    /// Returns the newest container of a name that has ended, but for the newest of all when that
    /// is `but`.
    pub(crate) fn ended_before(&self, name: &str, but: &str) -> Option<&Contained> {
        self.containers.iter().find(|container| {
            container.name == name && container.id != but && container.state == State::Exited
        })
    }

    /// Returns the sandbox that the pod's containers belong into: the newest, if it can be used.
    pub(crate) fn usable(&self, host_network: bool) -> Option<&Sandbox> {
        let newest = self.sandboxes.first()?;
        (newest.ready && (host_network || !newest.ips.is_empty())).then_some(newest)
    }
}

impl Contained {
    /// Tells whether it may have processes.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.state, State::Running | State::Unknown)
    }
}

/// Returns Unix milliseconds of Unix nanoseconds.
const fn millis(nanos: i64) -> i64 {
    nanos / 1_000_000
}

impl From<w::PodSandboxStatus> for Sandbox {
    fn from(status: w::PodSandboxStatus) -> Self {
        let ready = status.state() == w::PodSandboxState::Ready;
        let network = status.network.unwrap_or_default();
        let more = network.additional_ips.into_iter().map(|more| more.ip);
        let ips = std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect();
        let attempt = status.metadata.map_or(0, |metadata| metadata.attempt);
        Self { id: status.id, attempt, ready, ips }
    }
}

impl Contained {
    /// Reads what the runtime tells of one container of a sandbox.
    pub(crate) fn new(sandbox: String, status: w::ContainerStatus) -> Self {
        let state = match status.state() {
            w::ContainerState::Created => State::Created,
            w::ContainerState::Running => State::Running,
            w::ContainerState::Exited => State::Exited,
            w::ContainerState::Unknown => State::Unknown,
        };
        let metadata = status.metadata.unwrap_or_default();
        let annotation = |key: &str| status.annotations.get(key);
        let restarts = annotation(names::RESTARTS).and_then(|text| text.parse().ok());
        let hash = annotation(names::HASH).and_then(|text| u32::from_str_radix(text, 16).ok());
        let grace = annotation(names::GRACE).and_then(|text| text.parse().ok());
        Self {
            sandbox,
            name: metadata.name,
            state,
            restarts: restarts.unwrap_or(metadata.attempt),
            hash,
            started: millis(status.started_at),
            finished: millis(status.finished_at),
            exit_code: status.exit_code,
            image: status.image.map_or_else(String::new, |image| image.image),
            image_ref: status.image_ref,
            reason: status.reason,
            message: status.message,
            grace,
            id: status.id,
        }
    }
}
