//! What comes from folders and goes into them, and the control API.

use std::path::Path;

use minicloud::{Config, Minicloud};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::edge::{Edge, PATIENCE, bootstrap};

fn in_folder(dir: &Path) -> Config {
    Config { dir: Some(dir.to_owned()), ..Config::default() }
}

#[tokio::test]
async fn a_cloud_that_starts_again_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Minicloud::start(in_folder(folder.path())).await.unwrap();
    let identity = bootstrap(&cloud, "edge1").await;
    let mut edge = Edge::connect(&cloud, &identity).await.unwrap();
    edge.register().await;
    let pod = json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "edge1"}});
    cloud.apply(pod).await.unwrap();
    edge.expect("insert", "default/pod/p").await;
    let synced = |cloud: &minicloud::core::Cloud, _| {
        cloud.hub().sessions().iter().all(|session| !session.in_flight && session.waiting == 0)
    };
    cloud.wait_for(PATIENCE, synced).await.unwrap();
    let (ca, before) = (cloud.ca().to_vec(), cloud.object("default/pod/p").await.unwrap());
    cloud.stop().await.unwrap();

    let config =
        Config { sync_interval: std::time::Duration::from_millis(50), ..in_folder(folder.path()) };
    let cloud = Minicloud::start(config).await.unwrap();
    assert_eq!(cloud.ca(), ca);
    assert_eq!(cloud.object("default/pod/p").await.unwrap(), before);
    let mut edge = Edge::connect(&cloud, &identity).await.unwrap();
    let changed =
        json!({"kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {}});
    cloud.apply(changed).await.unwrap();
    let message = edge.next().await.unwrap();
    // The pod had been acknowledged: nothing but the change comes.
    assert_eq!(message.content.decode::<Value>().unwrap()["metadata"]["labels"]["a"], "b");
}

#[tokio::test]
async fn a_pod_that_is_applied_again_stays_in_its_status() {
    let cloud = Minicloud::start(Config::default()).await.unwrap();
    let pod = |label: &str, status: Option<&str>| {
        let metadata = json!({"name": "p", "labels": {"a": label}});
        let mut pod = json!({"kind": "Pod", "metadata": metadata, "spec": {"nodeName": "edge1"}});
        if let Some(phase) = status {
            pod["status"] = json!({ "phase": phase });
        }
        pod
    };
    for (label, given, want) in
        [("one", None, "Pending"), ("two", Some("Running"), "Running"), ("three", None, "Running")]
    {
        cloud.apply(pod(label, given)).await.unwrap();
        let pod = cloud.object("default/pod/p").await.unwrap().unwrap();
        assert_eq!(
            (&pod["metadata"]["labels"]["a"], &pod["status"]["phase"]),
            (&label.into(), &want.into())
        );
    }
}

#[tokio::test]
async fn a_folder_of_manifests_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { manifests: Some(folder.path().to_owned()), ..Config::default() };
    let cloud = Minicloud::start(config).await.unwrap();
    let file = folder.path().join("all.yaml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let names = |cloud: &minicloud::core::Cloud| -> Vec<String> {
        let mine = cloud.cluster().of_kind("secret");
        mine.map(|(key, object)| format!("{} {}", key.name(), object["data"]["k"])).collect()
    };
    write(
        "kind: Secret\nmetadata: {name: a}\nstringData: {k: one}\n---\nkind: Secret\nmetadata: {name: b}\n",
    );
    cloud
        .wait_for(PATIENCE, move |cloud, _| names(cloud) == ["a \"b25l\"", "b null"])
        .await
        .unwrap();
    write("kind: Secret\nmetadata: {name: a}\nstringData: {k: twoo}\n");
    cloud.wait_for(PATIENCE, move |cloud, _| names(cloud) == ["a \"dHdvbw==\""]).await.unwrap();
    write("kind: [\n");
    std::fs::write(
        folder.path().join("c.json"),
        r#"{"kind": "Secret", "metadata": {"name": "c"}}"#,
    )
    .unwrap();
    cloud.wait_for(PATIENCE, move |cloud, _| names(cloud).len() == 2).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    cloud.wait_for(PATIENCE, move |cloud, _| names(cloud) == ["c null"]).await.unwrap();
}

/// Asks the control API.
async fn ask(cloud: &Minicloud, request: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(cloud.control().unwrap()).await.unwrap();
    let length = body.len();
    let text = format!(
        "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn the_control_api_shows_and_steers() {
    let control = Some("127.0.0.1:0".parse().unwrap());
    let cloud = Minicloud::start(Config { control, ..Config::default() }).await.unwrap();
    let mut edge = Edge::join(&cloud, "edge1").await;
    edge.register().await;
    let yaml = "kind: Pod\nmetadata: {name: p}\nspec: {nodeName: edge1}\n";
    assert_eq!(
        ask(&cloud, "PUT /objects", yaml).await,
        (200, json!({"applied": ["default/pod/p"]}))
    );
    edge.expect("insert", "default/pod/p").await;
    let (_, pods) = ask(&cloud, "GET /objects?kind=pod", "").await;
    assert_eq!(pods.as_array().map(Vec::len), Some(1));
    assert_eq!(ask(&cloud, "GET /objects/default/pod/p", "").await.1["metadata"]["name"], "p");
    assert_eq!(ask(&cloud, "GET /objects/default/pod/q", "").await.0, 404);
    assert_eq!(ask(&cloud, "GET /nodes/edge1", "").await.1["ready"], true);
    assert_eq!(ask(&cloud, "GET /sessions", "").await.1[0]["node"], "edge1");
    let (_, received) = ask(&cloud, "GET /received?since=1", "").await;
    assert_eq!(received[0]["resource"], "null/node/edge1");
    let message = r#"{"source": "router_eventbus", "group": "user", "operation": "publish", "resource": "t"}"#;
    assert_eq!(ask(&cloud, "POST /send/edge1", message).await.0, 200);
    edge.expect("publish", "t").await;
    assert_eq!(ask(&cloud, "DELETE /objects/default/pod/p?force=true", "").await.0, 200);
    edge.expect("delete", "default/pod/p").await;
    assert_eq!(ask(&cloud, "POST /fault?node=edge1", r#"{"fault": "close"}"#).await.0, 200);
    while edge.next().await.is_some() {}
    assert_eq!(ask(&cloud, "POST /fault", r#"{"fault": "nonsense"}"#).await.0, 400);
    assert_eq!(ask(&cloud, "GET /nonsense", "").await.0, 404);
    assert!(ask(&cloud, "GET /token", "").await.1.as_str().unwrap().contains('.'));
    assert!(ask(&cloud, "GET /syncs", "").await.1.is_array());
}

#[tokio::test]
async fn the_control_api_stays_on_the_loopback() {
    let control = Some("0.0.0.0:0".parse().unwrap());
    assert!(Minicloud::start(Config { control, ..Config::default() }).await.is_err());
}
