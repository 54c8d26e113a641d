//! Devices between applications on the node, which speak MQTT, and the cloud.

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::Cloud;
use edgecore_tests::rig::mosquitto::{free_port, publish, subscribe};
use edgecore_tests::rig::operator::Live;
use edgecore_tests::rig::{Rig, SOON, Setup, wait_for, wait_until};
use ipc_proto::Module;
use minicloud::Config;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The modules that have nothing to do with devices.
const OTHERS: [Module; 6] = [
    Module::Edged,
    Module::Servicebus,
    Module::Taskmanager,
    Module::Metaserver,
    Module::Edgestream,
    Module::Edgemesh,
];

const UPDATE: &str = "$hw/events/device/default/sensor1/twin/update";

/// A node with the internal broker and one device of the cloud's.
struct Place {
    rig: Rig,
    cloud: Cloud,
    port: u16,
}

impl Place {
    fn new() -> Result<Self> {
        let cloud = Cloud::start(Config::default())?;
        let mut setup = Setup::new()?;
        cloud.lead(&mut setup);
        for module in OTHERS {
            setup = setup.with(json!({"modules": {module.name(): {"enabled": false}}}));
        }
        let hub = &mut setup.edgecore["modules"]["edgeHub"];
        hub["messageQPS"] = json!(100_000);
        hub["messageBurst"] = json!(100_000);
        let port = free_port()?;
        let server = format!("tcp://127.0.0.1:{port}");
        setup.edgecore["modules"]["eventBus"] =
            json!({"enable": true, "mqttMode": 0, "mqttQOS": 1, "mqttServerInternal": server});
        let rig = setup.start()?;
        let place = Self { rig, cloud, port };
        wait_until("the node joins", SOON, || place.cloud.session().is_ok_and(|it| it > 0))?;
        for object in [model(), device()] {
            place.cloud.with(|cloud| async move { cloud.apply(object).await })?;
        }
        place.wait_for_devices(1)?;
        Ok(place)
    }

    fn wait_for_devices(&self, count: u64) -> Result<()> {
        let found = wait_for("devicetwin has the devices", SOON, || {
            let report = self.rig.module(Module::Devicetwin).ok()?.report?;
            (report["devices"] == count).then_some(())
        });
        found.with_context(|| self.rig.module_log(Module::Devicetwin))
    }

    fn status(&self) -> Result<Value> {
        let key = "default/devicestatus/sensor1";
        let status = self.cloud.with(|cloud| async move { cloud.object(key).await })?;
        Ok(status.unwrap_or_default()["status"].clone())
    }

    fn wait_for_value(&self, value: &str) -> Result<()> {
        let mut last = Value::Null;
        let found = wait_for(&format!("{value} is in the DeviceStatus"), SOON, || {
            last = self.status().ok()?;
            (last["twins"][0]["reported"]["value"] == value).then_some(())
        });
        found.with_context(|| {
            format!("the status is {last}\n{}", self.rig.module_log(Module::Devicetwin))
        })
    }

    fn update(&self, value: u32) -> Result<()> {
        publish(self.port, UPDATE, &report(&value.to_string()), &[])
    }

    fn hear(&self, suffix: &str) -> Result<Live> {
        subscribe(self.port, &format!("$hw/events/device/default/sensor1/{suffix}"), &[])
    }
}

fn report(value: &str) -> String {
    json!({"event_id": "e3", "timestamp": 1_795_407_809_000i64, "twin":
        {"temperature": {"actual": {"value": value}, "metadata": {"type": "int"}}}})
    .to_string()
}

fn model() -> Value {
    json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel",
        "metadata": {"name": "sensor-model", "namespace": "default"},
        "spec": {"protocol": "modbus", "properties": [
            {"name": "temperature", "type": "INT", "accessMode": "ReadWrite"}]}})
}

fn device() -> Value {
    json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
        "metadata": {"name": "sensor1", "namespace": "default"},
        "spec": {"nodeName": "edge1", "deviceModelRef": {"name": "sensor-model"},
            "protocol": {"protocolName": "modbus", "configData": {"slaveID": 1}},
            "properties": [{"name": "temperature", "desired": {"value": "20"},
                "reportToCloud": true}]}})
}

fn heard(live: &mut Live) -> Result<Value> {
    let line = live.wait_line("it answers", |line| line.starts_with("got "))?;
    let body = line.trim().splitn(3, ' ').nth(2).context("no body")?;
    Ok(serde_json::from_str(body)?)
}

#[test]
fn a_report_is_answered_to_the_application_and_reaches_the_device_status() -> Result<()> {
    let place = Place::new()?;
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
    let place = Place::new()?;
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
    let place = Place::new()?;
    let mut results = place.hear("twin/update/result")?;
    publish(place.port, UPDATE, &report("warm"), &[])?;
    let result = heard(&mut results)?;
    assert_eq!(result["code"], 400);
    let reason = result["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("'warm'") && reason.contains("int"), "{reason}");
    let counted = || {
        let report = place.rig.module(Module::Devicetwin).ok()?.report?;
        (report["badInput"]["badRequests"] == 1).then_some(())
    };
    wait_for("it is counted", SOON, counted)
}

#[test]
fn a_device_that_the_cloud_deletes_is_gone() -> Result<()> {
    let place = Place::new()?;
    let key = "default/device/sensor1";
    place.cloud.with(|cloud| async move { cloud.delete(key, false).await })?;
    place.wait_for_devices(0)?;
    let mut results = place.hear("twin/update/result")?;
    place.update(1)?;
    assert_eq!(heard(&mut results)?["code"], 404);
    Ok(())
}
