//! Whole sets of objects for the modules that act on them: at each connection, and after a module
//! was too slow to take a change.

use std::time::Instant;

use ipc_proto::{Kind, Message, Module, ModuleSet};

use super::{Effect, Then};
use crate::row::Question;

/// Returns the types of which a module keeps all objects. edged asks for config maps, secrets and
/// volumes by name, after each set of pods again; metaserver reads pages.
const fn kinds(module: Module) -> &'static [Kind] {
    match module {
        Module::Edged => &[Kind::Pod],
        Module::Devicetwin => &[Kind::DeviceModel, Kind::Device],
        Module::Edgemesh => &[
            Kind::Service,
            Kind::Endpoints,
            Kind::EndpointSlice,
            Kind::DestinationRule,
            Kind::Node,
        ],
        Module::Metamanager
        | Module::Edgehub
        | Module::Eventbus
        | Module::Servicebus
        | Module::Taskmanager
        | Module::Metaserver
        | Module::Edgestream => &[],
    }
}

/// Which modules are connected, and which of them lack something.
#[derive(Debug, Default)]
pub(super) struct Sets {
    up: ModuleSet,
    behind: ModuleSet,
    retry: Option<Instant>,
}

impl Sets {
    pub(super) fn connected(&mut self, module: Module, out: &mut Vec<Effect>) {
        self.up = self.up.with(module);
        self.behind = self.behind.without(module);
        ask(module, out);
    }

    pub(super) const fn disconnected(&mut self, module: Module) {
        self.up = self.up.without(module);
        self.behind = self.behind.without(module);
    }

    /// Notes that a module lacks something, which it gets at `retry`.
    pub(super) fn crowded(&mut self, module: Module, retry: Instant) {
        if self.up.contains(module) {
            self.behind = self.behind.with(module);
            self.retry = Some(retry);
        }
    }

    /// Tells whether a module is told of single changes: a dead one and one that is behind are
    /// not, because they get the whole set.
    pub(super) const fn takes_changes(&self, module: Module) -> bool {
        self.up.contains(module) && !self.behind.contains(module)
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        if self.behind.is_empty() { None } else { self.retry }
    }

    /// Gives those who lack something the whole set again, and returns them.
    pub(super) fn on_time(&mut self, now: Instant, out: &mut Vec<Effect>) -> ModuleSet {
        if self.retry.is_none_or(|retry| retry > now) {
            return ModuleSet::EMPTY;
        }
        self.retry = None;
        let behind = std::mem::take(&mut self.behind);
        for module in behind.iter() {
            ask(module, out);
        }
        behind
    }

    pub(super) fn send(&self, module: Module, set: Message, out: &mut Vec<Effect>) {
        if self.takes_changes(module) {
            out.push(Effect::Send(module, set));
        }
    }
}

fn ask(module: Module, out: &mut Vec<Effect>) {
    let question = |kind: &Kind| {
        Effect::Ask(Question::Kind(kind.as_str().into()), Then::Set(module, kind.clone()))
    };
    out.extend(kinds(module).iter().map(question));
}
