//! Queries as clients send them, and the replies as they read them.

use std::net::IpAddr;

use proptest::prelude::*;

use super::fqdn::Domain;
use super::names::{Outcome, Zone};
use super::wire::{self, Data, Foreign, Malformed, Query, Reply, code, kind};
use crate::model::{self, Endpoint, Kind, Port, Protocol, Service};
use crate::services::{Backed, Table};

fn service(kind: Kind) -> Service {
    let port =
        |name: &str, protocol, port| Port { name: name.into(), protocol, port, node_port: None };
    Service {
        kind,
        ports: vec![port("http", Protocol::Tcp, 80), port("dns", Protocol::Udp, 53)],
        external: Vec::new(),
        affinity: None,
        local_only: false,
        external_local_only: false,
        publish_not_ready: false,
        policy: None,
    }
}

fn endpoint(address: &str, hostname: Option<&str>, ready: bool) -> Endpoint {
    Endpoint {
        address: address.parse().unwrap(),
        node: None,
        zone: None,
        hostname: hostname.map(Into::into),
        ready,
        serving: ready,
        ports: vec![("http".into(), Protocol::Tcp, 8080)],
        stand_in: None,
    }
}

fn external(name: &str) -> Kind {
    Kind::External(name.into())
}

/// Services of every kind.
fn table() -> Table {
    let cluster = Kind::Cluster(vec!["10.96.0.7".parse().unwrap(), "fd00::7".parse().unwrap()]);
    let pods = vec![
        endpoint("10.1.0.1", Some("db-0"), true),
        endpoint("10.1.0.2", None, true),
        endpoint("10.1.0.3", Some("db-2"), false),
    ];
    let all = [
        ("web", service(cluster), vec![endpoint("10.1.0.9", None, true)]),
        ("db", service(Kind::Headless), pods),
        ("none", service(Kind::Headless), Vec::new()),
        ("away", service(external("example.org")), Vec::new()),
        ("other", service(external("web.shop.svc.cluster.local")), Vec::new()),
        ("a", service(external("b.shop.svc.cluster.local")), Vec::new()),
        ("b", service(external("a.shop.svc.cluster.local")), Vec::new()),
    ];
    let named = |(name, service, endpoints): (&str, Service, Vec<Endpoint>)| {
        let name = model::Name { namespace: "shop".into(), name: name.into() };
        (name, Backed { service, endpoints, is_carried: true }.into())
    };
    all.into_iter().map(named).collect()
}

fn packet(name: &str, kind: u16) -> Vec<u8> {
    let mut packet = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0].to_vec();
    packet.extend_from_slice(Domain::parse(name).unwrap().wire());
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet
}

fn query(name: &str, kind: u16) -> Query {
    wire::query(&packet(name, kind)).unwrap()
}

fn zone() -> Zone {
    Zone::new("cluster.local").unwrap()
}

fn ask(name: &str, kind: u16) -> Reply {
    match zone().answer(&query(name, kind), Some(&table())) {
        Outcome::Reply(reply) => reply,
        other @ (Outcome::Forward | Outcome::Leads { .. }) => panic!("{name}: {other:?}"),
    }
}

/// Returns a reply's code, its answers in order, and whether the zone's authority says that there
/// is no more.
fn told(name: &str, kind: u16) -> (u16, Vec<String>, bool) {
    let reply = ask(name, kind);
    let text = |record: &wire::Record| match &record.data {
        Data::Address(address) => address.to_string(),
        Data::Alias(name) | Data::Pointer(name) => name.to_string(),
        Data::Server { port, target, .. } => format!("{target}:{port}"),
        Data::Authority { .. } => "SOA".to_owned(),
    };
    let mut answers: Vec<_> = reply.answers.iter().map(text).collect();
    answers.sort();
    (reply.code, answers, !reply.authorities.is_empty())
}

