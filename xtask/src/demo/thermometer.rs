//! The demonstration's device: a simulated thermometer, an ordinary MQTT client of the node's own
//! broker, whose readings stand in the cloud and which does what the cloud wants of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::cloud::Cloud;
use super::interrupt::Interrupt;
use super::node::{NAME, Node};
use super::{show, shown, wait_for};
use crate::screen::Screen;

/// The device's name.
const DEVICE: &str = "thermometer";

/// How long the broker may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the device known to the cloud, lets it report, and lets the cloud want something else.
pub(super) fn work(
    screen: Screen,
    cloud: &Cloud,
    node: &Node,
    interrupt: &Interrupt,
) -> Result<()> {
    screen.heading("a thermometer reports by MQTT to the node, and the node to the cloud");
    cloud.apply(&model())?;
    cloud.apply(&device("21"))?;
    wait_for(node, interrupt, "the node to have the device", || desired(node))?;
    reads(screen, cloud, (node, interrupt), "21")?;
    screen.line("\n  the cloud wants 25:");
    cloud.apply(&device("25"))?;
    let what = "the node to hear of it";
    wait_for(node, interrupt, what, || desired(node).filter(|wanted| wanted == "25"))?;
    show(screen, node, &["device", "get", DEVICE, "--config", node.config()])?;
    reads(screen, cloud, (node, interrupt), "25")
}

/// Lets the thermometer read a value and waits until the cloud has it.
pub(super) fn reads(
    screen: Screen,
    cloud: &Cloud,
    (node, interrupt): (&Node, &Interrupt),
    value: &str,
) -> Result<()> {
    let topic = format!("$hw/events/device/default/{DEVICE}/twin/update");
    let twin = json!({"temperature": {"actual": {"value": value}, "metadata": {"type": "int"}}});
    let begin = Instant::now();
    let payload = json!({"twin": twin}).to_string();
    let sent = wait_for(node, interrupt, "the broker to take the reading", || {
        publish(node.broker(), &topic, &payload).ok()
    });
    sent?;
    wait_for(node, interrupt, "the cloud to have the reading", || {
        let status = cloud.object(&format!("default/devicestatus/{DEVICE}"))?;
        let reported = &status["status"]["twins"][0]["reported"]["value"];
        (reported == value).then_some(())
    })?;
    let time = shown(begin.elapsed());
    screen.line(&format!("  it reads {value}: {} after {time}", screen.good("in the cloud")));
    Ok(())
}

/// Returns what the node knows that the cloud wants.
fn desired(node: &Node) -> Option<String> {
    let arguments = ["device", "get", DEVICE, "-o", "json", "--config", node.config()];
    let device: Value = serde_json::from_slice(&node.edgectl(&arguments).ok()?).ok()?;
    Some(device["properties"][0]["desired"].as_str()?.to_owned())
}

fn model() -> Value {
    json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel",
        "metadata": {"name": DEVICE, "namespace": "default"},
        "spec": {"properties": [{"name": "temperature", "type": "INT"}]}})
}

fn device(wanted: &str) -> Value {
    json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
    "metadata": {"name": DEVICE, "namespace": "default"},
    "spec": {"nodeName": NAME, "deviceModelRef": {"name": DEVICE},
        "protocol": {"protocolName": "simulated"},
        "properties": [{"name": "temperature", "desired": {"value": wanted}}]}})
}

/// Publishes with QoS 1, as any MQTT 3.1.1 client does, and waits until the broker has it for sure.
fn publish(port: u16, topic: &str, payload: &str) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // protocol, level 4, clean session, no keep-alive, the client's name
    let connect = [b"\0\x04MQTT\x04\x02\0\0", &text(DEVICE)[..]].concat();
    stream.write_all(&packet(0x10, &connect))?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    ensure!(answer == [0x20, 2, 0, 0], "the broker refuses: {answer:?}");
    // the packet's number stands between topic and payload
    let message = [&text(topic)[..], &[0, 1], payload.as_bytes()].concat();
    stream.write_all(&packet(0x32, &message))?;
    stream.read_exact(&mut answer)?;
    ensure!(answer == [0x40, 2, 0, 1], "the broker does not acknowledge: {answer:?}");
    stream.write_all(&packet(0xe0, &[])).context("cannot say goodbye")
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// Makes a packet of fewer than 16,384 bytes, whose length takes two bytes at most.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    let length = match (high << 1) | (low >> 7) {
        0 => vec![low],
        high => vec![low | 0x80, high],
    };
    [&[kind][..], &length, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_packet_is_written_in_groups_of_seven_bits() {
        assert_eq!(packet(0xe0, &[]), [0xe0, 0]);
        assert_eq!(packet(0x32, &[7; 127])[..3], [0x32, 127, 7]);
        assert_eq!(packet(0x32, &[7; 321])[..4], [0x32, 0xc1, 2, 7]);
    }
}
