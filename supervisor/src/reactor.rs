//! The one poll: what the kernel reports goes into the fleet as events, what the fleet wants is done
//! at once, and then the supervisor sleeps until the next event or deadline.
//!
//! Nothing in here waits for a module, and no message between modules passes through here.

mod effects;
mod inheritance;
mod requests;
mod status;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use ipc_proto::Module;
use ipc_proto::control::{Exits, LastExit};
use ipc_proto::lifeline::{Confinement, MAX_REPORT, ToSupervisor};
use ipc_proto::tap::Filter;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};

use crate::cgroup::Groups;
use crate::child::{Event, Exit, Status};
use crate::clock::{self, Wall};
use crate::config::Config;
use crate::control::{self, Control, News};
use crate::fleet::{Fleet, Input};
use crate::folder::Folder;
use crate::limits::Powers;
use crate::metrics::Metrics;
use crate::notify::Notify;
use crate::process::{self, Process};
use crate::reload::Trial;
use crate::signals::Signals;
use crate::sockets::Sockets;
use crate::{Options, evidence, logfile, say};

pub(crate) use inheritance::adopt;
pub(crate) use status::Outline;

/// Records that one module gets a hearing for in one turn, so that a chatterbox delays nobody.
const MAX_RECORDS: usize = 32;

/// Sentences on what is not in force that are kept; a module that makes them up must not fill memory.
const MAX_SENTENCES: usize = 64;

/// The supervisor at work.
#[derive(Debug)]
pub(crate) struct Reactor {
    pub(crate) options: Options,
    /// The installed program, which a reload executes.
    pub(crate) program: PathBuf,
    pub(crate) config: Config,
    pub(crate) estate: Estate,
    pub(crate) signals: Signals,
    pub(crate) notify: Notify,
    pub(crate) groups: Option<Groups>,
    pub(crate) powers: Powers,
    /// What is not in force here, one sentence each.
    pub(crate) not_in_force: Vec<String>,
    /// How each module ended last, also where the disk has no room for it; by [`Module::index`].
    pub(crate) last_exits: [Option<LastExit>; Module::COUNT],
    pub(crate) wall: Wall,
    /// How all modules were when it was told last.
    pub(crate) told: Option<Outline>,
}

/// What outlives an image of the supervisor: a reload hands all of it on.
#[derive(Debug)]
pub(crate) struct Estate {
    pub(crate) folder: Folder,
    /// Keeps the folder ours.
    pub(crate) lock: OwnedFd,
    pub(crate) sockets: Sockets,
    pub(crate) fleet: Fleet,
    /// By [`Module::index`].
    pub(crate) processes: [Option<Process>; Module::COUNT],
    pub(crate) control: Control,
    pub(crate) tap: Option<Tap>,
    pub(crate) metrics: Metrics,
    /// How often each module ended, by [`Module::index`].
    pub(crate) exits: [Exits; Module::COUNT],
    /// When the agent started.
    pub(crate) started: u64,
    /// Re-executions so far.
    pub(crate) reloads: u32,
    /// Set while this image is on trial.
    pub(crate) trial: Option<Trial>,
}

/// What the operator watches.
#[derive(Debug)]
pub(crate) struct Tap {
    /// The connection that keeps it open.
    pub(crate) watcher: control::Id,
    /// Where the records go.
    pub(crate) records: OwnedFd,
    /// Which records.
    pub(crate) filter: Filter,
}

/// What can become ready.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    Lifeline(Module),
    Death(Module),
    Exporter,
    Door,
    Connection(control::Id),
    Listener,
    Signals,
}

