//! What services carry beside plain connections of IPv4: IPv6, flows of datagrams whose endpoint goes,
//! and gRPC and WebSocket as clients of theirs see them.

#[path = "mesh/grpc.rs"]
mod grpc;
#[path = "mesh/ws.rs"]
mod ws;

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::mesh::{CLUSTER, CLUSTER6, NODE_PORT6, PODS, PODS6, Place, has_ipv6};
use edgecore_tests::rig::privilege::had_or_skip;
use edgecore_tests::rig::{SOON, wait_until};
use ipc_proto::Module;
use rustix::process::Signal;
use serde_json::json;

const POLICY: &str = "service.edgemesh.kubeedge.io/load-balancing";

#[test]
fn a_service_of_both_families_is_found_and_reached_in_both() -> Result<()> {
    if !had_or_skip(has_ipv6(), "IPv6")? {
        return Ok(());
    }
    let Some(place) = Place::new()? else { return Ok(()) };
    let both = [
        ("clusterIPs", json!(["10.96.0.7", "fd00:96::7"])),
        ("ipFamilies", json!(["IPv4", "IPv6"])),
        ("ipFamilyPolicy", json!("RequireDualStack")),
    ];
    let all = || BTreeSet::from([PODS[1].to_owned(), PODS[2].to_owned()]);
    let [client, server, _] = &place.pods;
    // chosen by the kernel, then by the proxy
    for annotations in [json!({}), json!({POLICY: "round-robin"})] {
        place.slice("IPv6", &PODS6[1..])?;
        place.service(&annotations, &both)?;
        wait_until("IPv6 is served", SOON, || place.ask(client, CLUSTER6).is_ok())?;
        for (from, to) in
            [(client, CLUSTER6), (server, CLUSTER6), (&place.node, CLUSTER6), (client, CLUSTER)]
        {
            assert_eq!(place.ask_often(from, to)?, all(), "{to}");
            assert_eq!(place.ask_udp(from, to)?, all(), "{to}, UDP");
        }
        assert_eq!(place.ask_often(&place.neighbour, NODE_PORT6)?, all());
    }
    let found = place.rig.edgectl(&["mesh", "resolve", "-o", "json", "web.shop"])?.json()?;
    let told: BTreeSet<_> = found["answers"]
        .as_array()
        .context("answers")?
        .iter()
        .collect::<Vec<_>>()
        .iter()
        .map(|it| format!("{} {}", it["type"], it["data"]))
        .collect();
    let expected = ["\"A\" \"10.96.0.7\"", "\"AAAA\" \"fd00:96::7\""];
    assert_eq!(told, expected.map(ToOwned::to_owned).into());
    let whose = place.rig.edgectl(&["mesh", "resolve", "fd00:96::7"])?.out;
    ensure!(whose.contains("web.shop.svc.cluster.local."), "{whose}");
    // the proxy serves either family by the endpoints of both, the kernel cannot
    place.slice("IPv6", &[])?;
    assert_eq!(place.ask_often(client, CLUSTER6)?, all());
    place.service(&json!({}), &both)?;
    wait_until("IPv6 is refused, and IPv4 served", SOON, || {
        place.ask(client, CLUSTER6).is_err() && place.ask(client, CLUSTER).is_ok()
    })
}

#[test]
fn a_flow_of_datagrams_leaves_the_endpoint_that_goes() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    place.service(&json!({}), &[])?;
    let socket = place.pods[0].run(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
    socket.connect(CLUSTER)?;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    let ask = || -> Result<String> {
        socket.send(b"who?")?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer)?;
        Ok(String::from_utf8(answer[..length].to_vec())?)
    };
    let mut who = ask()?;
    // the endpoint that goes still answers whoever comes, and nobody may come
    for round in 0..4 {
        assert_eq!(ask()?, who, "one flow, one endpoint");
        let other = PODS[1..].iter().find(|pod| **pod != who).context("two pods")?;
        let killed = round % 2 == 1;
        let old = place.rig.pid_of(Module::Edgemesh)?;
        if killed {
            place.rig.signal(Module::Edgemesh, Signal::KILL)?;
        }
        place.endpoints(&[other])?;
        wait_until(&format!("{other} answers"), SOON, || ask().is_ok_and(|it| it == **other))?;
        if killed {
            place.rig.wait_until_back(Module::Edgemesh, old)?;
        }
        who = (*other).to_owned();
        // one that stays keeps its flows
        place.endpoints(&PODS[1..])?;
        wait_until("both are told", SOON, || {
            place.ask_udp(&place.pods[0], CLUSTER).is_ok_and(|it| it.len() == 2)
        })?;
    }
    Ok(())
}

