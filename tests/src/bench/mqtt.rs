//! How many messages with QoS 1 go from a client on the node to the cloud in a second, beside what
//! the same client and bare mosquitto do without any node.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ipc_proto::{Module, Operation};
use minicloud::Config;
use serde_json::json;

use super::{ROUNDS, Row};
use crate::rig::cloud::Cloud;
use crate::rig::mosquitto::{Mosquitto, free_port};
use crate::rig::{Rig, SOON, Setup, wait_until};

/// Messages in a round; the cloud's log holds twice as many.
const COUNT: u64 = 10_000;

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let bare = bare()?;
    let internal = through_the_node(false)?;
    let external = through_the_node(true)?;
    Ok(vec![
        Row::of("mosquitto_pub to mosquitto_sub, no node", "messages/s", &bare),
        Row::of("MQTT to the cloud, internal broker", "messages/s", &internal)
            .target("≥ 5000")
            .go("33, its limit"),
        Row::of("MQTT to the cloud, external broker", "messages/s", &external)
            .target("≥ 5000")
            .go("33, its limit"),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "a number of messages a second needs no more")]
fn rate(begin: Instant) -> f64 {
    COUNT as f64 / begin.elapsed().as_secs_f64()
}

/// Publishes the messages with one `mosquitto_pub`.
fn publish(port: u16) -> Result<Child> {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    command.args(["-q", "1", "-t", "default/user/bench", "-l"]);
    let mut child = command.stdin(Stdio::piped()).spawn().context("cannot run mosquitto_pub")?;
    let mut lines = child.stdin.take().context("its input is a pipe")?;
    let text: String =
        (0..COUNT).map(|number| format!("{{\"temperature\": {number}}}\n")).collect();
    std::thread::spawn(move || lines.write_all(text.as_bytes()));
    Ok(child)
}

/// From the client through bare mosquitto to another client.
fn bare() -> Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let mosquitto = Mosquitto::start(&folder.path().join("m"), "")?;
    let port = mosquitto.port();
    let round = |_| {
        let mut reader = Command::new("mosquitto_sub");
        reader.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-c", "-i", "reader"]);
        reader.args(["-t", "default/user/bench"]).stdout(Stdio::null());
        // The session is there before the first message is.
        ensure!(reader.arg("-E").status()?.success(), "mosquitto_sub cannot subscribe");
        let mut reader = Command::new("mosquitto_sub");
        reader.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-c", "-i", "reader"]);
        reader.args(["-t", "default/user/bench", "-C", &COUNT.to_string()]).stdout(Stdio::null());
        let mut reader = reader.spawn()?;
        let begin = Instant::now();
        let mut writer = publish(port)?;
        ensure!(reader.wait()?.success(), "mosquitto_sub failed");
        let rate = rate(begin);
        writer.wait()?;
        Ok(rate)
    };
    (0..ROUNDS).map(round).collect()
}

fn through_the_node(external: bool) -> Result<Vec<f64>> {
    let cloud = Cloud::start(Config::default())?;
    let mut setup = Setup::new()?;
    cloud.lead(&mut setup);
    let hub = &mut setup.edgecore["modules"]["edgeHub"];
    hub["messageQPS"] = json!(1_000_000);
    hub["messageBurst"] = json!(1_000_000);
    let taking_part = [Module::Metamanager, Module::Devicetwin, Module::Edgehub, Module::Eventbus];
    for module in Module::ALL {
        let enabled = taking_part.contains(&module);
        setup = setup.with(json!({"modules": {module.name(): {"enabled": enabled}}}));
    }
    let mosquitto = external
        .then(|| Mosquitto::start(&setup.folder.path().join("mosquitto"), ""))
        .transpose()?;
    let port = mosquitto.as_ref().map_or_else(free_port, |broker| Ok(broker.port()))?;
    setup.edgecore["modules"]["eventBus"] = json!({
        "enable": true, "mqttMode": if external { 2 } else { 0 },
        "mqttServerInternal": format!("tcp://127.0.0.1:{port}"),
        "mqttServerExternal": format!("tcp://127.0.0.1:{port}"),
    });
    let rig = setup.start()?;
    wait_until("the node joins", SOON, || cloud.session().is_ok_and(|it| it > 0))?;
    wait_until("the broker is there", SOON, || is_open(&rig, external))?;
    (0..ROUNDS).map(|_| round(&cloud, port)).collect()
}

fn is_open(rig: &Rig, external: bool) -> bool {
    let report = rig.module(Module::Eventbus).ok().and_then(|module| module.report);
    let report = report.unwrap_or_default();
    if external {
        report["external"]["state"] == "connected"
    } else {
        report["internal"]["state"] == "listening"
    }
}

/// Publishes the messages and waits until all of them are in the cloud.
fn round(cloud: &Cloud, port: u16) -> Result<f64> {
    let before = cloud.with(|cloud| async move { cloud.received(0).await })?;
    let last = before.last().map_or(0, |it| it.sequence);
    let arrived = cloud.begin(move |cloud| async move {
        let all = move |cloud: &minicloud::core::Cloud, _| {
            // Counted only when there can be enough: this is asked after every message.
            cloud.received().since(last + COUNT - 1).next().is_some()
                && cloud
                    .received()
                    .since(last)
                    .filter(|it| it.message.route.operation == Operation::Upload)
                    .count() as u64
                    >= COUNT
        };
        cloud.wait_for(SOON * 6, all).await?;
        Ok(Instant::now())
    });
    let begin = Instant::now();
    let mut writer = publish(port)?;
    arrived.done()?;
    let rate = rate(begin);
    writer.wait()?;
    Ok(rate)
}
