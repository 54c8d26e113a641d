//! Runtimes that tell of what happens, hang, restart, lie, rave or are not there: each pod gets where
//! it is to be once the runtime lets it, and nothing is done twice.

use serde_json::{Value, json};

use super::bench::{Bench, give, pod};
use super::fake::{Fake, Mood};

pub(super) struct Place {
    pub(super) bench: Bench,
    pub(super) fake: Fake,
    pub(super) _folder: tempfile::TempDir,
}

pub(super) fn place(events: bool) -> Place {
    place_with(events, &json!({}))
}

/// Makes a place with more of kubelet's configuration.
pub(super) fn place_with(events: bool, more: &Value) -> Place {
    let folder = tempfile::Builder::new().prefix("fk").tempdir_in("/tmp").unwrap();
    let fake = Fake::new(folder.path(), events);
    let mut bench = Bench::with(folder.path(), fake.socket(), more);
    bench.pods.set(&"[]".into());
    Place { bench, fake, _folder: folder }
}

fn plain(name: &str) -> Value {
    pod(name, &json!({"containers": [{"name": "c"}]}))
}

fn deleted(pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    pod["metadata"]["deletionGracePeriodSeconds"] = 1.into();
    pod
}

#[tokio::test]
async fn what_the_runtime_tells_is_not_asked_for() {
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    give(&mut bench, &plain("p"));
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    bench.while_until("somebody listens", async || fake.look().await.heard).await;
    let before = fake.look().await.lists;
    let restarts = |bench: &Bench| bench.container("p")["restartCount"].as_u64();
    fake.exit("p", 1).await;
    bench
        .until("it was restarted", |bench| restarts(bench) == Some(1) && bench.is_ready("p"))
        .await;
    fake.exit("p", 1).await;
    // The pause before the second restart is ten seconds, in which who only asks asks ten times.
    bench.until("it was restarted again", |bench| restarts(bench) == Some(2)).await;
    let lists = fake.look().await.lists - before;
    assert!((2..10).contains(&lists), "{lists} lists");
}

#[tokio::test]
async fn a_runtime_that_tells_nothing_is_asked() {
    let Place { mut bench, mut fake, _folder } = place(false);
    fake.begin();
    give(&mut bench, &plain("p"));
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    fake.exit("p", 1).await;
    let restarted = |bench: &Bench| bench.container("p")["restartCount"] == 1;
    bench.until("it was restarted", restarted).await;
}

#[tokio::test]
async fn a_runtime_that_is_absent_is_waited_for() {
    let Place { mut bench, mut fake, _folder } = place(true);
    give(&mut bench, &plain("p"));
    fake.begin();
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    let id = bench.container("p")["containerID"].clone();
    fake.kill().await;
    give(&mut bench, &plain("q"));
    fake.begin();
    bench.until("the other runs too", |bench| bench.is_ready("q")).await;
    assert_eq!(bench.container("p")["containerID"], id);
    assert_eq!(fake.look().await.running, ["p", "q"]);
}

#[tokio::test]
async fn a_runtime_that_hangs_and_restarts_does_nothing_twice() {
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    give(&mut bench, &plain("p"));
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    let id = bench.container("p")["containerID"].clone();
    fake.mood(Mood::Hangs).await;
    give(&mut bench, &plain("q"));
    let calls = fake.look().await.calls.values().sum::<usize>();
    let asked = async || fake.look().await.calls.values().sum::<usize>() > calls;
    bench.while_until("it is asked for something", asked).await;
    fake.kill().await;
    fake.begin();
    bench.until("the other runs", |bench| bench.is_ready("q")).await;
    assert_eq!(bench.container("p")["containerID"], id);
    let sight = fake.look().await;
    assert_eq!(sight.running, ["p", "q"]);
    assert_eq!((sight.calls["RunPodSandbox"], sight.calls["CreateContainer"]), (2, 2));
}

#[tokio::test]
async fn a_runtime_that_lies_keeps_nobody_busy() {
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    let (p, q) = (plain("p"), plain("q"));
    give(&mut bench, &p);
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    fake.mood(Mood::Lies).await;
    give(&mut bench, &deleted(&p));
    let stops = async || fake.look().await.calls.get("StopContainer").copied().unwrap_or(0);
    bench.while_until("it is told to stop twice", async || stops().await >= 2).await;
    let calls: usize = fake.look().await.calls.values().sum();
    assert!(calls < 60, "{calls} calls");
    fake.mood(Mood::Good).await;
    bench.until("it has ended", |bench| bench.deleted == ["p"]).await;
    give(&mut bench, &q);
    bench.until("the other runs", |bench| bench.is_ready("q")).await;
}

#[tokio::test]
async fn a_runtime_that_raves_is_outlived() {
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    give(&mut bench, &plain("p"));
    bench.until("it runs", |bench| bench.is_ready("p")).await;
    fake.mood(Mood::Raves).await;
    give(&mut bench, &plain("q"));
    let sandboxes = async || fake.look().await.calls["RunPodSandbox"];
    bench.while_until("something is done about it", async || sandboxes().await >= 2).await;
    fake.mood(Mood::Good).await;
    bench.until("both run", |bench| bench.is_ready("p") && bench.is_ready("q")).await;
    let tidy = async || fake.look().await.running == ["p", "q"];
    bench.while_until("each runs once", tidy).await;
}

#[tokio::test]
async fn a_clock_that_is_set_kills_no_pod_and_keeps_none_waiting() {
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    give(&mut bench, &plain("other"));
    give(&mut bench, &plain("p"));
    bench.until("the other runs", |bench| bench.is_ready("other")).await;
    let id = bench.container("other")["containerID"].clone();
    // What is made now is older than all before, and then it ends in years: a pause that counted from
    // there would not be over in anybody's time.
    for (restarts, years) in [(1, -50), (2, 40), (3, -50)] {
        fake.clock(years).await;
        fake.exit("other", 1).await;
        let again = |bench: &Bench| {
            bench.container("other")["restartCount"] == restarts && bench.is_ready("other")
        };
        bench.until("it was restarted", again).await;
    }
    assert_ne!(bench.container("other")["containerID"], id);
    assert_eq!(fake.look().await.running, ["other", "p"]);
    assert_eq!(bench.container("p")["restartCount"], 0);
}
