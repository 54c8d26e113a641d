//! A host that shuts down, as a logind that the test plays tells of it: pods end in order, nothing new
//! comes, and what nobody else can replace runs again.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, watch};

use super::bench::{Bench, give, pod};
use super::runtimes::{Place, place_with};
use crate::bus::tests::{Called, Peer, Reply, flag, long};
use crate::node::{Node, Sources};
use crate::shutdown::Places;
use crate::worker::NodeFacts;

/// The priority of `system-node-critical`.
const CRITICAL: i32 = 2_000_001_000;

/// logind, and what it shares with the test.
struct Logind {
    peer: Peer,
    places: Places,
    leaves: watch::Sender<bool>,
    /// The other ends of its locks.
    locks: mpsc::Receiver<UnixStream>,
}

impl Logind {
    /// Begins in a folder; it lets shutdowns wait for 5 s until it reads its files again, and then for
    /// as long as the file says.
    fn begin(folder: &std::path::Path) -> Self {
        let places = Places { bus: folder.join("bus"), file: folder.join("conf.d/99.conf") };
        let (leaves, told) = watch::channel(false);
        let (sender, locks) = mpsc::channel(4);
        let (file, mut seconds) = (places.file.clone(), 5);
        let answer = move |called: &Called| match called.method.as_str() {
            "Get" if contains(called, "PreparingForShutdown") => flag(*told.borrow()),
            "Get" => long(seconds * 1_000_000),
            "KillUnit" => {
                assert!(contains(called, "systemd-logind.service"));
                let text = std::fs::read_to_string(&file).unwrap();
                let line = text.lines().find_map(|it| it.strip_prefix("InhibitDelayMaxSec="));
                seconds = line.unwrap().parse().unwrap();
                Reply::With("", Vec::new())
            }
            "Inhibit" => {
                let (held, other) = UnixStream::pair().unwrap();
                sender.try_send(other).unwrap();
                Reply::Descriptor(held.into())
            }
            _ => Reply::With("", Vec::new()),
        };
        Self { peer: Peer::begin(places.bus.clone(), answer), places, leaves, locks }
    }

    /// Says whether the host shuts down.
    async fn say(&self, leaves: bool) {
        self.leaves.send_replace(leaves);
        self.peer.signal("PrepareForShutdown").await;
    }
}

fn contains(called: &Called, text: &str) -> bool {
    called.body.windows(text.len()).any(|part| part == text.as_bytes())
}

fn begin() -> (Place, Logind) {
    let periods = json!({"shutdownGracePeriod": "30s", "shutdownGracePeriodCriticalPods": "10s"});
    let mut place = place_with(true, &periods);
    place.fake.begin();
    let logind = Logind::begin(place._folder.path());
    tokio::spawn(place.bench.shutdown(logind.places.clone()).run());
    (place, logind)
}

fn with_priority(name: &str, priority: i32) -> Value {
    pod(name, &json!({"priority": priority, "containers": [{"name": "c"}]}))
}

