//! The row of a pod.

use serde_json::{Value, json};

use super::{age, list, or_none, word};

/// Returns the cells of a pod.
pub(super) fn cells(pod: &Value, age: &str) -> Value {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let inits = list(&status["initContainerStatuses"]);
    let own = list(&status["containerStatuses"]).iter();
    // Init containers count for as long as they run, those that stay beside the others always.
    let starting = initialising(pod).is_some();
    let stays = |it: &&Value| is_sidecar(pod, &it["name"]);
    let all: Vec<_> = own.chain(inits.iter().filter(stays)).collect();
    let ready = all.iter().filter(|it| it["ready"] == true).count();
    let wanted = list(&spec["containers"]).len() + sidecars(pod).count();
    let restarted = if starting { inits.iter().collect() } else { all };
    json!([
        pod["metadata"]["name"],
        format!("{ready}/{wanted}"),
        reason(pod),
        restarts(&restarted),
        age,
        or_none(&status["podIP"]),
        or_none(&spec["nodeName"]),
        or_none(&status["nominatedNodeName"]),
        gates(pod),
    ])
}

/// Returns the init containers that stay beside the others.
fn sidecars(pod: &Value) -> impl Iterator<Item = &Value> {
    list(&pod["spec"]["initContainers"]).iter().filter(|it| it["restartPolicy"] == "Always")
}

fn is_sidecar(pod: &Value, name: &Value) -> bool {
    sidecars(pod).any(|it| it["name"] == *name)
}

/// Returns how often containers were started again, and how long ago the last of them had ended.
fn restarts(containers: &[&Value]) -> String {
    let count: u64 = containers.iter().filter_map(|it| it["restartCount"].as_u64()).sum();
    let ends = containers.iter().map(|it| &it["lastState"]["terminated"]["finishedAt"]);
    // Times of one form are in the order of their texts.
    match ends.filter(|end| end.is_string()).max_by_key(|end| end.as_str()) {
        Some(end) if count > 0 => format!("{count} ({} ago)", age(end)),
        _ => count.to_string(),
    }
}

/// Returns the one word for how the pod is.
fn reason(pod: &Value) -> String {
    let status = &pod["status"];
    let is_over = status["phase"] == "Succeeded" || status["phase"] == "Failed";
    if !pod["metadata"]["deletionTimestamp"].is_null() && !is_over {
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
        let is_ready = |it: &Value| it["type"] == "Ready" && it["status"] == "True";
        let ready = list(&status["conditions"]).iter().any(is_ready);
        return if ready { "Running" } else { "NotReady" }.to_owned();
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
    let statuses = list(&pod["status"]["initContainerStatuses"]);
    for (index, container) in statuses.iter().enumerate() {
        let state = &container["state"];
        let done = state["terminated"]["exitCode"] == 0
            || (is_sidecar(pod, &container["name"]) && container["started"] == true);
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
mod tests;
