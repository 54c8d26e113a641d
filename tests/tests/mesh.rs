//! Services as pods, the node and its neighbours reach them: through the kernel and through the proxy,
//! while endpoints change, edgemesh is killed and others flush the packet filter.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::mesh::{CLUSTER, NODE_PORT, PODS, Place};
use edgecore_tests::rig::privilege::had_or_skip;
use edgecore_tests::rig::{SOON, wait_until};
use ipc_proto::Module;
use ipc_proto::control::Request;
use rustix::process::Signal;
use serde_json::json;

fn both() -> BTreeSet<String> {
    PODS[1..].iter().map(|&address| address.to_owned()).collect()
}

fn is_refused<T>(result: Result<T>) -> bool {
    let kind = result.err().and_then(|error| error.downcast::<std::io::Error>().ok());
    kind.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn a_service_is_reached_from_pods_the_node_and_outside() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    let [client, server, _] = &place.pods;
    place.service(&json!({}), &[])?;
    for (from, to) in [(client, CLUSTER), (server, CLUSTER), (&place.node, CLUSTER)] {
        assert_eq!(place.ask_often(from, to)?, both(), "{to}");
        assert_eq!(place.ask_udp(from, to)?, both(), "{to}, UDP");
    }
    assert_eq!(place.ask_often(&place.neighbour, NODE_PORT)?, both());
    assert_eq!(place.ask_udp(&place.neighbour, NODE_PORT)?, both());
    ensure!(is_refused(place.ask(client, "10.96.0.7:81")), "a port that it does not have");
    wait_until("the status says so", SOON, || {
        let report = place.rig.module(Module::Edgemesh).ok().and_then(|mesh| mesh.report);
        report.is_some_and(|report| report["traffic"]["carried"] == 1)
    })?;
    // What changes takes effect; with nobody left, clients are told at once.
    place.endpoints(&PODS[1..2])?;
    wait_until("one pod serves alone", SOON, || {
        place.ask_often(client, CLUSTER).is_ok_and(|who| who == BTreeSet::from([PODS[1].into()]))
    })?;
    place.endpoints(&[])?;
    wait_until("clients are refused", SOON, || is_refused(place.ask(client, CLUSTER)))?;
    ensure!(is_refused(place.ask(&place.neighbour, NODE_PORT)), "from outside too");
    place.endpoints(&PODS[2..])?;
    wait_until("the other serves", SOON, || {
        place.ask(client, CLUSTER).is_ok_and(|who| who == PODS[2])
    })
}

#[test]
fn a_client_with_affinity_stays_with_its_pod() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    place.service(&json!({}), &[("sessionAffinity", json!("ClientIP"))])?;
    let client = &place.pods[0];
    assert_eq!(place.ask_often(client, CLUSTER)?.len(), 1);
    let who = place.ask(client, CLUSTER)?;
    place.endpoints(&[&who])?;
    assert_eq!(place.ask_often(client, CLUSTER)?, BTreeSet::from([who.clone()]));
    let other = PODS[1..].iter().find(|address| **address != who).context("two pods")?;
    place.endpoints(&[other])?;
    wait_until("the other serves", SOON, || {
        place.ask(client, CLUSTER).is_ok_and(|who| who == **other)
    })
}

#[test]
fn connections_outlive_a_killed_mesh_and_new_ones_are_served_meanwhile() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    place.service(&json!({}), &[])?;
    let client = &place.pods[0];
    let mut talk = place.connect(client, CLUSTER)?;
    talk.line()?;
    for round in 0..3 {
        let old = place.rig.pid_of(Module::Edgemesh)?;
        place.rig.signal(Module::Edgemesh, Signal::KILL)?;
        talk.echo(&format!("round {round}"))?;
        assert_eq!(place.ask_often(client, CLUSTER)?, both());
        place.rig.wait_until_back(Module::Edgemesh, old)?;
        talk.echo("after")?;
    }
    place.rig.demand(&Request::Stop { modules: vec![Module::Edgemesh] })?;
    assert_eq!(place.ask_often(client, CLUSTER)?, both(), "without any mesh");
    place.endpoints(&PODS[1..2])?;
    place.rig.demand(&Request::Start { modules: vec![Module::Edgemesh] })?;
    wait_until("what changed meanwhile takes effect", SOON, || {
        place.ask_often(client, CLUSTER).is_ok_and(|who| who.len() == 1)
    })?;
    talk.echo("last")
}

#[test]
fn others_tables_are_theirs_and_a_flush_is_made_good() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    let node = &place.node;
    for command in [
        "nft add table ip others",
        "nft add chain ip others nat { type nat hook prerouting priority -100 ; }",
        "nft add rule ip others nat tcp dport 30081 counter dnat to 10.244.1.11:8080",
    ] {
        node.does(command)?;
    }
    let before = node.does("nft list table ip others")?;
    place.service(&json!({}), &[])?;
    let client = &place.pods[0];
    assert_eq!(place.ask_often(client, CLUSTER)?, both());
    assert_eq!(node.does("nft list table ip others")?, before);
    assert_eq!(place.ask(&place.neighbour, "192.0.2.1:30081")?, PODS[1]);
    node.does("nft flush ruleset")?;
    wait_until("the service is reached again", SOON, || place.ask(client, CLUSTER).is_ok())?;
    place.cloud.with(|cloud| async move { cloud.delete("shop/service/web", false).await })?;
    wait_until("nothing is left", SOON, || {
        node.does("nft list ruleset").is_ok_and(|rules| rules.is_empty())
    })
}

