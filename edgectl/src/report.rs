//! The state of the agent as programs read it: the JSON of `edgectl status -o json`.
//!
//! Scripts rely on it. A field never goes and never changes its meaning; new ones are added at the
//! end of their object. The table for people is made from the same values.

use std::collections::BTreeMap;

use ipc_proto::control::{AgentState, LastExit, ModuleStatus, Status};
use ipc_proto::{Module, ModuleState};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::proc::Usage;

/// The whole.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) node: String,
    pub(crate) version: String,
    pub(crate) state: AgentState,
    pub(crate) uptime_seconds: f64,
    /// Of the supervisor and all modules; nothing when one of them could not be read.
    pub(crate) pss_bytes: Option<u64>,
    pub(crate) cloud: Cloud,
    pub(crate) modules: Vec<ModuleReport>,
    /// What the host does not allow, one sentence each.
    pub(crate) not_in_force: Vec<String>,
    pub(crate) supervisor: SupervisorReport,
    /// Whether faults may be injected.
    pub(crate) faults: bool,
}

/// The cloud link, as edgehub reports it under these very names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Cloud {
    pub(crate) state: LinkState,
    pub(crate) endpoint: Option<String>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) connects: u64,
    pub(crate) last_heartbeat: Option<Timestamp>,
    pub(crate) certificate_expires: Option<Timestamp>,
    /// What stands in the way, and the way out.
    pub(crate) reason: Option<String>,
}

/// The cloud link in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LinkState {
    /// The cloud hears this node.
    Connected,
    /// On the way.
    Connecting,
    /// Not even tried: edgehub does not run, or waits.
    #[default]
    Disconnected,
}

/// One module.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModuleReport {
    pub(crate) name: Module,
    pub(crate) state: ModuleState,
    pub(crate) pid: Option<u32>,
    pub(crate) since: Timestamp,
    pub(crate) restarts: u32,
    pub(crate) last_exit: Option<ExitReport>,
    pub(crate) pss_bytes: Option<u64>,
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) queue: Queue,
    pub(crate) next_start: Option<Timestamp>,
    pub(crate) memory_max: Option<u64>,
    pub(crate) cgroup: Option<String>,
    pub(crate) report: Option<Value>,
}

/// How a module ended.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExitReport {
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
    pub(crate) pid: u32,
    pub(crate) last_lines: Vec<String>,
}

/// What a module holds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Queue {
    pub(crate) waiting: u32,
    pub(crate) unsettled: u32,
}

/// The supervisor itself.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SupervisorReport {
    pub(crate) pid: u32,
    pub(crate) pss_bytes: Option<u64>,
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) reloads: u32,
}

/// Returns the processes of the agent.
pub(crate) fn pids(status: &Status) -> impl Iterator<Item = u32> {
    status.modules.iter().filter_map(|module| module.pid).chain([status.pid])
}

impl Report {
    /// Joins what the supervisor says with what its processes use.
    pub(crate) fn new(status: Status, usage: &BTreeMap<u32, Usage>) -> Self {
        let used = |pid: Option<u32>| {
            pid.map_or(Usage::GONE, |pid| usage.get(&pid).copied().unwrap_or_default())
        };
        let own = used(Some(status.pid));
        let cloud = Cloud::of(&status.modules);
        let modules: Vec<_> = status
            .modules
            .into_iter()
            .map(|module| {
                let used = used(module.pid);
                ModuleReport::new(module, used)
            })
            .collect();
        Self {
            node: status.node,
            version: status.version,
            state: status.state,
            uptime_seconds: status.uptime_seconds,
            pss_bytes: modules.iter().map(|module| module.pss_bytes).chain([own.pss]).sum(),
            cloud,
            modules,
            not_in_force: status.not_in_force,
            supervisor: SupervisorReport {
                pid: status.pid,
                pss_bytes: own.pss,
                cpu_seconds: own.cpu,
                reloads: status.reloads,
            },
            faults: status.faults,
        }
    }
}

impl Cloud {
    /// Takes edgehub's latest report. What a process said that is gone counts as history only.
    pub(crate) fn of(modules: &[ModuleStatus]) -> Self {
        let Some(edgehub) = modules.iter().find(|module| module.name == Module::Edgehub) else {
            return Self::default();
        };
        let told = match &edgehub.report {
            Some(report) => Self::deserialize(report).unwrap_or_else(|error| Self {
                reason: Some(format!("edgehub's report is not understood: {error}")),
                ..Self::default()
            }),
            None => Self::default(),
        };
        if edgehub.state == ModuleState::Running {
            return told;
        }
        let since = Some(Timestamp(edgehub.since));
        Self { state: LinkState::Disconnected, since, reason: None, ..told }
    }
}

impl ModuleReport {
    fn new(module: ModuleStatus, used: Usage) -> Self {
        Self {
            name: module.name,
            state: module.state,
            pid: module.pid,
            since: Timestamp(module.since),
            restarts: module.restarts,
            last_exit: module.last_exit.map(ExitReport::from),
            pss_bytes: used.pss,
            cpu_seconds: used.cpu,
            queue: Queue { waiting: module.load.waiting, unsettled: module.load.unsettled },
            next_start: module.next_start.map(Timestamp),
            memory_max: module.memory_max,
            cgroup: module.cgroup,
            report: module.report,
        }
    }
}

impl From<LastExit> for ExitReport {
    fn from(exit: LastExit) -> Self {
        let LastExit { reason, at, pid, last_lines } = exit;
        Self { reason, at: Timestamp(at), pid, last_lines }
    }
}

#[cfg(test)]
pub(crate) mod tests;
