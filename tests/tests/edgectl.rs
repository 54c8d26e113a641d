//! `edgectl` as its user types it: what it prints, what it does, and how it ends.

use anyhow::{Context, Result};
use edgecore_tests::rig::hostile::{Hostile, echo, ping};
use edgecore_tests::rig::operator::{Live, Said, edgectl};
use edgecore_tests::rig::{Rig, SOON, Setup, process, wait_for, wait_until};
use ipc_proto::{Module, ModuleState};
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn status_as_json_has_everything_that_scripts_rely_on() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let status = rig.edgectl(&["status", "-o", "json"])?.json()?;
    for key in ["node", "version", "state", "uptimeSeconds", "pssBytes", "cloud", "modules"] {
        assert!(status.get(key).is_some(), "no {key} in {status}");
    }
    assert_eq!((&status["node"], &status["state"]), (&json!("edge1"), &json!("running")));
    assert!(status["pssBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{status}");
    let cloud = &status["cloud"];
    for key in ["state", "endpoint", "since", "connects", "lastHeartbeat", "certificateExpires"] {
        assert!(cloud.get(key).is_some(), "no {key} in {cloud}");
    }
    let modules = status["modules"].as_array().context("modules are a list")?;
    let names: Vec<&str> = modules.iter().filter_map(|module| module["name"].as_str()).collect();
    assert_eq!(names, Module::ALL.map(Module::name));
    for (module, entry) in Module::ALL.into_iter().zip(modules) {
        assert_eq!(entry["pid"], json!(rig.pid_of(module)?));
        for key in ["state", "since", "restarts", "lastExit", "pssBytes", "cpuSeconds"] {
            assert!(entry.get(key).is_some(), "no {key} in {entry}");
        }
        let queue = &entry["queue"];
        assert!(queue["waiting"].is_u64() && queue["unsettled"].is_u64(), "{entry}");
    }
    Ok(())
}

#[test]
fn status_tells_why_a_module_died() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let old = rig.pid_of(Module::Edged)?;
    assert_eq!(rig.edgectl(&["fault", "segv", "edged"])?.code, 0);
    rig.wait_until_back(Module::Edged, old)?;
    let table = rig.edgectl(&["status"])?.out;
    let row = table.lines().find(|line| line.contains("edged")).context("no row of edged")?;
    assert!(row.contains("running") && row.contains("signal 11"), "{table}");
    let status = rig.edgectl(&["status", "-o", "json"])?.json()?;
    let entry = &status["modules"][Module::Edged.index()];
    assert_eq!(entry["lastExit"]["reason"], "signal 11");
    assert_eq!(entry["restarts"], 1);
    Ok(())
}

#[test]
fn status_answers_while_every_module_is_frozen() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let pids: Vec<u32> = process::children(rig.supervisor_pid());
    for &pid in &pids {
        process::signal(pid, Signal::STOP)?;
    }
    let status = rig.edgectl(&["status", "-o", "json"])?.json()?;
    assert!(pids.iter().all(|&pid| process::is_stopped(pid)), "answered too late to tell");
    assert_eq!(status["modules"].as_array().map(Vec::len), Some(Module::COUNT));
    Ok(())
}

#[test]
fn orders_act_on_one_module_and_leave_the_others() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let before = rig.snapshot()?;
    let old = rig.pid_of(Module::Eventbus)?;
    assert_eq!(rig.edgectl(&["restart", "eventbus"])?, Said::done());
    let back = rig.module(Module::Eventbus)?;
    assert_eq!(back.state, ModuleState::Running);
    assert_ne!(back.pid, Some(old));
    assert_eq!(back.last_exit.map(|exit| exit.reason).as_deref(), Some("requested"));
    assert_eq!(rig.edgectl(&["stop", "eventbus", "edgemesh"])?, Said::done());
    assert_eq!(rig.module(Module::Eventbus)?.state, ModuleState::Stopped);
    assert_eq!(rig.module(Module::Edgemesh)?.pid, None);
    assert_eq!(rig.edgectl(&["start", "eventbus", "edgemesh"])?, Said::done());
    rig.wait_until_whole()?;
    before.still_holds_but_for(&rig, &[Module::Eventbus, Module::Edgemesh])
}

#[test]
fn restart_all_gives_every_module_a_new_process() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let before = rig.snapshot()?;
    assert_eq!(rig.edgectl(&["restart", "all"])?, Said::done());
    for module in Module::ALL {
        assert_ne!(Some(rig.pid_of(module)?), before.pid_of(module), "{module}");
    }
    Ok(())
}

#[test]
fn a_stopped_module_stays_stopped_over_a_reload() -> Result<()> {
    let rig = Setup::new()?.start()?;
    assert_eq!(rig.edgectl(&["stop", "edgemesh"])?, Said::done());
    assert_eq!(rig.edgectl(&["reload"])?, Said::done());
    assert_eq!(rig.module(Module::Edgemesh)?.state, ModuleState::Stopped);
    assert_eq!(rig.status()?.reloads, 1);
    Ok(())
}

#[test]
fn wrong_usage_ends_with_2_and_one_line_with_what_is_right() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let said = rig.edgectl(&["restart", "edgedd", "edged", "x"])?;
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(said.err.contains("unknown module 'edgedd', 'x', expected one of"), "{}", said.err);
    for arguments in
        [&["frobnicate"][..], &[], &["fault", "melt", "edged"], &["tap", "--module", "x"]]
    {
        assert_eq!(rig.edgectl(arguments)?.code, 2, "{arguments:?}");
    }
    assert_eq!(rig.module(Module::Edged)?.restarts, 0, "a half-wrong order is no order");
    Ok(())
}

