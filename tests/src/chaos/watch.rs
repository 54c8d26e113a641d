//! Looking at the status all the while: who is down and for how long, and that nobody is who was
//! not struck.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;
use ipc_proto::control::ModuleStatus;
use ipc_proto::{Module, ModuleState};

use super::schedule::Blow;
use super::summary::{Deaths, Recoveries, Summary};
use super::{IN_TIME, Options};
use crate::rig::Rig;
use crate::traffic::Tally;

/// Digits of a duration that are kept.
const DIGITS: u8 = 3;

/// What is known of the modules.
#[derive(Debug)]
pub(super) struct Watch {
    /// The process that each module had when it was last seen running.
    known: BTreeMap<Module, u32>,
    /// Who was struck and is not back.
    down: BTreeMap<Module, Down>,
    deaths: Deaths,
    blows: u64,
    passed_over: u64,
    recoveries: Recoveries,
    breaches: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Down {
    since: Instant,
    blow: Blow,
}

impl Blow {
    /// Returns how the status is to tell of a death by this.
    const fn reason(self) -> &'static str {
        match self {
            Self::Kill(_) => "signal 9",
            Self::Segv(_) => "signal 11",
            Self::Panic(_) => "signal 6",
            Self::Stop(_) | Self::Hang(_) => "hang",
            Self::CloseLifeline(_) => "lifeline closed",
            Self::Reload | Self::Cut(_) | Self::Garbage(_) | Self::GarbageToSupervisor => "",
        }
    }

    /// Returns the kind of death, of which each takes its own time to be noticed.
    const fn kind(self) -> &'static str {
        match self {
            Self::Stop(_) | Self::Hang(_) => "hang",
            Self::CloseLifeline(_) => "closed lifeline",
            Self::Kill(_)
            | Self::Segv(_)
            | Self::Panic(_)
            | Self::Reload
            | Self::Cut(_)
            | Self::Garbage(_)
            | Self::GarbageToSupervisor => "crash",
        }
    }
}

impl Watch {
    /// Begins with all modules up.
    pub(super) fn start(rig: &Rig) -> Result<Self> {
        let modules = rig.wait_until_whole()?.modules;
        let known = modules.iter().filter_map(|module| Some((module.name, module.pid?))).collect();
        Ok(Self {
            known,
            down: BTreeMap::new(),
            deaths: Deaths::new(),
            blows: 0,
            passed_over: 0,
            recoveries: Recoveries::new(),
            breaches: Vec::new(),
        })
    }

    /// Notes a blow that is about to fall.
    pub(super) fn struck(&mut self, blow: Blow) {
        self.blows += 1;
        if let Some(victim) = blow.victim() {
            self.down.insert(victim, Down { since: Instant::now(), blow });
            *self.deaths.entry(victim).or_default() += 1;
        }
    }

    /// Notes a blow whose victim is down already.
    pub(super) const fn passed_over(&mut self) {
        self.passed_over += 1;
    }

    pub(super) fn is_down(&self, module: Module) -> bool {
        self.down.contains_key(&module)
    }

    pub(super) fn is_anyone_down(&self) -> bool {
        !self.down.is_empty()
    }

    /// Notes a promise that did not hold.
    pub(super) fn hold(&mut self, promise: Result<()>) {
        if let Err(breach) = promise {
            self.breaches.push(format!("{breach:#}"));
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        !self.breaches.is_empty()
    }

    /// Looks at the status once.
    pub(super) fn look(&mut self, rig: &Rig) {
        match rig.status() {
            Ok(status) => status.modules.iter().for_each(|module| {
                let promise = self.see(module);
                self.hold(promise);
            }),
            Err(error) => self.hold(Err(error)),
        }
    }

    fn see(&mut self, module: &ModuleStatus) -> Result<()> {
        let name = module.name;
        let Some(&known) = self.known.get(&name) else { return Ok(()) };
        let running = module.state == ModuleState::Running;
        let Some(&Down { since, blow }) = self.down.get(&name) else {
            return if running && module.pid == Some(known) {
                Ok(())
            } else {
                Err(anyhow!("{name} was not struck: {module:?}"))
            };
        };
        let took = since.elapsed();
        let Some(pid) = module.pid.filter(|&pid| running && pid != known) else {
            return if took < IN_TIME {
                Ok(())
            } else {
                Err(anyhow!("{name} is not back {took:?} after {blow:?}: {module:?}"))
            };
        };
        self.down.remove(&name);
        self.known.insert(name, pid);
        let fresh = Histogram::new(DIGITS)?;
        self.recoveries.entry(blow.kind()).or_insert(fresh).record(micros(took))?;
        let exit = module.last_exit.as_ref();
        match exit.filter(|exit| exit.pid == known && exit.reason == blow.reason()) {
            Some(_) => Ok(()),
            None => Err(anyhow!("{name} died of {blow:?}, the status says {exit:?}")),
        }
    }

    /// Sums up.
    pub(super) fn summary(self, options: Options, tally: Tally) -> Summary {
        let Self { deaths, blows, passed_over, recoveries, breaches, .. } = self;
        Summary { options, deaths, blows, passed_over, recoveries, tally, breaches }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
