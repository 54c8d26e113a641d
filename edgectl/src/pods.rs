//! `edgectl pods`: the pods of this node, as `kubectl get pods` shows them.

use std::io::Write as _;

use serde::Deserialize as _;
use serde_json::Value;

use crate::cli::{Format, PodsArguments};
use crate::client::Client;
use crate::clock::{Span, Timestamp};
use crate::failure::Failure;
use crate::node::Node;
use crate::screen::{Paint, Screen};
use crate::table::{self, Cell};

#[cfg(test)]
mod tests;

/// Shows the pods.
pub(crate) fn run(
    arguments: &PodsArguments,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let mut list = Node::find(client)?.pods()?;
    if let (Some(namespace), Some(items)) = (&arguments.namespace, list["items"].as_array_mut()) {
        items.retain(|pod| pod["metadata"]["namespace"] == **namespace);
    }
    if arguments.output.format == Format::Json {
        return screen.json(&list);
    }
    let now = Timestamp::now();
    let rows: Vec<_> = elements(&list["items"]).iter().map(|pod| row(pod, now)).collect();
    if rows.is_empty() {
        return Ok(writeln!(screen, "no pods")?);
    }
    let headings = ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"];
    let text = table::render(headings, &rows, screen.style());
    Ok(screen.write_all(text.as_bytes())?)
}

fn elements(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

fn time(value: &Value) -> Option<Timestamp> {
    Timestamp::deserialize(value).ok()
}

fn row(pod: &Value, now: Timestamp) -> [Cell; 7] {
    let (metadata, status) = (&pod["metadata"], &pod["status"]);
    let word = state(pod);
    let paint = match word.as_str() {
        "Running" | "Completed" | "Succeeded" => Paint::Good,
        "Pending" | "ContainerCreating" | "PodInitializing" | "Terminating" => Paint::Fair,
        word if word.starts_with("Init:") && word.contains('/') => Paint::Fair,
        _ => Paint::Bad,
    };
    let (ready, all) = readiness(pod);
    let paint_ready = if ready == all { Paint::Plain } else { Paint::Fair };
    let born = time(&metadata["creationTimestamp"]).or_else(|| time(&status["startTime"]));
    [
        Cell::maybe(text(&metadata["namespace"])),
        Cell::maybe(text(&metadata["name"])),
        Cell::new(paint_ready, format!("{ready}/{all}")),
        Cell::new(paint, word),
        Cell::from(restarts(status, now)),
        Cell::maybe(born.map(|born| now.since(born))),
        Cell::maybe(text(&status["podIP"])),
    ]
}

/// Returns the init containers that stay beside the others.
fn sidecars(pod: &Value) -> impl Iterator<Item = &Value> {
    let inits = elements(&pod["spec"]["initContainers"]);
    inits.iter().filter(|init| init["restartPolicy"] == "Always")
}

/// Counts the containers that are ready, and all that are to be.
fn readiness(pod: &Value) -> (usize, usize) {
    let status = &pod["status"];
    let is_ready = |it: &&Value| it["ready"] == true && it["state"]["running"].is_object();
    let ready = elements(&status["containerStatuses"]).iter().filter(is_ready).count();
    let of_sidecar = |it: &&Value| sidecars(pod).any(|sidecar| sidecar["name"] == it["name"]);
    let inits = elements(&status["initContainerStatuses"]).iter();
    let ready = ready + inits.filter(of_sidecar).filter(is_ready).count();
    (ready, elements(&pod["spec"]["containers"]).len() + sidecars(pod).count())
}

/// Counts how often containers were started again, and says when the last one had ended.
fn restarts(status: &Value, now: Timestamp) -> String {
    let lists = ["containerStatuses", "initContainerStatuses"].map(|key| elements(&status[key]));
    let all = || lists.into_iter().flatten();
    let count: u64 = all().filter_map(|it| it["restartCount"].as_u64()).sum();
    let last = all().filter_map(|it| time(&it["lastState"]["terminated"]["finishedAt"])).max();
    let ago: Option<Span> = last.filter(|_| count > 0).map(|last| now.since(last));
    ago.map_or_else(|| count.to_string(), |ago| format!("{count} ({ago} ago)"))
}

/// Says in one word how a pod is: the most telling word of its containers.
fn state(pod: &Value) -> String {
    let status = &pod["status"];
    let phase = text(&status["phase"]).unwrap_or("Unknown");
    if !pod["metadata"]["deletionTimestamp"].is_null() && phase != "Failed" && phase != "Succeeded"
    {
        return "Terminating".to_owned();
    }
    let own = text(&status["reason"]).unwrap_or(phase).to_owned();
    if let Some(word) = initialising(pod) {
        return word;
    }
    let containers = elements(&status["containerStatuses"]);
    let word = containers.iter().find_map(|it| why_not(&it["state"])).unwrap_or(own);
    let runs = |it: &Value| it["ready"] == true && it["state"]["running"].is_object();
    if word == "Completed" && containers.iter().any(runs) {
        let is_ready = |it: &Value| it["type"] == "Ready" && it["status"] == "True";
        let ready = elements(&status["conditions"]).iter().any(is_ready);
        return if ready { "Running" } else { "NotReady" }.to_owned();
    }
    word
}

/// Says how far the init containers are, if they are not through.
fn initialising(pod: &Value) -> Option<String> {
    let statuses = elements(&pod["status"]["initContainerStatuses"]);
    for (index, init) in statuses.iter().enumerate() {
        let state = &init["state"];
        let is_sidecar = sidecars(pod).any(|sidecar| sidecar["name"] == init["name"]);
        let done = state["terminated"]["exitCode"] == 0 && !is_sidecar;
        if done || (is_sidecar && init["started"] == true) {
            continue;
        }
        let why = why_not(state).filter(|word| word != "PodInitializing");
        let place = || format!("{index}/{}", statuses.len());
        return Some(format!("Init:{}", why.unwrap_or_else(place)));
    }
    None
}

/// Says why a container does not run; nothing when it does.
fn why_not(state: &Value) -> Option<String> {
    let (waiting, ended) = (&state["waiting"], &state["terminated"]);
    let reason = text(&waiting["reason"]).or_else(|| text(&ended["reason"]));
    let code = || Some(format!("ExitCode:{}", ended["exitCode"].as_i64()?));
    reason.map(ToOwned::to_owned).or_else(code)
}