#[test]
fn every_name_of_the_cluster_is_answered_as_its_specification_says() {
    let zone = "svc.cluster.local";
    let found = |answers: &[&str]| {
        (code::OK, answers.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>(), false)
    };
    let nothing = (code::OK, Vec::new(), true);
    let unknown = (code::NO_NAME, Vec::new(), true);
    let db = [&*format!("db-0.db.shop.{zone}."), &*format!("10-1-0-2.db.shop.{zone}.")];
    for (name, kind, expected) in [
        ("web.shop", kind::A, found(&["10.96.0.7"])),
        ("WEB.Shop", kind::AAAA, found(&["fd00::7"])),
        ("web.shop", kind::ANY, found(&["10.96.0.7", "fd00::7"])),
        ("web.shop", 16, nothing.clone()),
        ("db.shop", kind::A, found(&["10.1.0.1", "10.1.0.2"])),
        ("db.shop", kind::AAAA, nothing.clone()),
        ("none.shop", kind::A, nothing.clone()),
        ("db-0.db.shop", kind::A, found(&["10.1.0.1"])),
        ("10-1-0-2.db.shop", kind::A, found(&["10.1.0.2"])),
        ("db-2.db.shop", kind::A, unknown.clone()),
        ("x.db.shop", kind::A, unknown.clone()),
        ("_http._tcp.web.shop", kind::SRV, found(&[&format!("web.shop.{zone}.:80")])),
        ("_dns._udp.web.shop", kind::SRV, found(&[&format!("web.shop.{zone}.:53")])),
        ("_http._udp.web.shop", kind::SRV, unknown.clone()),
        ("_tcp.web.shop", kind::SRV, nothing.clone()),
        (
            "_http._tcp.db.shop",
            kind::SRV,
            found(&[&format!("{}:8080", db[1]), &format!("{}:8080", db[0])]),
        ),
        ("other.shop", kind::A, found(&["10.96.0.7", &format!("web.shop.{zone}.")])),
        ("away.shop", kind::CNAME, found(&["example.org."])),
        ("missing.shop", kind::A, unknown.clone()),
        ("shop", kind::A, nothing.clone()),
        ("mall", kind::A, unknown.clone()),
        ("web.mall", kind::A, unknown.clone()),
    ] {
        assert_eq!(told(&format!("{name}.{zone}"), kind), expected, "{name} {kind}");
    }
    for (name, expected) in [
        ("cluster.local", nothing.clone()),
        (zone, nothing.clone()),
        ("shop.pod.cluster.local", nothing),
        ("10-1-0-1.shop.pod.cluster.local", found(&["10.1.0.1"])),
        ("web.shop.pod.cluster.local", unknown.clone()),
        ("web.cluster.local", unknown),
    ] {
        assert_eq!(told(name, kind::A), expected, "{name}");
    }
    assert_eq!(told("cluster.local", kind::SOA), found(&["SOA"]));
    assert_eq!(told(&format!("a.shop.{zone}"), kind::A).0, code::FAILURE, "a circle");
    assert_eq!(told(&format!("web.shop.{zone}"), kind::AXFR).0, code::REFUSED);
}

#[test]
fn servers_come_with_their_addresses() {
    let reply = ask("_http._tcp.db.shop.svc.cluster.local", kind::SRV);
    let mut addresses: Vec<_> = reply.additionals.iter().map(|it| it.data.clone()).collect();
    addresses.sort_by_key(|data| format!("{data:?}"));
    let address = |text: &str| Data::Address(text.parse::<IpAddr>().unwrap());
    assert_eq!(addresses, [address("10.1.0.1"), address("10.1.0.2")]);
}

