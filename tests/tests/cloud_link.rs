//! The cloud link: the real edgehub against a cloud, with the test in the store's place.

#[path = "cloud_link/place.rs"]
mod place;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::{SOON, process, wait_until};
use ipc_proto::{Module, Operation};
use minicloud::Config;
use minicloud::core::Push;
use minicloud::fault::{Fault, Garbage};
use place::{Place, Plan};
use rustix::process::Signal;
use serde_json::json;

fn config_map(name: &str, data: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"}, "data": {"a": data}
    })
}

/// A pod of this node that uses a config map, so that the cloud sends both.
fn pod(name: &str, config_map: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": NODE,
            "containers": [{"name": "c", "image": "i",
                "envFrom": [{"configMapRef": {"name": config_map}}]}]
        }
    })
}

/// A heartbeat fast enough for tests.
fn quick() -> serde_json::Value {
    json!({"heartbeat": 1, "websocket": {"readDeadline": 1, "writeDeadline": 2}})
}

#[test]
fn a_blank_node_joins_with_a_token_and_keeps_its_certificate() -> Result<()> {
    let place = Place::joined(Plan::default())?;
    let report = place.wait_for_report("it is connected", |it| it["state"] == "connected")?;
    assert_eq!((&report["connects"], report.get("reason")), (&json!(1), None));
    for (file, label) in [
        ("ca/rootCA.crt", "CERTIFICATE"),
        ("server.crt", "CERTIFICATE"),
        ("server.key", "EC PRIVATE KEY"),
    ] {
        let file = place.certs().join(file);
        let text = std::fs::read_to_string(&file)?;
        assert!(text.starts_with(&format!("-----BEGIN {label}-----\n")), "{}", file.display());
        let mode = std::fs::metadata(&file)?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    let before = std::fs::read(place.certs().join("server.crt"))?;
    place.restart_hub()?;
    place.store.wait_for_link(true)?;
    assert_eq!(std::fs::read(place.certs().join("server.crt"))?, before);
    Ok(())
}

#[test]
fn an_object_is_acknowledged_when_the_store_has_it_and_not_before() -> Result<()> {
    let place = Place::joined(Plan { hub: quick(), ..Plan::default() })?;
    let session = place.cloud.session()?;
    place.store.settle(false);
    place.cloud.apply(pod("p", "c"))?;
    let message = place.store.next()?;
    assert_eq!(message.route.resource.to_string(), "default/pod/p");
    assert!(!place.cloud.waits_for_nothing()?);
    // Heartbeats go on meanwhile.
    let heartbeat = place.report()?["lastHeartbeat"].clone();
    place.wait_for_report("a heartbeat", |it| it["lastHeartbeat"] != heartbeat)?;
    assert!(!place.cloud.waits_for_nothing()?);
    place.store.settle(true);
    wait_until("it is acknowledged", SOON, || place.cloud.waits_for_nothing().unwrap_or(false))?;
    assert_eq!(place.cloud.session()?, session);
    Ok(())
}

#[test]
fn a_megabyte_object_comes_through_whole() -> Result<()> {
    let place = Place::joined(Plan::default())?;
    place.cloud.apply(pod("p", "c"))?;
    let data = "x".repeat(8 << 20);
    place.cloud.apply(config_map("c", &data))?;
    let resources = [place.store.next()?, place.store.next()?];
    let big = resources.iter().find(|it| it.content.raw().len() > data.len());
    big.context("the large object did not come")?;
    wait_until("all is acknowledged", SOON, || place.cloud.waits_for_nothing().unwrap_or(false))
}

#[test]
fn a_cloud_that_restarts_gets_a_new_session() -> Result<()> {
    let place = Place::joined(Plan::default())?;
    let old = place.cloud.session()?;
    place.cloud.fault(Fault::Restart { down_millis: 2000 })?;
    place.store.wait_for_link(false)?;
    place.store.wait_for_link(true)?;
    assert_ne!(place.cloud.session()?, old);
    Ok(())
}

#[test]
fn a_half_open_link_is_found_and_replaced() -> Result<()> {
    let place = Place::joined(Plan { hub: quick(), ..Plan::default() })?;
    place.cloud.fault(Fault::HalfOpen)?;
    place.store.wait_for_link(false)?;
    place.cloud.fault(Fault::Heal)?;
    place.store.wait_for_link(true)
}

#[test]
fn what_goes_up_is_settled_when_the_cloud_has_it() -> Result<()> {
    let place = Place::joined(Plan::default())?;
    let settled = place.store.send(Operation::Insert, "default/event/e1");
    assert!(settled.recv_timeout(SOON).with_context(|| place.evidence())?, "settled as done");
    assert_eq!(place.cloud.received()?, ["insert default/event/e1"]);
    Ok(())
}

#[test]
fn what_goes_up_survives_a_cloud_that_is_away() -> Result<()> {
    let place = Place::joined(Plan::default())?;
    place.cloud.fault(Fault::Restart { down_millis: 2000 })?;
    place.store.wait_for_link(false)?;
    let settled: Vec<_> = (0..50)
        .map(|number| place.store.send(Operation::Insert, &format!("default/event/e{number:02}")))
        .collect();
    place.store.wait_for_link(true)?;
    for settled in settled {
        assert!(settled.recv_timeout(SOON)?);
    }
    let wanted: Vec<_> =
        (0..50).map(|number| format!("insert default/event/e{number:02}")).collect();
    assert_eq!(place.cloud.received()?, wanted);
    Ok(())
}

#[test]
fn a_killed_hub_comes_back_and_nothing_is_lost() -> Result<()> {
    let place = Place::joined(Plan::default())?;
    let settled: Vec<_> = (0..100)
        .map(|number| place.store.send(Operation::Insert, &format!("default/event/e{number:02}")))
        .collect();
    let old = place.rig.pid_of(Module::Edgehub)?;
    process::signal(old, Signal::KILL)?;
    place.rig.wait_until_back(Module::Edgehub, old)?;
    for settled in settled {
        assert!(settled.recv_timeout(SOON).with_context(|| place.evidence())?);
    }
    let received = place.cloud.received()?;
    for number in 0..100 {
        let wanted = format!("insert default/event/e{number:02}");
        assert!(received.contains(&wanted), "{wanted} is lost");
    }
    Ok(())
}

#[test]
fn a_request_is_answered_by_the_cloud() -> Result<()> {
    let place = Place::joined(Plan::default())?;
    place.cloud.apply(config_map("c", "d"))?;
    let answer = place.store.request(Operation::Query, "default/configmap/c")?;
    let object: serde_json::Value = answer.content.decode()?;
    assert_eq!(object["data"]["a"], "d");
    Ok(())
}

#[test]
fn garbage_from_the_cloud_harms_nothing() -> Result<()> {
    let place = Place::joined(Plan::default())?;
    let session = place.cloud.session()?;
    let pid = place.rig.pid_of(Module::Edgehub)?;
    for kind in [Garbage::Text, Garbage::Truncated, Garbage::Json, Garbage::Unknown, Garbage::Empty]
    {
        place.cloud.fault(Fault::Garbage { kind })?;
    }
    place.cloud.apply(pod("p", "c"))?;
    assert_eq!(place.store.next()?.route.resource.to_string(), "default/pod/p");
    assert_eq!(place.cloud.session()?, session);
    place.cloud.fault(Fault::Garbage { kind: Garbage::Bytes })?;
    place.store.wait_for_link(false)?;
    place.store.wait_for_link(true)?;
    assert_eq!(place.rig.pid_of(Module::Edgehub)?, pid);
    Ok(())
}

#[test]
fn a_certificate_is_renewed_before_it_expires() -> Result<()> {
    let life = Duration::from_secs(8);
    let cloud = Config { certificate_life: life, ..Config::default() };
    let place = Place::joined(Plan { cloud, ..Plan::default() })?;
    let first = std::fs::read(place.certs().join("server.crt"))?;
    place.store.wait_for_link(false)?;
    place.store.wait_for_link(true)?;
    assert_ne!(std::fs::read(place.certs().join("server.crt"))?, first);
    Ok(())
}

#[test]
fn what_is_wrong_with_a_token_is_said_with_the_way_out() -> Result<()> {
    let wrong_ca = format!("{}.a.b.c", "0".repeat(64));
    for (token, wanted) in [
        (String::new(), "no certificate and no token"),
        ("nonsense".to_owned(), "the token is none"),
        (wrong_ca, "has a CA of another hash"),
    ] {
        let place = Place::start(Plan { token: Some(token), ..Plan::default() })?;
        place.wait_for_report(wanted, |it| {
            it["reason"].as_str().is_some_and(|reason| reason.contains(wanted))
        })?;
        assert!(place.rig.pid_of(Module::Edgehub).is_ok(), "it does not end of it");
    }
    Ok(())
}

#[test]
fn a_refused_token_is_tried_again_until_it_is_taken() -> Result<()> {
    let cloud = Cloud::start(Config::default())?;
    cloud.fault(Fault::RefuseTokens { on: true })?;
    let place = Place::start_with(cloud, Plan::default())?;
    place.wait_for_report("the token is refused", |it| {
        it["reason"].as_str().is_some_and(|reason| reason.contains("refuses the token"))
    })?;
    place.cloud.fault(Fault::RefuseTokens { on: false })?;
    place.store.wait_for_link(true)?;
    Ok(())
}

/// Joins a cloud and returns the files of the node's certificate.
fn files_of_another_cloud() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let place = Place::joined(Plan::default())?;
    ["ca/rootCA.crt", "server.crt", "server.key"]
        .into_iter()
        .map(|file| Ok((file, std::fs::read(place.certs().join(file))?)))
        .collect()
}

