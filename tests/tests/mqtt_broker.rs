//! The internal broker, with mosquitto's own commands as its clients; and brokers and clients that
//! do not behave.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use anyhow::{Context, Result};
use edgecore_tests::rig::bus::{Mode, Place};
use edgecore_tests::rig::mosquitto::{publish, subscribe, try_publish};
use edgecore_tests::rig::operator::Live;
use edgecore_tests::rig::{SOON, process, wait_until};
use ipc_proto::Module;
use rustix::process::Signal;
use serde_json::json;

/// The arguments of a reader whose session lasts.
const READER: [&str; 5] = ["-c", "-i", "reader", "-q", "2"];

fn got(client: &mut Live, wanted: &str) -> Result<()> {
    let wanted = format!("got {wanted}");
    // It may have come before the subscription was answered.
    if !client.seen().iter().any(|line| line.trim() == wanted) {
        client.wait_line(&wanted, |line| line.trim() == wanted)?;
    }
    Ok(())
}

fn kill_bus(place: &Place) -> Result<()> {
    let pid = place.rig.pid_of(Module::Eventbus)?;
    place.rig.signal(Module::Eventbus, Signal::KILL)?;
    place.rig.wait_until_back(Module::Eventbus, pid)?;
    place.wait_until_open()
}

#[test]
fn sessions_messages_and_kept_ones_survive_the_brokers_death() -> Result<()> {
    let place = Place::new(Mode::Internal)?;
    let port = place.internal;
    drop(subscribe(port, "t/#", &READER)?);
    publish(port, "t/1", "once", &[])?;
    publish(port, "t/2", "exactly once", &["-q", "2"])?;
    publish(port, "kept", "for later", &["--retain"])?;
    kill_bus(&place)?;
    let mut reader = subscribe(port, "t/#", &READER)?;
    got(&mut reader, "t/1 once")?;
    got(&mut reader, "t/2 exactly once")?;
    let mut later = subscribe(port, "kept", &[])?;
    got(&mut later, "kept for later")?;
    // What was taken is not given again.
    drop(reader);
    kill_bus(&place)?;
    let mut reader = subscribe(port, "t/#", &READER)?;
    publish(port, "t/3", "next", &[])?;
    got(&mut reader, "t/3 next")?;
    let seen = reader.seen().iter().filter(|line| line.starts_with("got t/")).count();
    assert_eq!(seen, 1, "{:#?}", reader.seen());
    Ok(())
}

#[test]
fn both_versions_and_all_qualities_meet() -> Result<()> {
    let place = Place::new(Mode::Internal)?;
    let port = place.internal;
    let mut readers = Vec::new();
    for version in ["mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            readers.push(subscribe(port, "t/+", &["-V", version, "-q", qos])?);
        }
    }
    for version in ["mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let body = format!("{version} {qos}");
            publish(port, "t/x", &body, &["-V", version, "-q", qos])?;
            for reader in &mut readers {
                got(reader, &format!("t/x {body}"))?;
            }
        }
    }
    // Properties of a message reach who understands them.
    let mut reader = subscribe(port, "p", &["-V", "mqttv5", "-F", "got %t %p %P %C"])?;
    let properties = ["publish", "user-property", "unit", "celsius"];
    let kind = ["publish", "content-type", "text/plain"];
    let mut arguments = vec!["-V", "mqttv5", "-D"];
    arguments.extend(properties);
    arguments.push("-D");
    arguments.extend(kind);
    publish(port, "p", "21", &arguments)?;
    got(&mut reader, "p 21 unit:celsius text/plain")?;
    // A shared subscription is refused with its reason, the connection stays.
    let mut shared = Command::new("stdbuf");
    shared.args(["-oL", "mosquitto_sub", "-d", "-V", "mqttv5", "-h", "127.0.0.1"]);
    shared.args(["-p", &port.to_string(), "-t", "$share/g/t"]);
    let mut shared = Live::start(shared)?;
    shared.wait_line("it is answered", |line| line.contains("158"))?;
    Ok(())
}

#[test]
fn the_will_of_a_lost_client_is_published() -> Result<()> {
    let place = Place::new(Mode::Internal)?;
    let mut watcher = subscribe(place.internal, "wills", &[])?;
    let client = subscribe(
        place.internal,
        "t",
        &["--will-topic", "wills", "--will-payload", "lost", "--will-qos", "1"],
    )?;
    // stdbuf has become mosquitto_sub.
    process::signal(client.child.id(), Signal::KILL)?;
    got(&mut watcher, "wills lost")
}

