//! A node with the internal broker and one device of the cloud's, as it was recorded.

use std::path::PathBuf;

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::Cloud;
use edgecore_tests::rig::mapper::Mapper;
use edgecore_tests::rig::mosquitto::{free_port, publish, subscribe};
use edgecore_tests::rig::operator::Live;
use edgecore_tests::rig::{Rig, SOON, Setup, wait_for, wait_until};
use ipc_proto::Module;
use minicloud::Config;
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

/// What the topics of the device begin with.
pub(crate) const SENSOR: &str = "$hw/events/device/default/sensor1";

/// The node, its cloud, and the port of its broker.
pub(crate) struct Place {
    pub(crate) rig: Rig,
    pub(crate) cloud: Cloud,
    pub(crate) port: u16,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        let cloud = Cloud::start(Config::default())?;
        let mut setup = Setup::new()?;
        cloud.lead(&mut setup);
        for module in OTHERS {
            setup = setup.with(json!({"modules": {module.name(): {"enabled": false}}}));
        }
        setup.supervisor["restart"] = json!({"stableAfter": "1ms"});
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
        place.apply(model())?;
        place.apply(device())?;
        place.wait_for_devices(1)?;
        Ok(place)
    }

    /// Tells the cluster of an object.
    pub(crate) fn apply(&self, object: Value) -> Result<()> {
        self.cloud.with(|cloud| async move { cloud.apply(object).await }).map(drop)
    }

    /// Removes an object from the cluster.
    pub(crate) fn delete(&self, key: &str) -> Result<()> {
        self.cloud.with(|cloud| async move { cloud.delete(key, false).await })
    }

    /// Returns what devicetwin says of itself.
    pub(crate) fn report(&self) -> Option<Value> {
        self.rig.module(Module::Devicetwin).ok()?.report
    }

    /// Waits until devicetwin says something of itself that is as wanted.
    pub(crate) fn wait_report(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        let found = wait_until(what, SOON, || self.report().is_some_and(|report| wanted(&report)));
        found.with_context(|| {
            format!("{:?}\n{}", self.report(), self.rig.module_log(Module::Devicetwin))
        })
    }

    pub(crate) fn wait_for_devices(&self, count: u64) -> Result<()> {
        self.wait_report(&format!("it has {count} devices"), |report| report["devices"] == count)
    }

    /// Returns the status of the device's that the cloud has.
    pub(crate) fn status(&self) -> Result<Value> {
        let key = "default/devicestatus/sensor1";
        let status = self.cloud.with(|cloud| async move { cloud.object(key).await })?;
        Ok(status.unwrap_or_default()["status"].clone())
    }

    pub(crate) fn wait_for_value(&self, value: &str) -> Result<()> {
        let mut last = Value::Null;
        let found = wait_for(&format!("{value} is in the DeviceStatus"), SOON, || {
            last = self.status().ok()?;
            (last["twins"][0]["reported"]["value"] == value).then_some(())
        });
        found.with_context(|| {
            format!("the status is {last}\n{}", self.rig.module_log(Module::Devicetwin))
        })
    }

    /// Reports a temperature as an application does.
    pub(crate) fn update(&self, value: u32) -> Result<()> {
        publish(self.port, &format!("{SENSOR}/twin/update"), &report(&value.to_string()), &[])
    }

    pub(crate) fn hear(&self, suffix: &str) -> Result<Live> {
        subscribe(self.port, &format!("{SENSOR}/{suffix}"), &[])
    }

    /// Starts a mapper whose socket has this name.
    pub(crate) fn mapper(&self, name: &str) -> Result<Mapper> {
        let folder = self.rig.setup().folder.path();
        let socket: PathBuf = folder.join(format!("{name}.sock"));
        Mapper::start(&socket, &folder.join("dmi/dmi.sock"))
    }
}

/// A report of a temperature.
pub(crate) fn report(value: &str) -> String {
    json!({"event_id": "e3", "timestamp": 1_795_407_809_000i64, "twin":
        {"temperature": {"actual": {"value": value}, "metadata": {"type": "int"}}}})
    .to_string()
}

fn fixture(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

pub(crate) fn model() -> Value {
    fixture(include_str!("../../fixtures/devices/model.json"))
}

pub(crate) fn device() -> Value {
    fixture(include_str!("../../fixtures/devices/device.json"))
}

/// Waits for the next message of a subscription and returns its topic and payload.
pub(crate) fn heard_on(live: &mut Live) -> Result<(String, Value)> {
    let line = live.wait_line("it answers", |line| line.starts_with("got "))?;
    let mut parts = line.trim().splitn(3, ' ').skip(1);
    let (topic, body) = (parts.next().context("no topic")?, parts.next().context("no body")?);
    Ok((topic.to_owned(), serde_json::from_str(body)?))
}

pub(crate) fn heard(live: &mut Live) -> Result<Value> {
    heard_on(live).map(|(_, payload)| payload)
}
