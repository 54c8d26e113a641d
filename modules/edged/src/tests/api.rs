//! The node's API with a real containerd: logs, streams, what is used, and wrong requests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::bench::{Bench, give, pod};
use super::containerd::{Containerd, containerd, until};
use crate::api::{Ask, Site, Sources, serve};
use crate::cri::words as w;

/// A pod whose containers speak, work, and wait, and the API beside it.
struct Stage {
    containerd: Containerd,
    _bench: Bench,
    address: SocketAddr,
}

const SPEAKER: &str = "echo one; echo two >&2; printf three; trap 'exit 0' TERM; \
    while true; do if [ -e /go ]; then cat /go; rm /go; fi; sleep 0.05; done";

async fn stage() -> Option<Stage> {
    let containerd = containerd().await?;
    let mut bench = Bench::new(&containerd);
    let spec = json!({"containers": [
        {"name": "speaker", "command": ["sh", "-c", SPEAKER]},
        {"name": "worker", "command": ["sh", "-c", "while true; do :; done"]},
        {"name": "waiter", "command": ["cat"], "stdin": true},
        {"name": "web", "command": ["httpd", "-f", "-p", "8080", "-h", "/bin"]},
    ]});
    give(&mut bench, &pod("p", &spec));
    let all_run = |bench: &Bench| {
        let states = bench.statuses.get("p").and_then(|it| it["containerStatuses"].as_array());
        states.is_some_and(|all| all.len() == 4 && all.iter().all(|one| one["ready"] == true))
    };
    bench.until("all run", all_run).await;
    let (asks, mut asked) = mpsc::channel::<Ask>(8);
    let pods = bench.pods.all();
    tokio::spawn(async move {
        while let Some(ask) = asked.recv().await {
            drop(ask.send(pods.clone()));
        }
    });
    let (running, tally) = (bench.running.clone(), bench.host.tally.clone());
    let sources = Sources { asks, running, tally };
    let site = Site::new("n".to_owned(), bench.host.config.clone(), sources);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(site, listener));
    Some(Stage { containerd, _bench: bench, address })
}

impl Stage {
    async fn send(&self, head: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// Asks and returns the status and the body.
    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n");
        let mut answer = Vec::new();
        self.send(&head).await.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        (status, if chunked { unchunked(body) } else { body.to_owned() })
    }

