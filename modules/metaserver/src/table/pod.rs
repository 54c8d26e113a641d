//! The row of a pod.

use serde_json::{Value, json};

use super::{list, or_none, word};

/// Returns the cells of a pod.
pub(super) fn cells(pod: &Value, age: &str) -> Value {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let containers = list(&status["containerStatuses"]);
    let ready = containers.iter().filter(|container| container["ready"] == true).count();
    let wanted = list(&spec["containers"]).len();
    let restarts: u64 = containers.iter().filter_map(|it| it["restartCount"].as_u64()).sum();
    json!([
        pod["metadata"]["name"],
        format!("{ready}/{wanted}"),
        reason(pod),
        restarts.to_string(),
        age,
        or_none(&status["podIP"]),
        or_none(&spec["nodeName"]),
        or_none(&status["nominatedNodeName"]),
        gates(pod),
    ])
}

/// Returns the one word for how the pod is.
fn reason(pod: &Value) -> String {
    let status = &pod["status"];
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        let lost = status["reason"] == "NodeLost";
        return if lost { "Unknown" } else { "Terminating" }.to_owned();
    }
    if let Some(init) = initialising(pod) {
        return init;
    }
    let containers = list(&status["containerStatuses"]);
    if let Some(trouble) = containers.iter().find_map(trouble) {
        let runs =
            containers.iter().any(|it| it["ready"] == true && !it["state"]["running"].is_null());
        if trouble != "Completed" || !runs {
            return trouble;
        }
    }
    let said = word(&status["reason"]).or_else(|| word(&status["phase"]));
    said.unwrap_or("Unknown").to_owned()
}

/// Returns why a container does not run; nothing when it does.
fn trouble(container: &Value) -> Option<String> {
    let state = &container["state"];
    if let Some(reason) = word(&state["waiting"]["reason"]) {
        return Some(reason.to_owned());
    }
    let ended = &state["terminated"];
    if ended.is_null() {
        return None;
    }
    let said = word(&ended["reason"]).map(str::to_owned);
    Some(said.unwrap_or_else(|| match ended["signal"].as_u64() {
        Some(signal) if signal > 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", ended["exitCode"].as_i64().unwrap_or(0)),
    }))
}

/// Returns how far the pod's init containers are; nothing when they are done.
fn initialising(pod: &Value) -> Option<String> {
    let wanted = list(&pod["spec"]["initContainers"]);
    let is_sidecar = |name: &Value| {
        wanted.iter().any(|it| it["name"] == *name && it["restartPolicy"] == "Always")
    };
    let statuses = list(&pod["status"]["initContainerStatuses"]);
    for (index, container) in statuses.iter().enumerate() {
        let state = &container["state"];
        let done = state["terminated"]["exitCode"] == 0
            || (is_sidecar(&container["name"]) && container["started"] == true);
        if done {
            continue;
        }
        let why = trouble(container).filter(|why| why != "PodInitializing");
        return Some(why.map_or_else(
            || format!("Init:{index}/{}", wanted.len()),
            |why| format!("Init:{why}"),
        ));
    }
    None
}

/// Returns how many of the readiness gates are open.
fn gates(pod: &Value) -> String {
    let wanted = list(&pod["spec"]["readinessGates"]);
    if wanted.is_empty() {
        return "<none>".to_owned();
    }
    let conditions = list(&pod["status"]["conditions"]);
    let is_open = |gate: &&Value| {
        conditions.iter().any(|it| it["type"] == gate["conditionType"] && it["status"] == "True")
    };
    format!("{}/{}", wanted.iter().filter(is_open).count(), wanted.len())
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            is(json!({"phase": "Running", "containerStatuses": [waiting]})),
            "CrashLoopBackOff"
        );
        let killed = json!({"state": {"terminated": {"signal": 9, "exitCode": 137}}});
        assert_eq!(is(json!({"phase": "Failed", "containerStatuses": [killed]})), "Signal:9");
        let init = json!({"name": "i", "state": {"running": {}}});
        assert_eq!(is(json!({"phase": "Pending", "initContainerStatuses": [init]})), "Init:0/1");
        assert_eq!(is(json!({"phase": "Failed", "reason": "Evicted"})), "Evicted");
        assert_eq!(is(json!({})), "Unknown");
        let mut going = pod(json!({"phase": "Running"}));
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(cells(&going, "1s")[2], "Terminating");
    }
}
