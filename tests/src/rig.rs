//! The rig: the shipped binary, run for real in a folder of its own.
//!
//! A [`Setup`] says how, [`Setup::start`] makes a [`Rig`] of it. All that a rig started dies with it,
//! also when its test fails. Rigs share nothing, so tests run side by side.

pub mod binaries;
pub mod bus;
pub mod certs;
pub mod cloud;
pub mod control;
pub mod cri;
pub mod devices;
pub mod filled;
pub mod hostile;
pub mod mapper;
pub mod mesh;
pub mod middle;
pub mod mosquitto;
pub mod mqtt;
pub mod network;
pub mod node_api;
pub mod operator;
pub mod pods;
pub mod privilege;
pub mod process;
pub mod registry;
pub mod scrape;
mod setup;
mod snapshot;
pub mod spdy;
pub mod stream;
pub mod tunnel;
mod wait;
pub mod web;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipc_proto::control::{AgentState, ModuleStatus, Request, Response, Status};
use ipc_proto::lifeline::Fault;
use ipc_proto::{Module, ModuleState};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

pub use setup::Setup;
pub use snapshot::Snapshot;
pub use wait::{SOON, wait_for, wait_until};

/// The shipped binary at work.
#[derive(Debug)]
pub struct Rig {
    setup: Setup,
    supervisor: Child,
}

impl Rig {
    fn launch(setup: Setup) -> Result<Self> {
        let supervisor = setup.spawn()?;
        Ok(Self { setup, supervisor })
    }