#[test]
fn clients_talk_while_all_other_modules_are_dead() -> Result<()> {
    let place = Place::new(Mode::Internal)?;
    let others = vec![Module::Edgehub, Module::Devicetwin, Module::Metamanager];
    let mut reader = subscribe(place.internal, "t", &[])?;
    place.rig.demand(&ipc_proto::control::Request::Stop { modules: others.clone() })?;
    publish(place.internal, "t", "still here", &[])?;
    got(&mut reader, "t still here")?;
    publish(place.internal, "default/user/x", "waits", &[])?;
    place.wait_for_report("it waits", |it| it["waiting"]["cloud"]["messages"] == 1)?;
    kill_bus(&place)?;
    place.rig.demand(&ipc_proto::control::Request::Start { modules: others })?;
    place.wait_for_upload("default/user/x", "waits")
}

#[test]
fn users_do_what_they_may_and_no_more() -> Result<()> {
    let place = Place::with(Mode::Internal, json!({}), |setup| {
        let users = json!({"robot": {"password": "secret", "publish": ["default/user/#"]}});
        setup.supervisor["modules"]["eventbus"]["mqttUsers"] = users;
        Ok(())
    })?;
    let port = place.internal;
    let (robot, wrong) = (["-u", "robot", "-P", "secret"], ["-u", "robot", "-P", "guess"]);
    for stranger in [&[][..], &wrong] {
        let said = try_publish(port, "default/user/x", "no", stranger)?;
        assert_ne!(said.code, 0);
        assert!(said.err.contains("not authorised") || said.err.contains("bad user"), "{said:?}");
    }
    publish(port, "default/user/x", "yes", &robot)?;
    place.wait_for_upload("default/user/x", "yes")?;
    publish(port, "SYS/dis/upload_records", "not mine", &robot)?;
    place.wait_for_report("it is refused", |it| it["counts"]["refused"] == 1)?;
    assert_eq!(place.uploads()?.len(), 1);
    Ok(())
}

#[test]
fn users_hear_what_they_may_and_no_more() -> Result<()> {
    let place = Place::with(Mode::Internal, json!({}), |setup| {
        let users = json!({
            "robot": {"password": "secret"},
            "screen": {"password": "glass", "publish": [], "subscribe": ["t/#", "wills"]},
        });
        setup.supervisor["modules"]["eventbus"]["mqttUsers"] = users;
        Ok(())
    })?;
    let port = place.internal;
    let (robot, screen) = (["-u", "robot", "-P", "secret"], ["-u", "screen", "-P", "glass"]);
    for (version, refusal) in [("mqttv311", "128"), ("mqttv5", "135")] {
        for filter in ["#", "+/x", "$hw/#", "wills/more"] {
            let mut command = Command::new("mosquitto_sub");
            command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-V", version, "-d"]);
            let said = command.args(screen).args(["-q", "1", "-t", filter, "-W", "20"]).output()?;
            let out = String::from_utf8_lossy(&said.stdout).into_owned();
            let answer = format!("Subscribed (mid: 1): {refusal}");
            assert!(out.contains(&answer), "{version} {filter}: {out}");
        }
    }
    let mut reader = subscribe(port, "t/+", &screen)?;
    publish(port, "t/x", "for all", &robot)?;
    got(&mut reader, "t/x for all")?;
    // It may say nothing, not even when it dies.
    let said = try_publish(port, "t/x", "not mine", &[&screen[..], &["-V", "mqttv5"]].concat())?;
    assert!(said.err.contains("Not authorized"), "{said:?}");
    publish(port, "t/x", "the next", &robot)?;
    got(&mut reader, "t/x the next")?;
    assert!(!reader.seen().iter().any(|line| line.contains("not mine")));
    Ok(())
}

#[test]
fn sessions_of_version_5_last_as_long_as_they_were_to() -> Result<()> {
    let place = Place::new(Mode::Internal)?;
    let port = place.internal;
    let lasting = ["-V", "mqttv5", "-c", "-i", "lasting", "-x", "3600"];
    let fleeting = ["-V", "mqttv5", "-i", "fleeting"];
    drop(subscribe(port, "t/#", &lasting)?);
    drop(subscribe(port, "t/#", &fleeting)?);
    place.wait_for_report("one has left", |it| {
        it["internal"]["clients"] == 0 && it["internal"]["sessions"] == 1
    })?;
    publish(port, "t/1", "kept", &["-V", "mqttv5", "-q", "2"])?;
    kill_bus(&place)?;
    let mut reader = subscribe(port, "t/#", &lasting)?;
    got(&mut reader, "t/1 kept")?;
    let mut reader = subscribe(port, "t/#", &fleeting)?;
    publish(port, "t/3", "next", &["-V", "mqttv5"])?;
    got(&mut reader, "t/3 next")?;
    assert!(!reader.seen().iter().any(|line| line.contains("kept")), "{:#?}", reader.seen());
    Ok(())
}

