//! Both sides of a reload: what the old image leaves, and how the new one goes on with it.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipc_proto::control::Response;
use ipc_proto::{Module, ModuleSet};

use super::{Reactor, Tap};
use crate::config::Config;
use crate::control::{Control, Id};
use crate::folder::Folder;
use crate::lifeline::Lifeline;
use crate::process::Process;
use crate::reload::{self, Inheritance, State, Survivor};
use crate::sockets::Sockets;
use crate::{clock, converter, say};

/// What came over, besides the state itself.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) folder: Folder,
    pub(crate) lock: OwnedFd,
    pub(crate) sockets: Sockets,
    pub(crate) processes: [Option<Process>; Module::COUNT],
    pub(crate) control: Control,
    pub(crate) tap: Option<Tap>,
    /// Who asked for the reload and waits for an answer.
    pub(crate) asked: Option<Id>,
}

impl Reactor {
    /// Reads the configuration anew with the installed program and executes it in this process.
    /// `asked` is the connection that waits for it. Returns only when it failed; nothing has changed
    /// then.
    pub(super) fn reload(&mut self, asked: Option<Id>) -> Result<Infallible, String> {
        self.refuse_when_stopping("reload")?;
        self.notify.reloading();
        let converted = converter::run(&self.program, &self.options)
            .map_err(|error| format!("cannot run {}: {error}", self.program.display()))?;
        converter::tell(&converted.words);
        let Some(config) = converted.config else {
            return Err(format!("the configuration has errors: {}", converted.words.join("; ")));
        };
        let config = String::from_utf8(config).map_err(|error| error.to_string())?;
        let state = self.state_for_next(config, asked);
        let error = reload::hand_over(&self.program, &self.options, &state, &self.estate(asked));
        Err(format!("cannot execute {}: {error}", self.program.display()))
    }

    fn state_for_next(&self, config: String, asked: Option<Id>) -> State {
        let survivors = Module::ALL.into_iter().filter_map(|module| {
            let process = self.process(module)?;
            Some(Survivor {
                module,
                pid: process.pid,
                lifeline: process.lifeline.is_some(),
                log_from: process.log_from,
                confinement: process.confinement.clone(),
                load: process.load,
                report: process.report.clone(),
            })
        });
        State {
            started: self.started,
            reloads: self.reloads.saturating_add(1),
            before: self.config.clone(),
            config,
            fleet: self.fleet.clone(),
            processes: survivors.collect(),
            tap: self.tap.as_ref().map(|tap| tap.filter.clone()),
            asked: asked.is_some(),
        }
    }

    /// Returns the descriptors to leave, in the order in which [`adopt`] takes them.
    fn estate(&self, asked: Option<Id>) -> Vec<BorrowedFd<'_>> {
        let mut estate = vec![self.lock.as_fd(), self.sockets.control.as_fd()];
        estate.extend(self.sockets.modules.iter().map(AsFd::as_fd));
        let living = self.processes.iter().flatten();
        estate.extend(living.filter_map(|process| Some(process.lifeline.as_ref()?.as_fd())));
        if let Some(tap) = &self.tap {
            estate.extend(self.control.stream(tap.watcher));
            estate.push(tap.records.as_fd());
        }
        estate.extend(asked.and_then(|id| self.control.stream(id)));
        estate
    }

    /// Goes on with the new configuration: modules live on, but for those whose place among the
    /// others has changed.
    pub(crate) fn resume(&mut self, before: &Config, asked: Option<Id>) {
        let changed = |differs: fn(&Config, &Config, Module) -> bool| -> ModuleSet {
            Module::ALL.into_iter().filter(|m| differs(before, &self.config, *m)).collect()
        };
        let moved = changed(|old, new, module| {
            (old.of(module).enabled, old.of(module).user)
                != (new.of(module).enabled, new.of(module).user)
        });
        let touched = changed(|old, new, module| {
            old.of(module) != new.of(module)
                || (&old.node, old.faults, old.beat_interval)
                    != (&new.node, new.faults, new.beat_interval)
        });
        let mut effects = Vec::new();
        let (policy, enabled) = (self.config.policy, self.config.enabled());
        let restarted = self.fleet.configure(clock::now(), policy, enabled, moved, &mut effects);
        self.carry_out(effects);
        for module in restarted.iter() {
            say::info(format_args!("{module} restarts: who its peers are has changed"));
        }
        for module in touched.iter().filter(|m| enabled.contains(*m) && !restarted.contains(*m)) {
            say::info(format_args!(
                "{module} has a new configuration, in force from its next start"
            ));
            if let Some(Err(cause)) =
                self.groups.as_ref().map(|groups| groups.limit(module, self.config.of(module)))
            {
                say::warn(format_args!("{module}: limits are not in force: {cause}"));
            }
        }
        if let Some(id) = asked {
            self.control.answer(clock::now(), id, &Response::Done, false);
        }
    }
}

/// Takes over what an earlier image of this process left.
///
/// # Errors
/// When something is missing. Nothing can be saved then: see [`reload::take_over`].
pub(crate) fn adopt(
    runtime_dir: std::path::PathBuf,
    (state, mut estate): Inheritance,
) -> io::Result<(State, Adopted)> {
    let mut next = || estate.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
    let lock = next()?;
    let control_socket = next()?;
    let mut modules = Vec::with_capacity(Module::COUNT);
    for _ in Module::ALL {
        modules.push(next()?);
    }
    let Ok(modules) = modules.try_into() else { unreachable!("one socket for each module") };
    let mut processes = [const { None }; Module::COUNT];
    for survivor in &state.processes {
        let lifeline = if survivor.lifeline { Some(Lifeline::adopt(next()?)) } else { None };
        let mut process = Process::hold(survivor.pid, lifeline, survivor.log_from)?;
        process.confinement.clone_from(&survivor.confinement);
        process.load = survivor.load;
        process.report.clone_from(&survivor.report);
        processes[survivor.module.index()] = Some(process);
    }
    let mut control = Control::default();
    let now = clock::now();
    let tap = match &state.tap {
        Some(filter) => {
            let watcher = control.adopt(now, next()?, true);
            Some(Tap { watcher, records: next()?, filter: filter.clone() })
        }
        None => None,
    };
    let asked = if state.asked { Some(control.adopt(now, next()?, false)) } else { None };
    let sockets = Sockets { control: control_socket, modules };
    let folder = Folder::adopt(runtime_dir);
    Ok((state, Adopted { folder, lock, sockets, processes, control, tap, asked }))
}
