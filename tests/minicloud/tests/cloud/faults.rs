//! Each fault does what it says, and ends.

use std::time::{Duration, Instant};

use minicloud::core::cluster::version_of;
use minicloud::fault::{Fault, Garbage};
use minicloud::{Config, Minicloud};
use serde_json::{Value, json};

use crate::edge::{Edge, PATIENCE, bootstrap, get, request};

/// Starts a cloud whose resends come fast.
async fn cloud() -> Minicloud {
    let mut config = Config::default();
    config.times.resend = Duration::from_millis(200);
    Minicloud::start(config).await.unwrap()
}

async fn joined(cloud: &Minicloud) -> Edge {
    let mut edge = Edge::join(cloud, "edge1").await;
    edge.register().await;
    edge
}

fn configmap(name: &str, size: usize) -> Value {
    json!({"kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": "é".repeat(size / 2)}})
}

#[tokio::test]
async fn lost_messages_are_sent_again() {
    let cloud = cloud().await;
    let mut edge = joined(&cloud).await;
    let fault = Fault::Drop { count: 1, up: false, resource: "default/pod/".to_owned() };
    cloud.fault(None, fault).await.unwrap();
    let pod = json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "edge1"}});
    cloud.apply(pod).await.unwrap();
    edge.expect("insert", "default/pod/p").await;

    let fault = Fault::Drop { count: 1, up: true, resource: String::new() };
    cloud.fault(Some("edge1"), fault).await.unwrap();
    edge.say("edged", "meta", "query", "default/configmap/c", &Value::Null).await;
    let answer = edge.ask("query", "default/configmap/d", &Value::Null).await;
    assert_eq!(answer["ErrStatus"]["details"]["name"], "d");
}

#[tokio::test]
async fn messages_come_late_and_in_pieces_and_are_whole() {
    let cloud = cloud().await;
    let mut edge = joined(&cloud).await;
    let object = configmap("big", 9000);
    cloud.apply(object.clone()).await.unwrap();
    let resource = "default/configmap/big";
    let at_once = edge.ask("query", resource, &Value::Null).await;
    assert_eq!(at_once["data"], object["data"]);
    cloud.fault(None, Fault::Delay { millis: 300 }).await.unwrap();
    let start = Instant::now();
    let late = edge.ask("query", resource, &Value::Null).await;
    assert_eq!(version_of(&late), version_of(&at_once));
    assert!(start.elapsed() >= Duration::from_millis(300));
    cloud.fault(None, Fault::Delay { millis: 0 }).await.unwrap();
    cloud.fault(None, Fault::Slow { piece: 1001, millis: 20 }).await.unwrap();
    let slow = edge.ask("query", resource, &Value::Null).await;
    assert_eq!(slow["data"], object["data"]);
}

#[tokio::test]
async fn two_answers_change_places() {
    let cloud = cloud().await;
    let mut edge = joined(&cloud).await;
    cloud.fault(None, Fault::Reorder).await.unwrap();
    let mut asked = Vec::new();
    for name in ["a", "b"] {
        let resource = format!("default/secret/{name}");
        asked.push(edge.say("edged", "meta", "query", &resource, &Value::Null).await);
    }
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let message = edge.next().await.unwrap();
        answered.extend(message.header.parent.filter(|parent| asked.contains(parent)));
    }
    asked.reverse();
    assert_eq!(answered, asked);
}

#[tokio::test]
async fn garbage_is_what_it_says() {
    let cloud = cloud().await;
    let mut edge = joined(&cloud).await;
    for kind in [Garbage::Text, Garbage::Truncated, Garbage::Json, Garbage::Unknown, Garbage::Empty]
    {
        cloud.fault(None, Fault::Garbage { kind }).await.unwrap();
        assert_eq!(edge.frame().await.unwrap(), kind.bytes());
    }
    cloud.fault(None, Fault::Garbage { kind: Garbage::Bytes }).await.unwrap();
    assert!(edge.frame().await.is_none(), "a strict client breaks off");
}