#[test]
fn what_is_kept_can_be_taken_back() -> Result<()> {
    let place = Place::new(Mode::Internal)?;
    let port = place.internal;
    for version in ["mqttv311", "mqttv5"] {
        let keep = ["-V", version, "--retain"];
        publish(port, "kept", "the first", &keep)?;
        publish(port, "kept", "the second", &keep)?;
        let mut later = subscribe(port, "kept", &["-V", version, "-F", "got %t %p %r"])?;
        got(&mut later, "kept the second 1")?;
        publish(port, "kept", "", &keep)?;
        place.wait_for_report("it is gone", |it| it["internal"]["retained"] == 0)?;
        kill_bus(&place)?;
        let mut later = subscribe(port, "kept", &["-V", version])?;
        publish(port, "kept", "a passing one", &["-V", version])?;
        got(&mut later, "kept a passing one")?;
        let seen = later.seen().iter().filter(|line| line.starts_with("got ")).count();
        assert_eq!(seen, 1, "{:#?}", later.seen());
    }
    Ok(())
}

#[test]
fn a_large_message_and_a_strange_one_arrive() -> Result<()> {
    for mode in [Mode::Internal, Mode::External] {
        let place = Place::new(mode)?;
        let file = place.rig.setup().folder.path().join("large");
        fs::write(&file, "x".repeat(10 * 1000 * 1000))?;
        let path = file.to_str().context("a path of letters")?;
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &place.port().to_string(), "-q", "1"]);
        command.args(["-t", "default/user/large", "-f", path]);
        assert!(command.status()?.success());
        wait_until("it is in the cloud", SOON, || {
            let large = |(_, body): &(String, String)| body.len() == 10_000_000;
            place.uploads().is_ok_and(|uploads| uploads.iter().any(large))
        })?;
        publish(place.port(), "default/user/ä \"\\", "\u{1}\"\\\u{7f}€", &[])?;
        place.wait_for_upload("default/user/ä \"\\", "\u{1}\"\\\u{7f}€")?;
    }
    Ok(())
}

#[test]
fn rubbish_ends_its_connection_and_nothing_else() -> Result<()> {
    let place = Place::new(Mode::Internal)?;
    let port = place.internal;
    let mut reader = subscribe(port, "t", &[])?;
    let connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01z";
    let bad: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x10\xff\xff\xff\x7f",
        b"\x30\x03\0\x01t",
        &[0xff; 4096],
        &[&connect[..], connect].concat(),
        &[&connect[..], b"\x82\x06\0\x01\0\x01#\x03"].concat(),
    ];
    for bytes in bad {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(bytes)?;
        // It is cut, after a CONNACK perhaps.
        let mut rest = Vec::new();
        let cut = stream.read_to_end(&mut rest);
        assert!(
            cut.is_ok() || cut.is_err_and(|it| it.kind() == std::io::ErrorKind::ConnectionReset)
        );
        assert!(rest.len() <= 4, "{rest:?}");
    }
    // Connections that say nothing take nobody's place.
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(("127.0.0.1", port))).collect();
    publish(port, "t", "unharmed", &[])?;
    got(&mut reader, "t unharmed")?;
    drop(silent);
    assert_eq!(place.rig.module(Module::Eventbus)?.restarts, 0);
    Ok(())
}

#[test]
fn a_broker_that_talks_rubbish_is_said_and_left_alone() -> Result<()> {
    let mut place = Place::new(Mode::External)?;
    let mosquitto = place.mosquitto.as_mut().context("a broker")?;
    mosquitto.end()?;
    let port = mosquitto.port();
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let (mut stream, _) = listener.accept()?;
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
    place.wait_for_report("the rubbish is said", |it| {
        it["external"]["reason"].as_str().is_some_and(|why| why.contains("not an MQTT packet"))
    })?;
    // One that refuses is told apart.
    let (mut stream, _) = listener.accept()?;
    stream.write_all(b"\x20\x02\0\x05")?;
    place.wait_for_report("the refusal is said", |it| {
        it["external"]["reason"].as_str().is_some_and(|why| why.contains("eventBus.mqttUsername"))
    })?;
    drop((stream, listener));
    place.mosquitto.as_mut().context("a broker")?.start_again()?;
    place.wait_until_open()?;
    publish(port, "default/user/x", "after all", &[])?;
    place.wait_for_upload("default/user/x", "after all")
}
