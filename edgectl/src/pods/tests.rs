//! Tests of the words and numbers that a pod is shown with.

use serde_json::json;

use super::*;
use crate::testing::TEN;

fn shown(pod: &Value) -> String {
    let row = row(pod, Timestamp(TEN));
    let text = table::render([""; 7], &[row], crate::screen::Style::PLAIN);
    text.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn pod(status: &Value) -> Value {
    json!({
        "metadata": {"namespace": "ns", "name": "p", "creationTimestamp": "2026-08-01T08:00:00Z"},
        "spec": {"containers": [{"name": "c"}]},
        "status": status,
    })
}

#[test]
fn a_pod_has_the_word_that_kubectl_has_for_it() {
    let running = json!({"name": "c", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-08-01T08:00:00Z"}}});
    let fine =
        pod(&json!({"phase": "Running", "podIP": "10.0.0.7", "containerStatuses": [running]}));
    assert_eq!(shown(&fine), "ns p 1/1 Running 0 2h00m 10.0.0.7");

    let mut ending = fine;
    ending["metadata"]["deletionTimestamp"] = json!("2026-08-01T10:00:00Z");
    assert_eq!(shown(&ending), "ns p 1/1 Terminating 0 2h00m 10.0.0.7");

    let crashed = json!({"name": "c", "ready": false, "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-08-01T09:59:00Z"}}});
    let crashed = pod(&json!({"phase": "Running", "containerStatuses": [crashed]}));
    assert_eq!(shown(&crashed), "ns p 0/1 CrashLoopBackOff 3 (1m00s ago) 2h00m -");

    let evicted = pod(&json!({"phase": "Failed", "reason": "Evicted"}));
    assert_eq!(shown(&evicted), "ns p 0/1 Evicted 0 2h00m -");
}

#[test]
fn init_containers_and_sidecars_are_told_apart() {
    let mut pod = pod(&json!({"phase": "Pending", "initContainerStatuses": [
        {"name": "i", "ready": true, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
        {"name": "s", "ready": true, "started": true, "state": {"running": {}}},
        {"name": "j", "ready": false, "state": {"running": {}}},
    ]}));
    pod["spec"]["initContainers"] =
        json!([{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "j"}]);
    assert_eq!(shown(&pod), "ns p 1/2 Init:2/3 0 2h00m -");
    pod["status"]["initContainerStatuses"][2]["state"] =
        json!({"terminated": {"exitCode": 2, "reason": "Error"}});
    assert_eq!(shown(&pod), "ns p 1/2 Init:Error 0 2h00m -");
}