#[test]
fn addresses_lead_back_to_names_and_others_are_asked_for_the_rest() {
    let web = "web.shop.svc.cluster.local.";
    let v6 = format!("7.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
    for (name, expected) in [
        ("7.0.96.10.in-addr.arpa", web),
        (v6.as_str(), web),
        ("1.0.1.10.in-addr.arpa", "db-0.db.shop.svc.cluster.local."),
        ("9.0.1.10.in-addr.arpa", "10-1-0-9.web.shop.svc.cluster.local."),
    ] {
        assert_eq!(told(name, kind::PTR), (code::OK, vec![expected.to_owned()], false), "{name}");
    }
    for name in ["8.0.96.10.in-addr.arpa", "0.96.10.in-addr.arpa", "example.org", "local", ""] {
        let outcome = zone().answer(&query(name, kind::PTR), Some(&table()));
        assert_eq!(outcome, Outcome::Forward, "{name}");
    }
    let away = query("away.shop.svc.cluster.local", kind::A);
    let Outcome::Leads { chain, to } = zone().answer(&away, Some(&table())) else {
        panic!("it leads out of the cluster");
    };
    assert_eq!((chain.len(), to.to_string().as_str()), (1, "example.org."));
    let early = zone().answer(&query("web.shop.svc.cluster.local", kind::A), None);
    assert_eq!(early, Outcome::Reply(Reply::of(code::FAILURE)), "nobody knows yet");
}

#[test]
fn what_is_no_query_is_answered_so_or_not_at_all() {
    let refused = |packet: &[u8]| match wire::query(packet) {
        Err(Malformed::Answered { code, .. }) => Some(code),
        Err(Malformed::Silent) => None,
        Ok(query) => panic!("{query:?}"),
    };
    let good = packet("web.shop.svc.cluster.local", kind::A);
    for length in 4..good.len() {
        assert_eq!(refused(&good[..length]), Some(code::FORMAT), "{length}");
    }
    assert_eq!(refused(&good[..3]), None);
    let with = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        packet
    };
    assert_eq!(refused(&with(2, 0x81)), None, "a reply");
    assert_eq!(refused(&with(2, 0x29)), Some(code::NOT_IMPLEMENTED), "an update");
    assert_eq!(refused(&with(5, 2)), Some(code::FORMAT), "two questions");
    assert_eq!(refused(&with(12, 0xc0)), Some(code::FORMAT), "a pointer forward");
    let mut circle = with(12, 0xc0);
    circle[13] = 12;
    assert_eq!(refused(&circle), Some(code::FORMAT), "a name that points to itself");
    let mut edns = with(11, 1);
    edns.extend_from_slice(&[0, 0, 41, 4, 208, 0, 1, 0, 0, 0, 0]);
    let query = wire::query(&edns).unwrap();
    let Outcome::Reply(reply) = zone().answer(&query, None) else { panic!("it is answered") };
    assert_eq!(reply.code, code::BAD_VERSION);
    edns[11] = 2;
    edns.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    assert_eq!(refused(&edns), Some(code::FORMAT), "EDNS twice");
}

#[test]
fn a_reply_that_is_too_long_says_so_and_is_whole_in_a_stream() {
    let endpoints = (0..200).map(|n| endpoint(&format!("10.1.1.{n}"), None, true)).collect();
    let backed = Backed { service: service(Kind::Headless), endpoints, is_carried: true };
    let name = model::Name { namespace: "shop".into(), name: "many".into() };
    let table = Table::from([(name, backed.into())]);
    let asked = query("many.shop.svc.cluster.local", kind::A);
    let Outcome::Reply(reply) = zone().answer(&asked, Some(&table)) else { panic!("answered") };
    let short = reply.encode(&asked, asked.room());
    let cut = Foreign::read(short.clone(), 7, &asked).unwrap();
    assert!(short.len() <= 512 && cut.is_truncated() && cut.answers.len() > 20);
    let whole = Foreign::read(reply.encode(&asked, 65_535), 7, &asked).unwrap();
    assert!(!whole.is_truncated());
    assert_eq!(whole.answers.len(), 200);
    let again = Foreign::read(whole.encode(&asked, 512, |ttl| ttl), 7, &asked).unwrap();
    assert!(again.is_truncated() && again.answers.is_empty());
}

proptest! {
    /// Whatever comes, what is answered can be read, in no more bytes than there is room for.
    #[test]
    fn any_packet_is_answered_or_not_and_nothing_else(
        mut packet in proptest::collection::vec(any::<u8>(), 0..80),
        name in "[a-z0-9._-]{0,40}",
        kind in prop_oneof![Just(kind::A), Just(kind::SRV), Just(kind::PTR), any::<u16>()],
        shape in any::<bool>(),
    ) {
        if shape && let Some(name) = Domain::parse(&format!("{name}.shop.svc.cluster.local")) {
            packet = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], name.wire()].concat();
            packet.extend_from_slice(&kind.to_be_bytes());
            packet.extend_from_slice(&[0, 1]);
        }
        if let Ok(query) = wire::query(&packet)
            && let Outcome::Reply(reply) = zone().answer(&query, Some(&table()))
        {
            let encoded = reply.encode(&query, query.room());
            prop_assert!(encoded.len() <= query.room());
            let read = Foreign::read(encoded, query.id, &query);
            prop_assert!(read.is_some_and(|read| read.code() == reply.code & 0xf));
        }
    }
}
