//! Every way for a module to die: it comes back, the others never notice, and the status says why.

use std::time::Duration;

use anyhow::{Context, Result};
use edgecore_tests::rig::{Rig, Setup, process};
use ipc_proto::control::LastExit;
use ipc_proto::lifeline::Fault;
use ipc_proto::{Module, ModuleState};
use rustix::process::Signal;
use serde_json::json;

/// A rig in which every restart is the first one.
fn forgetful() -> Result<Rig> {
    Setup::new()?.with(json!({"restart": {"stableAfter": "1ms"}})).start()
}

/// Lets `blow` hit each module in turn and checks that it comes back, the others stay, and the
/// last exit is as told.
fn each_in_turn(blow: impl Fn(&Rig, Module) -> Result<()>, reason: &str) -> Result<()> {
    let rig = forgetful()?;
    for module in Module::ALL {
        let exit = hit(&rig, module, &blow)?;
        assert_eq!(exit.reason, reason, "{module}: {:?}", exit.last_lines);
    }
    Ok(())
}

/// Lets `blow` hit one module, and returns how it ended.
fn hit(rig: &Rig, module: Module, blow: impl Fn(&Rig, Module) -> Result<()>) -> Result<LastExit> {
    let before = rig.snapshot()?;
    let old = before.pid_of(module).with_context(|| format!("{module} has no process"))?;
    blow(rig, module)?;
    let back = rig.wait_until_back(module, old)?;
    before.still_holds_but_for(rig, &[module])?;
    let exit = back.last_exit.with_context(|| format!("{module} has no last exit"))?;
    assert_eq!(exit.pid, old);
    assert!(!process::lives(old));
    Ok(exit)
}

#[test]
fn a_killed_module_comes_back_and_the_others_never_notice() -> Result<()> {
    each_in_turn(|rig, module| rig.signal(module, Signal::KILL), "signal 9")
}

#[test]
fn a_segmentation_fault_takes_one_module_only() -> Result<()> {
    each_in_turn(|rig, module| rig.fault(module, Fault::Segv), "signal 11")
}

#[test]
fn a_panic_is_kept_as_evidence() -> Result<()> {
    let rig = forgetful()?;
    for module in Module::ALL {
        let exit = hit(&rig, module, |rig, module| rig.fault(module, Fault::Panic))?;
        assert_eq!(exit.reason, "signal 6", "{module}");
        let lines = exit.last_lines.join("\n");
        assert!(lines.contains("panic"), "{module}: {lines}");
    }
    Ok(())
}

#[test]
fn a_module_that_closes_its_lifeline_is_replaced() -> Result<()> {
    each_in_turn(|rig, module| rig.fault(module, Fault::CloseLifeline), "lifeline closed")
}

#[test]
fn a_module_without_standard_output_works_on_and_can_still_die() -> Result<()> {
    let rig = forgetful()?;
    let before = rig.snapshot()?;
    for module in Module::ALL {
        rig.fault(module, Fault::CloseStdout)?;
    }
    // beats go on, so nobody is taken for hanging
    rig.wait_until_whole()?;
    before.still_holds_but_for(&rig, &[])?;
    for module in [Module::Metamanager, Module::Edgemesh] {
        let exit = hit(&rig, module, |rig, module| rig.fault(module, Fault::Panic))?;
        assert_eq!(exit.reason, "signal 6", "{module}");
    }
    Ok(())
}

#[test]
fn frozen_and_hanging_modules_are_found_and_replaced() -> Result<()> {
    let rig =
        Setup::new()?.with(json!({"beat": {"interval": "200ms", "patience": "2s"}})).start()?;
    let before = rig.snapshot()?;
    let (frozen, rest) = Module::ALL.split_at(3);
    let (hanging, others) = rest.split_at(3);
    for &module in frozen {
        rig.fault(module, Fault::Stop)?;
    }
    for &module in hanging {
        rig.fault(module, Fault::Hang)?;
    }
    for &module in frozen.iter().chain(hanging) {
        let old = before.pid_of(module).with_context(|| format!("{module} had no process"))?;
        let back = rig.wait_until_back(module, old)?;
        assert_eq!(back.last_exit.map(|exit| exit.reason).as_deref(), Some("hang"), "{module}");
    }
    before.still_holds_but_for(&rig, &[frozen, hanging].concat())?;
    assert_eq!(others.len(), 4);
    Ok(())
}

#[test]
fn all_killed_at_once_come_back_at_once() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let before = rig.snapshot()?;
    for module in Module::ALL {
        let pid = before.pid_of(module).with_context(|| format!("{module} had no process"))?;
        process::signal(pid, Signal::KILL)?;
    }
    rig.wait_at_most(Duration::from_secs(10), "all ten are back", |status| {
        status.modules.iter().all(|module| {
            module.state == ModuleState::Running && module.pid != before.pid_of(module.name)
        })
    })?;
    Ok(())
}

#[test]
fn the_grandchildren_of_a_killed_module_do_not_outlive_it() -> Result<()> {
    let rig = forgetful()?;
    let exit = hit(&rig, Module::Edged, |rig, module| rig.signal(module, Signal::ABORT))?;
    assert_eq!(exit.reason, "signal 6");
    assert_eq!(process::children(rig.supervisor_pid()).len(), Module::COUNT);
    Ok(())
}