#[test]
fn rules_of_iptables_hold_beside_the_mesh_and_what_it_leaves_is_removed_on_request() -> Result<()> {
    let has_iptables = Path::new("/usr/sbin/iptables-nft").exists();
    if !had_or_skip(has_iptables, "iptables-nft")? {
        return Ok(());
    }
    let Some(place) = Place::new()? else { return Ok(()) };
    let (node, client) = (&place.node, &place.pods[0]);
    // as kube-proxy and a CNI plug-in have them
    for rule in [
        "-t nat -N KUBE-SERVICES",
        "-t nat -A PREROUTING -j KUBE-SERVICES",
        "-t nat -A KUBE-SERVICES -p tcp --dport 30081 -j DNAT --to-destination 10.244.1.11:8080",
        "-t nat -A POSTROUTING -s 10.244.1.0/24 -d 192.0.2.0/24 -j MASQUERADE",
        "-t filter -A FORWARD -m conntrack --ctstate INVALID -j DROP",
        "-t mangle -A PREROUTING -p tcp --dport 9 -j MARK --set-mark 0x4000",
    ] {
        node.does(&format!("iptables-nft {rule}"))?;
    }
    // without dates and counters
    let rules = || -> Result<Vec<String>> {
        let saved = node.does("iptables-nft-save")?;
        let lines = saved.lines().filter(|line| !line.starts_with('#'));
        Ok(lines.map(|line| line.split(" [").next().unwrap_or_default().to_owned()).collect())
    };
    let before = rules()?;
    place.service(&json!({}), &[])?;
    assert_eq!(place.ask_often(client, CLUSTER)?, both());
    assert_eq!(place.ask_often(&place.neighbour, NODE_PORT)?, both());
    assert_eq!(place.ask(&place.neighbour, "192.0.2.1:30081")?, PODS[1], "theirs");
    assert_eq!(rules()?, before);
    let mut talk = place.connect(client, CLUSTER)?;
    talk.line()?;
    let remove = || place.rig.edgectl(&["mesh", "remove"]);
    let told = remove()?;
    ensure!(told.code == 1 && told.err.contains("edgectl stop edgemesh"), "{told:?}");
    place.rig.demand(&Request::Stop { modules: vec![Module::Edgemesh] })?;
    assert_eq!(place.ask_often(client, CLUSTER)?, both(), "it is left in place");
    ensure!(remove()?.code == 0 && remove()?.code == 0, "what is gone is gone");
    ensure!(!node.does("nft list tables")?.contains("edgemesh"), "the table is gone");
    ensure!(place.ask(client, CLUSTER).is_err(), "nobody serves");
    talk.echo("what stands goes on")?;
    assert_eq!(rules()?, before);
    assert_eq!(place.ask(&place.neighbour, "192.0.2.1:30081")?, PODS[1], "theirs");
    place.rig.demand(&Request::Start { modules: vec![Module::Edgemesh] })?;
    wait_until("it serves again", SOON, || place.ask(client, CLUSTER).is_ok())
}

#[test]
fn what_the_kernel_cannot_choose_passes_through_the_proxy() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    let policy = "service.edgemesh.kubeedge.io/load-balancing";
    place.service(&json!({policy: "header:X-User"}), &[])?;
    let client = &place.pods[0];
    let mut everybody = BTreeSet::new();
    for user in 0..12 {
        let request = format!("GET / HTTP/1.1\r\nHost: web\r\nX-User: {user}\r\n\r\n");
        let ask = |from| -> Result<String> {
            let answer = place.connect(from, CLUSTER)?.finish(request.as_bytes())?;
            let answer = String::from_utf8(answer)?;
            let (who, echoed) = answer.split_once('\n').context("a greeting")?;
            ensure!(echoed == request, "{echoed:?} came back");
            Ok(who.to_owned())
        };
        let who = ask(client)?;
        assert_eq!([ask(client)?, ask(&place.node)?], [who.clone(), who.clone()]);
        everybody.insert(who);
    }
    assert_eq!(everybody, both());
    for (from, to) in [(client, CLUSTER), (&place.node, CLUSTER), (&place.neighbour, NODE_PORT)] {
        assert_eq!(place.ask_udp(from, to)?, both(), "{to}, UDP");
    }
    place.service(&json!({policy: "source"}), &[])?;
    wait_until("each client has its pod", SOON, || {
        place.ask_often(client, CLUSTER).is_ok_and(|who| who.len() == 1)
    })?;
    let old = place.rig.pid_of(Module::Edgemesh)?;
    place.rig.signal(Module::Edgemesh, Signal::KILL)?;
    place.rig.wait_until_back(Module::Edgemesh, old)?;
    wait_until("the proxy serves again", SOON, || place.ask(client, CLUSTER).is_ok())
}
