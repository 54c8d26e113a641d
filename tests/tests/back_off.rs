//! A module that keeps dying: the pauses grow up to the ceiling, it is held, and never given up.

use std::time::Duration;

use anyhow::{Context, Result};
use edgecore_tests::rig::{Rig, Setup, of};
use ipc_proto::control::{AgentState, ModuleStatus, Request};
use ipc_proto::{Module, ModuleState};
use rustix::process::Signal;
use serde_json::json;

const VICTIM: Module = Module::Devicetwin;

/// How far a pause may be off what was configured: the supervisor notes times in milliseconds.
const SLACK: i64 = 20;

fn start() -> Result<Rig> {
    let restart = json!({"initial": "400ms", "ceiling": "1500ms", "stableAfter": "60s"});
    Setup::new()?.with(json!({"restart": restart})).start()
}

/// Kills the victim and waits until its death is known.
fn kill(rig: &Rig) -> Result<ModuleStatus> {
    let old = rig.pid_of(VICTIM)?;
    rig.signal(VICTIM, Signal::KILL)?;
    let status = rig.wait("the death is known", |status| {
        let exit = of(status, VICTIM).ok().and_then(|module| module.last_exit.as_ref());
        exit.is_some_and(|exit| exit.pid == old)
    })?;
    of(&status, VICTIM).cloned()
}

/// Waits until the victim runs.
fn wait_until_running(rig: &Rig) -> Result<()> {
    rig.wait("the victim runs", |status| {
        of(status, VICTIM).is_ok_and(|module| module.state == ModuleState::Running)
    })?;
    Ok(())
}

/// Kills the victim until it is held, and returns the pauses before it.
fn kill_until_held(rig: &Rig) -> Result<Vec<i64>> {
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let dead = kill(rig)?;
        if let (Some(next), Some(exit)) = (dead.next_start, &dead.last_exit) {
            pauses.push(next - exit.at);
        }
        if dead.state == ModuleState::Held {
            return Ok(pauses);
        }
        wait_until_running(rig)?;
    }
    anyhow::bail!("never held after pauses of {pauses:?} ms")
}

#[test]
fn a_module_that_keeps_dying_is_held_and_still_tried() -> Result<()> {
    let rig = start()?;
    let before = rig.snapshot()?;
    let pauses = kill_until_held(&rig)?;
    let expected = [400, 800, 1500];
    assert_eq!(pauses.len(), expected.len(), "{pauses:?}: the first restart has no pause");
    for (pause, expected) in pauses.iter().zip(expected) {
        assert!((pause - expected).abs() <= SLACK, "{pauses:?}, expected {expected:?}");
    }
    assert_eq!(rig.status()?.state, AgentState::Degraded);
    rig.wait_at_most(Duration::from_secs(10), "it is tried again", |status| {
        of(status, VICTIM).is_ok_and(|module| module.state == ModuleState::Running)
    })?;
    before.still_holds_but_for(&rig, &[VICTIM])
}

#[test]
fn the_operator_need_not_wait_for_the_pause() -> Result<()> {
    let restart = json!({"initial": "600s", "ceiling": "600s", "stableAfter": "60s"});
    let rig = Setup::new()?.with(json!({"restart": restart})).start()?;
    kill(&rig)?;
    wait_until_running(&rig)?;
    let dead = kill(&rig)?;
    assert!(matches!(dead.state, ModuleState::Backoff | ModuleState::Held), "{:?}", dead.state);
    let due = dead.next_start.context("a start is due")? - dead.last_exit.context("it died")?.at;
    assert!(due > 500_000, "due in {due} ms");
    rig.demand(&Request::Restart { modules: vec![VICTIM] })?;
    wait_until_running(&rig)
}
