//! The order of modules, without IO: who is started when, who is asked to end when, and what the
//! operator may ask for.
//!
//! A module is spawned when all that it dials are ready or have failed, or after [`TURN_LIMIT`]. It
//! is asked to end when those that dial it, and are to end as well, have ended. Both follow from the
//! dial order, which has no circle, so the fleet always moves on.

use ipc_proto::{Module, ModuleSet};
use serde::{Deserialize, Serialize};

use crate::child::{Child, Effect, Event, Millis, Phase, Policy};

/// How long a module waits for those that it dials. Its own redialling copes with the rest.
pub const TURN_LIMIT: Millis = 1000;

/// What happens to the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Something happened to a module.
    Module(Module, Event),
    /// These are to run; one that runs stays as it is.
    Start(ModuleSet),
    /// These are to end and to stay down.
    Stop(ModuleSet),
    /// These are to end and to start again.
    Restart(ModuleSet),
    /// All are to end for good.
    Shutdown,
    /// Time went by.
    Tick,
}

/// All modules of the node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fleet {
    children: [Child; Module::COUNT],
    enabled: ModuleSet,
    /// To be stopped, and not yet told so, because one that dials them still lives.
    to_stop: ModuleSet,
    /// To be restarted, and not yet told so, for the same cause.
    to_restart: ModuleSet,
    stopping: bool,
}

/// What is to be done, and for which module.
pub type Effects = Vec<(Module, Effect)>;

impl Fleet {
    /// Makes a fleet in which no module runs.
    #[must_use]
    pub fn new(policy: Policy, enabled: ModuleSet, now: Millis) -> Self {
        Self {
            children: Module::ALL.map(|_| Child::new(policy, now)),
            enabled,
            to_stop: ModuleSet::EMPTY,
            to_restart: ModuleSet::EMPTY,
            stopping: false,
        }
    }

    /// Takes a new configuration, in which `moved` are the modules that were enabled, disabled or
    /// given another user. They and their peers start anew, because each knows the others from its
    /// own start; all others live on. Returns those that start anew.
    pub fn configure(
        &mut self,
        now: Millis,
        policy: Policy,
        enabled: ModuleSet,
        moved: ModuleSet,
        effects: &mut Effects,
    ) -> ModuleSet {
        for child in &mut self.children {
            child.set_policy(policy);
        }
        let before = std::mem::replace(&mut self.enabled, enabled);
        let gone = before.iter().filter(|module| !enabled.contains(*module)).collect();
        let new = enabled.iter().filter(|module| !before.contains(*module)).collect();
        let anew = moved
            .iter()
            .flat_map(|module| module.peers().chain([module]))
            .filter(|module| before.contains(*module) && self.child(*module).wanted())
            .collect();
        let anew = self.startable(anew);
        if !self.stopping {
            self.on(now, Input::Stop(gone), effects);
            self.on(now, Input::Restart(anew), effects);
            self.on(now, Input::Start(new), effects);
        }
        anew
    }

    /// Returns one module.
    #[must_use]
    pub const fn child(&self, module: Module) -> &Child {
        &self.children[module.index()]
    }

    /// Returns the modules that run on this node.
    #[must_use]
    pub const fn enabled(&self) -> ModuleSet {
        self.enabled
    }

    /// Tells whether the agent is on its way out.
    #[must_use]
    pub const fn stopping(&self) -> bool {
        self.stopping
    }

