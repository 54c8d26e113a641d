//! MQTT between clients on the node and the cloud: through a broker of their own, through the
//! internal one, and both.

#[path = "mqtt/twin.rs"]
mod twin;

use anyhow::{Context, Result};
use edgecore_tests::rig::bus::{Mode, Place};
use edgecore_tests::rig::mosquitto::{publish, subscribe};
use ipc_proto::Module;
use rustix::process::Signal;
use serde_json::{Value, json};
use twin::Twin;

/// The three values of `mqttMode`.
const MODES: [Mode; 3] = [Mode::Internal, Mode::Both, Mode::External];

#[test]
fn what_clients_publish_goes_up_and_what_the_cloud_publishes_comes_down() -> Result<()> {
    for mode in MODES {
        let place = Place::new(mode).with_context(|| format!("{mode:?}"))?;
        let port = place.port();
        place.subscribe_rule("default/up")?;
        // As recorded from the Go edgecore.
        for (topic, body) in [
            ("SYS/dis/upload_records", r#"{"hello":"upload"}"#),
            ("$hw/events/upload/x", "raw up"),
            ("default/user/up", "x"),
            ("default/up", r#"{"from":"edge"}"#),
        ] {
            publish(port, topic, body, &[]).with_context(|| format!("{mode:?}"))?;
            place.wait_for_upload(topic, body).with_context(|| format!("{mode:?}"))?;
        }
        publish(port, "default/other", "stays here", &[])?;
        publish(port, "default/up", "last", &[])?;
        place.wait_for_upload("default/up", "last")?;
        assert_eq!(place.uploads()?.len(), 5, "{mode:?}");
        let mut client = subscribe(port, "test", &[])?;
        place.push("publish", "test", json!(r#"{"message":"to edge"}"#))?;
        let line = client.wait_line("it comes down", |line| line.starts_with("got "))?;
        assert_eq!(line.trim(), r#"got test {"message":"to edge"}"#, "{mode:?}");
    }
    Ok(())
}

#[test]
fn with_both_brokers_the_clients_of_both_take_part() -> Result<()> {
    let place = Place::new(Mode::Both)?;
    let (internal, external) = (place.internal, place.port());
    for (port, body) in [(internal, "from within"), (external, "from outside")] {
        publish(port, "default/user/up", body, &[])?;
        place.wait_for_upload("default/user/up", body)?;
    }
    let mut clients = [subscribe(internal, "test", &[])?, subscribe(external, "test", &[])?];
    place.push("publish", "test", json!("for both"))?;
    for client in &mut clients {
        client.wait_line("it comes down", |line| line.starts_with("got test for both"))?;
    }
    Ok(())
}

#[test]
fn device_topics_go_to_devicetwin_and_its_results_come_back() -> Result<()> {
    for mode in [Mode::Internal, Mode::External] {
        let place = Place::with(mode, json!({}), |setup| {
            let own = rustix::process::geteuid().as_raw();
            setup.supervisor["user"] = json!(own);
            setup.supervisor["modules"]["devicetwin"]["user"] = json!(own);
            setup.seats.push(Module::Devicetwin);
            let data = setup.folder.path().join("data/edgecore.db");
            setup.edgecore["database"] = json!({"dataSource": data});
            Ok(())
        })?;
        let twin = Twin::sit(&place.rig)?;
        // It waits at the former one's door.
        let pid = place.rig.pid_of(Module::Eventbus)?;
        place.rig.signal(Module::Eventbus, Signal::KILL)?;
        place.rig.wait_until_back(Module::Eventbus, pid)?;
        place.wait_until_open()?;
        let port = place.port();
        // As recorded from the Go edgecore.
        for (topic, body) in [
            ("$hw/events/node/edge1/membership/get", r#"{"event_id":"e1"}"#),
            ("$hw/events/device/default/sensor1/twin/get", r#"{"event_id":"e2","timestamp":1}"#),
            ("$hw/events/device/default/sensor1/twin/update", "no JSON at all"),
            ("$hw/events/device/default/sensor1/state/update", r#"{"state":"online"}"#),
        ] {
            publish(port, topic, body, &[])?;
            let message = twin.next().with_context(|| place.log())?;
            let route = &message.route;
            assert_eq!((route.operation.as_str(), route.source.as_str()), ("message", "bus"));
            assert_eq!(route.resource.to_string(), topic);
            assert_eq!(message.content.decode::<String>()?, body);
        }
        let topic = "$hw/events/device/default/sensor1/twin/get/result";
        let mut client = subscribe(port, topic, &[])?;
        twin.publish(topic, r#"{"event_id":"e2","twin":{}}"#)?;
        let line = client.wait_line("the result comes", |line| line.starts_with("got "))?;
        assert_eq!(line.trim(), format!(r#"got {topic} {{"event_id":"e2","twin":{{}}}}"#));
        assert_eq!(place.uploads()?, []);
    }
    Ok(())
}

#[test]
fn the_topics_of_rules_outlive_every_process() -> Result<()> {
    for mode in [Mode::Internal, Mode::External] {
        let mut place = Place::new(mode)?;
        place.subscribe_rule("default/up")?;
        place.subscribe_rule("default/gone")?;
        place.push("unsubscribe", "default/gone", Value::Null)?;
        place.wait_for_topic("default/gone", false)?;
        place.rig.end(Signal::KILL)?;
        place.rig.start_again()?;
        place.wait_until_open()?;
        publish(place.port(), "default/gone", "nobody's", &["--retain"])?;
        publish(place.port(), "default/up", "still wanted", &["--repeat", "1"])?;
        place.wait_for_upload("default/up", "still wanted")?;
        assert_eq!(place.uploads()?.len(), 1);
    }
    Ok(())
}

#[test]
fn what_was_published_while_the_broker_or_the_bus_was_away_arrives() -> Result<()> {
    let mut place = Place::new(Mode::External)?;
    let port = place.port();
    // The bus is dead: the broker keeps what comes for it.
    let pid = place.rig.pid_of(Module::Eventbus)?;
    place.rig.signal(Module::Eventbus, Signal::STOP)?;
    publish(port, "default/user/up", "while it was frozen", &[])?;
    place.rig.signal(Module::Eventbus, Signal::KILL)?;
    place.rig.wait_until_back(Module::Eventbus, pid)?;
    place.wait_for_upload("default/user/up", "while it was frozen")?;
    // The broker is away: what the cloud publishes waits for it.
    place.mosquitto.as_mut().context("a broker")?.end()?;
    place.wait_for_report("the loss is seen", |it| it["external"]["state"] == "connecting")?;
    place.push("publish", "test", json!("waits"))?;
    place.wait_for_report("it waits", |it| it["waiting"]["broker"]["messages"] == 1)?;
    let pid = place.rig.pid_of(Module::Eventbus)?;
    place.rig.signal(Module::Eventbus, Signal::KILL)?;
    place.rig.wait_until_back(Module::Eventbus, pid)?;
    place.mosquitto.as_mut().context("a broker")?.start_again()?;
    let mut client = subscribe(port, "test", &["-c", "-i", "reader"])?;
    place.wait_for_report("it is gone", |it| it["waiting"]["broker"]["messages"] == 0)?;
    // It went out before or after the client came; the one that came in time has it, and the next
    // shows that the way is free.
    place.push("publish", "test", json!("next"))?;
    client.wait_line("the next comes down", |line| line.starts_with("got test next"))?;
    Ok(())
}
