//! A node with devices of the cloud's, as they were recorded: what a test does with them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use ipc_proto::Module;
use serde_json::{Value, json};

use super::bus::{Mode, Place};
use super::mapper::Mapper;
use super::mosquitto::{publish, subscribe};
use super::operator::Live;
use super::{SOON, wait_for, wait_until};

/// What the topics of the device begin with.
pub const SENSOR: &str = "$hw/events/device/default/sensor1";

/// The properties of the devices.
pub const PROPERTIES: [&str; 2] = ["temperature", "enable"];

impl Place {
    /// Starts a node with the internal broker and one device.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn of_device() -> Result<Self> {
        let place = Self::with(Mode::Internal, json!({}), |setup| {
            // Every restart is the first one.
            setup.supervisor["restart"] = json!({"stableAfter": "1ms"});
            Ok(())
        })?;
        place.apply(model())?;
        place.apply(device())?;
        place.wait_for_devices(1)?;
        Ok(place)
    }

    /// Tells the cluster of an object.
    ///
    /// # Errors
    /// When the cluster does not take it.
    pub fn apply(&self, object: Value) -> Result<()> {
        self.cloud.with(|cloud| async move { cloud.apply(object).await }).map(drop)
    }

    /// Removes an object from the cluster.
    ///
    /// # Errors
    /// When the cluster does not have it.
    pub fn delete(&self, key: &str) -> Result<()> {
        self.cloud.with(|cloud| async move { cloud.delete(key, false).await })
    }

    /// Returns what devicetwin says of itself.
    #[must_use]
    pub fn device_report(&self) -> Option<Value> {
        self.rig.module(Module::Devicetwin).ok()?.report
    }

    /// Waits until devicetwin says something of itself that is as wanted.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_for_twins(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        let found =
            wait_until(what, SOON, || self.device_report().is_some_and(|report| wanted(&report)));
        found.with_context(|| {
            format!("{:?}\n{}", self.device_report(), self.rig.module_log(Module::Devicetwin))
        })
    }

    /// Waits until devicetwin has so many devices.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_for_devices(&self, count: u64) -> Result<()> {
        self.wait_for_twins(&format!("it has {count} devices"), |report| report["devices"] == count)
    }

    /// Returns the status of the device that the cloud has.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub fn status(&self) -> Result<Value> {
        self.status_of("sensor1")
    }

    /// Returns the status of a device that the cloud has.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub fn status_of(&self, name: &str) -> Result<Value> {
        let key = &format!("default/devicestatus/{name}");
        let status = self.cloud.with(|cloud| async move { cloud.object(key).await })?;
        Ok(status.unwrap_or_default()["status"].clone())
    }

    /// Tells whether the cloud has this number as the reported value of all properties of a device.
    #[must_use]
    pub fn has(&self, name: &str, number: u64) -> bool {
        let (number, status) = (number.to_string(), self.status_of(name).unwrap_or_default());
        let twins = status["twins"].as_array().map(Vec::as_slice).unwrap_or_default();
        PROPERTIES.iter().all(|property| {
            let twin = twins.iter().find(|twin| twin["propertyName"] == *property);
            twin.is_some_and(|twin| twin["reported"]["value"] == number)
        })
    }

    /// Waits until the cloud has this value of the device's first property.
    ///
    /// # Errors
    /// When it does not come.
    pub fn wait_for_value(&self, value: &str) -> Result<()> {
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
    ///
    /// # Errors
    /// When the broker does not take it.
    pub fn update(&self, value: u32) -> Result<()> {
        publish(self.port(), &format!("{SENSOR}/twin/update"), &report(&value.to_string()), &[])
    }

    /// Subscribes to one of the device's topics.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn hear(&self, suffix: &str) -> Result<Live> {
        subscribe(self.port(), &format!("{SENSOR}/{suffix}"), &[])
    }

    /// Starts a mapper whose socket has this name.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn mapper(&self, name: &str) -> Result<Mapper> {
        let folder = self.rig.setup().folder.path();
        let socket: PathBuf = folder.join(format!("{name}.sock"));
        Mapper::start(&socket, &folder.join("dmi/dmi.sock"))
    }
}

/// A report of a temperature.
#[must_use]
pub fn report(value: &str) -> String {
    json!({"event_id": "e3", "timestamp": 1_795_407_809_000i64, "twin":
        {"temperature": {"actual": {"value": value}, "metadata": {"type": "int"}}}})
    .to_string()
}

/// A report of this number by all properties.
#[must_use]
pub fn report_of_all(number: u64) -> String {
    let twin = |name: &str| (name.to_owned(), json!({"actual": {"value": number.to_string()}}));
    let twins: serde_json::Map<_, _> = PROPERTIES.map(twin).into_iter().collect();
    json!({ "twin": twins }).to_string()
}

fn fixture(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// The model of the devices.
#[must_use]
pub fn model() -> Value {
    fixture(include_str!("../../fixtures/devices/model.json"))
}

/// The device.
#[must_use]
pub fn device() -> Value {
    fixture(include_str!("../../fixtures/devices/device.json"))
}

/// Waits for the next message of a subscription and returns its topic and payload.
///
/// # Errors
/// When none comes.
pub fn heard_on(live: &mut Live) -> Result<(String, Value)> {
    let line = live.wait_line("it answers", |line| line.starts_with("got "))?;
    let mut parts = line.trim().splitn(3, ' ').skip(1);
    let (topic, body) = (parts.next().context("no topic")?, parts.next().context("no body")?);
    Ok((topic.to_owned(), serde_json::from_str(body)?))
}

/// As [`heard_on`], without the topic.
///
/// # Errors
/// When none comes.
pub fn heard(live: &mut Live) -> Result<Value> {
    heard_on(live).map(|(_, payload)| payload)
}
