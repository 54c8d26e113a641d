//! Pods that cannot run on this node: they fail at once and say why; the others run.

use serde_json::json;

use super::bench::{give, pod};
use super::runtimes::{Place, place};

#[tokio::test]
async fn a_pod_that_cannot_run_here_fails_and_says_why_and_what_runs_stays() {
    let Place { mut bench, mut fake, _folder } = place(true);
    fake.begin();
    let asking = |name: &str, cpu: &str| {
        pod(name, &json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}))
    };
    let choosing = |name: &str, disk: &str| {
        let spec = json!({"nodeSelector": {"disk": disk}, "containers": [{"name": "c"}]});
        pod(name, &spec)
    };
    let label = |disk: &str| json!({"metadata": {"name": "n", "labels": {"disk": disk}}});
    bench.maps.send_modify(|maps| drop(maps.insert("n".to_owned(), label("ssd"))));
    give(&mut bench, &asking("first", "600m"));
    give(&mut bench, &asking("second", "600m"));
    give(&mut bench, &choosing("chooses", "ssd"));
    give(&mut bench, &choosing("elsewhere", "hdd"));
    bench.until("the first runs", |bench| bench.is_ready("first")).await;
    bench.until("the one that chose this node runs", |bench| bench.is_ready("chooses")).await;
    for (name, reason, message) in [
        ("second", "OutOfcpu", "cpu, requested: 600, used: 600, capacity: 1000"),
        ("elsewhere", "NodeAffinity", "node(s) didn't match Pod's node affinity/selector"),
    ] {
        let failed = |bench: &super::bench::Bench| bench.statuses[name]["phase"] == "Failed";
        bench.until("the other fails", |bench| bench.statuses.contains_key(name)).await;
        bench.until("the other fails", failed).await;
        let status = &bench.statuses[name];
        assert_eq!(status["reason"], reason);
        let told = status["message"].as_str().unwrap();
        assert!(told.starts_with("Pod was rejected: ") && told.ends_with(message), "{told}");
        assert!(bench.said(name, reason, message));
    }
    // The engine begins anew when the node is labelled otherwise: that is for new pods alone.
    bench.maps.send_modify(|maps| drop(maps.insert("n".to_owned(), label("hdd"))));
    let told = |mut pod: serde_json::Value| {
        pod["status"] = json!({"phase": "Running"});
        pod
    };
    bench.begin_anew(&[told(asking("first", "600m")), told(choosing("chooses", "ssd"))]);
    give(&mut bench, &choosing("later", "hdd"));
    bench.until("what suits now runs", |bench| bench.is_ready("later")).await;
    assert!(bench.is_ready("first") && bench.is_ready("chooses"));
    assert_eq!(fake.look().await.running.len(), 3);
}