#[test]
fn a_token_of_a_new_cloud_heals_certificates_of_the_old_one() -> Result<()> {
    let files = files_of_another_cloud()?;
    let old = files.clone();
    let place = Place::joined(Plan { files, ..Plan::default() })?;
    for (file, bytes) in old {
        assert_ne!(std::fs::read(place.certs().join(file))?, bytes, "{file}");
    }
    Ok(())
}

#[test]
fn without_a_token_a_wrong_cloud_is_told_with_the_way_out() -> Result<()> {
    let files = files_of_another_cloud()?;
    let token = Some(String::new());
    let place =
        Place::start(Plan { files: files.clone(), token: token.clone(), ..Plan::default() })?;
    let says = |place: &Place, wanted: &'static str| {
        place.wait_for_report(wanted, |it| {
            it["reason"].as_str().is_some_and(|reason| reason.contains(wanted))
        })
    };
    says(&place, "wrong CA: the certificate of")?;
    // The right CA, and still the other cloud's certificate.
    let cloud = Cloud::start(Config::default())?;
    let ca = pem(cloud.minicloud().ca());
    let files = [vec![("ca/rootCA.crt", ca)], files[1..].to_vec()].concat();
    let place = Place::start_with(cloud, Plan { files, token, ..Plan::default() })?;
    says(&place, "the cloud refuses this node's certificate")?;
    Ok(())
}