/// Returns what the node says of its readiness.
fn readiness(bench: &Bench) -> Value {
    let sources = Sources {
        runtime: watch::channel(Default::default()).1,
        fleet: watch::channel(Vec::new()).1,
        pressures: bench.host.pressures.clone(),
        linked: Arc::new(Notify::new()),
        devices: bench.host.devices.amounts(),
        leaving: bench.leaving.1.clone(),
    };
    let facts = watch::channel(NodeFacts::default()).0;
    let object = Node::new("n", Arc::clone(&bench.host), facts, sources).object();
    let conditions = object["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|it| it["type"] == "Ready").unwrap().clone()
}

#[tokio::test]
async fn pods_end_in_order_before_the_host_does_and_no_other_comes() {
    let (Place { mut bench, fake, _folder }, mut logind) = begin();
    bench.facts.send_modify(|facts| facts.acknowledged = true);
    give(&mut bench, &with_priority("dns", CRITICAL));
    give(&mut bench, &with_priority("web", 0));
    bench.until("both run", |it| it.is_ready("dns") && it.is_ready("web")).await;
    let mut lock = None;
    bench.during(async { lock = logind.locks.recv().await }).await;
    let mut lock = lock.unwrap();
    lock.set_nonblocking(true).unwrap();
    assert_eq!(readiness(&bench)["status"], "True");

    // Anybody can send the signal; that the host shuts down only logind can say.
    let asked = logind.peer.counts()["Get"];
    logind.peer.signal("PrepareForShutdown").await;
    bench.while_until("logind is asked", async || logind.peer.counts()["Get"] > asked).await;
    assert!(bench.is_ready("web") && bench.is_ready("dns"));
    assert!(lock.read(&mut [0]).is_err(), "the lock is gone");

    logind.say(true).await;
    let ended = |bench: &Bench, pod: &str| bench.statuses[pod]["phase"] == "Failed";
    bench.until("both have ended", |it| ended(it, "web") && ended(it, "dns")).await;
    for pod in ["web", "dns"] {
        let status = &bench.statuses[pod];
        assert_eq!(status["reason"], "Terminated");
        let message = "Pod was terminated in response to imminent node shutdown.";
        assert_eq!(status["message"], message);
        let conditions = status["conditions"].as_array().unwrap();
        let target = conditions.iter().find(|it| it["type"] == "DisruptionTarget").unwrap();
        assert_eq!(target["reason"], "TerminationByKubelet");
    }
    let killed = |bench: &Bench| {
        let killed = bench.notes.iter().filter(|(_, reason, _)| *reason == "Killing");
        killed.map(|(pod, ..)| pod.clone()).collect::<Vec<_>>()
    };
    bench.until("both ends are said", |bench| killed(bench).len() == 2).await;
    assert_eq!(killed(&bench), ["web", "dns"]);
    assert!(bench.said("n", "NodeShutdown", "Shutdown manager detected shutdown event"));
    let ready = readiness(&bench);
    assert_eq!((&ready["status"], &ready["reason"]), (&"False".into(), &"KubeletNotReady".into()));
    assert!(ready["message"].as_str().unwrap().ends_with("node is shutting down"), "{ready}");
    give(&mut bench, &with_priority("late", 0));
    bench.until("the new one is told", |it| it.statuses.contains_key("late")).await;
    bench.until("it is refused", |it| it.statuses["late"]["reason"] == "NodeShutdown").await;
    bench.while_until("the host goes on", async || matches!(lock.read(&mut [0]), Ok(0))).await;
    assert_eq!(fake.look().await.running, [""; 0]);

    // The next life of this process knows it when the cloud does not say it yet.
    bench.statuses.clear();
    bench.begin_anew(&[with_priority("web", 0)]);
    bench.until("it is told", |bench| bench.statuses.contains_key("web")).await;
    assert_eq!(bench.statuses["web"]["reason"], "Terminated");
}

#[tokio::test]
async fn without_a_cloud_pods_only_stop_and_run_again_when_the_host_is_back_or_stays() {
    let (Place { mut bench, fake, _folder }, mut logind) = begin();
    let web = with_priority("web", 0);
    give(&mut bench, &web);
    bench.until("it runs", |bench| bench.is_ready("web")).await;
    bench.during(async { drop(logind.locks.recv().await) }).await;
    logind.say(true).await;
    let stopped = async || fake.look().await.running.is_empty();
    bench.while_until("it has stopped", stopped).await;
    assert_eq!(bench.statuses["web"]["phase"], "Running");

    logind.say(false).await;
    bench.during(async { drop(logind.locks.recv().await) }).await;
    let runs = async || fake.look().await.running == ["web"];
    bench.while_until("the host stays, and it runs again", runs).await;
    bench.until("nobody waits any more", |bench| bench.is_ready("web")).await;

    logind.say(true).await;
    let stopped = async || fake.look().await.running.is_empty();
    bench.while_until("it has stopped", stopped).await;
    let mut web = web;
    web["status"] = bench.statuses["web"].clone();
    bench.begin_anew(std::slice::from_ref(&web));
    let runs = async || fake.look().await.running == ["web"];
    bench.while_until("the host is back, and it runs again", runs).await;
}
