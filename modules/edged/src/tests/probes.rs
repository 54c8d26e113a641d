//! Probes and hooks with a real containerd.

use serde_json::{Value, json};

use super::bench::{Bench, give, pod};
use super::containerd::containerd;

fn one(container: &Value) -> Value {
    let mut container = container.clone();
    container["name"] = "c".into();
    json!({"containers": [container]})
}

fn begin(bench: &mut Bench, pods: &[Value]) {
    bench.pods.set(&serde_json::to_vec(pods).unwrap().into());
}

fn condition(bench: &Bench, pod: &str, kind: &str) -> Value {
    let conditions = bench.statuses.get(pod).and_then(|it| it["conditions"].as_array());
    let found = conditions.into_iter().flatten().find(|it| it["type"] == kind);
    found.cloned().unwrap_or_default()
}

#[tokio::test]
async fn probes_decide_about_readiness_and_restarts() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let live = json!({
        // It lives as long as the file is there; the second time it stays.
        "command": ["sh", "-c", "if [ -e /v/second ]; then echo x > /v/alive; fi; echo x > /v/second; exec sleep 1000"],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "livenessProbe": {"exec": {"command": ["cat", "/v/alive"]}, "periodSeconds": 1, "failureThreshold": 1},
    });
    let mut live = one(&live);
    live["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    let slow = one(&json!({
        "command": ["sh", "-c", "sleep 2; httpd -f -p 8080 -h /"],
        "ports": [{"name": "web", "containerPort": 8080}],
        "startupProbe": {"tcpSocket": {"port": "web"}, "periodSeconds": 1, "failureThreshold": 30},
        "livenessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 1},
        "readinessProbe": {"httpGet": {"path": "/bin/busybox", "port": "web"}, "periodSeconds": 1},
    }));
    let hangs = one(&json!({
        "command": ["sleep", "1000"],
        "readinessProbe": {"exec": {"command": ["sleep", "30"]}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1},
        "env": [{"name": "T", "value": "0"}],
        "livenessProbe": {"exec": {"command": ["sleep", "$(T)"]}, "periodSeconds": 1, "failureThreshold": 1},
    }));
    let list = [pod("live", &live), pod("slow", &slow), pod("hangs", &hangs)];
    begin(&mut bench, &list);

    let restarts = |bench: &Bench, pod: &str| bench.container(pod)["restartCount"].as_u64();
    bench
        .until("live was restarted once and is ready", |bench| {
            restarts(bench, "live") == Some(1) && bench.is_ready("live")
        })
        .await;
    assert_eq!(bench.container("live")["lastState"]["terminated"]["exitCode"], 137);
    assert!(bench.said("live", "Unhealthy", "Liveness probe failed: "));
    assert!(bench.said("live", "Killing", "Container c failed liveness probe, will be restarted"));
    bench.until("slow has started and is ready", |bench| bench.is_ready("slow")).await;
    assert_eq!(bench.container("slow")["started"], true);
    assert_eq!(restarts(&bench, "slow"), Some(0));
    bench.until("hangs runs", |bench| bench.container("hangs")["started"] == true).await;
    assert!(!bench.is_ready("hangs"));
    assert_eq!(restarts(&bench, "hangs"), Some(0));

    let late = |bench: &Bench| {
        bench.said("hangs", "Unhealthy", "Readiness probe failed: command timed out")
    };
    bench.until("hangs takes too long", late).await;
    begin(&mut bench, &[]);
    bench.until("nothing is left", |bench| bench.pods.count() == 0).await;
    containerd.end().await;
}

#[tokio::test]
async fn hooks_run_after_the_start_and_before_the_end() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let kept = containerd.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    let mut good = one(&json!({
        "command": ["sh", "-c", "trap 'echo term >> /v/log; exit 0' TERM; echo x > /v/began; while true; do sleep 0.1; done"],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "lifecycle": {
            "postStart": {"exec": {"command": ["sh", "-c", "echo start >> /v/log"]}},
            "preStop": {"exec": {"command": ["sh", "-c", "echo stop >> /v/log"]}},
        },
    }));
    good["volumes"] = json!([{"name": "v", "hostPath": {"path": kept}}]);
    let bad = one(&json!({
        "command": ["sleep", "1000"],
        "lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "echo no; exit 3"]}}},
    }));
    let nobody = one(&json!({
        "command": ["sleep", "1000"],
        "lifecycle": {"postStart": {"httpGet": {"path": "/x", "port": 1}}},
    }));
    let stuck = one(&json!({
        "command": ["sh", "-c", "while true; do sleep 1; done"],
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "600"]}}},
    }));
    let mut good = pod("good", &good);
    let mut stuck = pod("stuck", &stuck);
    good["spec"]["terminationGracePeriodSeconds"] = 20.into();
    begin(&mut bench, &[good.clone(), pod("bad", &bad), pod("nobody", &nobody), stuck.clone()]);
    bench.until("good is ready", |bench| bench.is_ready("good")).await;
    bench.while_until("good listens", async || kept.join("began").exists()).await;
    let waits = |bench: &Bench, pod: &str| {
        let waiting = &bench.container(pod)["state"]["waiting"];
        (waiting["reason"] == "PostStartHookError").then(|| waiting["message"].to_string())
    };
    bench.until("bad failed after its start", |bench| waits(bench, "bad").is_some()).await;
    let said = waits(&bench, "bad").unwrap();
    assert!(said.contains("command exited with 3") && said.contains("no"), "{said}");
    bench.until("nobody answers nobody", |bench| waits(bench, "nobody").is_some()).await;
    assert!(bench.said("bad", "FailedPostStartHook", "command exited with 3"));
    bench.until("stuck is ready", |bench| bench.is_ready("stuck")).await;

    for pod in [&mut good, &mut stuck] {
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        pod["metadata"]["deletionGracePeriodSeconds"] =
            pod["spec"]["terminationGracePeriodSeconds"].clone();
        give(&mut bench, pod);
    }
    bench.until("both end", |bench| bench.deleted.len() == 2).await;
    assert_eq!(std::fs::read_to_string(kept.join("log")).unwrap(), "start\nstop\nterm\n");
    containerd.end().await;
}

#[tokio::test]
async fn a_pod_is_ready_when_its_gates_are_open() {
    let Some(containerd) = containerd().await else { return };
    let mut bench = Bench::new(&containerd);
    let mut gated = one(&json!({"command": ["sleep", "1000"]}));
    gated["readinessGates"] = json!([{"conditionType": "example.org/gate"}]);
    let mut gated = pod("gated", &gated);
    begin(&mut bench, std::slice::from_ref(&gated));
    bench.until("gated runs", |bench| bench.is_ready("gated")).await;
    let ready = condition(&bench, "gated", "Ready");
    assert_eq!(
        (&ready["status"], &ready["reason"]),
        (&"False".into(), &"ReadinessGatesNotReady".into())
    );
    assert_eq!(condition(&bench, "gated", "ContainersReady")["status"], "True");
    gated["status"]["conditions"] = json!([{"type": "example.org/gate", "status": "True"}]);
    give(&mut bench, &gated);
    bench
        .until("gated is ready", |bench| condition(bench, "gated", "Ready")["status"] == "True")
        .await;
    containerd.end().await;
}
