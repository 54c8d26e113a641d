//! The state of everything, put together when somebody asks. Nothing here waits for a module.

use ipc_proto::control::{AgentState, ModuleStatus, Status};
use ipc_proto::lifeline::{Standing, ToModule};
use ipc_proto::{Module, ModuleState};

use super::Reactor;
use crate::child::{Cause, Phase};
use crate::clock;

/// State and restarts of each module, by [`Module::index`].
pub(crate) type Outline = [(ModuleState, u32); Module::COUNT];

impl Reactor {
    /// Returns the state of everything.
    pub(super) fn status(&mut self) -> Status {
        self.wall.adjust();
        let uptime = clock::now().saturating_sub(self.estate.started);
        Status {
            node: self.config.node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: self.state(),
            uptime_seconds: std::time::Duration::from_millis(uptime).as_secs_f64(),
            pid: std::process::id(),
            reloads: self.estate.reloads,
            not_in_force: self.not_in_force.clone(),
            faults: self.config.faults,
            modules: Module::ALL.map(|module| self.module_status(module)).into(),
        }
    }

    /// Returns the state of everything in one line, for the service manager.
    pub(super) fn summary(&self) -> String {
        let enabled = self.estate.fleet.enabled();
        let those = |state| enabled.iter().filter(move |m| self.module_state(*m) == state);
        let running = those(ModuleState::Running).count();
        let mut summary = match self.state() {
            AgentState::Running => format!("{running} modules run"),
            AgentState::Stopping => format!("stopping, {running} modules still run"),
            AgentState::Degraded => {
                format!("{running} of {} modules run", enabled.iter().count())
            }
        };
        let held: Vec<&str> = those(ModuleState::Held).map(Module::name).collect();
        if !held.is_empty() {
            summary.push_str("; held: ");
            summary.push_str(&held.join(", "));
        }
        summary
    }

    /// Tells the service manager and edged how all modules are, if that is news: most turns bring
    /// beats alone. An edged that takes nothing now is told at the next turn.
    pub(super) fn tell_changes(&mut self) {
        let outline = Module::ALL
            .map(|module| (self.module_state(module), self.estate.fleet.child(module).restarts()));
        if self.told == Some(outline) {
            return;
        }
        self.notify.status(self.summary());
        let heard = self.module_state(Module::Edged) != ModuleState::Running || {
            let all = self.estate.fleet.enabled().iter().map(|module| self.standing(module));
            let record = ToModule::Fleet(all.collect());
            matches!(self.send(Module::Edged, &record), Some(Ok(())))
        };
        self.told = heard.then_some(outline);
    }

    fn standing(&self, module: Module) -> Standing {
        let last = self.last_exits[module.index()].as_ref();
        let restarts = self.estate.fleet.child(module).restarts();
        Standing {
            module,
            state: self.module_state(module),
            restarts,
            // What is known of an end before this agent started is no news.
            last_end: last
                .filter(|_| restarts > 0 || self.module_state(module) != ModuleState::Running)
                .map(|last| (last.reason.as_str().into(), last.at)),
        }
    }

    fn state(&self) -> AgentState {
        let well = |module| {
            matches!(self.module_state(module), ModuleState::Running | ModuleState::Stopped)
        };
        if self.estate.fleet.stopping() {
            AgentState::Stopping
        } else if self.estate.fleet.enabled().iter().all(well) {
            AgentState::Running
        } else {
            AgentState::Degraded
        }
    }

    fn module_state(&self, module: Module) -> ModuleState {
        let child = self.estate.fleet.child(module);
        if !self.estate.fleet.enabled().contains(module) {
            return ModuleState::Disabled;
        }
        match child.phase() {
            Phase::Running { .. } => ModuleState::Running,
            _ if !child.wanted() => ModuleState::Stopped,
            Phase::Pausing { .. } if child.held() => ModuleState::Held,
            Phase::Pausing { .. }
            | Phase::Ending { cause: Cause::Hang | Cause::LifelineLost, .. } => {
                ModuleState::Backoff
            }
            Phase::Down
            | Phase::Waiting
            | Phase::Spawning
            | Phase::Starting { .. }
            | Phase::Ending { cause: Cause::Requested, .. } => ModuleState::Starting,
        }
    }

    fn module_status(&self, module: Module) -> ModuleStatus {
        let child = self.estate.fleet.child(module);
        let process = self.process(module);
        let report = process.and_then(|process| process.report.as_deref());
        let next_start = match child.phase() {
            Phase::Pausing { until } => Some(self.wall.of(until)),
            Phase::Down
            | Phase::Waiting
            | Phase::Spawning
            | Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Ending { .. } => None,
        };
        let cgroup = self.groups.as_ref().map(|groups| groups.path(module));
        ModuleStatus {
            name: module,
            state: self.module_state(module),
            pid: child.pid(),
            since: self.wall.of(child.since()),
            restarts: child.restarts(),
            last_exit: self.last_exits[module.index()].clone(),
            next_start,
            load: process.map(|process| process.load).unwrap_or_default(),
            // A report that is no JSON is the module's fault, and no reason to hide its state.
            report: report.and_then(|json| serde_json::from_slice(json).ok()),
            confinement: process.and_then(|process| process.confinement.clone()),
            cgroup: cgroup.map(|path| path.to_string_lossy().into_owned()),
            memory_max: self.config.of(module).memory_max,
            last_beat: match child.phase() {
                Phase::Running { beat, .. } => Some(self.wall.of(beat)),
                Phase::Down
                | Phase::Waiting
                | Phase::Pausing { .. }
                | Phase::Spawning
                | Phase::Starting { .. }
                | Phase::Ending { .. } => None,
            },
            traffic: process.map(|process| process.traffic).unwrap_or_default(),
            exits: self.estate.exits[module.index()],
        }
    }
}
