//! The life of a node's link, played by a scripted node over real sockets.

use std::time::Duration;

use crate::edge::{Edge, Identity, PATIENCE, bootstrap, get, request};
use minicloud::core::Push;
use minicloud::{Config, Minicloud};
use serde_json::{Value, json};

async fn cloud() -> Minicloud {
    Minicloud::start(Config::default()).await.unwrap()
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "i:1"}]}})
}

#[tokio::test]
async fn certificates_are_issued_to_tokens_and_to_their_own_nodes() {
    let cloud = cloud().await;
    let (status, ca) = get(&cloud, None, "/ca.crt", "", b"").await;
    assert_eq!((status, ca.as_slice()), (200, cloud.ca()));
    let hash = cloud.token().split('.').next().unwrap().to_owned();
    let digest = ring::digest::digest(&ring::digest::SHA256, &ca);
    assert_eq!(hash, data_encoding::HEXLOWER.encode(digest.as_ref()));

    let first = bootstrap(&cloud, "edge1").await;
    let (organization, name) = minicloud::pki::subject(&first.certificate).unwrap();
    assert_eq!((&*organization, &*name), ("system:nodes", "system:node:edge1"));
    let (key, csr) = request("edge1");
    let (status, der) = get(&cloud, Some(&first), "/edge.crt", "NodeName: edge1\r\n", &csr).await;
    assert_eq!(status, 200);
    let second = Identity::new("edge1", der, &key);
    assert!(Edge::connect(&cloud, &second).await.is_some());
    let other = get(&cloud, Some(&first), "/edge.crt", "NodeName: edge2\r\n", &csr).await;
    assert_eq!(other.0, 401);
    for header in ["", "Authorization: Bearer x.y.z\r\n", "Authorization: a b c\r\n"] {
        assert_eq!(get(&cloud, None, "/edge.crt", header, &csr).await.0, 401, "{header:?}");
    }
    let token = cloud.token();
    let header = format!("Authorization: Bearer {}\r\n", token.split_once('.').unwrap().1);
    assert_eq!(get(&cloud, None, "/edge.crt", &header, b"rubbish").await.0, 500);
}