fn pem(der: &[u8]) -> Vec<u8> {
    let body = data_encoding::BASE64.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n").into_bytes()
}

#[test]
fn an_expired_cloud_is_told_from_a_wrong_one() -> Result<()> {
    let place = Place::joined(Plan::default())?;
    place.cloud.fault(Fault::ExpiredServerCertificate { on: true })?;
    place.cloud.fault(Fault::Close)?;
    place.store.wait_for_link(false)?;
    place.wait_for_report("the cloud's certificate has expired", |it| {
        it["reason"].as_str().is_some_and(|reason| reason.contains("has expired"))
    })?;
    place.cloud.fault(Fault::Heal)?;
    place.store.wait_for_link(true)
}

#[test]
fn messages_lost_by_the_cloud_are_acknowledged_when_they_come_again() -> Result<()> {
    let place = Place::joined(Plan::default())?;
    // The acknowledgement is lost, so the cloud sends the pod again.
    place.cloud.fault(Fault::Drop { count: 1, up: true, resource: "default/pod/p".into() })?;
    place.cloud.apply(pod("p", "c"))?;
    assert_eq!(place.store.next()?.route.resource.to_string(), "default/pod/p");
    wait_until("it is acknowledged", SOON, || place.cloud.waits_for_nothing().unwrap_or(false))?;
    place.cloud.apply(pod("q", "c"))?;
    assert_eq!(place.store.next()?.route.resource.to_string(), "default/pod/q", "not p once more");
    Ok(())
}

