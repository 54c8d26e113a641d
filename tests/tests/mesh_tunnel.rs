//! Services on nodes that cannot be reached but through a relay: TCP, HTTP and UDP, while the relay and
//! the far end are killed, and for nobody who is not of the cluster.

use anyhow::{Context as _, Result, ensure};
use edgecore_tests::rig::tunnel::{Node, Place};
use edgecore_tests::rig::{SOON, wait_until};
use ipc_proto::Module;
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
    let Some(place) = Place::new()? else { return Ok(()) };
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
    ensure!(tunnel["relays"][0]["node"] == "hub0", "{tunnel}");
    ensure!(tunnel["peers"][0]["relay"] == "hub0", "{tunnel}");
    // what the relay knows of: two nodes, and no stream
    let tunnel = place.relays[0].tunnel()?;
    ensure!(tunnel["nodes"] == 2 && tunnel["peers"][0]["streams"] == 0, "{tunnel}");
    place.datagrams(&[0, 1, 1400, 9000])?;
    // what a collector is told of it
    let much = f64::from(u32::try_from(MUCH)?);
    let value = |node: &Node, name: &str, labels: &str| {
        node.rig.scrape().and_then(|it| it.value(&format!("edgecore_mesh_tunnel_{name}"), labels))
    };
    let is = |node, name: &str, labels: &str, least: f64| {
        value(node, name, labels).is_ok_and(|it| it >= least)
    };
    wait_until("all that passed is counted", SOON, || {
        is(&place.near, "bytes_total", "direction=\"sent\"", much)
            && is(&place.far, "bytes_total", "direction=\"received\"", much)
            && is(&place.relays[0], "relayed_bytes_total", "", 2.0 * much)
    })?;
    ensure!(value(&place.near, "relays", "state=\"connected\"")? == 1.0);
    ensure!(value(&place.near, "relays", "state=\"away\"")? == 0.0);
    ensure!(value(&place.near, "connects_total", "")? == 1.0);
    ensure!(value(&place.relays[0], "nodes", "")? == 2.0);
    wait_until("one stream is counted", SOON, || is(&place.near, "streams", "", 1.0))?;
    talk.echo("it stands all the time")
}