    /// Tells whether the agent is on its way out and every process has ended.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.stopping && self.children.iter().all(|child| child.phase() == Phase::Down)
    }

    /// Tells whether no module is on its way to its first readiness: each serves, has failed, or is
    /// not to run.
    #[must_use]
    pub fn settled(&self) -> bool {
        !Module::ALL.into_iter().any(|module| self.is_coming(module))
    }

    /// Returns when the next [`Input::Tick`] is due. In the past it means at once.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        self.children
            .iter()
            .filter_map(|child| match child.phase() {
                Phase::Waiting => Some(child.since().saturating_add(TURN_LIMIT)),
                Phase::Down
                | Phase::Pausing { .. }
                | Phase::Spawning
                | Phase::Starting { .. }
                | Phase::Running { .. }
                | Phase::Ending { .. } => child.deadline(),
            })
            .min()
    }

    /// Takes an input in and puts what is to be done into `effects`.
    pub fn on(&mut self, now: Millis, input: Input, effects: &mut Effects) {
        match input {
            Input::Module(module, event) => self.tell(now, module, event, effects),
            Input::Start(modules) => self.start(now, modules, effects),
            Input::Stop(modules) => {
                for module in modules.iter() {
                    self.to_stop = self.to_stop.with(module);
                    self.to_restart = self.to_restart.without(module);
                }
            }
            Input::Restart(modules) => {
                for module in self.startable(modules).iter() {
                    self.to_restart = self.to_restart.with(module);
                    self.to_stop = self.to_stop.without(module);
                }
            }
            Input::Shutdown => {
                self.stopping = true;
                self.to_stop = Module::ALL.into_iter().collect();
                self.to_restart = ModuleSet::EMPTY;
            }
            Input::Tick => {
                for module in Module::ALL {
                    self.tell(now, module, Event::Tick, effects);
                }
            }
        }
        self.end_those_due(now, effects);
        self.spawn_those_due(now, effects);
    }

    fn start(&mut self, now: Millis, modules: ModuleSet, effects: &mut Effects) {
        for module in self.startable(modules).iter() {
            self.to_stop = self.to_stop.without(module);
            self.tell(now, module, Event::Start, effects);
        }
    }

    /// A disabled module has no peers that would talk to it; a stopping agent starts nothing.
    fn startable(&self, modules: ModuleSet) -> ModuleSet {
        let may = |module: &Module| self.enabled.contains(*module) && !self.stopping;
        modules.iter().filter(may).collect()
    }

    /// In reverse dial order, ends those that nobody who is to end as well still dials.
    fn end_those_due(&mut self, now: Millis, effects: &mut Effects) {
        for module in Module::ALL.into_iter().rev() {
            let event = match (self.to_stop.contains(module), self.to_restart.contains(module)) {
                (true, _) => Event::Stop,
                (false, true) => Event::Restart,
                (false, false) => continue,
            };
            let lives = self.child(module).pid().is_some();
            if lives && module.dialled_by().any(|dialler| self.is_going(dialler)) {
                continue;
            }
            self.to_stop = self.to_stop.without(module);
            self.to_restart = self.to_restart.without(module);
            self.tell(now, module, event, effects);
        }
    }

    /// In dial order, spawns those whose turn has come.
    fn spawn_those_due(&mut self, now: Millis, effects: &mut Effects) {
        for module in Module::ALL {
            let child = self.child(module);
            let waited = now.saturating_sub(child.since()) >= TURN_LIMIT;
            if child.phase() == Phase::Waiting
                && (waited || !module.dials().iter().any(|dialled| self.is_coming(*dialled)))
            {
                self.tell(now, module, Event::Turn, effects);
            }
        }
    }

    /// Tells whether a module is about to become ready.
    fn is_coming(&self, module: Module) -> bool {
        let child = self.child(module);
        match child.phase() {
            Phase::Waiting | Phase::Spawning | Phase::Starting { .. } => true,
            Phase::Ending { .. } => child.wanted(),
            Phase::Running { .. } => self.to_restart.contains(module),
            Phase::Down | Phase::Pausing { .. } => false,
        }
    }

    /// Tells whether a module lives and is about to end.
    fn is_going(&self, module: Module) -> bool {
        match self.child(module).phase() {
            Phase::Ending { .. } => true,
            Phase::Spawning | Phase::Starting { .. } | Phase::Running { .. } => {
                self.to_stop.contains(module) || self.to_restart.contains(module)
            }
            Phase::Down | Phase::Waiting | Phase::Pausing { .. } => false,
        }
    }

    fn tell(&mut self, now: Millis, module: Module, event: Event, effects: &mut Effects) {
        let mut own = Vec::new();
        self.children[module.index()].on(now, event, &mut own);
        effects.extend(own.into_iter().map(|effect| (module, effect)));
    }
}

#[cfg(test)]
mod tests;
