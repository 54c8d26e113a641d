//! The cloud answers, and tells nodes of changes, as a real CloudCore v1.23 did when it was
//! recorded: each fixture is one exchange, and what the core makes of it is compared as JSON.
//! Identities, versions and times are left aside, and so are `managedFields`, which this cloud does
//! not keep.
#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a failure is the message")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use ipc_proto::{Group, MessageId, Resource, json};
use minicloud::Time;
use minicloud::core::cluster::Cluster;
use minicloud::core::ids::Ids;
use minicloud::core::key::Key;
use minicloud::core::{Cloud, Settings};
use minicloud::hub::core::{Effect, Hub, SessionId, Sync};
use serde::Deserialize;
use serde_json::Value;

const NODE: &str = "edge1";
const SESSION: SessionId = SessionId(1);
/// The time of the recording.
const NOW: Time = Time::from_millis(1_795_407_740_000);

#[derive(Deserialize)]
struct Exchange {
    about: String,
    /// The objects that are there before.
    cluster: Vec<Value>,
    /// What the node sends.
    request: Option<Value>,
    /// Or what is applied to the cluster.
    #[serde(default)]
    apply: Vec<Value>,
    /// Or what is deleted.
    delete: Option<String>,
    /// What the node has acknowledged before: resource, uid, version.
    #[serde(default)]
    syncs: Vec<(String, Box<str>, u64)>,
    /// What the node gets, in any order.
    expect: Vec<Value>,
}

fn cloud(exchange: &Exchange) -> Cloud {
    let settings = Settings {
        node_grace: Duration::from_secs(40),
        sync_interval: Duration::from_secs(5),
        address: "192.0.2.2".to_owned(),
        ca_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        token_key: b"key".to_vec(),
    };
    let sync = |(resource, uid, version): &(String, Box<str>, u64)| {
        let resource = Resource::parse(&Group::Resource, resource);
        ((NODE.into(), uid.clone()), Sync { resource, version: *version })
    };
    let syncs: BTreeMap<_, _> = exchange.syncs.iter().map(sync).collect();
    let cluster = Cluster::restore(Ids::new(1), 1000, exchange.cluster.clone());
    let hub = Hub::new(minicloud::hub::core::Settings::default(), syncs);
    let mut cloud = Cloud::new(settings, cluster, hub, NOW);
    // What was there before, the node has.
    cloud.settle(NOW, &mut Vec::new());
    cloud.connect(NOW, SESSION, NODE, &mut Vec::new());
    cloud
}

/// Plays the node's part and returns what it got, acknowledging everything.
fn play(exchange: &Exchange) -> Vec<Value> {
    let mut cloud = cloud(exchange);
    let mut out = Vec::new();
    if let Some(request) = &exchange.request {
        let request = json::decode(&Bytes::from(request.to_string())).unwrap();
        cloud.receive(NOW, SESSION, &request, &mut out);
    }
    for object in &exchange.apply {
        cloud.apply(NOW, object.clone(), &mut out).unwrap();
    }
    if let Some(path) = &exchange.delete {
        cloud.delete(NOW, &Key::parse(path).unwrap(), false, &mut out).unwrap();
    }
    if !exchange.syncs.is_empty() {
        cloud.tick(Time::from_millis(NOW.millis() + 5000), &mut out);
    }
    let mut got = Vec::new();
    while !out.is_empty() {
        for effect in std::mem::take(&mut out) {
            let Effect::Send(_, message) = effect else { panic!("{effect:?}") };
            got.push(serde_json::from_slice(&json::encode(&message).unwrap()).unwrap());
            let id = MessageId::parse("ack");
            let ack = message.response(id, 0, ipc_proto::Content::text("OK"));
            cloud.receive(NOW, SESSION, &ack, &mut out);
        }
    }
    got
}

/// Leaves aside what differs from run to run.
fn plain(mut message: Value) -> Value {
    let header = &message["header"];
    let versioned = header["resourceversion"].is_string();
    message["header"] = serde_json::json!({ "versioned": versioned });
    if let Some(body) = message["content"]["RespBody"].as_str() {
        let body = BASE64.decode(body.as_bytes()).unwrap();
        message["content"]["RespBody"] = serde_json::from_slice(&body).unwrap();
    }
    if message["route"]["resource"] == "k8s/ca.crt" {
        let text = message["content"].as_str().unwrap();
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----\n"));
        message["content"] = Value::Null;
    }
    prune(&mut message);
    message
}

fn prune(value: &mut Value) {
    const PRUNED: &[&str] = &[
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "managedFields",
        "token",
        "expirationTimestamp",
        "event_id",
        "timestamp",
        "Timestamp",
        "lastHeartbeatTime",
        "lastTransitionTime",
    ];
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !PRUNED.contains(&name.as_str()));
        fields.values_mut().for_each(prune);
    } else if let Some(list) = value.as_array_mut() {
        list.iter_mut().for_each(prune);
    }
}

fn check(name: &str) {
    let path = format!("{}/tests/fixtures/exchanges/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let exchange: Exchange = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let order = |message: &Value| message.to_string();
    let mut got: Vec<_> = play(&exchange).into_iter().map(plain).collect();
    let mut expected: Vec<_> = exchange.expect.iter().cloned().map(plain).collect();
    got.sort_by_key(order);
    expected.sort_by_key(order);
    let mut differences = Vec::new();
    compare("", &Value::from(got), &Value::from(expected), &mut differences);
    assert!(differences.is_empty(), "{name}: {}\n{}", exchange.about, differences.join("\n"));
}

/// Lists where two values differ.
fn compare(path: &str, got: &Value, expected: &Value, out: &mut Vec<String>) {
    match (got, expected) {
        (Value::Object(one), Value::Object(other)) => {
            let names: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
            for name in names {
                let of = |it: &serde_json::Map<_, _>| it.get(name).cloned().unwrap_or(Value::Null);
                if one.contains_key(name) != other.contains_key(name) {
                    out.push(format!("{path}.{name}: got {}, expected {}", of(one), of(other)));
                } else {
                    compare(&format!("{path}.{name}"), &of(one), &of(other), out);
                }
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&format!("{path}[{index}]"), one, other, out);
            }
        }
        _ if got == expected => {}
        _ => out.push(format!("{path}: got {got}, expected {expected}")),
    }
}

/// Makes a test of each fixture.
macro_rules! recorded {
    ($($test:ident = $name:literal,)*) => {
        $(#[test]
        fn $test() {
            check($name);
        })*

        #[test]
        fn every_fixture_is_tested() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/exchanges");
            let count = std::fs::read_dir(folder).unwrap().count();
            assert_eq!(count, [$($name),*].len());
        }
    };
}

recorded! {
    application_list = "application-list",
    cluster_ca = "cluster-ca",
    configmap_delete = "configmap-delete",
    configmap_query = "configmap-query",
    configmap_update = "configmap-update",
    csr_insert = "csr-insert",
    device_create = "device-create",
    device_delete = "device-delete",
    lease_query_missing = "lease-query-missing",
    mirror_pod_insert = "mirror-pod-insert",
    node_insert = "node-insert",
    node_patch_empty = "node-patch-empty",
    persistentvolume_query = "persistentvolume-query",
    persistentvolumeclaim_query = "persistentvolumeclaim-query",
    pod_delete = "pod-delete",
    pod_patch = "pod-patch",
    secret_query = "secret-query",
    secret_update = "secret-update",
    token_request = "token-request",
    twin_report = "twin-report",
    volume_resync = "volume-resync",
    watch_sync = "watch-sync",
}
