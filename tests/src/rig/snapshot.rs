//! Which process each module had at one moment, to show later who was left alone.

use anyhow::{Result, ensure};
use ipc_proto::control::Status;
use ipc_proto::{Module, ModuleSet};

use super::{Rig, process};

/// The processes of all modules at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    module: Module,
    pid: Option<u32>,
    /// Tells processes apart that were given the same number.
    start_time: Option<u64>,
    restarts: u32,
}

impl Snapshot {
    pub(super) fn of(status: &Status) -> Self {
        let entry = |module: &ipc_proto::control::ModuleStatus| Entry {
            module: module.name,
            pid: module.pid,
            start_time: module.pid.and_then(process::start_time),
            restarts: module.restarts,
        };
        Self(status.modules.iter().map(entry).collect())
    }

    /// Returns the process that a module had.
    #[must_use]
    pub fn pid_of(&self, module: Module) -> Option<u32> {
        self.0.iter().find(|entry| entry.module == module)?.pid
    }

    /// Checks that every module but those in `touched` still has the process that it had.
    ///
    /// # Errors
    /// With the first module that has not.
    pub fn still_holds_but_for(&self, rig: &Rig, touched: &[Module]) -> Result<()> {
        let touched: ModuleSet = touched.iter().copied().collect();
        let now = rig.snapshot()?;
        for (then, now) in self.0.iter().zip(&now.0) {
            ensure!(
                touched.contains(then.module) || then == now,
                "{} was touched: {then:?} became {now:?}\n{}",
                then.module,
                rig.log()
            );
        }
        Ok(())
    }
}