#[test]
fn a_rule_of_istio_s_chooses_as_it_does_for_edgemesh() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    place.service(&json!({}), &[])?;
    let proxied = || -> Result<u64> {
        let report = place.rig.module(Module::Edgemesh)?.report.unwrap_or_default();
        report["traffic"]["proxied"].as_u64().context("a number")
    };
    wait_until("all is the kernel's", SOON, || proxied().is_ok_and(|it| it == 0))?;
    place.cloud.apply(json!({
        "apiVersion": "networking.istio.io/v1alpha3", "kind": "DestinationRule",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"host": "web",
            "trafficPolicy": {"loadBalancer": {"consistentHash": {"useSourceIp": true}}}},
    }))?;
    let who = || place.ask_often(&place.pods[0], CLUSTER);
    wait_until("the client has its pod", SOON, || {
        proxied().is_ok_and(|it| it == 2) && who().is_ok_and(|who| who.len() == 1)
    })?;
    place
        .cloud
        .with(|cloud| async move { cloud.delete("shop/destinationrule/web", false).await })?;
    wait_until("both pods serve", SOON, || {
        proxied().is_ok_and(|it| it == 0) && who().is_ok_and(|who| who.len() == 2)
    })
}

#[test]
fn an_operator_follows_a_connection_step_by_step() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    place.service(&json!({}), &[])?;
    let config = place.rig.setup().folder.path().join("edgecore.yaml");
    let config = config.to_str().context("a path that is text")?;
    let trace = |name: &str| {
        place.rig.edgectl(&["mesh", "trace", "-n", "shop", "--config", config, "-o", "json", name])
    };
    let told = trace("web:80")?.json()?;
    assert_eq!(told["found"]["name"], "web.shop.svc.cluster.local.");
    assert_eq!((&told["address"], &told["service"]), (&json!("10.96.0.7"), &json!("shop/web")));
    assert_eq!((&told["port"], &told["path"]), (&json!("http 80/TCP"), &json!("kernel")));
    assert_eq!((&told["connection"]["error"], &told["trouble"]), (&json!(null), &json!(null)));
    for (endpoint, address) in
        told["endpoints"].as_array().context("a list")?.iter().zip(&PODS[1..])
    {
        let connection = &endpoint["connection"];
        assert_eq!((&endpoint["address"], &endpoint["excluded"]), (&json!(address), &json!(null)));
        ensure!(connection["error"].is_null() && connection["millis"].is_f64(), "{connection}");
    }
    assert_eq!(trace("web:81")?.code, 1, "a port that it does not have");
    assert_eq!(trace("10.244.1.11")?.code, 1, "no service's address");
    // one endpoint is elsewhere, and traffic stays here
    place.service(&json!({POLICY: "round-robin"}), &[("internalTrafficPolicy", json!("Local"))])?;
    place.cloud.apply(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-far", "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": ["10.244.9.9"], "nodeName": "edge9"}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }))?;
    wait_until("the other node's is known", SOON, || {
        let told = trace("web").and_then(|told| told.json()).unwrap_or_default();
        let far = told["endpoints"].as_array().into_iter().flatten();
        let mut far = far.filter(|it| it["address"] == "10.244.9.9");
        let excluded = far.next().map(|it| it["excluded"].as_str().unwrap_or_default().to_owned());
        told["path"] == "proxy" && excluded.is_some_and(|why| why.contains("another node"))
    })?;
    let told = place.rig.edgectl(&["mesh", "trace", "--config", config, "web.shop"])?.out;
    ensure!(
        told.contains("in turns") && told.contains("not taken: it is on another node"),
        "{told}"
    );
    Ok(())
}