#[test]
fn connections_outlive_a_killed_relay_and_new_ones_a_killed_end() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    wait_until("the service is reached", SOON, || place.http().is_ok())?;
    let mut talk = place.connect()?;
    talk.echo("before")?;
    kill(&place.relays[0])?;
    wait_until("both are back at the relay", SOON, || {
        place.relays[0].tunnel().is_ok_and(|tunnel| tunnel["nodes"] == 2)
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
    let Some(place) = Place::with(1, true)? else { return Ok(()) };
    wait_until("the far end is connected", SOON, || is_connected(&place.far))?;
    wait_until("the stranger is told", SOON, || {
        let reason = place.near.tunnel().map(|it| it["relays"][0]["reason"].to_string());
        reason.is_ok_and(|reason| reason.contains("handshake failed"))
    })?;
    wait_until("the relay has the far end alone", SOON, || {
        place.relays[0].tunnel().is_ok_and(|tunnel| tunnel["nodes"] == 1)
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

#[test]
fn another_relay_takes_the_place_of_one_that_is_killed() -> Result<()> {
    let Some(mut place) = Place::with(2, false)? else { return Ok(()) };
    wait_until("the service is reached", SOON, || place.http().is_ok())?;
    for node in [&place.near, &place.far] {
        wait_until("both relays are connected", SOON, || {
            let relays = node.tunnel().map(|tunnel| tunnel["relays"].clone()).unwrap_or_default();
            (0..2).all(|relay| relays[relay]["connected"] == true)
        })?;
    }
    let by = |place: &Place| -> Result<usize> {
        let tunnel = place.near.tunnel()?;
        let relay = tunnel["peers"].as_array().into_iter().flatten();
        let relay = relay.filter_map(|peer| peer["relay"].as_str()).next();
        let number = relay.and_then(|name| name.strip_prefix("hub")).context("no relay")?;
        Ok(number.parse()?)
    };
    let mut talk = place.connect()?;
    talk.echo("before")?;
    wait_until("it is shown by which relay", SOON, || by(&place).is_ok())?;
    let used = by(&place)?;
    place.relays[used].rig.end(Signal::KILL)?;
    // traffic goes on by the other, on connections that stand and on new ones
    for round in 0..20 {
        talk.echo(&format!("round {round}"))?;
        place.http()?;
    }
    place.datagrams(&[100, 1400])?;
    wait_until("that is shown", SOON, || by(&place).is_ok_and(|now| now == 1 - used))?;
    wait_until("the one that died is away", SOON, || {
        let away =
            |node: &Node| node.rig.scrape()?.value("edgecore_mesh_tunnel_relays", "state=\"away\"");
        away(&place.near).is_ok_and(|it| it == 1.0) && away(&place.far).is_ok_and(|it| it == 1.0)
    })?;
    talk.echo("after")
}

#[test]
fn each_pod_of_a_headless_service_is_reached_on_its_node() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    let find = |name: &str| -> Result<String> {
        let told = place.near.mesh(&["resolve", "-n", "shop", "-o", "json", name])?.json()?;
        Ok(told["answers"][0]["data"].as_str().context("no address")?.to_owned())
    };
    // this node has a pod of the same address
    wait_until("the own pod is found", SOON, || find("db-0.db").is_ok_and(|it| it == "10.88.0.2"))?;
    let other = find("db-1.db")?;
    ensure!(other.starts_with("198.18."), "{other} stands for the other");
    let at = format!("{other}:8080");
    wait_until("it is reached", SOON, || place.http_at(&at).is_ok_and(|it| it == "/hello"))?;
    place.datagrams_at(&at, &[1, 1400])?;
    ensure!(
        place.http_at(&format!("{other}:8081")).is_err(),
        "a port that is none of the service's"
    );
    let told = place.near.mesh(&["resolve", "-o", "json", &other])?.json()?;
    ensure!(told["answers"][0]["data"] == "db-1.db.shop.svc.cluster.local.", "{told}");
    kill(&place.near)?;
    wait_until("the same address leads there again", SOON, || place.http_at(&at).is_ok())?;
    let told = place.near.trace(&["-o", "json", "db-1.db:8080"])?.json()?;
    ensure!(told["path"] == "proxy" && told["trouble"].is_null(), "{told}");
    ensure!(told["address"] == other && told["service"] == "shop/db", "{told}");
    Ok(())
}

#[test]
fn an_operator_sees_how_an_endpoint_beyond_is_reached_and_why_not() -> Result<()> {
    let Some(mut place) = Place::new()? else { return Ok(()) };
    wait_until("the service is reached", SOON, || place.http().is_ok())?;
    wait_until("that is reported", SOON, || {
        place.near.trace(&["web"]).is_ok_and(|told| told.code == 0)
    })?;
    let told = place.near.trace(&["-o", "json", "web"])?.json()?;
    let end = &told["endpoints"][0];
    ensure!(told["path"] == "proxy" && told["trouble"].is_null(), "{told}");
    ensure!(end["tunnel"] == true && end["connection"].is_null(), "it is not dialled: {told}");
    ensure!(end["way"]["stands"] == true && end["way"]["relay"] == "hub0", "{told}");
    let text = place.near.trace(&["web"])?.out;
    ensure!(text.contains("through the tunnel by relay hub0"), "{text}");
    // the other end is away
    place.far.rig.end(Signal::KILL)?;
    wait_until("the relay knows", SOON, || {
        place.relays[0].tunnel().is_ok_and(|tunnel| tunnel["nodes"] == 1)
    })?;
    let told = place.near.trace(&["web"])?;
    ensure!(told.code == 1 && told.out.contains("no relay is connected with the node"), "{told:?}");
    let tunnel = place.near.mesh(&["tunnel"])?.out;
    ensure!(tunnel.contains("edge2") && tunnel.contains("no relay is connected with"), "{tunnel}");
    // and now the relay, too
    place.relays[0].rig.end(Signal::KILL)?;
    wait_until("it is missed", SOON, || !is_connected(&place.near))?;
    let told = place.near.trace(&["web"])?;
    ensure!(told.code == 1 && told.out.contains("no relay is connected"), "{told:?}");
    Ok(())
}
