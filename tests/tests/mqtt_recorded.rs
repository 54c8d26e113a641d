//! Every kind of MQTT message that was recorded beside a real edgecore, in both directions: the
//! same goes in, the same comes out, through either broker. Times, drawn identities and the words of
//! errors are left aside.

use anyhow::{Context, Result, bail};
use edgecore_tests::rig::bus::{Mode, Place};
use edgecore_tests::rig::mosquitto::{publish, subscribe};
use edgecore_tests::rig::operator::Live;
use edgecore_tests::rig::{SOON, wait_until};
use serde_json::{Value, json};

const RECORDED: &str = include_str!("mqtt/recorded.txt");

/// The length of an identity that is drawn.
const UUID: usize = 36;

/// A topic, and a body without what differs at each time.
#[derive(Clone, Debug, PartialEq)]
struct Heard(String, Value);

impl Heard {
    fn of(text: &str) -> Result<Self> {
        let (topic, body) = text.trim_end().split_once(' ').context("no body")?;
        let mut body = serde_json::from_str(body).unwrap_or_else(|_| json!(body));
        still(&mut body);
        Ok(Self(topic.to_owned(), body))
    }
}

/// Takes times and drawn identities out.
fn still(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "timestamp" | "lastOnlineTime" => *value = json!("some time"),
                    "reason" => *value = json!("some words"),
                    "event_id" if value.as_str().is_some_and(|it| it.len() == UUID) => {
                        *value = json!("drawn");
                    }
                    _ => still(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(still),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What one listener hears of all, but for what the test itself said.
struct Ear {
    live: Live,
    said: Vec<Heard>,
}

impl Ear {
    fn hears(&mut self, wanted: &str) -> Result<()> {
        let wanted = Heard::of(wanted)?;
        loop {
            let line = self.live.wait_line(&format!("{wanted:?}"), |it| it.starts_with("got "))?;
            let heard = Heard::of(line.trim_start_matches("got "))?;
            if heard == wanted {
                return Ok(());
            }
            if let Some(at) = self.said.iter().position(|said| *said == heard) {
                self.said.remove(at);
                continue;
            }
            bail!("heard {heard:#?}, expected {wanted:#?}");
        }
    }
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

/// The cloud does something.
fn deed(place: &Place, what: &str) -> Result<()> {
    match what.split_once(' ').unwrap_or((what, "")) {
        ("subscribe", topic) => place.subscribe_rule(topic),
        ("unsubscribe", topic) => {
            place.push("unsubscribe", topic, Value::Null)?;
            place.wait_for_topic(topic, false)
        }
        ("add", _) => [model(), device()]
            .into_iter()
            .try_for_each(|object| place.cloud.apply(object).map(drop)),
        ("remove", _) => {
            let key = "default/device/sensor1";
            place.cloud.with(|cloud| async move { cloud.delete(key, false).await })?;
            Ok(())
        }
        other => bail!("no deed {other:?}"),
    }
}

/// Waits until the node has all that the cloud sent, so that nothing of a deed comes after the next.
fn wait_until_quiet(place: &Place) -> Result<()> {
    let quiet = || place.cloud.waits_for_nothing().unwrap_or(false);
    wait_until("the node has all", SOON, quiet)
}

fn replay(mode: Mode) -> Result<()> {
    let place = Place::new(mode)?;
    let port = place.port();
    let live = subscribe(port, "#", &["-t", "$hw/#"])?;
    let mut ear = Ear { live, said: Vec::new() };
    for line in RECORDED.lines().filter(|line| !line.starts_with('#')) {
        let (who, what) = line.split_once(' ').context("a line has two parts")?;
        let (topic, body) = what.split_once(' ').unwrap_or((what, ""));
        match who {
            "!" => deed(&place, what).and_then(|()| wait_until_quiet(&place)),
            ">" => {
                ear.said.push(Heard::of(what)?);
                publish(port, topic, body, &[])
            }
            "<" => ear.hears(what),
            "^" => place.wait_for_upload(topic, body),
            "v" => place.push("publish", topic, json!(body)),
            other => bail!("no sign {other}"),
        }
        .with_context(|| format!("{mode:?}: {line}"))?;
    }
    assert_eq!(place.uploads()?.len(), 4);
    Ok(())
}

#[test]
fn what_was_recorded_happens_again_through_the_internal_broker() -> Result<()> {
    replay(Mode::Internal)
}

#[test]
fn what_was_recorded_happens_again_through_an_external_broker() -> Result<()> {
    replay(Mode::External)
}
