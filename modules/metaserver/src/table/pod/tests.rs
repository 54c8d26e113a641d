//! Pods' rows as kubectl shows them.

use super::*;

#[test]
fn a_pod_is_shown_as_kubectl_shows_it() {
    let running = json!({"ready": true, "restartCount": 2, "state": {"running": {}}});
    let pod = |status: Value| {
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "edge1",
            "containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}, "status": status})
    };
    let is = |status: Value| cells(&pod(status), "5s")[2].as_str().unwrap().to_owned();
    let shown = cells(
        &pod(json!({"phase": "Running", "podIP": "10.0.0.2",
        "containerStatuses": [running]})),
        "5s",
    );
    let expected =
        json!(["p", "1/1", "Running", "2", "5s", "10.0.0.2", "edge1", "<none>", "<none>"]);
    assert_eq!(shown, expected);
    let waiting = json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}});
    assert_eq!(is(json!({"phase": "Running", "containerStatuses": [waiting]})), "CrashLoopBackOff");
    let killed = json!({"state": {"terminated": {"signal": 9, "exitCode": 137}}});
    assert_eq!(is(json!({"phase": "Failed", "containerStatuses": [killed]})), "Signal:9");
    let init = json!({"name": "i", "state": {"running": {}}});
    assert_eq!(is(json!({"phase": "Pending", "initContainerStatuses": [init]})), "Init:0/1");
    assert_eq!(is(json!({"phase": "Failed", "reason": "Evicted"})), "Evicted");
    assert_eq!(is(json!({})), "Unknown");
    let done = json!({"state": {"terminated": {"reason": "Completed"}}});
    let half = json!({"phase": "Running", "containerStatuses": [running, done]});
    assert_eq!(is(half), "NotReady");
    let mut going = pod(json!({"phase": "Running"}));
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(cells(&going, "1s")[2], "Terminating");
    going["status"]["phase"] = "Failed".into();
    assert_eq!(cells(&going, "1s")[2], "Failed");
}

#[test]
fn a_container_that_stays_beside_the_others_counts() {
    let side = json!({"name": "s", "ready": true, "started": true, "restartCount": 3,
        "state": {"running": {}}, "lastState": {"terminated": {"finishedAt": "2000-01-01T00:00:00Z"}}});
    let own = json!({"name": "c", "ready": false, "restartCount": 1, "state": {"running": {}}});
    let once = json!({"name": "i", "ready": true, "restartCount": 5,
        "state": {"terminated": {"exitCode": 0}}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}],
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]},
        "status": {"phase": "Running", "containerStatuses": [own],
            "initContainerStatuses": [once, side]}});
    let shown = cells(&pod, "1m");
    assert_eq!((&shown[1], &shown[2]), (&json!("1/2"), &json!("Running")));
    assert!(shown[3].as_str().unwrap().starts_with("4 ("), "{shown}");
    assert!(shown[3].as_str().unwrap().ends_with("y ago)"), "{shown}");
}