impl Reactor {
    /// Works until every module has ended on request.
    ///
    /// # Errors
    /// When the kernel does not let the supervisor poll, which nothing can be done about.
    pub(crate) fn run(mut self) -> Result<(), Errno> {
        while !self.estate.fleet.finished() {
            let ready = self.sleep()?;
            for source in ready {
                self.attend(source);
            }
            self.input(Input::Tick);
            let now = clock::now();
            self.estate.control.expire(now);
            self.end_trial(now);
            self.notify.turn(now);
            if self.estate.fleet.settled() {
                self.notify.ready();
            }
            self.tell_changes();
        }
        self.estate.metrics.close();
        if let Some(groups) = &self.groups {
            Module::ALL.into_iter().for_each(|module| groups.remove(module));
        }
        say::info(format_args!("all modules have ended"));
        Ok(())
    }

    /// Sleeps until something is ready or due, and returns what is ready: the modules' words before
    /// their deaths, and operators last.
    fn sleep(&self) -> Result<Vec<Source>, Errno> {
        let mut sources = Vec::with_capacity(32);
        let mut fds = Vec::with_capacity(32);
        for module in Module::ALL {
            if let Some(lifeline) = self.process(module).and_then(|one| one.lifeline.as_ref()) {
                sources.push(Source::Lifeline(module));
                fds.push(PollFd::from_borrowed_fd(lifeline.as_fd(), PollFlags::IN));
            }
        }
        for module in Module::ALL {
            if let Some(process) = self.process(module) {
                sources.push(Source::Death(module));
                fds.push(PollFd::new(&process.handle, PollFlags::IN));
            }
        }
        for (source, fd) in self.estate.metrics.interests(clock::now()) {
            sources.push(source);
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        sources.push(Source::Signals);
        fds.push(PollFd::new(&self.signals, PollFlags::IN));
        for (id, stream, flags) in self.estate.control.interests() {
            sources.push(Source::Connection(id));
            fds.push(PollFd::from_borrowed_fd(stream, flags));
        }
        if self.estate.control.has_room() {
            sources.push(Source::Listener);
            fds.push(PollFd::new(&self.estate.sockets.control, PollFlags::IN));
        }
        let timeout = self.timeout().map(clock::timespec);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        Ok(sources.into_iter().zip(&fds).filter(|(_, fd)| ready(fd)).map(|(s, _)| s).collect())
    }

    /// Returns how long nothing is due, or none when nothing ever is.
    fn timeout(&self) -> Option<u64> {
        let now = clock::now();
        let deadlines = [
            self.estate.fleet.deadline(),
            self.estate.control.deadline(),
            self.estate.metrics.deadline(now),
            self.notify.deadline(),
            self.estate.trial.as_ref().map(|trial| trial.until),
        ];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_sub(now))
    }

    fn attend(&mut self, source: Source) {
        match source {
            Source::Lifeline(module) => self.listen(module),
            Source::Death(module) => self.bury(module),
            Source::Exporter => self.estate.metrics.ended(clock::now()),
            Source::Door => self.estate.metrics.serve(clock::now(), self.estate.folder.path()),
            Source::Connection(id) => match self.estate.control.advance(clock::now(), id) {
                Some(News::Asked(request, attached)) => self.request(id, request, attached),
                Some(News::Gone) => self.end_tap(id),
                None => {}
            },
            Source::Listener => {
                self.estate.control.accept(clock::now(), &self.estate.sockets.control);
            }
            Source::Signals => self.obey_signals(),
        }
    }

    fn obey_signals(&mut self) {
        let asked = self.signals.take();
        if asked.reap {
            self.reap_strangers();
        }
        if asked.stop {
            say::info(format_args!("asked to stop"));
            self.shut_down();
        }
        if asked.reload
            && let Err(reason) = self.reload(None)
        {
            say::error(format_args!("not reloaded: {reason}"));
        }
    }

    fn shut_down(&mut self) {
        if !self.estate.fleet.stopping() {
            Notify::stopping();
        }
        self.input(Input::Shutdown);
    }