#[test]
fn the_death_of_any_other_module_leaves_the_session_alone() -> Result<()> {
    let place = Place::joined(Plan { hub: quick(), ..Plan::default() })?;
    let session = place.cloud.session()?;
    for module in Module::ALL {
        if matches!(module, Module::Edgehub | Module::Metamanager) {
            continue;
        }
        let old = place.rig.pid_of(module)?;
        process::signal(old, Signal::KILL)?;
        place.rig.wait_until_back(module, old)?;
        assert_eq!(place.cloud.session()?, session, "after the death of {module}");
    }
    let heartbeat = place.report()?["lastHeartbeat"].clone();
    place.wait_for_report("a heartbeat", |it| it["lastHeartbeat"] != heartbeat)?;
    assert_eq!(place.cloud.session()?, session);
    Ok(())
}

#[test]
fn what_comes_while_the_store_is_dead_waits_and_is_acknowledged_then() -> Result<()> {
    let mut place = Place::joined(Plan { hub: quick(), ..Plan::default() })?;
    let session = place.cloud.session()?;
    place.store.die();
    for number in 0..20 {
        place.cloud.apply(pod(&format!("p{number}"), "c"))?;
    }
    let heartbeat = place.report()?["lastHeartbeat"].clone();
    place.wait_for_report("a heartbeat", |it| it["lastHeartbeat"] != heartbeat)?;
    assert!(!place.cloud.waits_for_nothing()?);
    place.store_returns()?;
    for number in 0..20 {
        let message = place.store.next()?;
        assert_eq!(message.route.resource.to_string(), format!("default/pod/p{number}"));
    }
    wait_until("all is acknowledged", SOON, || place.cloud.waits_for_nothing().unwrap_or(false))?;
    assert_eq!(place.cloud.session()?, session);
    Ok(())
}

#[test]
fn a_full_queue_pushes_back_and_the_link_stands() -> Result<()> {
    let place = Place::joined(Plan { hub: quick(), ..Plan::default() })?;
    let session = place.cloud.session()?;
    place.store.settle(false);
    // No acknowledgement is waited for with these, so they come as fast as they are taken.
    for number in 0..3000 {
        let push = Push {
            source: "cloudhub".into(),
            group: "resource".into(),
            operation: "createvolume".into(),
            resource: format!("default/volume/v{number}"),
            version: String::new(),
            content: json!("x".repeat(2000)),
        };
        place.cloud.with(|cloud| async move { cloud.push(NODE, push).await })?;
    }
    let load = |it: &serde_json::Value| it["inWork"].as_u64().unwrap_or(0);
    let full = place.wait_for_report("the queue is full", |it| load(it) > 1000)?;
    for _ in 0..3 {
        let heartbeat = place.report()?["lastHeartbeat"].clone();
        place.wait_for_report("a heartbeat", |it| it["lastHeartbeat"] != heartbeat)?;
    }
    assert!(load(&place.report()?) <= load(&full) + 1100, "bounded");
    assert_eq!(place.cloud.session()?, session, "the link stands");
    place.store.settle(true);
    for number in 0..3000 {
        let message = place.store.next()?;
        assert_eq!(message.route.resource.to_string(), format!("default/volume/v{number}"));
    }
    assert_eq!(place.cloud.session()?, session);
    Ok(())
}
