//! Services on nodes that cannot be reached but through a relay: TCP, HTTP and UDP, while the relay and
//! the far end are killed, and for nobody who is not of the cluster.

#[path = "mesh_tunnel/place.rs"]
mod place;

use anyhow::{Result, ensure};
use edgecore_tests::rig::{SOON, wait_until};
use ipc_proto::Module;
use place::{Node, Place};
use rustix::process::Signal;

/// Kills the mesh of a node and waits until it is back.
fn kill(node: &Node) -> Result<()> {
    let old = node.rig.pid_of(Module::Edgemesh)?;
    node.rig.signal(Module::Edgemesh, Signal::KILL)?;
    node.rig.wait_until_back(Module::Edgemesh, old).map(drop)
}

fn is_connected(node: &Node) -> bool {
    node.tunnel().is_ok_and(|tunnel| tunnel["relays"][0]["connected"] == true)
}

#[test]
fn a_service_on_another_network_is_reached_through_a_relay() -> Result<()> {
    let Some(place) = Place::new(false)? else { return Ok(()) };
    wait_until("the service is reached", SOON, || place.http().is_ok_and(|it| it == "/hello"))?;
    // each side may finish before the other, and nothing is lost
    const MUCH: usize = 2 << 20;
    ensure!(place.connect()?.pour(MUCH)? == MUCH, "all comes back");
    let mut talk = place.connect()?;
    talk.echo("hello")?;
    wait_until("the stream is shown", SOON, || {
        let peer = |node: &Node| node.tunnel().is_ok_and(|it| it["peers"][0]["streams"] == 1);
        peer(&place.near) && peer(&place.far)
    })?;
    let tunnel = place.near.tunnel()?;
    ensure!(tunnel["peers"][0]["name"] == "edge2", "{tunnel}");
    ensure!(tunnel["peers"][0]["via"] == "relay", "{tunnel}");
    ensure!(tunnel["relays"][0]["node"] == "hub", "{tunnel}");
    // what the relay knows of: two nodes, and no stream
    let tunnel = place.relay.tunnel()?;
    ensure!(tunnel["nodes"] == 2 && tunnel["peers"][0]["streams"] == 0, "{tunnel}");
    place.datagrams(&[0, 1, 1400, 9000])
}

#[test]
fn connections_outlive_a_killed_relay_and_new_ones_a_killed_end() -> Result<()> {
    let Some(place) = Place::new(false)? else { return Ok(()) };
    wait_until("the service is reached", SOON, || place.http().is_ok())?;
    let mut talk = place.connect()?;
    talk.echo("before")?;
    kill(&place.relay)?;
    wait_until("both are back at the relay", SOON, || {
        place.relay.tunnel().is_ok_and(|tunnel| tunnel["nodes"] == 2)
    })?;
    talk.echo("the same connection goes on")?;
    place.http()?;
    for node in [&place.far, &place.near] {
        kill(node)?;
        wait_until("the service is reached again", SOON, || place.http().is_ok())?;
        place.datagrams(&[100])?;
    }
    let ended = talk.echo("the connection went with its ends");
    ensure!(ended.is_err(), "nobody else took it over");
    Ok(())
}

#[test]
fn who_is_not_of_the_cluster_is_refused_until_it_is() -> Result<()> {
    let Some(place) = Place::new(true)? else { return Ok(()) };
    wait_until("the far end is connected", SOON, || is_connected(&place.far))?;
    wait_until("the stranger is told", SOON, || {
        let reason = place.near.tunnel().map(|it| it["relays"][0]["reason"].to_string());
        reason.is_ok_and(|reason| reason.contains("handshake failed"))
    })?;
    wait_until("the relay has the far end alone", SOON, || {
        place.relay.tunnel().is_ok_and(|tunnel| tunnel["nodes"] == 1)
    })?;
    ensure!(place.http().is_err(), "the service is not reached");
    // another node's certificate is none for this one
    place.near.issue("edge3", &place.authority)?;
    kill(&place.near)?;
    wait_until("what is wrong is said", SOON, || {
        let trouble = place.near.tunnel().map(|it| it["trouble"].to_string());
        trouble.is_ok_and(|trouble| trouble.contains("is of node 'edge3', expected 'edge1'"))
    })?;
    // one of its own is taken without a restart
    place.near.issue("edge1", &place.authority)?;
    wait_until("the service is reached", SOON, || place.http().is_ok())
}
