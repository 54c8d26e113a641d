//! The demonstration's pod: from the cloud to a page that it serves, and that it stays what it is
//! whatever happens to the agent.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use private_containerd::{Containerd, IMAGE};
use serde_json::{Value, json};

use super::cloud::{Cloud, http};
use super::interrupt::Interrupt;
use super::node::{NAME, Node};
use super::{shown, wait_for};
use crate::screen::Screen;

/// The pod's name.
const POD: &str = "web";

/// What it serves.
const PAGE: &str = "hello from a pod";

/// A pod as the cloud sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    address: String,
    container: String,
    restarts: u64,
}

/// Deploys the pod and waits until it serves.
pub(super) fn deploy(
    screen: Screen,
    cloud: &Cloud,
    node: &Node,
    interrupt: &Interrupt,
) -> Result<Pod> {
    screen.heading("a pod is deployed through the cloud");
    let what = "the cloud to find the node ready";
    wait_for(node, interrupt, what, || cloud.finds_ready(NAME).then_some(()))?;
    for object in [page(), pod()] {
        let kind = object["kind"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        screen
            .command(&format!("curl -X PUT --data @{name}.json http://{}/objects", cloud.control));
        let content = if kind == "Pod" { &object["spec"] } else { &object["data"] };
        screen.line(&screen.faint(&format!("  {kind} {name}: {content}")));
        cloud.apply(&object)?;
    }
    let begin = Instant::now();
    let mut last = String::new();
    let pod = wait_for(node, interrupt, "the pod to be ready", || {
        let now = cloud.pod(POD)?;
        let line = line(&now);
        if line != last {
            screen.line(&format!("  {:>7}  {line}", shown(begin.elapsed())));
            last = line;
        }
        Pod::ready(&now)
    })?;
    screen.line(&format!("  {} in the cloud's eyes", screen.good("running")));
    screen.command(&format!("curl http://{}/", pod.address));
    screen.line(&format!("  {}", screen.good(&pod.page()?)));
    Ok(pod)
}

/// Shows that the pod is the one that it was.
pub(super) fn untouched(screen: Screen, cloud: &Cloud, then: &Pod) -> Result<()> {
    let now = cloud.pod(POD).as_ref().and_then(Pod::ready).context("the pod is not ready")?;
    if now != *then {
        bail!("the pod changed too: {then:?}, then {now:?}");
    }
    let page = now.page()?;
    let id: String = now.container.chars().take(12).collect();
    screen.line(&format!(
        "  {}: container {id}, {} restarts, serves '{page}'",
        screen.good("the pod never noticed"),
        now.restarts
    ));
    Ok(())
}

/// Deletes the pod and waits until nothing is left of it.
pub(super) fn delete(
    screen: Screen,
    (cloud, containerd): (&Cloud, &Containerd),
    node: &Node,
    interrupt: &Interrupt,
) -> Result<()> {
    screen.heading("the pod is deleted");
    screen.command(&format!("curl -X DELETE http://{}/objects/default/pod/{POD}", cloud.control));
    let begin = Instant::now();
    cloud.delete(POD)?;
    wait_for(node, interrupt, "the pod to be gone", || {
        let left = containerd.leftovers().ok()?;
        (cloud.pod(POD).is_none() && left.is_empty()).then_some(())
    })?;
    let time = shown(begin.elapsed());
    screen.line(&format!("no process, mount, network or address is left of it after {time}"));
    Ok(())
}

fn page() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "page", "namespace": "default"}, "data": {"index.html": PAGE}})
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, "namespace": "default"},
    "spec": {
        "nodeName": NAME, "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "page", "configMap": {"name": "page"}}],
        "containers": [{
            "name": "httpd", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
            "command": ["httpd", "-f", "-p", "80", "-h", "/www"],
            "volumeMounts": [{"name": "page", "mountPath": "/www"}],
            "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
        }],
    }})
}

impl Pod {
    fn ready(pod: &Value) -> Option<Self> {
        let status = &pod["status"];
        let container = &status["containerStatuses"][0];
        (container["ready"] == true).then_some(())?;
        Some(Self {
            address: status["podIP"].as_str()?.to_owned(),
            container: container["containerID"]
                .as_str()?
                .trim_start_matches("containerd://")
                .into(),
            restarts: container["restartCount"].as_u64()?,
        })
    }

    fn page(&self) -> Result<String> {
        http(&format!("{}:80", self.address), "GET", "", "")
    }
}

/// Writes a pod's state as `kubectl get pod` would.
fn line(pod: &Value) -> String {
    let status = &pod["status"];
    let container = &status["containerStatuses"][0];
    let phase = status["phase"].as_str().unwrap_or("Pending");
    let waits = container["state"]["waiting"]["reason"].as_str();
    let ready = if container["ready"] == true { "1/1" } else { "0/1" };
    let address = status["podIP"].as_str().unwrap_or("no address yet");
    format!("{POD}  {ready}  {:<17}  {address}", waits.unwrap_or(phase))
}