#[test]
fn pods_ask_for_names_at_an_address_that_the_mesh_makes() -> Result<()> {
    let listen = json!({"modules": {"edgemesh": {"dns": {"listen": "169.254.96.16:53"}}}});
    let Some(place) = Place::with(&listen)? else { return Ok(()) };
    place.service(&json!({}), &[])?;
    let ask = || {
        let dig = "dig +short +tries=1 +time=2 @169.254.96.16 web.shop.svc.cluster.local";
        place.pods[0].does(dig).is_ok_and(|told| told == "10.96.0.7\n")
    };
    wait_until("a pod finds the service", SOON, ask)?;
    let link = || place.node.does("ip -o addr show dev edgemesh0");
    ensure!(link()?.contains("169.254.96.16/32"), "{}", link()?);
    let old = place.rig.pid_of(Module::Edgemesh)?;
    place.rig.signal(Module::Edgemesh, Signal::KILL)?;
    place.rig.wait_until_back(Module::Edgemesh, old)?;
    wait_until("the same address answers again", SOON, ask)?;
    ensure!(link()?.contains("169.254.96.16/32"), "{}", link()?);
    Ok(())
}

#[test]
fn grpc_is_carried_by_the_kernel_and_by_the_proxy() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    for (pod, address) in place.pods.iter().zip(PODS).skip(1) {
        grpc::serve(pod, address)?;
    }
    for policy in [None, Some("round-robin"), Some("least-connections")] {
        let annotations = policy.map_or(json!({}), |policy| json!({POLICY: policy}));
        let ports = json!([{"name": "http", "port": 80, "targetPort": grpc::PORT}]);
        place.service(&annotations, &[("ports", ports)])?;
        grpc::endpoints(&place, &PODS[1..], grpc::PORT)?;
        wait_until("gRPC is served", SOON, || grpc::ask(&place.pods[0], CLUSTER, 1).is_ok())?;
        let mut everybody = BTreeSet::new();
        wait_until("both pods serve", SOON, || {
            everybody.extend(grpc::ask(&place.pods[0], CLUSTER, 1).into_iter().flatten());
            everybody.len() == 2
        })?;
        let calls = grpc::ask(&place.pods[0], CLUSTER, 50)?;
        assert_eq!(calls.len(), 50, "all calls of a connection at a time");
        assert_eq!(calls.into_iter().collect::<BTreeSet<_>>().len(), 1, "on one connection");
    }
    Ok(())
}

#[test]
fn web_sockets_are_carried_by_the_kernel_and_by_the_proxy() -> Result<()> {
    let Some(place) = Place::new()? else { return Ok(()) };
    for (pod, address) in place.pods.iter().zip(PODS).skip(1) {
        ws::serve(pod, address)?;
    }
    for policy in [None, Some("round-robin"), Some("header:X-User")] {
        let annotations = policy.map_or(json!({}), |policy| json!({POLICY: policy}));
        let ports = json!([{"name": "http", "port": 80, "targetPort": ws::PORT}]);
        place.service(&annotations, &[("ports", ports)])?;
        grpc::endpoints(&place, &PODS[1..], ws::PORT)?;
        let talk = |user| ws::talk(&place.pods[0], CLUSTER, user);
        wait_until("WebSockets are served", SOON, || talk(0).is_ok())?;
        if policy == Some("header:X-User") {
            // the request that asks for the change of protocols has the header
            for user in 0..6 {
                assert_eq!(talk(user)?, talk(user)?, "the user {user} has one pod");
            }
        }
        let mut everybody = BTreeSet::new();
        let mut users = 0..;
        wait_until("both pods serve", SOON, || {
            everybody.extend(users.next().and_then(|user| talk(user).ok()));
            everybody.len() == 2
        })?;
    }
    Ok(())
}
