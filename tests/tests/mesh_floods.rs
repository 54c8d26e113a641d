//! What clients and the cluster do wrong to the mesh's traffic: floods, endless requests, and endpoints
//! that are none.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::mesh::{CLUSTER, PODS, Place, SERVED};
use edgecore_tests::rig::{SOON, wait_until};
use ipc_proto::Module;
use serde_json::json;

const POLICY: &str = "service.edgemesh.kubeedge.io/load-balancing";

/// How many connections edgemesh has at a time, when it may have 256 descriptors.
const PLACES: usize = 64;

#[test]
fn a_flood_of_connections_waits_for_its_turn_and_is_served() -> Result<()> {
    let more = json!({"modules": {"edgemesh": {"openFiles": 256}}});
    let Some(place) = Place::with(&more)? else { return Ok(()) };
    let pid = place.rig.pid_of(Module::Edgemesh)?;
    let client = &place.pods[0];
    place.service(&json!({POLICY: "round-robin"}), &[])?;
    let all =
        (0..4 * PLACES).map(|_| place.connect(client, CLUSTER)).collect::<Result<Vec<_>>>()?;
    for (number, mut talk) in all.into_iter().enumerate() {
        let who = talk.line().with_context(|| format!("the connection {number} is not served"))?;
        ensure!(PODS[1..].contains(&&*who), "{who}");
        talk.echo("hello")?;
        // its place is the next one's
        drop(talk);
    }
    assert_eq!(place.rig.pid_of(Module::Edgemesh)?, pid);
    Ok(())
}

#[test]
fn a_request_without_end_is_passed_on_within_bounds() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    let pid = place.rig.pid_of(Module::Edgemesh)?;
    place.service(&json!({POLICY: "header:X-User"}), &[])?;
    let endless =
        ["GET / HTTP/1.1\r\n".to_owned(), "X-Junk: ".to_owned(), "x".repeat(1 << 20)].concat();
    for request in [endless.as_bytes(), b"GET \0\xff\r\n\r\n\r\n", b"\r\n\r\n", b"\x16\x03\x01"] {
        let answer = place.connect(&place.pods[0], CLUSTER)?.finish(request)?;
        ensure!(answer.ends_with(request), "it came another way: {} bytes", answer.len());
    }
    assert_eq!(place.rig.pid_of(Module::Edgemesh)?, pid);
    Ok(())
}

#[test]
fn an_endpoint_that_is_none_is_not_reached() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    place.service(&json!({}), &[])?;
    let client = &place.pods[0];
    // what stands there is the node's own
    let own = TcpListener::bind(("127.0.0.1", SERVED))?;
    own.set_nonblocking(true)?;
    for spoofed in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "169.254.169.254", "10.244.1.11; flush"] {
        place.endpoints(&[spoofed])?;
        wait_until(&format!("{spoofed} is passed over"), SOON, || {
            place.ask(client, CLUSTER).is_err()
        })?;
        ensure!(own.accept().is_err(), "somebody came to the node's loopback by {spoofed}");
        place.endpoints(&PODS[1..])?;
        wait_until("the pods serve again", SOON, || place.ask(client, CLUSTER).is_ok())?;
    }
    Ok(())
}
