//! The supervisor's own death: its modules go with it, the next one starts clean, and what was
//! known of crashes is still known.

use anyhow::{Context, Result};
use edgecore_tests::rig::{SOON, Setup, process, wait_until};
use ipc_proto::Module;
use ipc_proto::lifeline::Fault;
use rustix::process::Signal;

#[test]
fn modules_do_not_outlive_their_supervisor() -> Result<()> {
    let mut rig = Setup::new()?.start()?;
    let modules = process::children(rig.supervisor_pid());
    assert_eq!(modules.len(), Module::COUNT);
    // a frozen process cannot see that its lifeline ended, and has to go nevertheless
    process::signal(rig.pid_of(Module::Edged)?, Signal::STOP)?;
    rig.end(Signal::KILL)?;
    wait_until("all modules are gone", SOON, || modules.iter().all(|&pid| !process::lives(pid)))?;
    rig.start_again()?;
    assert_eq!(process::children(rig.supervisor_pid()).len(), Module::COUNT);
    Ok(())
}

#[test]
fn evidence_of_a_crash_outlives_the_supervisor() -> Result<()> {
    let mut rig = Setup::new()?.start()?;
    let old = rig.pid_of(Module::Eventbus)?;
    rig.fault(Module::Eventbus, Fault::Panic)?;
    let before = rig.wait_until_back(Module::Eventbus, old)?.last_exit.context("it died")?;
    rig.end(Signal::KILL)?;
    rig.start_again()?;
    let after = rig.module(Module::Eventbus)?.last_exit.context("its death is forgotten")?;
    assert_eq!(after.reason, "signal 6");
    assert_eq!((after.pid, after.at), (before.pid, before.at));
    assert!(after.last_lines.join("\n").contains("panic"), "{:?}", after.last_lines);
    Ok(())
}

#[test]
fn a_module_that_was_started_again_and_again_starts_clean() -> Result<()> {
    let mut rig = Setup::new()?.start()?;
    for _ in 0..5 {
        rig.end(Signal::KILL)?;
        rig.start_again()?;
    }
    assert_eq!(rig.module(Module::Edged)?.restarts, 0);
    assert_eq!(rig.end(Signal::TERM)?.code(), Some(0), "{}", rig.log());
    Ok(())
}
