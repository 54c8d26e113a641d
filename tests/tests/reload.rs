//! Reload: the supervisor runs its program file anew in its own process, and no module notices.

use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use edgecore_tests::rig::{Rig, Setup, of, process};
use ipc_proto::control::Request;
use ipc_proto::{Module, ModuleState};
use rustix::process::Signal;
use serde_json::json;

/// Asks for a reload and waits until it is through.
fn reload(rig: &Rig) -> Result<()> {
    let before = rig.status()?.reloads;
    rig.demand(&Request::Reload)?;
    rig.wait("the reload is through", |status| status.reloads == before + 1)?;
    Ok(())
}

/// Writes another `supervisor.yaml`.
fn configure(rig: &Rig, text: &str) -> Result<()> {
    let file = rig.setup().folder.path().join("supervisor.yaml");
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[test]
fn a_reload_keeps_every_process_and_counts() -> Result<()> {
    let mut rig = Setup::new()?.start()?;
    let before = rig.snapshot()?;
    let uptime = rig.status()?.uptime_seconds;
    for _ in 0..3 {
        reload(&rig)?;
        before.still_holds_but_for(&rig, &[])?;
    }
    let after = rig.status()?;
    assert_eq!((after.reloads, after.pid), (3, rig.supervisor_pid()));
    assert!(after.uptime_seconds >= uptime, "a reload is no start");
    assert_eq!(rig.end(Signal::TERM)?.code(), Some(0), "{}", rig.log());
    Ok(())
}

#[test]
fn sighup_reloads_too() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let before = rig.snapshot()?;
    process::signal(rig.supervisor_pid(), Signal::HUP)?;
    rig.wait("the reload is through", |status| status.reloads == 1)?;
    before.still_holds_but_for(&rig, &[])
}

#[test]
fn modules_are_watched_after_a_reload_as_before() -> Result<()> {
    let rig =
        Setup::new()?.with(json!({"beat": {"interval": "200ms", "patience": "2s"}})).start()?;
    reload(&rig)?;
    let before = rig.snapshot()?;
    let [killed, frozen] = [Module::Edged, Module::Edgehub];
    let olds = [killed, frozen].map(|module| before.pid_of(module).expect("it runs"));
    process::signal(olds[0], Signal::KILL)?;
    process::signal(olds[1], Signal::STOP)?;
    let reason = |module, old| -> Result<String> {
        Ok(rig.wait_until_back(module, old)?.last_exit.context("it died")?.reason)
    };
    assert_eq!(reason(killed, olds[0])?, "signal 9");
    assert_eq!(reason(frozen, olds[1])?, "hang");
    before.still_holds_but_for(&rig, &[killed, frozen])
}

#[test]
fn a_module_that_dies_during_a_reload_comes_back() -> Result<()> {
    let rig = Setup::new()?.with(json!({"restart": {"stableAfter": "1ms"}})).start()?;
    let before = rig.snapshot()?;
    for module in Module::ALL {
        let old = rig.pid_of(module)?;
        rig.demand(&Request::Reload)?;
        process::signal(old, Signal::KILL)?;
        rig.wait_until_back(module, old)?;
    }
    rig.wait_until_whole()?;
    assert_eq!(process::children(rig.supervisor_pid()).len(), Module::COUNT);
    before.still_holds_but_for(&rig, &Module::ALL)
}

#[test]
fn a_reload_takes_the_program_that_was_installed_meanwhile() -> Result<()> {
    let rig = Setup::new()?.with_own_program()?.start()?;
    let before = rig.snapshot()?;
    let program = &rig.setup().program;
    // an installer writes beside and renames, as the running file cannot be written to
    let new = program.with_extension("new");
    fs::copy(program, &new)?;
    fs::rename(&new, program)?;
    reload(&rig)?;
    let runs = fs::read_link(format!("/proc/{}/exe", rig.supervisor_pid()))?;
    assert_eq!(&runs, program, "the supervisor runs the new file");
    before.still_holds_but_for(&rig, &[])?;
    let old = rig.pid_of(Module::Edged)?;
    rig.signal(Module::Edged, Signal::KILL)?;
    let back = rig.wait_until_back(Module::Edged, old)?;
    let runs = fs::read_link(format!("/proc/{}/exe", back.pid.context("it runs")?))?;
    assert_eq!(&runs, program, "the new life of a module runs the new file");
    Ok(())
}

#[test]
fn a_program_that_cannot_run_is_not_taken() -> Result<()> {
    let rig = Setup::new()?.with_own_program()?.start()?;
    let before = rig.snapshot()?;
    let program = &rig.setup().program;
    let new = program.with_extension("new");
    fs::write(&new, "no program")?;
    fs::rename(&new, program)?;
    drop(rig.demand(&Request::Reload));
    rig.wait("the supervisor answers", |status| status.reloads == 0)?;
    before.still_holds_but_for(&rig, &[])
}

#[test]
fn a_configuration_that_cannot_be_taken_leaves_the_old_one_in_force() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let before = rig.snapshot()?;
    configure(&rig, "beat: { interval: never }")?;
    drop(rig.demand(&Request::Reload));
    rig.wait("the refusal is logged", |_| rig.log().contains("beat.interval"))?;
    assert!(rig.status()?.faults, "the old configuration allows faults");
    before.still_holds_but_for(&rig, &[])
}

#[test]
fn a_reload_takes_the_configuration_that_was_written_meanwhile() -> Result<()> {
    let setup = Setup::new()?;
    let mut wanted = setup.supervisor.clone();
    let rig = setup.start()?;
    let before = rig.snapshot()?;
    wanted["faults"] = json!(false);
    wanted["modules"]["edgemesh"]["enabled"] = json!(false);
    configure(&rig, &wanted.to_string())?;
    reload(&rig)?;
    rig.wait("the module is gone that nobody wants", |status| {
        of(status, Module::Edgemesh)
            .is_ok_and(|module| module.state == ModuleState::Disabled && module.pid.is_none())
    })?;
    assert!(!rig.status()?.faults);
    rig.wait_until_whole()?;
    assert_eq!(process::children(rig.supervisor_pid()).len(), Module::COUNT - 1);
    // those who shared no connection with it have nothing to learn
    let peers: Vec<Module> = Module::Edgemesh.peers().chain([Module::Edgemesh]).collect();
    before.still_holds_but_for(&rig, &peers)
}

#[test]
fn a_start_takes_out_a_token_that_has_done_its_work_and_a_reload_does_not() -> Result<()> {
    let mut setup = Setup::new()?;
    let token = format!("{}.eyJh.eyJl.c2ln", "0".repeat(64));
    setup.edgecore["modules"]["edgeHub"]["token"] = token.as_str().into();
    let folder = setup.folder.path();
    let (file, certs) = (folder.join("edgecore.yaml"), folder.join("certs"));
    fs::create_dir(&certs)?;
    let certificate = fs::File::create(certs.join("server.crt"))?;
    let mut rig = setup.start()?;
    let hub = rig.pid_of(Module::Edgehub)?;
    // The node has joined.
    certificate.set_modified(SystemTime::now() + Duration::from_secs(3600))?;
    reload(&rig)?;
    assert!(fs::read_to_string(&file)?.contains(&token));
    assert_eq!(rig.pid_of(Module::Edgehub)?, hub);
    rig.end(Signal::TERM)?;
    rig.start_again()?;
    assert!(!fs::read_to_string(&file)?.contains(&token));
    let hub = rig.pid_of(Module::Edgehub)?;
    reload(&rig)?;
    assert_eq!(rig.pid_of(Module::Edgehub)?, hub, "its configuration is what it was");
    Ok(())
}
