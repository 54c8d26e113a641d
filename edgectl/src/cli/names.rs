//! Names of modules and faults, as they are typed.
//!
//! Module names are taken as texts and parsed by [`modules`], so that all unknown names are reported
//! at once and in the words that configuration errors use too.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, TypedValueParser};
use ipc_proto::lifeline::Fault;
use ipc_proto::module::UnknownModule;
use ipc_proto::{Module, ModuleSet};

use crate::failure::Failure;

/// The word that stands for every module that the configuration wants.
const ALL: &str = "all";

/// Offers the module names to help and completion, and takes any text.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModuleName {
    /// Whether `all` is offered too.
    pub(super) all: bool,
}

impl TypedValueParser for ModuleName {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        clap::builder::StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = Module::ALL.map(Module::name);
        Some(Box::new(names.into_iter().chain(self.all.then_some(ALL)).map(PossibleValue::new)))
    }
}

/// The faults with their help.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultName;

impl FaultName {
    const fn help(fault: Fault) -> &'static str {
        match fault {
            Fault::Kill => "End it with SIGKILL",
            Fault::Stop => "Freeze it with SIGSTOP; its missing beats give it away",
            Fault::Segv => "End it with SIGSEGV",
            Fault::Panic => "Break an invariant, which ends it with a message",
            Fault::Hang => "Stop its main loop from turning",
            Fault::SlowIpc => "Take 100 ms for every message, for ten seconds",
            Fault::Oom => "Take memory until there is none",
            Fault::DiskFull => "Let none of its files grow any more",
            Fault::CloseLifeline => "Close its end of the socket to the supervisor",
            Fault::CloseStdout => "Close its standard output and error",
            Fault::BreakOut => "Try what its confinement forbids; its log says what came of it",
        }
    }
}

impl TypedValueParser for FaultName {
    type Value = Fault;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Fault, clap::Error> {
        let names = clap::builder::PossibleValuesParser::new(Fault::ALL.map(Fault::name));
        let name = names.parse_ref(command, argument, value)?;
        let found = Fault::ALL.into_iter().find(|fault| fault.name() == name);
        Ok(found.expect("the parser lets only names of faults pass"))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let value = |fault: Fault| PossibleValue::new(fault.name()).help(Self::help(fault));
        Some(Box::new(Fault::ALL.into_iter().map(value)))
    }
}

/// Which modules an order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Every one that the configuration wants.
    All,
    /// These.
    These(ModuleSet),
}

/// Takes module names, each once and in dial order.
///
/// # Errors
/// [`Failure::Usage`] with every name that is unknown.
pub(crate) fn modules<'a>(
    names: impl IntoIterator<Item = &'a String>,
) -> Result<ModuleSet, Failure> {
    let mut unknown = Vec::new();
    let mut set = ModuleSet::EMPTY;
    for name in names {
        match name.parse() {
            Ok(module) => set = set.with(module),
            Err(UnknownModule(name)) if unknown.contains(&name) => {}
            Err(UnknownModule(name)) => unknown.push(name),
        }
    }
    if unknown.is_empty() {
        return Ok(set);
    }
    // The first one's text ends with the names that exist; the others join it within the quotes.
    Err(Failure::Usage(UnknownModule(unknown.join("', '")).to_string()))
}

/// Takes one module name.
///
/// # Errors
/// [`Failure::Usage`] when it is unknown.
pub(crate) fn module(name: &str) -> Result<Module, Failure> {
    name.parse().map_err(|unknown: UnknownModule| Failure::Usage(unknown.to_string()))
}

/// Takes module names among which `all` may stand.
///
/// # Errors
/// [`Failure::Usage`] with every name that is unknown.
pub(crate) fn choice(names: &[String]) -> Result<Choice, Failure> {
    let set = modules(names.iter().filter(|name| *name != ALL))?;
    Ok(if names.iter().any(|name| name == ALL) { Choice::All } else { Choice::These(set) })
}
