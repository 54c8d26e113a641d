//! Which endpoints are taken.

use super::*;
use crate::model::{Kind, Protocol};

fn service() -> Service {
    Service {
        kind: Kind::Cluster(vec!["10.96.0.1".parse().unwrap()]),
        ports: vec![port()],
        external: Vec::new(),
        affinity: None,
        local_only: false,
        external_local_only: false,
        publish_not_ready: false,
        policy: None,
    }
}

fn port() -> Port {
    Port { name: "web".into(), protocol: Protocol::Tcp, port: 80, node_port: None }
}

fn endpoint(address: &str, node: &str) -> Endpoint {
    Endpoint {
        address: address.parse().unwrap(),
        node: Some(node.into()),
        zone: None,
        hostname: None,
        ready: true,
        serving: true,
        ports: vec![("web".into(), Protocol::Tcp, 8080)],
        stand_in: None,
    }
}

fn chosen(endpoints: &[Endpoint], scope: Scope, prefer_same_node: bool) -> Vec<String> {
    let here = Here { node: "edge1".into(), prefer_same_node, zone: None, reach: Reach::All };
    let targets = targets(&service(), &port(), endpoints, scope, &here);
    targets.iter().map(ToString::to_string).collect()
}

#[test]
fn ready_endpoints_are_taken_and_ending_ones_when_there_are_no_others() {
    let ending = Endpoint { ready: false, ..endpoint("10.1.0.2", "edge2") };
    let gone = Endpoint { ready: false, serving: false, ..endpoint("10.1.0.3", "edge2") };
    let all = [endpoint("10.1.0.1", "edge2"), ending.clone(), gone.clone()];
    assert_eq!(chosen(&all, Scope::All, false), ["10.1.0.1:8080"]);
    assert_eq!(chosen(&all[1..], Scope::All, false), ["10.1.0.2:8080"]);
    assert_eq!(chosen(&all[2..], Scope::All, false), [""; 0]);
    let here =
        Here { node: "edge1".into(), prefer_same_node: false, zone: None, reach: Reach::All };
    let all_published = Service { publish_not_ready: true, ..service() };
    assert_eq!(targets(&all_published, &port(), &all, Scope::All, &here).len(), 3);
}

#[test]
fn local_scope_never_leaves_the_node_and_preference_does_when_it_must() {
    let all = [endpoint("10.1.0.1", "edge2"), endpoint("10.1.0.2", "edge1")];
    assert_eq!(chosen(&all, Scope::All, false), ["10.1.0.1:8080", "10.1.0.2:8080"]);
    assert_eq!(chosen(&all, Scope::All, true), ["10.1.0.2:8080"]);
    assert_eq!(chosen(&all, Scope::Local, false), ["10.1.0.2:8080"]);
    assert_eq!(chosen(&all[..1], Scope::All, true), ["10.1.0.1:8080"]);
    assert_eq!(chosen(&all[..1], Scope::Local, true), [""; 0]);
    let ending = Endpoint { ready: false, ..endpoint("10.1.0.2", "edge1") };
    assert_eq!(chosen(&[all[0].clone(), ending.clone()], Scope::All, true), ["10.1.0.1:8080"]);
    assert_eq!(chosen(&[all[0].clone(), ending], Scope::Local, true), ["10.1.0.2:8080"]);
}

#[test]
fn the_own_zone_is_left_when_it_must_and_the_own_node_comes_before_it() {
    let of_zone = |address: &str, node: &str, zone: Option<&str>| Endpoint {
        zone: zone.map(Into::into),
        ..endpoint(address, node)
    };
    let all = [
        of_zone("10.1.0.1", "edge1", Some("hall-1")),
        of_zone("10.1.0.2", "edge2", Some("hall-1")),
        of_zone("10.1.0.3", "edge3", Some("hall-2")),
        of_zone("10.1.0.4", "edge4", None),
    ];
    let chosen = |endpoints: &[Endpoint], prefer_same_node: bool, zone: Option<&str>| {
        let zone = zone.map(Into::into);
        let here = Here { node: "edge1".into(), prefer_same_node, zone, reach: Reach::All };
        let targets = targets(&service(), &port(), endpoints, Scope::All, &here);
        targets.iter().map(|target| target.address.ip().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(chosen(&all, false, None).len(), 4, "all are alike");
    assert_eq!(chosen(&all, false, Some("hall-1")), ["10.1.0.1", "10.1.0.2"]);
    assert_eq!(chosen(&all, true, Some("hall-1")), ["10.1.0.1"]);
    assert_eq!(chosen(&all[1..], true, Some("hall-1")), ["10.1.0.2"]);
    assert_eq!(chosen(&all[2..], true, Some("hall-1")), ["10.1.0.3", "10.1.0.4"]);
    let mut ending = all.to_vec();
    ending[0].ready = false;
    ending[1].ready = false;
    assert_eq!(
        chosen(&ending, false, Some("hall-1")),
        ["10.1.0.3", "10.1.0.4"],
        "ready ones first"
    );
}

#[test]
fn a_port_is_found_by_name_and_protocol() {
    let other_name = Endpoint {
        ports: vec![("dns".into(), Protocol::Tcp, 53)],
        ..endpoint("10.1.0.1", "edge1")
    };
    let other_protocol = Endpoint {
        ports: vec![("web".into(), Protocol::Udp, 53)],
        ..endpoint("10.1.0.1", "edge1")
    };
    assert_eq!(chosen(&[other_name, other_protocol], Scope::All, false), [""; 0]);
}

#[test]
fn what_is_out_of_reach_is_beyond_its_node() {
    let networks = vec![Network::parse("10.1.0.0/16").unwrap()];
    let reach = Reach::Networks(networks);
    let here = Here { node: "edge1".into(), prefer_same_node: false, zone: None, reach };
    let nowhere = Endpoint { node: None, ..endpoint("10.2.0.4", "") };
    let endpoints = [
        endpoint("10.1.0.1", "edge2"),
        endpoint("10.2.0.1", "edge1"),
        endpoint("10.2.0.1", "edge2"),
        endpoint("10.2.0.1", "edge3"),
        nowhere,
    ];
    let targets = targets(&service(), &port(), &endpoints, Scope::All, &here);
    let beyond =
        |last: u8, target: &Target| target.beyond == Some(NodeId::of(&format!("edge{last}")));
    assert_eq!(targets.len(), 5, "pods of one address on two nodes are two");
    assert!(targets.iter().filter(|target| target.beyond.is_none()).count() == 3, "{targets:?}");
    assert!([2, 3].iter().all(|last| targets.iter().any(|target| beyond(*last, target))));
}
