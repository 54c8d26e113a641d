//! The node's API with a real containerd: logs, streams, what is used, and wrong requests.

mod hostile;
mod logs;
mod pods;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::bench::{Bench, give, pod};
use super::containerd::{Containerd, containerd, until};
use crate::api::{Ask, Site, Sources, serve};
use crate::cri::words as w;
use crate::pods::Shown;

/// A pod whose containers speak, work, and wait, and the API beside it.
struct Stage {
    containerd: Containerd,
    bench: Bench,
    pods: watch::Sender<Vec<Shown>>,
    address: SocketAddr,
}

/// How long a client may take to write the head of its request here.
const HEAD: Duration = Duration::from_millis(500);

const SPEAKER: &str = "echo one; echo two >&2; printf three; trap 'exit 0' TERM; \
    while true; do if [ -e /go ]; then cat /go; rm /go; fi; sleep 0.05; done";

async fn stage() -> Option<Stage> {
    let containerd = containerd().await?;
    let mut bench = Bench::new(&containerd);
    let spec = json!({"containers": [
        {"name": "speaker", "command": ["sh", "-c", SPEAKER]},
        {"name": "worker", "command": ["sh", "-c", "while true; do :; done"],
         "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
         "livenessProbe": {"exec": {"command": ["false"]}, "failureThreshold": 1000}},
        {"name": "waiter", "command": ["cat"], "stdin": true},
        {"name": "web", "command": ["httpd", "-f", "-p", "8080", "-h", "/bin"]},
    ]});
    give(&mut bench, &pod("p", &spec));
    let all_run = |bench: &Bench| {
        let states = bench.statuses.get("p").and_then(|it| it["containerStatuses"].as_array());
        states.is_some_and(|all| all.len() == 4 && all.iter().all(|one| one["ready"] == true))
    };
    bench.until("all run", all_run).await;
    let (pods, address) = serve_beside(&bench).await;
    Some(Stage { containerd, bench, pods, address })
}

/// Serves the API of an engine; the pods that it knows are those that are sent.
async fn serve_beside(bench: &Bench) -> (watch::Sender<Vec<Shown>>, SocketAddr) {
    let (asks, mut asked) = mpsc::channel::<Ask>(8);
    let (pods, known) = watch::channel(bench.pods.all());
    tokio::spawn(async move {
        while let Some(ask) = asked.recv().await {
            let pods = known.borrow().clone();
            drop(ask.send(pods));
        }
    });
    let (running, tally) = (bench.running.clone(), bench.host.tally.clone());
    let (store, csi) = (bench.host.store.clone(), bench.host.csi.clone());
    let sources = Sources { asks, running, tally, store, csi };
    let mut site = Site::new("n".to_owned(), bench.host.config.clone(), sources);
    Arc::get_mut(&mut site).unwrap().head = HEAD;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(site, listener));
    (pods, address)
}

async fn send(address: SocketAddr, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Asks and returns the status and the body.
async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    send(address, &head).await.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    (status, if chunked { unchunked(body) } else { body.to_owned() })
}

impl Stage {
    /// Lets the engine work until the speaker's status is as wanted, and shows it.
    async fn speaker_until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let is = |bench: &Bench| {
            let all = bench.statuses.get("p").and_then(|it| it["containerStatuses"].as_array());
            all.into_iter().flatten().any(|it| it["name"] == "speaker" && wanted(it))
        };
        self.bench.until(what, is).await;
        self.pods.send_replace(self.bench.pods.all());
    }

    async fn send(&self, head: &str) -> TcpStream {
        send(self.address, head).await
    }

    /// Asks and returns the status and the body.
    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        ask(self.address, method, path).await
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

    /// Returns the id of the newest container of a name.
    async fn id(&self, name: &str) -> String {
        let (_, all) = self.containerd.runtime().list(BTreeMap::new()).await.unwrap();
        let named = |it: &&w::Container| it.metadata.as_ref().unwrap().name == name;
        all.iter().find(named).unwrap().id.clone()
    }

    async fn log(&self) -> (String, PathBuf) {
        let id = self.id("speaker").await;
        let request = w::ContainerStatusRequest { container_id: id.clone() };
        let status =
            self.containerd.runtime().container_status(request).await.unwrap().status.unwrap();
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
    // The runtime chooses what both speak.
    let newest = websocket.replace("v4.channel", "v5.channel.k8s.io, v4.channel");
    let path = "/exec/ns/p/speaker?command=true&output=1";
    let (_, head) = stage.upgrade(path, &newest).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let chosen = "sec-websocket-protocol: v4.channel.k8s.io\r\n";
    assert!(head.to_ascii_lowercase().contains(chosen), "{head}");
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

    let path = "/portForward/ns/p/uid-p?port=8080";
    let (mut stream, head) = stage.upgrade(path, websocket).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let asked = b"GET /none HTTP/1.0\r\n\r\n";
    let length = 0x80 | u8::try_from(asked.len() + 1).unwrap();
    stream.write_all(&[&[0x82, length, 0, 0, 0, 0, 0], &asked[..]].concat()).await.unwrap();
    read_until(&mut stream, "404 Not Found").await;
    for (query, text) in [
        ("", "query parameter \"port\" is required"),
        ("?port=0", "port \"0\" must be > 0"),
        ("?port=x", "unable to parse \"x\" as a port"),
    ] {
        let (mut stream, head) =
            stage.upgrade(&format!("/portForward/ns/p{query}"), websocket).await;
        assert!(head.starts_with("HTTP/1.1 400"), "{head}");
        read_until(&mut stream, text).await;
    }
    stage.containerd.end().await;
}