    /// Reads what a module says.
    fn listen(&mut self, module: Module) {
        for _ in 0..MAX_RECORDS {
            let Some(process) = &mut self.estate.processes[module.index()] else { return };
            let Some(lifeline) = &process.lifeline else { return };
            match lifeline.receive() {
                Ok(None) => return,
                Ok(Some(ToSupervisor::Ready(confinement))) => self.ready(module, confinement),
                Ok(Some(ToSupervisor::Beat(load))) => {
                    process.load = load;
                    if let Err(error) = logfile::bound(&self.estate.folder.log(module)) {
                        say::warn(format_args!("{module}: cannot keep its old log: {error}"));
                    }
                    self.input(Input::Module(module, Event::Beat));
                }
                Ok(Some(ToSupervisor::Traffic(traffic))) => process.traffic = traffic,
                Ok(Some(ToSupervisor::Report(report))) if report.len() <= MAX_REPORT => {
                    process.report = Some(report);
                }
                Ok(Some(ToSupervisor::Report(report))) => {
                    let bytes = report.len();
                    say::warn(format_args!(
                        "{module}: a report of {bytes} bytes, expected {MAX_REPORT}"
                    ));
                }
                Err(lost) => {
                    process.lifeline = None;
                    self.lost(module, &lost);
                    return;
                }
            }
        }
    }

    fn ready(&mut self, module: Module, confinement: Confinement) {
        let took = clock::now().saturating_sub(self.estate.fleet.child(module).since());
        for sentence in &confinement.not_in_force {
            self.note(format!("{module}: {sentence}"), &[]);
        }
        if let Some(process) = &mut self.estate.processes[module.index()] {
            say::info(format_args!("{module} is ready after {took} ms (process {})", process.pid));
            process.confinement = Some(confinement);
        }
        self.input(Input::Module(module, Event::Ready));
    }

    /// Says once, and shows from then on, that something is not in force.
    pub(crate) fn note(&mut self, sentence: String, said: &[String]) {
        if self.not_in_force.len() < MAX_SENTENCES && !self.not_in_force.contains(&sentence) {
            if !said.contains(&sentence) {
                say::warn(format_args!("{sentence}"));
            }
            self.not_in_force.push(sentence);
        }
    }

    /// Looks whether a module has died, and if so takes note of how.
    fn bury(&mut self, module: Module) {
        let Some(process) = self.process(module) else { return };
        match process.reap() {
            Ok(None) => {}
            Ok(Some(status)) => self.died(module, status),
            Err(errno) => {
                say::error(format_args!("{module}: cannot reap process {}: {errno}", process.pid));
                self.died(module, Status::Code(-1));
            }
        }
    }

    fn died(&mut self, module: Module, status: Status) {
        let out_of_memory = self.groups.as_ref().is_some_and(|groups| {
            groups.kill(module);
            groups.out_of_memory(module)
        });
        let exit =
            Exit { status, out_of_memory: out_of_memory || self.allocator_failed(module, status) };
        self.input(Input::Module(module, Event::Exited(exit)));
    }

    /// Without control groups, it is the process itself that finds no memory and aborts.
    fn allocator_failed(&self, module: Module, status: Status) -> bool {
        const SIGABRT: i32 = 6;
        status == Status::Signal(SIGABRT)
            && self.process(module).is_some_and(|process| {
                let lines = evidence::last_lines(&self.estate.folder.log(module), process.log_from);
                evidence::out_of_memory(&lines)
            })
    }

    /// Reaps whom dead modules left to us. A module whose death was not seen yet may be among them.
    fn reap_strangers(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_pid().unsigned_abs();
            let module = Module::ALL
                .into_iter()
                .find(|module| self.process(*module).is_some_and(|process| process.pid == pid));
            if let Some((module, process)) = module.and_then(|m| Some((m, self.process(m)?))) {
                process.kill_group();
                self.died(module, process::status_of(status));
            }
        }
    }

    pub(crate) const fn process(&self, module: Module) -> Option<&Process> {
        self.estate.processes[module.index()].as_ref()
    }
}