    async fn get(&self, path: &str) -> String {
        let (status, body) = self.ask("GET", path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn run(&self, command: &str) {
        let path = format!("/run/ns/p/speaker?cmd={}", command.replace(' ', "+"));
        let (status, said) = self.ask("POST", &path).await;
        assert_eq!(status, 200, "{said}");
    }

    /// Opens a stream and returns it behind the head of the answer.
    async fn upgrade(&self, path: &str, headers: &str) -> (TcpStream, String) {
        // WebSockets begin with GET, SPDY's clients with POST.
        let method = if headers.contains("websocket") { "GET" } else { "POST" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: n\r\nConnection: Upgrade\r\n{headers}\r\n\r\n"
        );
        let mut stream = self.send(&head).await;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        (stream, String::from_utf8(answer).unwrap())
    }

    async fn log(&self) -> (String, PathBuf) {
        let runtime = self.containerd.runtime();
        let (_, all) = runtime.list(BTreeMap::new()).await.unwrap();
        let named = |it: &&w::Container| it.metadata.as_ref().unwrap().name == "speaker";
        let id = all.iter().find(named).unwrap().id.clone();
        let request = w::ContainerStatusRequest { container_id: id.clone() };
        let status = runtime.container_status(request).await.unwrap().status.unwrap();
        (id, status.log_path.into())
    }
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        text.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").unwrap_or_default();
        if size == 0 {
            break;
        }
    }
    text
}

/// Reads until a text was read.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let (mut read, mut part) = (Vec::new(), [0; 4096]);
    let found = async {
        while !String::from_utf8_lossy(&read).contains(text) {
            let count = stream.read(&mut part).await.unwrap();
            assert!(count > 0, "it ended before {text:?}: {:?}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&part[..count]);
        }
    };
    let in_time = tokio::time::timeout(super::containerd::SOON, found).await;
    let read = String::from_utf8_lossy(&read).into_owned();
    assert!(in_time.is_ok(), "{text:?} did not come: {read:?}");
    read
}

#[tokio::test]
async fn logs_are_read_with_all_options_and_followed_over_a_rotation() {
    let Some(stage) = stage().await else { return };
    let path = "/containerLogs/ns/p/speaker";
    until("the container spoke", async || stage.get(path).await.contains("two\n")).await;
    assert_eq!(stage.get(&format!("{path}?tailLines=0")).await, "");
    assert_eq!(stage.get(&format!("{path}?limitBytes=5")).await.len(), 5);
    assert_eq!(stage.get(&format!("{path}?stream=Stderr")).await, "two\n");
    assert_eq!(stage.get(&format!("{path}?sinceTime=2999-01-01T00:00:00Z")).await, "");
    assert!(stage.get(&format!("{path}?sinceSeconds=3600&stream=Stdout")).await.contains("one\n"));
    let stamped = stage.get(&format!("{path}?timestamps=true&stream=Stderr")).await;
    assert_eq!(stamped.find("Z two\n").or(stamped.find(" two\n").map(|at| at - 1)), Some(29));

    let head = format!("GET {path}?follow=true HTTP/1.1\r\nHost: n\r\n\r\n");
    let mut followers = Vec::new();
    for _ in 0..100 {
        let mut follower = stage.send(&head).await;
        read_until(&mut follower, "one").await;
        followers.push(follower);
    }
    let (id, log) = stage.log().await;
    std::fs::rename(&log, log.with_extension("log.1")).unwrap();
    let now = "2999-01-01T00:00:00.1Z";
    let line = |text: &str| format!("{now} stdout F {text}\n");
    std::fs::write(log.with_extension("log.1"), line("last of the old")).unwrap();
    std::fs::write(&log, line("first of the new")).unwrap();
    for follower in &mut followers {
        read_until(follower, "first of the new").await;
    }
    let (status, text) = stage.ask("GET", &format!("{path}?previous=true")).await;
    let none = r#"previous terminated container "speaker" in pod "p" not found"#;
    assert_eq!((status, text.as_str()), (400, none));

    stage.containerd.runtime().stop_container(&id, std::time::Duration::ZERO).await.unwrap();
    for follower in &mut followers {
        read_until(follower, "0\r\n\r\n").await;
    }
    stage.containerd.end().await;
}

#[tokio::test]
async fn streams_pass_through_byte_for_byte() {
    let Some(stage) = stage().await else { return };
    let spdy = "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io";
    let (mut stream, head) =
        stage.upgrade("/exec/ns/p/uid-p/speaker?command=true&output=1", spdy).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.to_ascii_lowercase().contains("upgrade: spdy/3.1"), "{head}");
    // A ping: the runtime answers it with the same bytes.
    let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];
    stream.write_all(&ping).await.unwrap();
    let mut pong = [0; 12];
    stream.read_exact(&mut pong).await.unwrap();
    assert_eq!(pong, ping);
    drop(stream);

    let websocket = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io";
    let command = "command=sh&command=-c&command=cat%3B+exit+3&input=1&output=1&error=1";
    let path = format!("/exec/ns/p/speaker?{command}");
    let (mut stream, head) = stage.upgrade(&path, websocket).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    // A masked frame for channel 0 with an empty mask.
    stream.write_all(&[0x82, 0x83, 0, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
    read_until(&mut stream, "\u{1}hi").await;
    drop(stream);

    let path = "/exec/ns/p/speaker?command=sh&command=-c&command=exit+3&output=1";
    let (mut stream, _) = stage.upgrade(path, websocket).await;
    read_until(&mut stream, r#"{"reason":"ExitCode","message":"3"}"#).await;

    let (mut stream, head) = stage.upgrade("/attach/ns/p/waiter?input=1&output=1", websocket).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream.write_all(&[0x82, 0x83, 0, 0, 0, 0, 0, b'y', b'\n']).await.unwrap();
    read_until(&mut stream, "\u{1}y").await;
    stage.containerd.end().await;
}

#[tokio::test]
async fn what_is_used_and_what_runs_is_told() {
    let Some(stage) = stage().await else { return };
    let of_worker = async || {
        let summary: Value = serde_json::from_str(&stage.get("/stats/summary").await).unwrap();
        let all = summary["pods"][0]["containers"].as_array().cloned().unwrap_or_default();
        let worker = all.into_iter().find(|it| it["name"] == "worker").unwrap_or_default();
        (summary, worker)
    };
    until("the worker's work shows", async || {
        let rate = of_worker().await.1["cpu"]["usageNanoCores"].as_u64();
        rate.is_some_and(|rate| (50_000_000..4_000_000_000).contains(&rate))
    })
    .await;
    let (summary, worker) = of_worker().await;
    assert_eq!(summary["pods"][0]["podRef"]["name"], "p");
    assert!(worker["memory"]["workingSetBytes"].as_u64().unwrap() > 0);
    assert!(summary["node"]["memory"]["workingSetBytes"].as_u64().unwrap() > 1 << 20);
    for path in ["/metrics", "/metrics/resource", "/metrics/cadvisor", "/metrics/probes"] {
        for line in stage.get(path).await.lines().filter(|line| !line.starts_with('#')) {
            let (name, rest) = line.split_once([' ', '{']).unwrap();
            let value = rest.rsplit('}').next().unwrap().trim().split(' ').next().unwrap();
            assert!(name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_'), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    let resource = stage.get("/metrics/resource").await;
    let series = r#"container_cpu_usage_seconds_total{container="worker",namespace="ns",pod="p"}"#;
    assert!(resource.contains(series), "{resource}");
    assert!(resource.contains("resource_scrape_error 0\n"), "{resource}");
    assert!(stage.get("/metrics").await.contains("kubelet_running_pods 1\n"));
    let pods: Value = serde_json::from_str(&stage.get("/pods").await).unwrap();
    assert_eq!(pods["items"][0]["status"]["phase"], "Running");
    let pods: Value = serde_json::from_str(&stage.get("/runningpods/").await).unwrap();
    assert_eq!(pods["items"][0]["metadata"]["uid"], "uid-p");
    assert_eq!(stage.get("/healthz/syncloop").await, "ok");
    stage.run("true").await;
    stage.containerd.end().await;
}

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
