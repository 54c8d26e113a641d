//! Histories of objects, and the table that they make.

use ipc_proto::{Content, Group, Kind, Message, Operation, Resource, Route, Scope, Source};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model;

fn message(operation: Operation, resource: &str, content: &Value) -> Message {
    let resource = Resource::parse(&Group::Resource, resource);
    let route = Route { source: Source::Metamanager, group: Group::Resource, operation, resource };
    let content = Content::from_raw(content.to_string().into());
    Message::new(module_runtime::message_id(), 0, route, content)
}

const KINDS: [Kind; 4] =
    [Kind::Service, Kind::EndpointSlice, Kind::Endpoints, Kind::DestinationRule];

/// Discovery that was told that there is nothing.
fn empty() -> Discovery {
    let mut discovery = Discovery::default();
    for kind in KINDS {
        assert_eq!(discovery.table(), None);
        let resource = format!("null/{kind}");
        assert!(discovery.take(&message(Operation::Update, &resource, &json!([]))));
    }
    discovery
}

fn service(name: &str, ip: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": ip, "ports": [{"name": "http", "port": 80}]}})
}

fn slice(name: &str, of: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<_> = addresses.iter().map(|it| json!({"addresses": [it]})).collect();
    json!({"metadata": {"name": name, "namespace": "shop",
            "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]})
}

fn name(name: &str) -> Name {
    Name { namespace: "shop".into(), name: name.into() }
}

fn addresses(discovery: &Discovery, of: &str) -> Vec<String> {
    let table = discovery.table().unwrap_or_default();
    let endpoints = table.get(&name(of)).map(|backed| backed.endpoints.clone());
    endpoints.into_iter().flatten().map(|endpoint| endpoint.address.to_string()).collect()
}

#[test]
fn a_service_has_the_endpoints_of_all_its_slices_each_once() {
    let mut discovery = empty();
    let insert = |discovery: &mut Discovery, object: &Value, kind: &str| {
        let resource = format!("shop/{kind}/{}", object["metadata"]["name"].as_str().unwrap());
        assert!(discovery.take(&message(Operation::Insert, &resource, object)));
    };
    insert(&mut discovery, &slice("web-b", "web", &["10.1.0.2", "10.1.0.3"]), "endpointslice");
    insert(&mut discovery, &service("web", "10.96.0.7"), "service");
    insert(&mut discovery, &slice("web-a", "web", &["10.1.0.1", "10.1.0.2"]), "endpointslice");
    assert_eq!(addresses(&discovery, "web"), ["10.1.0.1", "10.1.0.2", "10.1.0.3"]);
    let deleted = message(Operation::Delete, "shop/endpointslice/web-b", &Value::Null);
    assert!(discovery.take(&deleted));
    assert_eq!(addresses(&discovery, "web"), ["10.1.0.1", "10.1.0.2"]);
    let old = json!({"metadata": {"name": "web", "namespace": "shop"}, "subsets": [{
        "addresses": [{"ip": "10.1.0.9"}], "ports": [{"name": "http", "port": 8080}]}]});
    insert(&mut discovery, &old, "endpoints");
    assert_eq!(addresses(&discovery, "web").len(), 2, "slices are what counts");
    let deleted = message(Operation::Delete, "shop/endpointslice/web-a", &Value::Null);
    assert!(discovery.take(&deleted));
    assert_eq!(addresses(&discovery, "web"), ["10.1.0.9"]);
    // What is not in the set is gone.
    let set = json!([service("db", "10.96.0.8")]);
    assert!(discovery.take(&message(Operation::Update, "null/service", &set)));
    let names: Vec<_> = discovery.table().unwrap_or_default().keys().cloned().collect();
    assert_eq!(names, [name("db")]);
}

#[test]
fn pods_of_one_address_on_different_nodes_are_different_and_those_out_of_reach_have_stand_ins() {
    let pods = json!([
        {"metadata": {"name": "db-1", "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "ports": [{"name": "sql", "port": 5432}],
            "endpoints": [{"addresses": ["10.88.0.2"], "nodeName": "edge1"},
                {"addresses": ["10.88.0.2"], "nodeName": "edge2"},
                {"addresses": ["10.88.0.2"], "nodeName": "edge3"}]}]);
    let found_at = |cluster_ip: &str, stand_ins| {
        let services = json!([service("db", cluster_ip)]);
        let none = json!([]);
        let sets = [&services, &pods, &none, &none].map(ToString::to_string);
        let table = Discovery::of_sets(sets.each_ref().map(|it| it.as_bytes()), stand_ins);
        let endpoints = &table[&name("db")].endpoints;
        endpoints.iter().map(Endpoint::found_at).collect::<BTreeSet<_>>()
    };
    let stand_ins = || {
        let network = module_runtime::net::Network::parse("198.18.0.0/16").unwrap();
        let reach = crate::targets::Reach::Networks(Vec::new());
        let here = crate::targets::Here {
            node: "edge1".into(),
            prefer_same_node: false,
            zone: None,
            reach,
        };
        crate::stand_ins::Pool::new(network).map(|pool| StandIns::new(pool, here))
    };
    let own = "10.88.0.2".parse().unwrap();
    assert_eq!(found_at("None", None), BTreeSet::from([own]), "as they are");
    assert_eq!(found_at("10.96.0.9", stand_ins()), BTreeSet::from([own]), "nobody asks for them");
    let found = found_at("None", stand_ins());
    assert!(found.len() == 3 && found.contains(&own), "{found:?}");
}

#[test]
fn an_unchanged_service_keeps_its_place_in_the_table() {
    let mut discovery = empty();
    let set = json!([service("web", "10.96.0.7"), service("db", "10.96.0.8")]);
    assert!(discovery.take(&message(Operation::Update, "null/service", &set)));
    let before = discovery.table().unwrap_or_default();
    assert!(discovery.take(&message(Operation::Update, "null/service", &set)));
    let changed = service("db", "10.96.0.9");
    assert!(discovery.take(&message(Operation::Update, "shop/service/db", &changed)));
    let after = discovery.table().unwrap_or_default();
    assert!(Arc::ptr_eq(&before[&name("web")], &after[&name("web")]));
    assert!(!Arc::ptr_eq(&before[&name("db")], &after[&name("db")]));
}

#[test]
fn a_service_says_how_its_endpoints_are_chosen() {
    let policy = |word: &str| {
        let annotations = json!({"service.edgemesh.kubeedge.io/load-balancing": word});
        let metadata = json!({"name": "web", "namespace": "shop", "annotations": annotations});
        let spec = json!({"clusterIP": "10.96.0.7"});
        let object = json!({"metadata": metadata, "spec": spec});
        let read = serde_json::from_value::<objects::Service>(object).unwrap().read();
        read.map(|(_, service, _)| service.policy)
    };
    assert_eq!(policy("least-connections"), Ok(Some(Policy::LeastConnections)));
    assert_eq!(policy("source"), Ok(Some(Policy::Source)));
    assert_eq!(policy("header:X-User"), Ok(Some(Policy::Header("X-User".into()))));
    for wrong in ["", "header:", "header:a b", "leastconn"] {
        let error = policy(wrong).unwrap_err();
        assert!(error.contains("expected round-robin, random,"), "{error}");
    }
}

#[test]
fn a_rule_of_istio_s_holds_whenever_it_comes_and_the_service_s_own_word_before_it() {
    let rule = |name: &str| {
        json!({"metadata": {"name": name, "namespace": "shop"},
            "spec": {"trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}}}})
    };
    let put = |discovery: &mut Discovery, resource: &str, object: &Value| {
        assert!(discovery.take(&message(Operation::Update, resource, object)));
    };
    let policy = |discovery: &Discovery| {
        discovery.table().unwrap().get(&name("web")).and_then(|it| it.service.policy.clone())
    };
    let mut discovery = empty();
    put(&mut discovery, "shop/destinationrule/web", &rule("web"));
    put(&mut discovery, "shop/destinationrule/other", &rule("other"));
    put(&mut discovery, "shop/service/web", &service("web", "10.96.0.1"));
    assert_eq!(policy(&discovery), Some(Policy::RoundRobin), "before the service");
    let mut own = service("web", "10.96.0.1");
    own["metadata"]["annotations"] =
        json!({"service.edgemesh.kubeedge.io/load-balancing": "source"});
    put(&mut discovery, "shop/service/web", &own);
    assert_eq!(policy(&discovery), Some(Policy::Source));
    put(&mut discovery, "shop/service/web", &service("web", "10.96.0.1"));
    assert_eq!(policy(&discovery), Some(Policy::RoundRobin));
    put(&mut discovery, "null/destinationrule", &json!([rule("other")]));
    assert_eq!(policy(&discovery), None, "it is gone");
}

#[test]
fn every_kind_of_service_is_read_as_the_api_means_it() {
    let read = |metadata: Value, spec: Value, status: Value| {
        let object = json!({"metadata": metadata, "spec": spec, "status": status});
        serde_json::from_value::<objects::Service>(object).unwrap().read()
    };
    let plain = json!({"name": "web", "namespace": "shop"});
    let (_, headless, carried) =
        read(plain.clone(), json!({"clusterIP": "None", "ports": null}), json!({})).unwrap();
    assert_eq!((headless.kind, carried), (model::Kind::Headless, true));
    let external = json!({"type": "ExternalName", "externalName": "DB.example.org."});
    let (_, external, _) = read(plain.clone(), external, json!({})).unwrap();
    assert_eq!(external.kind, model::Kind::External("db.example.org".into()));
    let spec = json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"],
        "externalIPs": ["192.0.2.1", "127.0.0.1"], "sessionAffinity": "ClientIP",
        "internalTrafficPolicy": "Local", "ports": [{"port": 53, "protocol": "UDP",
        "nodePort": 30053}]});
    let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}, {"hostname": "x"}]}});
    let label = json!({"service.edgemesh.kubeedge.io/service-proxy-name": ""});
    let labelled = json!({"name": "web", "namespace": "shop", "labels": label});
    let (_, service, carried) = read(labelled, spec, status).unwrap();
    assert!(!carried && service.local_only && !service.external_local_only);
    assert_eq!(service.affinity.map(|it| it.as_secs()), Some(10_800));
    assert_eq!(service.external.len(), 2, "one of them is this host's own");
    assert_eq!(service.ports[0].node_port, Some(30_053));
    for wrong in [
        json!({"clusterIP": "127.0.0.1"}),
        json!({"clusterIP": "10.96.0.7", "ports": [{"port": 0}]}),
        json!({"clusterIP": "10.96.0.7", "ports": [{"port": 1, "protocol": "XDP"}]}),
        json!({"type": "ExternalName"}),
    ] {
        assert!(read(plain.clone(), wrong.clone(), json!({})).is_err(), "{wrong}");
    }
}

