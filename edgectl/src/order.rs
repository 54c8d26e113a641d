//! What changes the agent: start, stop, restart and reload, which wait until it is so, and faults.

use std::time::{Duration, Instant};

use ipc_proto::control::{ModuleStatus, Request, Status};
use ipc_proto::{Module, ModuleSet, ModuleState};

use crate::cli::{self, Choice, FaultArguments, OrderArguments, Waiting};
use crate::client::Client;
use crate::failure::Failure;
use crate::overview::word;
use crate::screen::pause;

/// The pause between two looks at whether the order is carried out; a module starts in about as
/// much time.
const LOOK: Duration = Duration::from_millis(50);

/// Starts modules and waits until they run.
pub(crate) fn start(arguments: &OrderArguments, client: &Client) -> Result<(), Failure> {
    let (modules, _) = chosen(arguments, client, &[])?;
    client.order(&Request::Start { modules: modules.iter().collect() })?;
    settle(arguments, client, modules, ModuleState::Running, |module| {
        module.state == ModuleState::Running
    })
}

/// Stops modules and waits until their processes are gone.
pub(crate) fn stop(arguments: &OrderArguments, client: &Client) -> Result<(), Failure> {
    let (modules, _) = chosen(arguments, client, &[])?;
    client.order(&Request::Stop { modules: modules.iter().collect() })?;
    settle(arguments, client, modules, ModuleState::Stopped, |module| {
        module.state == ModuleState::Stopped && module.pid.is_none()
    })
}

/// Restarts modules and waits until new processes run. Of all, those stay stopped that somebody
/// stopped.
pub(crate) fn restart(arguments: &OrderArguments, client: &Client) -> Result<(), Failure> {
    let (modules, before) = chosen(arguments, client, &[ModuleState::Stopped])?;
    client.order(&Request::Restart { modules: modules.iter().collect() })?;
    let life = |module: &ModuleStatus| (module.pid, module.since);
    settle(arguments, client, modules, ModuleState::Running, |module| {
        let old = before.modules.iter().find(|old| old.name == module.name);
        module.state == ModuleState::Running && old.map(life) != Some(life(module))
    })
}

/// Lets the supervisor replace itself and waits until the new one answers.
pub(crate) fn reload(waiting: &Waiting, client: &Client) -> Result<(), Failure> {
    let before = client.status()?.reloads;
    client.order(&Request::Reload)?;
    let deadline = deadline(waiting);
    while Instant::now() < deadline {
        match client.status() {
            Ok(status) if status.reloads > before => return Ok(()),
            // Between two program images nobody answers.
            Ok(_) | Err(Failure::Unreachable(_)) => pause(LOOK)?,
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::Failed(format!(
        "edgecore did not reload within {} s, its log says why: 'journalctl -u edgecore'",
        waiting.timeout
    )))
}

/// Puts a fault into a module.
pub(crate) fn fault(arguments: &FaultArguments, client: &Client) -> Result<(), Failure> {
    let module = cli::module(&arguments.module)?;
    client.order(&Request::Fault { module, fault: arguments.fault })
}

/// Returns the modules that the order is for, and the state before it. Of all, those are not meant
/// that are in one of the states `left`, nor those that the configuration does not want.
fn chosen(
    arguments: &OrderArguments,
    client: &Client,
    left: &[ModuleState],
) -> Result<(ModuleSet, Status), Failure> {
    let choice = cli::choice(&arguments.modules)?;
    let before = client.status()?;
    let wanted = |module: &&ModuleStatus| {
        module.state != ModuleState::Disabled && !left.contains(&module.state)
    };
    let modules = match choice {
        Choice::These(modules) => modules,
        Choice::All => before.modules.iter().filter(wanted).map(|module| module.name).collect(),
    };
    Ok((modules, before))
}

/// Waits until the order is carried out on all modules.
fn settle(
    arguments: &OrderArguments,
    client: &Client,
    modules: ModuleSet,
    aim: ModuleState,
    reached: impl Fn(&ModuleStatus) -> bool,
) -> Result<(), Failure> {
    if arguments.no_wait {
        return Ok(());
    }
    let deadline = deadline(&arguments.waiting);
    loop {
        let status = client.status()?;
        let missing: Vec<_> = status
            .modules
            .iter()
            .filter(|module| modules.contains(module.name) && !reached(module))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(late(&missing, aim, arguments.waiting.timeout));
        }
        pause(LOOK)?;
    }
}

fn deadline(waiting: &Waiting) -> Instant {
    Instant::now() + Duration::from_secs(waiting.timeout.into())
}

/// Tells, module by module, what stands in the way.
fn late(missing: &[&ModuleStatus], aim: ModuleState, seconds: u16) -> Failure {
    let each = missing.iter().map(|module| {
        let state = word(module.state);
        match &module.last_exit {
            Some(exit) => format!("{} is {state} after {}", module.name, exit.reason),
            None => format!("{} is {state}", module.name),
        }
    });
    let each = each.collect::<Vec<_>>().join(", ");
    let names: Vec<_> = missing.iter().map(|module| Module::name(module.name)).collect();
    Failure::Failed(format!(
        "not {} within {seconds} s: {each}; see 'edgectl status {}'",
        word(aim),
        names.join(" ")
    ))
}

#[cfg(test)]
mod tests;
