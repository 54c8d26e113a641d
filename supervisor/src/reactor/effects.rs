//! What the fleet wants done: processes made, asked to end, killed, and their ends written down.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use ipc_proto::control::{Exits, LastExit};
use ipc_proto::lifeline::{Start, ToModule};
use ipc_proto::{Instance, Module};
use rustix::process::Signal;

use super::Reactor;
use crate::child::{Cause, Effect, Event, Phase, Reason};
use crate::fleet::{Effects, Input};
use crate::lifeline::Lost;
use crate::process::Process;
use crate::{clock, evidence, premises, say, sockets};

/// The lives that one process makes are told apart by a number drawn at random.
fn instance() -> std::io::Result<Instance> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(Instance(u64::from_ne_bytes(random)))
}

/// Counts an end.
const fn count(exits: &mut Exits, reason: Reason) {
    let count = match reason {
        Reason::Requested => &mut exits.requested,
        Reason::Signal(_) => &mut exits.signal,
        Reason::Exit(_) => &mut exits.exit,
        Reason::Hang => &mut exits.hang,
        Reason::OutOfMemory => &mut exits.oom,
        Reason::LifelineClosed => &mut exits.lifeline,
    };
    *count = count.saturating_add(1);
}

impl Reactor {
    /// Puts an input into the fleet and does what follows from it, to the end.
    pub(crate) fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.estate.fleet.on(clock::now(), input, &mut effects);
        self.carry_out(effects);
    }

    /// Does what the fleet wants, and what follows from that, to the end.
    pub(super) fn carry_out(&mut self, effects: Effects) {
        let mut effects = VecDeque::from(effects);
        while let Some((module, effect)) = effects.pop_front() {
            for event in self.perform(module, effect) {
                let mut more = Vec::new();
                self.estate.fleet.on(clock::now(), Input::Module(module, event), &mut more);
                effects.extend(more);
            }
        }
    }

    /// Does one thing and returns what came of it.
    fn perform(&mut self, module: Module, effect: Effect) -> Vec<Event> {
        match effect {
            Effect::Spawn => return self.spawn(module),
            Effect::Drain => {
                // A module that cannot be asked is killed when its time is over.
                if let Some(Err(lost)) = self.send(module, &ToModule::Drain) {
                    say::warn(format_args!("{module} cannot be asked to end: {lost}"));
                }
            }
            Effect::Kill(cause) => {
                let why = match cause {
                    Cause::Requested => "did not end when asked to",
                    Cause::Hang => "gives no sign of life",
                    Cause::LifelineLost => "lives on without its lifeline",
                };
                if let Some(process) = self.process(module) {
                    say::warn(format_args!("{module} (process {}) {why}: killed", process.pid));
                    process.signal(Signal::KILL);
                }
            }
            Effect::Ended { pid, reason } => self.ended(module, pid, reason),
        }
        Vec::new()
    }

    fn spawn(&mut self, module: Module) -> Vec<Event> {
        let config = self.config.of(module);
        for sentence in premises::prepare(&config.writable, self.powers.user(config)) {
            say::warn(format_args!("{module}: {sentence}"));
        }
        if let Some(Err(cause)) =
            self.groups.as_ref().map(|groups| groups.prepare(module, self.config.of(module)))
        {
            say::warn(format_args!("{module}: limits are not in force: {cause}"));
        }
        let made = self.start_record(module).and_then(|start| {
            let process = Process::spawn(module, &self.estate.folder.log(module))?;
            Ok((start, process))
        });
        let (start, process) = match made {
            Ok(made) => made,
            Err(error) => {
                say::error(format_args!("{module} cannot be started: {error}"));
                return vec![Event::NotSpawned];
            }
        };
        let pid = process.pid;
        if let Some(Err(cause)) = self.groups.as_ref().map(|groups| groups.admit(module, pid)) {
            say::warn(format_args!("{module}: limits are not in force: {cause}"));
        }
        self.estate.processes[module.index()] = Some(process);
        let mut events = vec![Event::Spawned { pid }];
        if let Err(lost) = self.brief(module, start) {
            say::warn(format_args!("{module}: {lost}"));
            events.push(Event::LifelineLost);
        }
        events
    }

    /// Tells a new process all that it needs: its first record, and the tap that is open.
    fn brief(&self, module: Module, start: Start) -> Result<(), Lost> {
        let lifeline = self.process(module).and_then(|process| process.lifeline.as_ref());
        let Some(lifeline) = lifeline else { return Ok(()) };
        let socket = self.estate.sockets.modules[module.index()].as_fd();
        lifeline.send(&ToModule::Start(Box::new(start)), Some(socket))?;
        match &self.estate.tap {
            Some(tap) => {
                lifeline.send(&ToModule::Tap(tap.filter.clone()), Some(tap.records.as_fd()))
            }
            None => Ok(()),
        }
    }

    fn start_record(&self, module: Module) -> std::io::Result<Start> {
        let config = self.config.of(module);
        Ok(Start {
            module,
            instance: instance()?,
            node: self.config.node.clone(),
            runtime_dir: self.estate.folder.path().to_string_lossy().into(),
            config: config.config.clone(),
            enabled: self.config.enabled(),
            users: self.powers.uids(&self.config),
            beat_interval_ms: self.config.beat_interval,
            faults: self.config.faults,
            log_level: config.log_level,
            confine: self.powers.confine(module, config),
            queue: config.queue,
        })
    }

    /// Sends a record to a module, if it lives and listens.
    pub(super) fn send(&self, module: Module, record: &ToModule) -> Option<Result<(), Lost>> {
        let lifeline = self.process(module)?.lifeline.as_ref()?;
        Some(lifeline.send(record, None))
    }

    /// Takes note that a module cannot be talked to.
    pub(super) fn lost(&mut self, module: Module, lost: &Lost) {
        // The end of the lifeline mostly is the module's own end, which is told on its own.
        if !matches!(lost, Lost::Closed) {
            say::warn(format_args!("{module}: {lost}"));
        }
        self.input(Input::Module(module, Event::LifelineLost));
    }

    /// Writes down a death, and what becomes of the module.
    fn ended(&mut self, module: Module, pid: u32, reason: Reason) {
        let Some(process) = self.estate.processes[module.index()].take() else { return };
        let last_lines = evidence::last_lines(&self.estate.folder.log(module), process.log_from);
        let last = LastExit { reason: reason.to_string(), at: clock::unix(), pid, last_lines };
        if let Err(error) = evidence::save(&self.estate.folder.evidence(module), &last) {
            say::warn(format_args!("{module}: cannot keep the evidence of its end: {error}"));
        }
        let child = self.estate.fleet.child(module);
        let next = match child.phase() {
            Phase::Pausing { until } => {
                let seconds = until.saturating_sub(child.since()).div_ceil(1000);
                let held = if child.held() { "held, " } else { "" };
                format!("{held}next start in {seconds} s")
            }
            Phase::Waiting | Phase::Spawning => "starts again".to_owned(),
            Phase::Down | Phase::Starting { .. } | Phase::Running { .. } | Phase::Ending { .. } => {
                "stays down".to_owned()
            }
        };
        count(&mut self.estate.exits[module.index()], reason);
        let last_line = last.last_lines.last().map(String::as_str).unwrap_or_default();
        match reason {
            Reason::Requested => say::info(format_args!("{module} (process {pid}) ended")),
            Reason::Signal(_)
            | Reason::Exit(_)
            | Reason::Hang
            | Reason::OutOfMemory
            | Reason::LifelineClosed => say::warn(format_args!(
                "{module} (process {pid}) ended: {reason}; {next}; last line: '{last_line}'"
            )),
        }
        self.last_exits[module.index()] = Some(last);
    }

    /// Opens each module's socket to those that dial it.
    pub(crate) fn admit_diallers(&mut self) {
        let users = Module::ALL.map(|module| self.powers.user(self.config.of(module)));
        for module in Module::ALL {
            let admitted =
                sockets::admit(&self.estate.folder, module, self.config.enabled(), &users);
            if let Err(error) = admitted {
                say::error(format_args!("{module}: cannot open its socket to its peers: {error}"));
            }
        }
    }
}
