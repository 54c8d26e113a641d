//! Whatever nodes and users send, the core neither panics nor stores what it could not take up
//! again.
#![expect(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use ipc_proto::json;
use minicloud::Time;
use minicloud::core::cluster::Cluster;
use minicloud::core::ids::Ids;
use minicloud::core::key::Key;
use minicloud::core::{Cloud, Settings};
use minicloud::hub::core::{Hub, SessionId};
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: Time = Time::from_millis(1_795_407_740_000);

static EXCHANGES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/exchanges");
    let files = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        .collect()
});

fn cloud(objects: Vec<Value>) -> Cloud {
    let settings = Settings {
        node_grace: Duration::from_secs(40),
        sync_interval: Duration::from_secs(5),
        address: "192.0.2.2".to_owned(),
        ca_pem: "pem".to_owned(),
        token_key: b"key".to_vec(),
    };
    let cluster = Cluster::restore(Ids::new(1), 1000, objects);
    let mut cloud =
        Cloud::new(settings, cluster, Hub::new(Default::default(), BTreeMap::new()), NOW);
    cloud.settle(NOW, &mut Vec::new());
    cloud.connect(NOW, SessionId(1), "edge1", &mut Vec::new());
    cloud
}

/// Checks that every object could be stored and taken up again.
fn check(cloud: &Cloud) {
    for (key, object) in cloud.cluster().iter() {
        assert_eq!(Key::of(object).unwrap(), *key);
    }
}

fn rubbish() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(Value::from("{\"status\": 5, \"metadata\": []}")),
        Just(Value::from("x".repeat(5000))),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let name = "(metadata|name|namespace|uid|spec|status|conditions|kind|[a-z]{1,3})";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Replaces the value that `path` leads to, where each number chooses among the parts.
fn replace(value: &mut Value, path: &[usize], with: &Value) {
    let Some((step, rest)) = path.split_first() else {
        *value = with.clone();
        return;
    };
    if let Some(fields) = value.as_object_mut().filter(|fields| !fields.is_empty()) {
        let index = step % fields.len();
        if let Some(field) = fields.values_mut().nth(index) {
            replace(field, rest, with);
        }
    } else if let Some(list) = value.as_array_mut().filter(|list| !list.is_empty()) {
        let index = step % list.len();
        replace(&mut list[index], rest, with);
    } else {
        *value = with.clone();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn recorded_messages_gone_wrong(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((prop::collection::vec(any::<usize>(), 0..6), rubbish()), 1..4),
    ) {
        let exchange = &EXCHANGES[which.index(EXCHANGES.len())];
        let objects = exchange["cluster"].as_array().unwrap().clone();
        let mut cloud = cloud(objects);
        let mut message = exchange["request"].clone();
        if message.is_null() {
            message = exchange["expect"][0].clone();
        }
        for (path, with) in &changes {
            replace(&mut message, path, with);
        }
        let mut out = Vec::new();
        if let Ok(message) = json::decode(&Bytes::from(message.to_string())) {
            cloud.receive(NOW, SessionId(1), &message, &mut out);
        }
        cloud.tick(Time::from_millis(NOW.millis() + 6000), &mut out);
        check(&cloud);
    }

    #[test]
    fn any_request_about_any_object(
        body in rubbish(),
        source in "(edged|metaserver|twin|websocket|edgecontroller)",
        operation in "(insert|update|patch|query|delete|get|null|response|upload)",
        kind in "(node|nodepatch|nodestatus|pod|podpatch|podstatus|lease|configmap|secret|serviceaccounttoken|certificatesigningrequest|device|event)",
        tail in "(/edge1|/cap-pod|/sensor1|/twin/edge_updated|/state/update|/|)",
        text in any::<bool>(),
    ) {
        let objects = EXCHANGES[0]["cluster"].as_array().unwrap().clone();
        let mut cloud = cloud(objects);
        let content = if text { Value::from(body.to_string()) } else { body };
        for scope in ["null", "default", "device/default/sensor1"] {
            let message = json!({"header": {"msg_id": "m"}, "content": content, "route": {
                "source": source, "group": "meta", "operation": operation,
                "resource": format!("{scope}/{kind}{tail}")}});
            let message = json::decode(&Bytes::from(message.to_string())).unwrap();
            cloud.receive(NOW, SessionId(1), &message, &mut Vec::new());
            cloud.receive(NOW, SessionId(1), &message, &mut Vec::new());
        }
        check(&cloud);
    }

    #[test]
    fn any_object_applied_and_deleted(
        mut object in rubbish(),
        kind in "(Node|Pod|Secret|ConfigMap|Device|DeviceModel|DeviceStatus|ServiceAccountAccess|Gadget)",
        spec in rubbish(),
    ) {
        let mut cloud = cloud(EXCHANGES[0]["cluster"].as_array().unwrap().clone());
        if let Some(fields) = object.as_object_mut() {
            fields.insert("kind".to_owned(), kind.into());
            fields.insert("spec".to_owned(), spec);
            fields.entry("metadata").or_insert_with(|| json!({"name": "x"}));
        }
        let mut out = Vec::new();
        for _ in 0..2 {
            if let Ok(key) = cloud.apply(NOW, object.clone(), &mut out) {
                cloud.delete(NOW, &key, false, &mut out).unwrap();
            }
        }
        check(&cloud);
    }
}
