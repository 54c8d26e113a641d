//! What the operator asks for.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ipc_proto::control::{Request, Response};
use ipc_proto::lifeline::{Fault, ToModule};
use ipc_proto::tap::Filter;
use ipc_proto::{Module, ModuleSet};
use rustix::process::Signal;

use super::{Reactor, Tap};
use crate::control::Id;
use crate::fleet::Input;
use crate::{clock, say};

impl Reactor {
    /// Does what is asked for and answers.
    pub(super) fn request(&mut self, id: Id, request: Request, attached: Option<OwnedFd>) {
        let watches = matches!(request, Request::Tap { .. });
        let reloads = matches!(request, Request::Reload | Request::Try { .. });
        let done = match request {
            Request::Status => Ok(Response::Status(Box::new(self.status()))),
            Request::Start { modules } => self.order(&modules, "start", Input::Start),
            Request::Stop { modules } => self.order(&modules, "stop", Input::Stop),
            Request::Restart { modules } => self.order(&modules, "restart", Input::Restart),
            Request::Fault { module, fault } => self.fault(module, fault),
            Request::Tap { filter } => self.open_tap(id, filter, attached),
            Request::Reload => self.reload(Some(id)).map(|never| match never {}),
            Request::Try { program, seconds } => {
                self.try_program(Path::new(&*program), seconds, id).map(|never| match never {})
            }
        };
        if let (true, Err(reason)) = (reloads, &done) {
            say::error(format_args!("not reloaded: {reason}"));
        }
        let stays = watches && done.is_ok();
        let response = done.unwrap_or_else(|reason| Response::Failed { reason });
        self.estate.control.answer(clock::now(), id, &response, stays);
    }

    fn order(
        &mut self,
        modules: &[Module],
        verb: &str,
        input: fn(ModuleSet) -> Input,
    ) -> Result<Response, String> {
        let enabled = self.estate.fleet.enabled();
        if let Some(module) = modules.iter().find(|module| !enabled.contains(**module)) {
            return Err(format!(
                "cannot {verb} {module}: it is disabled, expected one that the configuration enables"
            ));
        }
        self.refuse_when_stopping(verb)?;
        let names: Vec<&str> = modules.iter().map(|module| module.name()).collect();
        say::info(format_args!("asked to {verb} {}", names.join(", ")));
        self.input(input(modules.iter().copied().collect()));
        Ok(Response::Done)
    }

    pub(super) fn refuse_when_stopping(&self, verb: &str) -> Result<(), String> {
        if self.estate.fleet.stopping() {
            Err(format!("cannot {verb}: the agent is stopping"))
        } else {
            Ok(())
        }
    }

    /// Puts a fault into a module: from outside where that is the point, else by its own hand.
    fn fault(&mut self, module: Module, fault: Fault) -> Result<Response, String> {
        if !self.config.faults {
            return Err("faults are off, expected 'faults: true' in supervisor.yaml".to_owned());
        }
        let name = fault.name();
        let Some(process) = self.process(module) else {
            return Err(format!("cannot put {name} into {module}: it has no process"));
        };
        say::warn(format_args!("asked to put {name} into {module} (process {})", process.pid));
        match fault {
            Fault::Kill => process.signal(Signal::KILL),
            Fault::Stop => process.signal(Signal::STOP),
            Fault::Segv
            | Fault::Panic
            | Fault::Hang
            | Fault::SlowIpc
            | Fault::Oom
            | Fault::DiskFull
            | Fault::CloseLifeline
            | Fault::CloseStdout
            | Fault::BreakOut => match self.send(module, &ToModule::Fault(fault)) {
                Some(Ok(())) => {}
                Some(Err(lost)) => {
                    self.lost(module, &lost);
                    return Err(format!("cannot put {name} into {module}: {lost}"));
                }
                None => {
                    return Err(format!("cannot put {name} into {module}: it has no lifeline"));
                }
            },
        }
        Ok(Response::Done)
    }

    fn open_tap(
        &mut self,
        watcher: Id,
        filter: Filter,
        attached: Option<OwnedFd>,
    ) -> Result<Response, String> {
        self.refuse_when_stopping("tap")?;
        let Some(records) = attached else {
            return Err("a tap without a socket, expected one attached to the request".to_owned());
        };
        if self.estate.tap.is_some() {
            return Err("another tap is open, expected one at a time".to_owned());
        }
        for module in Module::ALL {
            let Some(process) = self.process(module) else { continue };
            let Some(lifeline) = &process.lifeline else { continue };
            let record = ToModule::Tap(filter.clone());
            if let Err(lost) = lifeline.send(&record, Some(records.as_fd())) {
                self.lost(module, &lost);
            }
        }
        self.estate.tap = Some(Tap { watcher, records, filter });
        Ok(Response::Done)
    }

    /// Ends the tap whose watcher went away.
    pub(super) fn end_tap(&mut self, watcher: Id) {
        if self.estate.tap.as_ref().is_none_or(|tap| tap.watcher != watcher) {
            return;
        }
        self.estate.tap = None;
        for module in Module::ALL {
            if let Some(Err(lost)) = self.send(module, &ToModule::TapEnd) {
                self.lost(module, &lost);
            }
        }
    }
}