/// Reads every kind of metrics as Prometheus would.
async fn are_expositions(stage: &Stage) {
    for path in ["/metrics", "/metrics/resource", "/metrics/cadvisor", "/metrics/probes"] {
        for line in stage.get(path).await.lines().filter(|line| !line.starts_with('#')) {
            let (name, rest) = line.split_once([' ', '{']).unwrap();
            let value = rest.rsplit('}').next().unwrap().trim().split(' ').next().unwrap();
            assert!(name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_'), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}

/// Checks that metrics-server takes all numbers: it wants none missing and none zero of a node, nor of
/// any container of a pod.
fn metrics_server_takes_all(text: &str) {
    let value = |name: &str, labels: &[&str]| {
        let is_meant = |line: &&str| {
            let Some(rest) = line.strip_prefix(name) else { return false };
            rest.starts_with([' ', '{']) && labels.iter().all(|label| rest.contains(label))
        };
        let line = text.lines().find(is_meant).unwrap_or_else(|| panic!("no {name} in {text}"));
        let mut words =
            line.rsplit('}').next().unwrap().split_whitespace().skip_while(|it| *it == name);
        let value: f64 = words.next().unwrap().parse().unwrap();
        assert!(value > 0.0, "{line}");
        (value, words.next().map(|at| at.parse::<i64>().unwrap()))
    };
    for name in ["node_cpu_usage_seconds_total", "node_memory_working_set_bytes"] {
        let (_, at) = value(name, &[]);
        assert!(at.is_some(), "{name} without a time in {text}");
    }
    for container in ["worker", "speaker"] {
        let label = format!("container=\"{container}\"");
        let labels = [&label, "namespace=\"ns\"", "pod=\"p\""];
        for kind in ["cpu_usage_seconds_total", "memory_working_set_bytes"] {
            let (_, at) = value(&format!("container_{kind}"), &labels);
            assert!(at.is_some(), "{kind} without a time in {text}");
        }
        let (start, _) = value("container_start_time_seconds", &labels);
        assert!(start < 4e9, "seconds since 1970: {start}");
    }
}

async fn probes_are_counted_and_timed(stage: &Stage) {
    let probed = async |kind: &str, result: &str| {
        let labels = format!(
            r#"container="worker",namespace="ns",pod="p",pod_uid="uid-p",probe_type="{kind}",result="{result}""#
        );
        let probes = stage.get("/metrics/probes").await;
        // As in kubelet, those that failed are not timed.
        let series =
            r#"prober_probe_duration_seconds_bucket{container="worker",namespace="ns",pod="p","#;
        let timed = format!(r#"{series}probe_type="{kind}",le="+Inf"}} "#);
        assert!(!probes.contains(&timed) || kind != "Liveness", "{probes}");
        probes.contains(&format!("prober_probe_total{{{labels}}} "))
            && (probes.contains(&timed) || result == "failed")
    };
    until("a good probe is counted", async || probed("Readiness", "successful").await).await;
    until("a bad probe is counted", async || probed("Liveness", "failed").await).await;
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
    are_expositions(&stage).await;
    let resource = stage.get("/metrics/resource").await;
    let series = r#"container_cpu_usage_seconds_total{container="worker",namespace="ns",pod="p"}"#;
    assert!(resource.contains(series), "{resource}");
    assert!(resource.contains("resource_scrape_error 0\n"), "{resource}");
    metrics_server_takes_all(&resource);
    let cadvisor = stage.get("/metrics/cadvisor").await;
    // Dashboards leave out what has no image.
    let id = stage.id("worker").await;
    let named = |line: &&str| line.contains(&format!("name=\"{id}\"")) && line.contains("image=");
    assert!(cadvisor.lines().any(|line| named(&line)), "{cadvisor}");
    assert!(!cadvisor.contains("image=\"\""), "{cadvisor}");
    assert!(stage.get("/metrics").await.contains("kubelet_running_pods 1\n"));
    probes_are_counted_and_timed(&stage).await;
    assert_eq!(stage.get("/healthz/syncloop").await, "ok");
    let configz: Value = serde_json::from_str(&stage.get("/configz").await).unwrap();
    assert_eq!(configz["kubeletconfig"]["maxPods"], 110);
    let total = |worker: &Value| worker["cpu"]["usageCoreNanoSeconds"].as_u64().unwrap();
    let before = total(&of_worker().await.1);
    let groups = crate::api::cgroups::read(std::slice::from_ref(&id), 1);
    let (cpu, memory) = groups[&id];
    let after = total(&of_worker().await.1);
    assert!((before..=after).contains(&cpu.total), "{before} {} {after}", cpu.total);
    assert!(memory.working_set > 0 && memory.rss.is_some(), "{memory:?}");
    stage.run("true").await;
    stage.containerd.end().await;
}