#[tokio::test]
async fn a_node_joins_gets_a_pod_and_loses_it() {
    let cloud = cloud().await;
    assert_eq!(get(&cloud, None, "/node/edge1", "", b"").await.0, 404);
    let mut edge = Edge::join(&cloud, "edge1").await;
    edge.register().await;
    assert_eq!(get(&cloud, None, "/node/edge1", "", b"").await.0, 200);
    cloud.wait_ready(PATIENCE, "edge1").await.unwrap();

    cloud.apply(pod("p")).await.unwrap();
    let (message, body) = edge.expect("update", "default/pod/p").await;
    assert_eq!(body["spec"]["nodeName"], "edge1");
    assert_eq!(
        *message.header.resource_version,
        *body["metadata"]["resourceVersion"].as_str().unwrap()
    );
    let uid = body["metadata"]["uid"].as_str().unwrap().to_owned();
    let patch = json!({"metadata": {"uid": uid}, "status": {"phase": "Running"}}).to_string();
    let answer = edge.ask("patch", "default/podpatch/p", &Value::from(patch)).await;
    assert_eq!(answer["Object"]["status"]["phase"], "Running");
    let synced = move |cloud: &minicloud::core::Cloud, _| {
        let version = |(_, it): (&minicloud::core::key::Key, &Value)| {
            minicloud::core::cluster::version_of(it)
        };
        let pod = cloud.cluster().of_kind("pod").next().map(version);
        pod == cloud.hub().syncs().get(&("edge1".into(), uid.as_str().into())).map(|it| it.version)
    };
    let (message, _) = edge.expect("update", "default/pod/p").await;
    assert!(!message.header.resource_version.is_empty());
    cloud.wait_for(PATIENCE, synced).await.unwrap();

    cloud.delete("default/pod/p", false).await.unwrap();
    let (_, ending) = edge.expect("update", "default/pod/p").await;
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 1);
    let options = json!({"gracePeriodSeconds": 0,
        "preconditions": {"uid": ending["metadata"]["uid"]}});
    edge.say("edged", "meta", "delete", "default/pod/p", &options).await;
    edge.expect("delete", "default/pod/p").await;
    assert_eq!(cloud.object("default/pod/p").await.unwrap(), None);
    let gone = |cloud: &minicloud::core::Cloud, _| {
        cloud.hub().syncs().values().all(|sync| sync.resource.to_string() != "default/pod/p")
    };
    cloud.wait_for(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn leases_are_renewed_and_old_copies_refused() {
    let cloud = cloud().await;
    let mut edge = Edge::join(&cloud, "edge1").await;
    edge.register().await;
    let resource = "kube-node-lease/lease/edge1";
    let answer = edge.ask("query", resource, &Value::Null).await;
    let mut lease = answer["Object"].clone();
    lease["spec"]["renewTime"] = "2026-11-23T04:22:40.556308Z".into();
    let renewed = edge.ask("update", resource, &lease).await;
    assert_eq!(renewed["Object"]["spec"]["renewTime"], lease["spec"]["renewTime"]);
    let stale = edge.ask("update", resource, &lease).await;
    assert_eq!(stale["Err"]["ErrStatus"]["reason"], "Conflict");
    let again = edge.ask("insert", resource, &lease).await;
    assert_eq!(again["Err"]["ErrStatus"]["reason"], "AlreadyExists");
    let node = cloud.node("edge1").await.unwrap().unwrap();
    assert_eq!(node.renew_time.as_deref(), Some("2026-11-23T04:22:40.556308Z"));
}

#[tokio::test]
async fn what_a_node_missed_comes_when_it_is_back() {
    let config = Config { sync_interval: Duration::from_millis(200), ..Config::default() };
    let cloud = Minicloud::start(config).await.unwrap();
    let identity = bootstrap(&cloud, "edge1").await;
    let mut edge = Edge::connect(&cloud, &identity).await.unwrap();
    edge.register().await;
    for name in ["gone", "changed"] {
        cloud.apply(pod(name)).await.unwrap();
        edge.expect("update", &format!("default/pod/{name}")).await;
    }
    let gone = cloud.object("default/pod/gone").await.unwrap().unwrap();
    edge.hang_up();
    cloud.wait_for(PATIENCE, |cloud, _| cloud.hub().sessions().is_empty()).await.unwrap();
    cloud.delete("default/pod/gone", true).await.unwrap();
    cloud.apply(pod("new")).await.unwrap();
    let mut changed = pod("changed");
    changed["metadata"]["labels"] = json!({"a": "b"});
    cloud.apply(changed).await.unwrap();

    let mut edge = Edge::connect(&cloud, &identity).await.unwrap();
    let mut missed = std::collections::BTreeMap::new();
    while missed.len() < 3 {
        let message = edge.next().await.unwrap();
        edge.ack(&message).await;
        let content: Value = message.content.decode().unwrap();
        let told = format!("{} {}", message.route.operation, message.route.resource);
        missed.insert(told, (message.header.resource_version, content));
    }
    let told: Vec<_> = missed.keys().map(String::as_str).collect();
    assert_eq!(
        told,
        ["delete default/pod/gone", "update default/pod/changed", "update default/pod/new"]
    );
    let (version, content) = &missed["delete default/pod/gone"];
    let meta = json!({"name": "gone", "namespace": "default", "uid": gone["metadata"]["uid"]});
    assert_eq!((&**version, content), ("", &json!({ "metadata": meta })));
}

#[tokio::test]
async fn a_second_session_replaces_the_first_and_silence_ends_one() {
    let mut config = Config::default();
    config.times.keepalive = Duration::from_millis(300);
    let cloud = Minicloud::start(config).await.unwrap();
    let identity = bootstrap(&cloud, "edge1").await;
    let mut first = Edge::connect(&cloud, &identity).await.unwrap();
    let mut second = Edge::connect(&cloud, &identity).await.unwrap();
    assert!(first.next().await.is_none());
    second.say("websocket", "resource", "keepalive", "node", &Value::from("ping")).await;
    assert!(second.next().await.is_none(), "silence closes");
    assert!(cloud.sessions().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_strange_certificate_is_left_alone_where_the_cloud_authorizes() {
    let cloud = Minicloud::start(Config { authorize: true, ..Config::default() }).await.unwrap();
    let identity = bootstrap(&cloud, "edge2").await;
    let mut stranger = Edge::connect_as(&cloud, &identity, "edge1").await.unwrap();
    stranger.say("edged", "meta", "insert", "null/node/edge1", &json!({})).await;
    let mut own = Edge::connect(&cloud, &identity).await.unwrap();
    own.register().await;
    assert_eq!(cloud.object("null/node/edge1").await.unwrap(), None);
    let nodes = cloud.sessions().await.unwrap();
    assert_eq!(nodes.iter().map(|it| it.node.as_str()).collect::<Vec<_>>(), ["edge2"]);
}

#[tokio::test]
async fn tests_can_send_what_they_like_and_see_what_came() {
    let cloud = cloud().await;
    let mut edge = Edge::join(&cloud, "edge1").await;
    let push = json!({"source": "router_eventbus", "group": "user", "operation": "publish",
        "resource": "test", "content": "hello"});
    let push: Push = serde_json::from_value(push).unwrap();
    cloud.wait_for(PATIENCE, |cloud, _| !cloud.hub().sessions().is_empty()).await.unwrap();
    cloud.push("edge1", push).await.unwrap();
    let message = edge.next().await.unwrap();
    assert_eq!(message.route.resource.to_string(), "test");
    let id = edge.say("bus", "user", "upload", "default/up", &Value::from("x")).await;
    let came = move |cloud: &minicloud::core::Cloud, _| {
        cloud.received().since(0).any(|entry| entry.message.header.id == id)
    };
    cloud.wait_for(PATIENCE, came).await.unwrap();
}

#[tokio::test]
async fn node_deletion_closes_the_session_and_forgets_what_it_had() {
    let cloud = cloud().await;
    let mut edge = Edge::join(&cloud, "edge1").await;
    edge.register().await;
    cloud.apply(pod("p")).await.unwrap();
    edge.expect("update", "default/pod/p").await;
    cloud.delete("null/node/edge1", false).await.unwrap();
    while let Some(message) = edge.next().await {
        assert_ne!(message.route.resource.to_string(), "never");
    }
    let empty = |cloud: &minicloud::core::Cloud, _| {
        cloud.hub().syncs().is_empty() && cloud.cluster().of_kind("pod").next().is_none()
    };
    cloud.wait_for(PATIENCE, empty).await.unwrap();
}

#[tokio::test]
async fn a_serving_certificate_is_signed() {
    let cloud = cloud().await;
    let mut edge = Edge::join(&cloud, "edge1").await;
    let (_, csr) = request("edge1");
    let pem = minicloud::pki::pem(&csr).replace("CERTIFICATE", "CERTIFICATE REQUEST");
    let body = json!({"spec": {"request": data_encoding::BASE64.encode(pem.as_bytes()),
        "signerName": "kubernetes.io/kubelet-serving", "usages": ["server auth"]}});
    let resource = "default/certificatesigningrequest/metaserver-csr-edge1";
    let answer = edge.ask("insert", resource, &body).await;
    assert_eq!(answer["Object"]["spec"]["username"], "system:node:edge1");
    let answer = edge.ask("query", resource, &Value::Null).await;
    assert_eq!(answer["Object"]["status"]["conditions"][0]["type"], "Approved");
    let pem = answer["Object"]["status"]["certificate"].as_str().unwrap();
    let pem = data_encoding::BASE64.decode(pem.as_bytes()).unwrap();
    assert!(pem.starts_with(b"-----BEGIN CERTIFICATE-----\n"));
    let rubbish = json!({"spec": {"request": "cnViYmlzaA=="}});
    let resource = "default/certificatesigningrequest/other";
    edge.ask("insert", resource, &rubbish).await;
    let answer = edge.ask("query", resource, &Value::Null).await;
    assert_eq!(answer["Object"]["status"]["conditions"][0]["type"], "Denied");
}

#[tokio::test]
async fn thousands_of_objects_reach_a_node_one_by_one() {
    const COUNT: usize = 2000;
    let cloud = cloud().await;
    let mut edge = Edge::join(&cloud, "edge1").await;
    edge.register().await;
    for index in 0..COUNT {
        let pod = json!({"kind": "Pod", "metadata": {"name": format!("p{index}")},
            "spec": {"nodeName": "edge1"}});
        cloud.apply(pod).await.unwrap();
    }
    let mut got = std::collections::BTreeSet::new();
    while got.len() < COUNT {
        let message = edge.next().await.unwrap();
        edge.ack(&message).await;
        if message.route.resource.kind() == Some(&ipc_proto::Kind::Pod) {
            assert!(got.insert(message.route.resource.to_string()), "sent twice");
        }
    }
}
