//! Clients that ask wrongly, slowly, too much or not to the end.

use super::super::containerd::SOON;
use super::super::fake::Fake;
use super::*;
use crate::api::{Service, listen};

#[tokio::test]
async fn wrong_requests_are_answered_as_kubelet_does() {
    let Some(stage) = stage().await else { return };
    for (method, path, status, text) in [
        ("GET", "/containerLogs/ns/q/c", 404, "pod \"q\" does not exist"),
        ("GET", "/containerLogs/ns/p/c", 404, "container \"c\" not found in pod \"p\""),
        ("GET", "/containerLogs/ns/../c", 404, "404: Page Not Found"),
        ("POST", "/exec/ns/q/c?output=1", 404, "pod does not exist"),
        ("POST", "/exec/ns/p/c?output=1", 500, "container not found (\"c\")"),
        ("POST", "/exec/ns/p/other/speaker?output=1", 500, "container not found (\"speaker\")"),
        ("POST", "/exec/ns/p/speaker", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("POST", "/exec/ns/p/speaker?output=1&command=true", 500, "Upgrade request required"),
        ("POST", "/portForward/ns/p/other", 404, "pod not found"),
        ("GET", "/logs/../../etc/shadow", 404, "404: Page Not Found"),
        ("GET", "/logs/nothing-there", 404, "404 page not found\n"),
        ("PUT", "/pods", 405, "405: Method Not Allowed"),
    ] {
        assert_eq!(stage.ask(method, path).await, (status, text.to_owned()), "{method} {path}");
    }
    let huge = format!("GET /pods HTTP/1.1\r\nHost: n\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    // It hangs up before all is written.
    drop(stream.write_all(huge.as_bytes()).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    let rubbish = stage.send("\u{1}\u{2}\r\n\r\n\r\n").await;
    drop(rubbish);
    let mut half = stage.send("GET /healthz HTTP/1.1\r\nHost:").await;
    half.shutdown().await.unwrap();
    drop(half.read_to_end(&mut Vec::new()).await);
    assert_eq!(stage.get("/healthz").await, "ok");
    stage.containerd.end().await;
}

#[tokio::test]
async fn an_address_that_is_in_use_is_tried_until_it_is_free() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap();
    let (services, mut known) = watch::channel(Service::default());
    let listening = tokio::spawn(async move {
        let listener = listen(address, &services).await;
        (listener, services)
    });
    let said = known.wait_for(|it| *it != Service::default()).await.unwrap().clone();
    let said = serde_json::to_value(said).unwrap();
    assert_eq!((&said["serving"], &said["address"]), (&false.into(), &address.to_string().into()));
    assert!(said["reason"].as_str().unwrap().contains("in use"), "{said}");
    drop(other);
    let (listener, services) = listening.await.unwrap();
    assert_eq!(listener.local_addr().unwrap(), address);
    let said = serde_json::to_value(&*services.borrow()).unwrap();
    assert_eq!(said, json!({"address": address.to_string(), "serving": true}));
}

#[tokio::test]
async fn slow_greedy_and_endless_clients_leave_the_others_their_answers() {
    let Some(stage) = stage().await else { return };
    let mut slow = Vec::new();
    for _ in 0..400 {
        slow.push(stage.send("GET /pods HTTP/1.1\r\nHost:").await);
    }
    // All places are taken; those who do not say what they want lose theirs.
    let answered = tokio::time::timeout(SOON, stage.get("/healthz")).await;
    assert_eq!(answered.as_deref(), Ok("ok"));
    drop(slow);

    let mut greedy = Vec::new();
    let head = "GET /containerLogs/ns/p/speaker?follow=true HTTP/1.1\r\nHost: n\r\n\r\n";
    for _ in 0..256 {
        let mut one = stage.send(head).await;
        read_until(&mut one, "200 OK").await;
        greedy.push(one);
    }
    let (status, _) = stage.ask("GET", "/containerLogs/ns/p/speaker?follow=true").await;
    assert_eq!(status, 429);
    assert_eq!(stage.get("/healthz").await, "ok");
    drop(greedy);
    let free = async || stage.ask("GET", "/containerLogs/ns/p/speaker").await.0 == 200;
    until("the places are free again", free).await;

    // A body that nobody asked for is not waited for, let alone kept.
    let endless = "POST /run/ns/p/speaker?cmd=true HTTP/1.1\r\nHost: n\r\n\
        Content-Length: 1099511627776\r\n\r\n";
    let mut stream = stage.send(endless).await;
    read_until(&mut stream, "200 OK").await;
    stage.containerd.end().await;
}

#[tokio::test]
async fn a_runtime_that_does_not_tell_or_is_gone_leaves_what_others_know() {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    // It knows nothing of what is used.
    let mut fake = Fake::new(folder.path(), false);
    fake.begin();
    let mut bench = Bench::at(folder.path(), fake.socket());
    give(&mut bench, &pod("p", &json!({"containers": [{"name": "c"}]})));
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    let (_pods, address) = serve_beside(&bench).await;
    let (status, summary) = ask(address, "GET", "/stats/summary").await;
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((status, &summary["pods"][0]["podRef"]["name"]), (200, &"p".into()));
    assert!(
        ask(address, "GET", "/metrics/resource").await.1.contains("\nresource_scrape_error 0\n")
    );

    fake.kill().await;
    let (status, resource) = ask(address, "GET", "/metrics/resource").await;
    assert_eq!(status, 200);
    assert!(resource.contains("\nresource_scrape_error 1\n"), "{resource}");
    assert_eq!(ask(address, "GET", "/stats/summary").await.0, 500);
    let (status, pods) = ask(address, "GET", "/pods").await;
    let pods: Value = serde_json::from_str(&pods).unwrap();
    let ready = &pods["items"][0]["status"]["containerStatuses"][0]["ready"];
    assert_eq!((status, ready), (200, &true.into()));
    assert_eq!(ask(address, "GET", "/healthz").await, (200, "ok".to_owned()));
}
