//! What was reported of a pod before (core/v1 PodStatus), as far as it is acted on.

use serde::Deserialize;

/// What was reported of the pod before, by whichever agent ran here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LastStatus {
    pub(crate) phase: String,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) start_time: Option<String>,
    pub(crate) conditions: Vec<LastCondition>,
    #[serde(rename = "hostIPs")]
    pub(crate) host_ips: Vec<Ip>,
    #[serde(rename = "podIPs")]
    pub(crate) pod_ips: Vec<Ip>,
    pub(crate) container_statuses: Vec<LastContainer>,
    pub(crate) init_container_statuses: Vec<LastContainer>,
    pub(crate) ephemeral_container_statuses: Vec<LastContainer>,
}

impl LastStatus {
    /// Tells whether the pod was reported to have ended.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Returns what was reported of a container by its id.
    pub(crate) fn container(&self, id: &str) -> Option<&LastContainer> {
        let mut all = self.container_statuses.iter().chain(&self.init_container_statuses);
        all.find(|it| it.container_id.as_ref().is_some_and(|known| known.ends_with(id)))
    }

    /// Returns what was reported of a container that ran once.
    pub(crate) fn ran(&self, name: &str) -> Option<&LastContainer> {
        let all = self.container_statuses.iter().chain(&self.init_container_statuses);
        let mut all = all.chain(&self.ephemeral_container_statuses);
        all.find(|it| it.name == name && it.container_id.is_some())
    }

    /// Reads a patch that was told; an unreadable one says nothing.
    pub(crate) fn told(patch: &str) -> Self {
        #[derive(Deserialize)]
        struct Patch {
            status: LastStatus,
        }
        serde_json::from_str(patch).map(|Patch { status }| status).unwrap_or_default()
    }

    /// Tells whether a patch that was told says the same of what others act on: the phase,
    /// whether the pod is ready, and its addresses. A mirror shows no phase of its own and agrees with all.
    pub(crate) fn agrees_with(&self, patch: &str) -> bool {
        let told = Self::told(patch);
        let same = told.phase == self.phase && told.is_ready() == self.is_ready();
        // An address that was neither told nor taken back is to be taken back.
        let known = |ips: &[Ip], told: &[Ip]| ips.iter().all(|ip| told.contains(ip));
        let known = known(&self.host_ips, &told.host_ips) && known(&self.pod_ips, &told.pod_ips);
        same && known || self.phase.is_empty()
    }

    fn is_ready(&self) -> bool {
        self.conditions.iter().any(|it| it.r#type == "Ready" && it.status == "True")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LastContainer {
    pub(crate) name: String,
    #[serde(rename = "containerID")]
    pub(crate) container_id: Option<String>,
    pub(crate) ready: bool,
    pub(crate) started: Option<bool>,
    pub(crate) restart_count: u32,
    pub(crate) state: LastState,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct LastState {
    /// How it ended, as it was reported.
    pub(crate) terminated: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LastCondition {
    pub(crate) r#type: String,
    pub(crate) status: String,
    pub(crate) last_transition_time: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Ip {
    pub(crate) ip: String,
}
