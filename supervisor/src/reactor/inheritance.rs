//! Both sides of a reload: what the old image leaves, and how the new one goes on with it.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use ipc_proto::control::Response;
use ipc_proto::{Module, ModuleSet};

use super::{Estate, Reactor, Tap};
use crate::child::Millis;
use crate::config::Config;
use crate::control::{Control, Id};
use crate::fleet::Input;
use crate::folder::Folder;
use crate::lifeline::Lifeline;
use crate::metrics::Metrics;
use crate::process::Process;
use crate::reload::{self, Inheritance, State, Survivor, Trial};
use crate::sockets::Sockets;
use crate::{clock, converter, say};

/// The pause before the end of a trial is tried again that could not be, in milliseconds.
const RETRY: Millis = 30_000;

impl Reactor {
    /// Reads the configuration anew with the installed program and executes it in this process.
    /// `asked` is the connection that waits for it. Returns only when it failed; nothing has changed
    /// then.
    pub(super) fn reload(&mut self, asked: Option<Id>) -> Result<Infallible, String> {
        self.become_program(&self.program.clone(), asked, None, false)
    }

    /// As [`Reactor::reload`], with another program, which the installed one follows after so many
    /// seconds.
    pub(super) fn try_program(
        &mut self,
        program: &Path,
        seconds: u64,
        asked: Id,
    ) -> Result<Infallible, String> {
        if self.estate.trial.is_some() {
            return Err("cannot try a program: another is on trial".to_owned());
        }
        if !program.is_absolute() {
            let shown = program.display();
            return Err(format!("cannot try '{shown}', expected the absolute path of a program"));
        }
        say::info(format_args!("asked to try {} for {seconds} s", program.display()));
        let until = clock::now().saturating_add(seconds.saturating_mul(1000));
        let trial = Trial { installed: self.program.clone(), until };
        self.become_program(program, Some(asked), Some(trial), false)
    }

    /// Runs the installed program again when the time of the one on trial is over.
    pub(super) fn end_trial(&mut self, now: Millis) {
        if self.estate.trial.as_ref().is_none_or(|trial| now < trial.until) {
            return;
        }
        say::warn(format_args!("the trial is over: {} runs again", self.program.display()));
        let Err(reason) = self.become_program(&self.program.clone(), None, None, true);
        say::error(format_args!("the trial goes on: {reason}"));
        if let Some(trial) = &mut self.estate.trial {
            trial.until = now.saturating_add(RETRY);
        }
    }

    /// Orders every module that runs to start anew.
    pub(crate) fn restart_all(&mut self) {
        let living = Module::ALL.into_iter().filter(|module| self.process(*module).is_some());
        let living: ModuleSet = living.collect();
        self.input(Input::Restart(living));
    }

    fn become_program(
        &mut self,
        program: &Path,
        asked: Option<Id>,
        trial: Option<Trial>,
        back: bool,
    ) -> Result<Infallible, String> {
        self.refuse_when_stopping("reload")?;
        self.notify.reloading();
        let converted = converter::run(program, &self.options, converter::Purpose::Reload)
            .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        let Some(config) = converted.config else {
            return Err(format!("the configuration has errors: {}", converted.errors.join("; ")));
        };
        for warning in &converted.warnings {
            say::warn(format_args!("{warning}"));
        }
        let config = String::from_utf8(config).map_err(|error| error.to_string())?;
        self.estate.metrics.close();
        let state = State { trial, back, ..self.state_for_next(config, asked) };
        let error = reload::hand_over(program, &self.options, &state, &self.descriptors(asked));
        Err(format!("cannot execute {}: {error}", program.display()))
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
                traffic: process.traffic,
                report: process.report.clone(),
            })
        });
        State {
            started: self.estate.started,
            reloads: self.estate.reloads.saturating_add(1),
            not_in_force: self.not_in_force.clone(),
            before: self.config.clone(),
            config,
            fleet: self.estate.fleet.clone(),
            processes: survivors.collect(),
            tap: self.estate.tap.as_ref().map(|tap| tap.filter.clone()),
            asked: asked.is_some(),
            metrics: self.estate.metrics.open(),
            exits: self.estate.exits,
            trial: None,
            back: false,
        }
    }

    /// Returns the descriptors to leave, in the order in which [`adopt`] takes them.
    fn descriptors(&self, asked: Option<Id>) -> Vec<BorrowedFd<'_>> {
        let mut all = vec![self.estate.lock.as_fd(), self.estate.sockets.control.as_fd()];
        all.extend(self.estate.sockets.modules.iter().map(AsFd::as_fd));
        let living = self.estate.processes.iter().flatten();
        all.extend(living.filter_map(|process| Some(process.lifeline.as_ref()?.as_fd())));
        if let Some(tap) = &self.estate.tap {
            all.extend(self.estate.control.stream(tap.watcher));
            all.push(tap.records.as_fd());
        }
        all.extend(asked.and_then(|id| self.estate.control.stream(id)));
        all.extend(self.estate.metrics.doors());
        all
    }

    /// Collects what is not in force, here and in the living modules, and says what was not `said`
    /// before.
    pub(crate) fn take_stock(&mut self, here: Vec<String>, said: &[String]) {
        let mut sentences = here;
        for module in Module::ALL {
            let confinement = self.process(module).and_then(|one| one.confinement.as_ref());
            let missing = confinement.into_iter().flat_map(|one| &one.not_in_force);
            sentences.extend(missing.map(|sentence| format!("{module}: {sentence}")));
        }
        for sentence in sentences {
            self.note(sentence, said);
        }
    }

    /// Goes on with the new configuration: modules live on, but for those whose place among the
    /// others has changed.
    pub(crate) fn resume(&mut self, before: &Config, asked: Option<Id>) {
        // Who died while nobody listened: the exporter of the image before.
        self.reap_strangers();
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
        let restarted =
            self.estate.fleet.configure(clock::now(), policy, enabled, moved, &mut effects);
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
            self.estate.control.answer(clock::now(), id, &Response::Done, false);
        }
    }
}

/// Takes over what an earlier image of this process left; the last value is the connection that asked
/// for the reload and waits for its answer.
///
/// # Errors
/// When something is missing. Nothing can be saved then: see [`reload::take_over`].
pub(crate) fn adopt(
    runtime_dir: &Path,
    (state, mut descriptors): Inheritance,
) -> io::Result<(State, Estate, Option<Id>)> {
    let mut next = || descriptors.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
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
        process.traffic = survivor.traffic;
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
    let metrics = Metrics::adopt(state.metrics, next)?;
    let estate = Estate {
        folder: Folder::adopt(runtime_dir.to_owned()),
        lock,
        sockets: Sockets { control: control_socket, modules },
        fleet: state.fleet.clone(),
        processes,
        control,
        tap,
        metrics,
        exits: state.exits,
        started: state.started,
        reloads: state.reloads,
        trial: state.trial.clone(),
    };
    Ok((state, estate, asked))
}
