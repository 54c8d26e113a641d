//! Tests of the status.

use super::*;
use crate::pod::plan::{Health, Hold};
use crate::pod::seen::Sandbox;

const NOW: i64 = 1_795_407_792_000;

fn pod(policy: &str) -> Pod {
    let text = format!(
        r#"{{"metadata":{{"name":"p","namespace":"ns","uid":"u"}},"spec":{{"restartPolicy":"{policy}",
        "initContainers":[{{"name":"i","image":"x"}}],"containers":[{{"name":"c","image":"busybox"}}]}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn seen(name: &str, state: State, exit_code: i32) -> Seen {
    let (id, sandbox, name) = (format!("id-{name}"), "s".to_owned(), name.to_owned());
    let times = (NOW - 5000, NOW - 1000);
    let one = Contained {
        id,
        sandbox,
        name,
        state,
        exit_code,
        started: times.0,
        finished: times.1,
        ..Default::default()
    };
    let ips = vec!["10.0.0.5".to_owned()];
    Seen {
        sandboxes: vec![Sandbox { id: "s".to_owned(), ready: true, ips, attempt: 0 }],
        containers: vec![one],
    }
}

fn status(pod: &Pod, seen: &Seen, ledger: &Ledger, stage: Stage) -> Value {
    let situation = Situation {
        pod,
        uid: &pod.metadata.uid,
        held: false,
        seen,
        ledger,
        stage,
        verdict: None,
        runtime: "containerd",
        host_ips: &["192.0.2.1".to_owned()],
        start: NOW,
        now: NOW,
    };
    patch(&situation, &mut transitions(pod))
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    status["status"]["conditions"].as_array().unwrap().iter().find(|it| it["type"] == kind).unwrap()
}

#[test]
fn a_new_pod_waits() {
    let status = status(&pod("Always"), &Seen::default(), &Ledger::default(), Stage::Living);
    assert_eq!(status["metadata"]["uid"], "u");
    assert_eq!(status["status"]["phase"], "Pending");
    assert_eq!(condition(&status, "Initialized")["reason"], "ContainersNotInitialized");
    let waiting = &status["status"]["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["reason"], "PodInitializing");
    assert_eq!(status["status"]["startTime"], "2026-11-23T04:23:12Z");
}

#[test]
fn a_running_pod_is_ready_when_its_probes_say_so() {
    let seen = seen("c", State::Running, 0);
    let mut ledger = Ledger::default();
    let pod = pod("Always");
    let before = status(&pod, &seen, &ledger, Stage::Living);
    assert_eq!(condition(&before, "Ready")["message"], "containers with unready status: [c]");
    let health = Health { started: true, ready: true, sick: None };
    ledger.health.insert("id-c".to_owned(), health);
    let status = status(&pod, &seen, &ledger, Stage::Living);
    assert_eq!(condition(&status, "Ready")["status"], "True");
    assert_eq!(status["status"]["phase"], "Running");
    assert_eq!(status["status"]["podIPs"][0]["ip"], "10.0.0.5");
    let container = &status["status"]["containerStatuses"][0];
    assert_eq!(container["containerID"], "containerd://id-c");
    assert_eq!(container["ready"], true);
}

#[test]
fn an_init_container_that_the_runtime_forgot_ended_as_it_was_reported() {
    let mut pod = pod("Always");
    pod.status = serde_json::from_value(json!({"initContainerStatuses": [{
        "name": "i", "containerID": "containerd://gone", "restartCount": 2,
        "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
    }]}))
    .unwrap();
    let seen = seen("c", State::Running, 0);
    let status = status(&pod, &seen, &Ledger::default(), Stage::Living);
    let init = &status["status"]["initContainerStatuses"][0];
    assert_eq!(init["state"]["terminated"]["reason"], "Completed");
    assert_eq!((&init["ready"], &init["restartCount"]), (&true.into(), &2.into()));
    assert_eq!(init["containerID"], "containerd://gone");
}

#[test]
fn a_pause_is_a_crash_loop() {
    let seen = seen("c", State::Exited, 1);
    let mut ledger = Ledger::default();
    let mut pause = crate::pod::backoff::Backoff::default();
    pause.grow(NOW - 20_000, NOW - 20_000);
    ledger.pauses.insert("c".to_owned(), pause);
    let status = status(&pod("Always"), &seen, &ledger, Stage::Living);
    let container = &status["status"]["containerStatuses"][0];
    assert_eq!(container["state"]["waiting"]["reason"], "CrashLoopBackOff");
    let message = "back-off 10s restarting failed container=c pod=p_ns(u)";
    assert_eq!(container["state"]["waiting"]["message"], message);
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(status["status"]["phase"], "Running");
}

#[test]
fn what_is_held_says_why() {
    let mut ledger = Ledger::default();
    let hold = Hold { until: 0, reason: "ImagePullBackOff".to_owned(), message: "m".to_owned() };
    ledger.holds.insert("c".to_owned(), hold);
    let status = status(&pod("Always"), &Seen::default(), &ledger, Stage::Living);
    let waiting = &status["status"]["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(
        (&waiting["reason"], &waiting["message"]),
        (&json!("ImagePullBackOff"), &json!("m"))
    );
}

#[test]
fn a_pod_that_is_done_succeeded_or_failed() {
    for (code, phase, reason) in [(0, "Succeeded", "PodCompleted"), (3, "Failed", "PodFailed")] {
        let mut pod = pod("Never");
        pod.spec.init_containers.clear();
        let status = status(&pod, &seen("c", State::Exited, code), &Ledger::default(), Stage::Done);
        assert_eq!(status["status"]["phase"], phase);
        assert_eq!(condition(&status, "Ready")["reason"], reason);
        let ended = &status["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(ended["exitCode"], code);
    }
}

#[test]
fn a_condition_keeps_its_time_until_it_changes() {
    let (mut pod, ledger) = (pod("Always"), Ledger::default());
    let old = r#"[{"type":"Ready","status":"False","lastTransitionTime":"2020-01-01T00:00:00Z"},
        {"type":"PodScheduled","status":"False","lastTransitionTime":"2020-01-01T00:00:00Z"}]"#;
    pod.status.conditions = serde_json::from_str(old).unwrap();
    let status = status(&pod, &Seen::default(), &ledger, Stage::Living);
    assert_eq!(condition(&status, "Ready")["lastTransitionTime"], "2020-01-01T00:00:00Z");
    assert_eq!(condition(&status, "PodScheduled")["lastTransitionTime"], "2026-11-23T04:23:12Z");
}

#[test]
fn times_are_read_as_they_are_written() {
    assert_eq!(millis(&rfc3339(NOW)), Some(NOW));
    assert_eq!(millis("yesterday"), None);
}
