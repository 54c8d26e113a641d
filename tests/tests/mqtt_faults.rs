//! External brokers that are slow, stuck, gone at the wrong moment or full of rubbish; and clients
//! that wait for nothing.

use std::io::Write;
use std::net::TcpListener;
use std::thread::{park_timeout, spawn};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use edgecore_tests::rig::bus::{Mode, Place};
use edgecore_tests::rig::mosquitto::publish;
use edgecore_tests::rig::mqtt::{Link, Writer, message};
use edgecore_tests::rig::{SOON, wait_until};
use eventbus::mqtt::{self, Packet, Reason, Version};
use ipc_proto::Module;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::Signal;
use serde_json::json;

/// Takes mosquitto's place.
fn impersonate(place: &mut Place) -> Result<TcpListener> {
    let mosquitto = place.mosquitto.as_mut().context("a broker")?;
    let port = mosquitto.port();
    mosquitto.end()?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    // What is written to who does not read shows soon.
    set_socket_recv_buffer_size(&listener, 32 * 1024)?;
    Ok(listener)
}

fn wait_until_broker_has_all(place: &Place) -> Result<()> {
    let what = "the broker has all";
    place.wait_for_report(what, |it| it["waiting"]["broker"]["messages"] == 0).map(drop)
}

#[test]
fn a_broker_that_goes_before_it_acknowledges_gets_the_messages_again() -> Result<()> {
    let mut place = Place::new(Mode::External)?;
    let listener = impersonate(&mut place)?;
    let mut link = Link::accept(&listener)?;
    for body in ["a", "b", "c"] {
        place.push("publish", "down", json!(body))?;
    }
    let bodies = |link: &mut Link, count: usize| -> Result<Vec<(String, bool, u16)>> {
        let next = |_| {
            let it = link.next_message()?;
            Ok((String::from_utf8_lossy(&it.payload).into_owned(), it.dup, it.id))
        };
        (0..count).map(next).collect()
    };
    let first = bodies(&mut link, 3)?;
    assert!(first.iter().all(|(_, again, _)| !again), "{first:?}");
    drop(link);
    let mut link = Link::accept(&listener)?;
    let second = bodies(&mut link, 3)?;
    let again = first.iter().map(|(body, _, id)| (body.clone(), true, *id)).collect::<Vec<_>>();
    assert_eq!(second, again);
    link.acknowledge(second[0].2)?;
    place.wait_for_report("one is gone", |it| it["waiting"]["broker"]["messages"] == 2)?;
    drop(link);
    let mut link = Link::accept(&listener)?;
    assert_eq!(bodies(&mut link, 2)?, again[1..]);
    link.acknowledge(again[1].2)?;
    link.acknowledge(again[2].2)?;
    wait_until_broker_has_all(&place)
}

#[test]
fn a_message_whose_acknowledgement_the_broker_did_not_see_arrives_in_its_order() -> Result<()> {
    let mut place = Place::new(Mode::External)?;
    let listener = impersonate(&mut place)?;
    let send = |link: &mut Link, body: &str, id: u16, again: bool| {
        let mut packet = message("default/user/up", body.as_bytes(), id);
        packet.dup = again;
        link.send(&Packet::Publish(packet))
    };
    let mut link = Link::accept(&listener)?;
    send(&mut link, "a", 1, false)?;
    send(&mut link, "b", 2, false)?;
    drop(link);
    let mut link = Link::accept(&listener)?;
    for (body, id) in [("a", 1), ("b", 2), ("c", 3)] {
        send(&mut link, body, id, id < 3)?;
    }
    place.wait_for_upload("default/user/up", "c")?;
    let mut bodies: Vec<String> = place.uploads()?.into_iter().map(|(_, body)| body).collect();
    let count = bodies.len();
    let mut seen = Vec::new();
    bodies.retain(|body| {
        let is_new = !seen.contains(body);
        seen.push(body.clone());
        is_new
    });
    assert_eq!(bodies, ["a", "b", "c"], "{count} came");
    Ok(())
}

#[test]
fn a_broker_that_reads_nothing_holds_up_nobody_else() -> Result<()> {
    const COUNT: usize = 20;
    let mut place = Place::new(Mode::Both)?;
    let listener = impersonate(&mut place)?;
    let stuck = Link::accept(&listener)?;
    for number in 0..COUNT {
        place.push("publish", "down", json!(format!("{number} {}", "x".repeat(1_000_000))))?;
    }
    place.wait_for_report("all wait", |it| it["waiting"]["broker"]["messages"] == COUNT)?;
    publish(place.internal, "default/user/up", "past it", &[])?;
    place.wait_for_upload("default/user/up", "past it")?;
    place.wait_for_report("it is said", |it| {
        it["external"]["reason"].as_str().is_some_and(|why| why.contains("took nothing for 10 s"))
    })?;
    drop(stuck);
    let mut link = Link::accept(&listener)?;
    for number in 0..COUNT {
        let message = link.next_message()?;
        let begin = format!("{number} x");
        ensure!(message.payload.starts_with(begin.as_bytes()), "not {number} is next");
        link.acknowledge(message.id)?;
    }
    wait_until_broker_has_all(&place)
}

