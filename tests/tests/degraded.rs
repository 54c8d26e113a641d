//! A node that lacks a module: what of it goes on, and what is made good when the module is back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::bus::{Mode, Place};
use edgecore_tests::rig::devices::heard;
use edgecore_tests::rig::mosquitto::{free_port, publish, subscribe};
use edgecore_tests::rig::{SOON, wait_for, wait_until, web};
use ipc_proto::control::{AgentState, Request};
use ipc_proto::{Module, ModuleState};
use serde_json::json;

/// A joined node on which every module runs, and the port of its local API.
fn whole_node() -> Result<(Place, u16)> {
    let port = free_port()?;
    let place = Place::with(Mode::Internal, json!({}), |setup| {
        for module in Module::ALL {
            setup.supervisor["modules"][module.name()]["enabled"] = json!(true);
        }
        let server = json!({"enable": true, "server": format!("127.0.0.1:{port}")});
        setup.edgecore["modules"]["metaManager"]["metaServer"] = server;
        Ok(())
    })?;
    Ok((place, port))
}

/// Takes a module away.
fn stop(place: &Place, module: Module) -> Result<()> {
    place.rig.demand(&Request::Stop { modules: vec![module] })?;
    place.rig.wait("it is away", |status| {
        let state = edgecore_tests::rig::of(status, module).map(|it| (it.state, it.pid));
        state.is_ok_and(|state| state == (ModuleState::Stopped, None))
    })?;
    Ok(())
}

/// Brings it back.
fn start(place: &Place, module: Module) -> Result<()> {
    place.rig.demand(&Request::Start { modules: vec![module] })?;
    place.rig.wait_until_whole()?;
    place.wait_until_open()
}

/// Waits until a server on the node says that it is well.
fn is_well(port: u16) -> Result<()> {
    wait_until("it is served", SOON, || {
        web::request(port, "GET", "/healthz", b"").is_ok_and(|got| got.line.contains(" 200 "))
    })
}

/// Has one MQTT client talk to another.
fn talks(port: u16, word: &str) -> Result<()> {
    let mut reader = subscribe(port, "t", &[])?;
    publish(port, "t", word, &[])?;
    let wanted = format!("got t {word}");
    reader.wait_line(&wanted, |line| line.trim() == wanted).map(drop)
}

/// Checks that all works which does not need the module that is away.
fn others_serve(place: &Place, local_api: u16, away: Module) -> Result<()> {
    if away != Module::Eventbus {
        talks(place.internal, away.name()).context("MQTT")?;
    }
    if ![Module::Metaserver, Module::Metamanager].contains(&away) {
        is_well(local_api).context("the local API")?;
    }
    if away != Module::Edged {
        is_well(place.rig.setup().api.port()).context("the node's API")?;
    }
    place.rig.scrape().context("metrics").map(drop)
}

#[test]
fn each_module_can_be_away_while_the_others_and_the_cloud_link_go_on() -> Result<()> {
    let (place, local_api) = whole_node()?;
    let session = place.cloud.session()?;
    for module in Module::ALL {
        if module == Module::Edgehub {
            continue;
        }
        let before = place.rig.snapshot()?;
        stop(&place, module)?;
        others_serve(&place, local_api, module).with_context(|| format!("without {module}"))?;
        before.still_holds_but_for(&place.rig, &[module])?;
        assert_eq!(place.cloud.session()?, session, "without {module}");
        start(&place, module)?;
    }
    Ok(())
}

#[test]
fn without_edgehub_all_on_the_node_goes_on_and_what_goes_up_waits() -> Result<()> {
    let (place, local_api) = whole_node()?;
    let before = place.rig.snapshot()?;
    stop(&place, Module::Edgehub)?;
    others_serve(&place, local_api, Module::Edgehub)?;
    publish(place.internal, "default/user/x", "from afar", &[])?;
    let waits = |report: &serde_json::Value| report["waiting"]["cloud"]["messages"] == 1;
    place.wait_for_report("it waits on the disk", waits)?;
    let pods = format!("http://127.0.0.1:{local_api}");
    let got = web::request(local_api, "GET", "/api/v1/pods", b"")?;
    ensure!(got.line.contains(" 200 "), "{pods}: {got:?}");
    before.still_holds_but_for(&place.rig, &[Module::Edgehub])?;
    start(&place, Module::Edgehub)?;
    place.wait_for_upload("default/user/x", "from afar")
}

#[test]
fn what_devices_report_while_devicetwin_is_away_is_answered_when_it_is_back() -> Result<()> {
    let place = Place::of_device()?;
    let mut results = place.hear("twin/update/result")?;
    stop(&place, Module::Devicetwin)?;
    place.update(17)?;
    start(&place, Module::Devicetwin)?;
    let result = heard(&mut results)?;
    assert_eq!(result["twin"]["temperature"]["actual"]["value"], "17", "{result}");
    Ok(())
}

#[test]
fn a_module_that_is_held_is_told_of_everywhere_and_the_others_serve() -> Result<()> {
    let port = free_port()?;
    let place = Place::with(Mode::Internal, json!({}), |setup| {
        let restart = json!({"initial": "600s", "ceiling": "600s"});
        setup.supervisor["restart"] = restart;
        setup.supervisor["metrics"] = json!({"port": port});
        Ok(())
    })?;
    let victim = Module::Devicetwin;
    let session = place.cloud.session()?;
    // The first restart is at once; after the second death the pause is the longest.
    let first = place.rig.pid_of(victim)?;
    place.rig.signal(victim, rustix::process::Signal::KILL)?;
    place.rig.wait_until_back(victim, first)?;
    place.rig.signal(victim, rustix::process::Signal::KILL)?;
    place.rig.wait("it is held", |status| {
        edgecore_tests::rig::of(status, victim).is_ok_and(|it| it.state == ModuleState::Held)
    })?;
    assert_eq!(place.rig.status()?.state, AgentState::Degraded);
    let told = place.rig.edgectl(&["status"])?.out;
    assert!(told.contains("devicetwin keeps dying and is held: signal 9"), "{told}");
    let held = "module=\"devicetwin\",state=\"held\"";
    let scrape = wait_for("metrics tell of it", Duration::from_secs(30), || {
        let scrape = edgecore_tests::rig::scrape::at_port(port).ok()?;
        scrape.value("edgecore_module_state", held).is_ok_and(|it| it == 1.0).then_some(scrape)
    })?;
    assert_eq!(scrape.value("edgecore_degraded", "")?, 1.0);
    scrape.value("edgecore_module_next_start_timestamp_seconds", "module=\"devicetwin\"")?;
    talks(place.internal, "still here")?;
    assert_eq!(place.cloud.session()?, session);
    start(&place, victim)
}