    /// Returns what the rig was made of.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Returns the runtime folder.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        self.setup.runtime_dir()
    }

    /// Returns the supervisor's process.
    #[must_use]
    pub fn supervisor_pid(&self) -> u32 {
        self.supervisor.id()
    }

    /// Asks the supervisor for the state of everything.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Status> {
        control::status(&self.runtime_dir())
    }

    /// Asks the supervisor for the state of one module.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn module(&self, module: Module) -> Result<ModuleStatus> {
        of(&self.status()?, module).cloned()
    }

    /// Returns the process of a module.
    ///
    /// # Errors
    /// When it has none.
    pub fn pid_of(&self, module: Module) -> Result<u32> {
        self.module(module)?.pid.with_context(|| format!("{module} has no process"))
    }

    /// Asks the supervisor for something that ends in "done".
    ///
    /// # Errors
    /// With the supervisor's reason when it is not done.
    pub fn demand(&self, request: &Request) -> Result<()> {
        match control::request(&self.runtime_dir(), request)? {
            Response::Done => Ok(()),
            Response::Failed { reason } => bail!(reason),
            Response::Status(_) => bail!("a status is no answer to {request:?}"),
        }
    }

    /// Puts a fault into a module.
    ///
    /// # Errors
    /// When the supervisor refuses.
    pub fn fault(&self, module: Module, fault: Fault) -> Result<()> {
        self.demand(&Request::Fault { module, fault })
    }

    /// Has the module freeze that comes to this point of its work next.
    ///
    /// # Errors
    /// When the wish cannot be written.
    pub fn halt_at(&self, point: &str) -> Result<()> {
        Ok(fs::write(self.runtime_dir().join("halt"), point)?)
    }

    /// Waits until a module has frozen at its point, where it does not freeze a second time.
    /// Returns its process.
    ///
    /// # Errors
    /// When it does not come there in time.
    pub fn wait_until_halted(&self, module: Module) -> Result<u32> {
        let what = format!("{module} comes to its point");
        let pid = wait_for(&what, SOON, || {
            self.pid_of(module).ok().filter(|pid| process::is_stopped(*pid))
        });
        let pid = pid.with_context(|| self.module_log(module))?;
        fs::remove_file(self.runtime_dir().join("halt"))?;
        Ok(pid)
    }

    /// Sends a signal to a module's process.
    ///
    /// # Errors
    /// When it has none.
    pub fn signal(&self, module: Module, signal: Signal) -> Result<()> {
        process::signal(self.pid_of(module)?, signal)
    }

    /// Waits until the status is as wanted, and returns it.
    ///
    /// # Errors
    /// When that takes longer than [`SOON`]; the text tells the last status and the log.
    pub fn wait(&self, what: &str, wanted: impl FnMut(&Status) -> bool) -> Result<Status> {
        self.wait_at_most(SOON, what, wanted)
    }

    /// Waits until the status is as wanted, for at most `limit`, and returns it.
    ///
    /// # Errors
    /// When that takes longer; the text tells the last status and the log.
    pub fn wait_at_most(
        &self,
        limit: Duration,
        what: &str,
        mut wanted: impl FnMut(&Status) -> bool,
    ) -> Result<Status> {
        let mut last = None;
        let found = wait_for(what, limit, || {
            let now = self.status();
            let found = now.as_ref().ok().filter(|status| wanted(status)).cloned();
            last = Some(now);
            found
        });
        found.with_context(|| self.evidence(last))
    }

    /// Tells all that is known, for the message of a failure.
    fn evidence(&self, status: Option<Result<Status>>) -> String {
        let status = match status {
            Some(Ok(status)) => status.modules.iter().map(describe).collect::<String>(),
            Some(Err(error)) => format!("  {error:#}\n"),
            None => String::new(),
        };
        format!("status:\n{status}log:\n{}", self.log())
    }

    /// Waits until every enabled module runs or was stopped.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_until_whole(&self) -> Result<Status> {
        self.wait("all modules run", |status| {
            status.state == AgentState::Running
                && status.modules.iter().all(|module| match module.state {
                    ModuleState::Running | ModuleState::Disabled | ModuleState::Stopped => true,
                    ModuleState::Starting | ModuleState::Backoff | ModuleState::Held => false,
                })
        })
    }

    /// Waits until all run, then stops those whose place is to be free.
    fn settle_in(&self) -> Result<()> {
        self.wait_until_whole()?;
        let seats = &self.setup.seats;
        if seats.is_empty() {
            return Ok(());
        }
        self.demand(&Request::Stop { modules: seats.clone() })?;
        self.wait("the places are free", |status| {
            seats.iter().all(|&seat| {
                of(status, seat).is_ok_and(|module| {
                    module.state == ModuleState::Stopped && module.pid.is_none()
                })
            })
        })?;
        Ok(())
    }

    /// Waits until a module runs in another process than `old`, and returns its state.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_until_back(&self, module: Module, old: u32) -> Result<ModuleStatus> {
        let status = self.wait(&format!("{module} is back after {old}"), |status| {
            of(status, module).is_ok_and(|module| {
                module.state == ModuleState::Running && module.pid.is_some_and(|pid| pid != old)
            })
        })?;
        of(&status, module).cloned()
    }

    /// Notes which process every module has.
    ///
    /// # Errors
    /// When the supervisor does not answer.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot::of(&self.status()?))
    }

    /// Returns what the supervisor has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.setup.log()).unwrap_or_default()
    }

    /// Returns what a module has written so far.
    #[must_use]
    pub fn module_log(&self, module: Module) -> String {
        let path = self.runtime_dir().join("log").join(format!("{module}.log"));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Waits until the supervisor has ended, for at most [`SOON`].
    ///
    /// # Errors
    /// When it does not end.
    pub fn wait_until_ended(&mut self) -> Result<ExitStatus> {
        let supervisor = &mut self.supervisor;
        let ended = wait_for("the supervisor ends", SOON, || supervisor.try_wait().ok().flatten());
        ended.with_context(|| self.evidence(None))
    }

    /// Sends a signal to the supervisor and waits until it has ended.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        process::signal(self.supervisor.id(), signal)?;
        self.wait_until_ended()
    }

    /// Starts a new supervisor on the same folder, the former one having ended.
    ///
    /// # Errors
    /// When it cannot be started or its modules do not come up.
    pub fn start_again(&mut self) -> Result<()> {
        self.supervisor = self.setup.spawn()?;
        self.settle_in()
    }
}

impl Drop for Rig {
    /// Ends everything that the rig started. A process handle is taken of each module while the
    /// supervisor still holds it, so that no stranger with a number used again is ever hit.
    fn drop(&mut self) {
        let modules = process::children(self.supervisor.id());
        let open = |pid| pidfd_open(process::to_pid(pid).ok()?, PidfdFlags::empty()).ok();
        let handles: Vec<_> = modules.into_iter().filter_map(open).collect();
        drop(self.supervisor.kill());
        drop(self.supervisor.wait());
        for handle in handles {
            // those that went with the supervisor are gone already
            let _gone = pidfd_send_signal(handle, Signal::KILL);
        }
    }
}

/// Returns one module's part of a status.
///
/// # Errors
/// When it is not there.
pub fn of(status: &Status, module: Module) -> Result<&ModuleStatus> {
    let found = status.modules.iter().find(|entry| entry.name == module);
    found.with_context(|| format!("the status lacks {module}"))
}

/// Tells a module's state in one line.
fn describe(module: &ModuleStatus) -> String {
    let ModuleStatus { name, state, pid, restarts, last_exit, .. } = module;
    let exit = last_exit.as_ref().map(|exit| (&exit.reason, &exit.last_lines));
    format!("  {name:12} {state:?} pid {pid:?} restarts {restarts} last exit {exit:?}\n")
}