#[tokio::test]
async fn a_half_open_link_is_silent_until_it_heals() {
    let mut config = Config::default();
    config.times.keepalive = Duration::from_millis(200);
    let cloud = Minicloud::start(config).await.unwrap();
    let mut edge = Edge::join(&cloud, "edge1").await;
    cloud.wait_for(PATIENCE, |cloud, _| !cloud.hub().sessions().is_empty()).await.unwrap();
    cloud.fault(Some("edge1"), Fault::HalfOpen).await.unwrap();
    cloud.wait_for(PATIENCE, |cloud, _| cloud.hub().sessions().is_empty()).await.unwrap();
    edge.say("websocket", "resource", "keepalive", "node", &Value::from("ping")).await;
    let silent = tokio::time::timeout(Duration::from_millis(300), edge.frame()).await;
    assert!(silent.is_err(), "neither a frame nor an end");
    cloud.fault(None, Fault::Heal).await.unwrap();
    assert!(edge.frame().await.is_none());
}

#[tokio::test]
async fn connections_are_closed_on_command() {
    let cloud = cloud().await;
    let mut edge = joined(&cloud).await;
    cloud.fault(Some("edge1"), Fault::Close).await.unwrap();
    while edge.next().await.is_some() {}
    cloud.wait_for(PATIENCE, |cloud, _| cloud.hub().sessions().is_empty()).await.unwrap();
}

#[tokio::test]
async fn a_restart_closes_the_doors_and_opens_them_again() {
    let cloud = cloud().await;
    let identity = bootstrap(&cloud, "edge1").await;
    let mut edge = Edge::connect(&cloud, &identity).await.unwrap();
    edge.register().await;
    let (hub, https) = (cloud.hub(), cloud.https());
    cloud.fault(None, Fault::Restart { down_millis: 500 }).await.unwrap();
    while edge.next().await.is_some() {}
    for address in [hub, https] {
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "{address} still listens");
    }
    assert!(!cloud.node("edge1").await.unwrap().unwrap().ready);
    let start = Instant::now();
    let mut again = loop {
        if let Some(edge) = Edge::connect(&cloud, &identity).await {
            break edge;
        }
        assert!(start.elapsed() < PATIENCE, "nobody listens again");
        tokio::task::yield_now().await;
    };
    let answer = again.ask("query", "null/node/edge1", &Value::Null).await;
    assert_eq!(answer["metadata"]["name"], "edge1");
}

#[tokio::test]
async fn certificates_expire_and_tokens_are_refused_on_command() {
    let cloud = cloud().await;
    let identity = bootstrap(&cloud, "edge1").await;
    cloud.fault(None, Fault::RefuseTokens { on: true }).await.unwrap();
    let token = cloud.token();
    let header = format!(
        "NodeName: edge1\r\nAuthorization: Bearer {}\r\n",
        token.split_once('.').unwrap().1
    );
    let (key, csr) = request("edge1");
    assert_eq!(get(&cloud, None, "/edge.crt", &header, &csr).await.0, 401);
    cloud.fault(None, Fault::RefuseTokens { on: false }).await.unwrap();
    cloud.fault(None, Fault::ExpiredNodeCertificates { on: true }).await.unwrap();
    let (status, der) = get(&cloud, None, "/edge.crt", &header, &csr).await;
    assert_eq!(status, 200);
    let expired = crate::edge::Identity::new("edge1", der, &key);
    assert_eq!(get(&cloud, Some(&expired), "/edge.crt", "NodeName: edge1\r\n", &csr).await.0, 401);
    let refused = Edge::connect(&cloud, &expired).await;
    assert!(refused.is_none(), "the hub refuses an expired certificate");
    cloud.fault(None, Fault::ExpiredServerCertificate { on: true }).await.unwrap();
    cloud.wait_for(PATIENCE, |_, _| true).await.unwrap();
    assert!(Edge::connect(&cloud, &identity).await.is_none(), "the node refuses the server");
    cloud.fault(None, Fault::Heal).await.unwrap();
    cloud.wait_for(PATIENCE, |_, _| true).await.unwrap();
    assert!(Edge::connect(&cloud, &identity).await.is_some());
}