#[test]
fn without_a_supervisor_it_says_so_and_how_to_start_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for arguments in [
        &["status"][..],
        &["status", "-o", "json"],
        &["restart", "edged"],
        &["tap"],
        &["sandbox"],
        &["reload"],
        &["fault", "kill", "edged"],
    ] {
        let said = Said::of(edgectl(folder.path(), arguments)?.output()?)?;
        assert_eq!(said.code, 3, "{arguments:?}: {said:?}");
        assert!(said.err.contains("not running") && said.err.contains("start"), "{}", said.err);
    }
    Ok(())
}

#[test]
fn what_cannot_be_done_ends_with_1_and_the_reason() -> Result<()> {
    let rig = Setup::new()?
        .with(json!({"faults": false, "modules": {"edgemesh": {"enabled": false}}}))
        .start()?;
    let said = rig.edgectl(&["fault", "kill", "edged"])?;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("supervisor.yaml"), "{}", said.err);
    let said = rig.edgectl(&["start", "edgemesh"])?;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("edgemesh"), "{}", said.err);
    assert_eq!(rig.module(Module::Edged)?.restarts, 0);
    Ok(())
}

#[test]
fn tap_shows_the_messages_of_one_module() -> Result<()> {
    let rig = Setup::new()?.with_seat(Module::Metaserver).with_seat(Module::Eventbus).start()?;
    let mut tap = rig.edgectl_live(&["tap", "--module", "edged", "-o", "json"])?;
    let mut other = Hostile::welcomed(&rig, Module::Eventbus, Module::Metamanager)?;
    let mut peer = Hostile::welcomed(&rig, Module::Metaserver, Module::Edged)?;
    // what was sent before the tap has reached the modules is not shown
    let line = wait_for("an answer of edged is seen", SOON, || {
        drop(other.ask(&echo(10)));
        drop(peer.ask(&ping()));
        tap.look(|line| line.contains("metaserver"))
    })?;
    let record: Value = serde_json::from_str(&line)?;
    assert_eq!((&record["from"], &record["to"]), (&json!("edged"), &json!("metaserver")));
    assert!(record["at"].is_string() && record["bytes"].is_u64(), "{record}");
    for line in tap.seen() {
        assert!(line.contains("edged"), "not of the module asked for: {line}");
    }
    Ok(())
}

#[test]
fn a_tap_goes_on_over_the_death_of_a_module() -> Result<()> {
    let rig = Setup::new()?.with_seat(Module::Metaserver).start()?;
    let mut tap = rig.edgectl_live(&["tap", "-o", "json"])?;
    wait_until_seen(&rig, &mut tap)?;
    let old = rig.pid_of(Module::Edged)?;
    rig.signal(Module::Edged, Signal::KILL)?;
    rig.wait_until_back(Module::Edged, old)?;
    wait_until_seen(&rig, &mut tap)?;
    process::signal(tap.child.id(), Signal::TERM)?;
    let child = &mut tap.child;
    wait_until("the tap ends", SOON, || child.try_wait().is_ok_and(|ended| ended.is_some()))
}

/// Asks edged until the tap shows it.
fn wait_until_seen(rig: &Rig, tap: &mut Live) -> Result<()> {
    let mut peer = Hostile::welcomed(rig, Module::Metaserver, Module::Edged)?;
    wait_until("edged is seen", SOON, || {
        drop(peer.ask(&ping()));
        tap.look(|line| line.contains("\"from\":\"edged\"")).is_some()
    })
}

#[test]
fn logs_shows_the_end_and_follows() -> Result<()> {
    let rig = Setup::new()?.with(json!({"restart": {"stableAfter": "1ms"}})).start()?;
    let mut live = rig.edgectl_live(&["logs", "--file", "-f", "edged"])?;
    let old = rig.pid_of(Module::Edged)?;
    assert_eq!(rig.edgectl(&["fault", "panic", "edged"])?.code, 0);
    live.wait_line("the panic is followed", |line| line.contains("panic"))?;
    rig.wait_until_back(Module::Edged, old)?;
    let said = rig.edgectl(&["logs", "--file", "-n", "1000", "edged"])?;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("panic"), "{said:?}");
    assert_eq!(rig.edgectl(&["logs", "--file", "-n", "1", "edged"])?.out.lines().count(), 1);
    Ok(())
}

#[test]
fn there_is_no_colour_where_nobody_sees_it() -> Result<()> {
    let rig = Setup::new()?.start()?;
    for arguments in [&["status"][..], &["status", "edged"], &["sandbox"]] {
        let said = rig.edgectl(arguments)?;
        assert_eq!(said.code, 0, "{said:?}");
        assert!(!said.out.contains('\u{1b}'), "{arguments:?}: {:?}", said.out);
    }
    Ok(())
}

#[test]
fn version_completions_and_manual_are_there() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let version = rig.edgectl(&["version", "-o", "json"])?.json()?;
    assert_eq!(version["edgectl"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["edgecore"], env!("CARGO_PKG_VERSION"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(rig.edgectl(&["completions", shell])?.out.contains("edgectl"), "{shell}");
    }
    assert!(rig.edgectl(&["man"])?.out.starts_with(".ie"), "a roff page");
    Ok(())
}