#[test]
fn what_cannot_be_right_is_as_good_as_none() {
    let mut discovery = empty();
    let set = json!([service("web", "10.96.0.7"), {"metadata": 7}, service("A/b", "10.96.0.1")]);
    assert!(discovery.take(&message(Operation::Update, "null/service", &set)));
    assert_eq!(discovery.table().unwrap_or_default().len(), 1);
    for spoofed in ["127.0.0.1", "169.254.1.1", "::1", "224.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"] {
        let spoofed = slice("web-a", "web", &["10.1.0.1", spoofed]);
        let told = message(Operation::Insert, "shop/endpointslice/web-a", &spoofed);
        assert!(discovery.take(&told));
        assert_eq!(addresses(&discovery, "web"), [""; 0]);
    }
    let other = slice("web-x", "web", &["10.1.0.1"]);
    assert!(discovery.take(&message(Operation::Insert, "shop/endpointslice/web-a", &other)));
    assert_eq!(addresses(&discovery, "web"), [""; 0], "it says that it is another");
    assert!(!discovery.take(&message(Operation::Patch, "shop/service/web", &json!({}))));
    assert!(!discovery.take(&message(Operation::Update, "shop/secret/web", &json!({}))));
}

/// What may happen to a few objects.
#[derive(Clone, Debug)]
enum Step {
    Service(usize, Option<u8>),
    Slice(usize, Option<(usize, u8)>),
    Endpoints(usize, Option<u8>),
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Step {
    fn kind(&self) -> (Kind, usize) {
        match self {
            Self::Service(index, _) => (Kind::Service, *index),
            Self::Slice(index, _) => (Kind::EndpointSlice, *index),
            Self::Endpoints(index, _) => (Kind::Endpoints, *index),
        }
    }

    fn object(&self) -> Option<Value> {
        match *self {
            Self::Service(index, ip) => Some(service(NAMES[index], &format!("10.96.0.{}", ip?))),
            Self::Slice(index, of) => {
                let (of, ip) = of?;
                Some(slice(NAMES[index], NAMES[of], &[&format!("10.1.0.{ip}")]))
            }
            Self::Endpoints(index, ip) => {
                let ip = format!("10.2.0.{}", ip?);
                Some(json!({"metadata": {"name": NAMES[index], "namespace": "shop"},
                    "subsets": [{"addresses": [{"ip": ip}]}]}))
            }
        }
    }

    fn message(&self) -> Message {
        let (kind, index) = self.kind();
        let scope = Scope::Namespace("shop".into());
        let resource = Resource::object(scope, kind, NAMES[index]).to_string();
        match self.object() {
            Some(object) => message(Operation::Update, &resource, &object),
            None => message(Operation::Delete, &resource, &Value::Null),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let index = 0..NAMES.len();
    let ip = proptest::option::of(1u8..4);
    let of = proptest::option::of((0..NAMES.len(), 1u8..4));
    prop_oneof![
        (index.clone(), ip.clone()).prop_map(|(index, ip)| Step::Service(index, ip)),
        (index.clone(), of).prop_map(|(index, of)| Step::Slice(index, of)),
        (index, ip).prop_map(|(index, ip)| Step::Endpoints(index, ip)),
    ]
}

proptest! {
    /// However objects came and went, and in whatever order the types were told, the table is what
    /// the objects say that are there in the end.
    #[test]
    fn the_table_depends_on_the_last_objects_alone(
        steps in proptest::collection::vec(step(), 0..40),
        order in Just(KINDS.to_vec()).prop_shuffle(),
    ) {
        let mut told = empty();
        let mut last = BTreeMap::new();
        for step in &steps {
            prop_assert!(told.take(&step.message()));
            let (kind, index) = step.kind();
            last.insert((kind.as_str().to_owned(), index), step.object());
        }
        let mut given = Discovery::default();
        for kind in order {
            let of_kind = last.iter().filter(|((word, _), _)| *word == kind.as_str());
            let set: Vec<_> = of_kind.filter_map(|(_, object)| object.clone()).collect();
            let set = message(Operation::Update, &format!("null/{kind}"), &Value::from(set));
            prop_assert!(given.take(&set));
        }
        prop_assert_eq!(told.table(), given.table());
    }
}