#[test]
fn a_broker_that_reads_slowly_keeps_its_connection() -> Result<()> {
    const COUNT: usize = 8;
    let mut place = Place::new(Mode::External)?;
    let listener = impersonate(&mut place)?;
    let mut link = Link::accept(&listener)?;
    for _ in 0..COUNT {
        place.push("publish", "down", json!("x".repeat(1_000_000)))?;
    }
    place.wait_for_report("all wait", |it| it["waiting"]["broker"]["messages"] == COUNT)?;
    // Longer than a write may be stuck, for one message alone.
    let mut seen = BytesMut::new();
    for _ in 0..130 {
        let mut bytes = [0; 8 * 1024];
        let count = std::io::Read::read(&mut link.stream, &mut bytes)?;
        ensure!(count > 0, "the connection was closed");
        seen.extend_from_slice(&bytes[..count]);
        park_timeout(Duration::from_millis(100));
    }
    link.take(&seen);
    for _ in 0..COUNT {
        let message = link.next_message()?;
        link.acknowledge(message.id)?;
    }
    wait_until_broker_has_all(&place)
}

#[test]
fn a_broker_full_of_kept_rubbish_does_no_harm() -> Result<()> {
    const COUNT: usize = 800;
    let mut place = Place::new(Mode::External)?;
    // The node is away while the broker is filled.
    let pid = place.rig.pid_of(Module::Eventbus)?;
    place.rig.signal(Module::Eventbus, Signal::STOP)?;
    let mut writer = Writer::new(place.port(), "rubbish");
    for number in 0..COUNT {
        let topic = match number % 4 {
            0 => format!("default/user/{number}"),
            1 => format!("$hw/events/device/default/d{number}/twin/update"),
            2 => format!("$hw/events/device//{number}/state/update"),
            _ => format!("$hw/events/node/n{number}/membership/get"),
        };
        let body: Vec<u8> = (0..64).map(|at| (number * 31 + at * 7).to_le_bytes()[0]).collect();
        writer.keep(&topic, &body);
    }
    writer.keep("default/user/large", &vec![0xff; 64 * 1024]);
    wait_until("the broker is full", SOON, || {
        writer.work();
        writer.is_idle()
    })?;
    for _ in 0..2 {
        let pid = place.rig.pid_of(Module::Eventbus).unwrap_or(pid);
        place.rig.signal(Module::Eventbus, Signal::KILL)?;
        place.rig.wait_until_back(Module::Eventbus, pid)?;
        place.wait_until_open()?;
        let body = format!("after {pid}");
        publish(place.port(), "default/user/fresh", &body, &[])?;
        place.wait_for_upload("default/user/fresh", &body)?;
        for queue in ["cloud", "twin"] {
            let done = format!("{queue} has all");
            place.wait_for_report(&done, |it| it["waiting"][queue]["messages"] == 0)?;
        }
    }
    let kept = place.uploads()?.iter().filter(|(topic, _)| topic != "default/user/fresh").count();
    assert!(kept > COUNT / 4, "{kept}");
    for module in [Module::Devicetwin, Module::Edgehub, Module::Metamanager] {
        assert_eq!(place.rig.module(module)?.restarts, 0, "{module}");
    }
    place.mosquitto = None;
    Ok(())
}

#[test]
fn a_client_that_waits_for_no_acknowledgement_gets_all_of_them() -> Result<()> {
    const COUNT: u16 = 10_000;
    let place = Place::new(Mode::Internal)?;
    let mut link = Link::connect(place.internal, "flood")?;
    let mut writer = link.stream.try_clone()?;
    let sent = spawn(move || {
        let mut out = BytesMut::new();
        for id in 1..=COUNT {
            let packet = message("default/user/flood", id.to_string().as_bytes(), id);
            mqtt::write(&Packet::Publish(packet), Version::V4, &mut out);
        }
        writer.write_all(&out)
    });
    for expected in 1..=COUNT {
        let packet = link.next().with_context(|| place.log())?;
        assert_eq!(packet, Packet::Puback { id: expected, reason: Reason::SUCCESS });
    }
    sent.join().expect("it only writes")?;
    place.wait_for_upload("default/user/flood", &COUNT.to_string())?;
    let bodies: Vec<String> = place.uploads()?.into_iter().map(|(_, body)| body).collect();
    let wanted: Vec<String> = (1..=COUNT).map(|id| id.to_string()).collect();
    assert!(bodies == wanted, "{} came, not all of them in order", bodies.len());
    Ok(())
}
