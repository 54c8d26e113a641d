//! Devices between applications on the node, which speak MQTT, and the cloud.

use anyhow::{Context, Result};
use edgecore_tests::rig::bus::Place;
use edgecore_tests::rig::devices::{SENSOR, heard, report};
use edgecore_tests::rig::mosquitto::publish;
use ipc_proto::Module;
use rustix::process::Signal;
use serde_json::json;

#[test]
fn a_report_is_answered_to_the_application_and_reaches_the_device_status() -> Result<()> {
    let place = Place::of_device()?;
    let mut results = place.hear("twin/update/result")?;
    place.update(22)?;
    let result = heard(&mut results)?;
    assert_eq!(result["event_id"], "e3");
    let temperature = &result["twin"]["temperature"];
    assert_eq!(
        (&temperature["actual"]["value"], &temperature["metadata"]["type"]),
        (&json!("22"), &json!("int"))
    );
    // The cloud loses the value of a property's first report; the second brings it.
    place.wait_for_value("22")
}

#[test]
fn a_report_that_was_answered_survives_the_death_of_all_and_a_cloud_that_is_away() -> Result<()> {
    let place = Place::of_device()?;
    let mut results = place.hear("twin/update/result")?;
    place.cloud.with(|cloud| async move {
        cloud.fault(None, minicloud::fault::Fault::Restart { down_millis: 3000 }).await
    })?;
    for value in 1..=20 {
        place.update(value)?;
        heard(&mut results)?;
    }
    for module in [Module::Devicetwin, Module::Metamanager, Module::Edgehub] {
        place.rig.signal(module, Signal::KILL)?;
    }
    place.wait_for_value("20")
}

#[test]
fn a_bad_report_is_answered_with_code_and_reason_and_counted() -> Result<()> {
    let place = Place::of_device()?;
    let mut results = place.hear("twin/update/result")?;
    publish(place.port(), &format!("{SENSOR}/twin/update"), &report("warm"), &[])?;
    let result = heard(&mut results)?;
    assert_eq!(result["code"], 400);
    let reason = result["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("'warm'") && reason.contains("int"), "{reason}");
    place.wait_for_twins("it is counted", |report| report["badInput"]["badRequests"] == 1)
}

#[test]
fn a_device_that_the_cloud_deletes_is_gone() -> Result<()> {
    let place = Place::of_device()?;
    place.delete("default/device/sensor1")?;
    place.wait_for_devices(0)?;
    let mut results = place.hear("twin/update/result")?;
    place.update(1)?;
    assert_eq!(heard(&mut results)?["code"], 404);
    Ok(())
}

#[test]
fn edgectl_shows_devices_also_without_a_cloud_and_without_the_agent() -> Result<()> {
    let mut place = Place::of_device()?;
    let mapper = place.mapper("m")?;
    mapper.register("toy", "modbus", true)?;
    let state = json!({"deviceName": "sensor1", "deviceNamespace": "default", "state": "online"});
    mapper.insist("ReportDeviceStates", &state)?;
    place.cloud.with(|cloud| async move {
        cloud.fault(None, minicloud::fault::Fault::Restart { down_millis: 60_000 }).await
    })?;
    let config = place.rig.setup().folder.path().join("edgecore.yaml");
    let config = config.to_str().context("a path of letters")?;
    let watch = ["device", "watch", "sensor1", "-o", "json", "--config", config];
    let mut watch = place.rig.edgectl_live(&watch)?;
    watch.wait_line("what is wanted", |line| line.contains(r#""20""#))?;
    let mut results = place.hear("twin/update/result")?;
    place.update(23)?;
    heard(&mut results)?;
    watch.wait_line("what was reported", |line| line.contains(r#""23""#))?;
    place.wait_for_twins("it waits for the cloud", |report| {
        report["unconfirmed"] == 1 && report["mappers"][0]["state"] == "ok"
    })?;

    let device = |place: &Place, arguments: &[&str]| {
        place.rig.edgectl(&[&["device"], arguments, &["--config", config]].concat())
    };
    let list = device(&place, &["list"])?;
    assert!(list.out.contains("default/sensor1  online  modbus    toy (ok)"), "{list:?}");
    assert!(list.out.contains("has not confirmed all of 1 device"), "{list:?}");
    let check = |place: &Place| {
        let got = device(place, &["get", "sensor1", "-o", "json"])?.json()?;
        let temperature = &got["properties"][0];
        assert_eq!(temperature["name"], "temperature");
        assert_eq!((&temperature["desired"], &temperature["type"]), (&json!("20"), &json!("int")));
        let reported = &temperature["reported"];
        assert_eq!((&reported["value"], &reported["version"]["edge"]), (&json!("23"), &json!(1)));
        Ok::<_, anyhow::Error>(got)
    };
    assert_eq!(check(&place)?["mapper"]["state"], "ok");
    let unknown = device(&place, &["get", "default/none"])?;
    assert_eq!((unknown.code, &*unknown.out), (1, ""));
    assert!(unknown.err.contains("no device 'default/none' on this node"), "{unknown:?}");

    place.rig.end(Signal::TERM)?;
    assert_eq!(check(&place)?["mapper"], json!(null));
    Ok(())
}
