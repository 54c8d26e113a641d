//! Pods from the cloud to the container and back, with everything real: the shipped agent, a
//! containerd, and a cloud.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::pods::{LONG, Node, page, pod, sleeper};
use edgecore_tests::rig::wait_until;
use ipc_proto::Module;
use serde_json::{Value, json};

/// A web server whose pages are a config map, a secret, a token and the pod's own name.
fn web() -> Value {
    pod(
        "web",
        json!({
            "serviceAccountName": "default",
            "volumes": [{"name": "pages", "projected": {"sources": [
                {"configMap": {"name": "pages"}},
                {"secret": {"name": "login", "items": [{"key": "password", "path": "password"}]}},
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            ]}}],
            "containers": [{
                "name": "httpd",
                "command": ["httpd", "-f", "-p", "80", "-h", "/www"],
                "volumeMounts": [{"name": "pages", "mountPath": "/www"}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
            }],
        }),
    )
}

fn pages(index: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "pages", "namespace": "default"}, "data": {"index.html": index},
    })
}

fn login() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "login", "namespace": "default"}, "data": {"password": "aHVzaA=="},
    })
}

#[test]
fn a_pod_of_the_cloud_serves_what_the_cloud_gave_it_and_goes() -> Result<()> {
    let Some(node) = Node::start()? else { return Ok(()) };
    node.apply(pages("one"))?;
    node.apply(login())?;
    node.apply(web())?;
    let status = node.wait_pod_ready("web")?;
    assert_eq!(status["phase"], "Running");
    let ip = status["podIP"].as_str().context("no address")?;
    assert_eq!(page(ip, "/"), "one");
    assert_eq!(page(ip, "/password"), "hush");
    assert_eq!(page(ip, "/name"), "web");
    let token = page(ip, "/token");
    ensure!(token.split('.').count() == 3, "no token: {token:?}");

    node.apply(pages("two"))?;
    wait_until("the page changes", LONG, || page(ip, "/") == "two")
        .with_context(|| node.evidence())?;
    let later = node.wait_pod_ready("web")?;
    assert_eq!(later["containerStatuses"], status["containerStatuses"], "it was touched");

    node.delete("web")?;
    node.wait_pod_gone("web")?;
    node.wait_until_clean()
}

#[test]
fn a_status_that_somebody_overwrote_is_told_again() -> Result<()> {
    let Some(node) = Node::start()? else { return Ok(()) };
    let mut still = sleeper("still");
    node.apply(still.clone())?;
    let before = node.wait_pod_ready("still")?;
    still["metadata"]["labels"] = json!({"changed": "yes"});
    still["status"] = json!({"phase": "Pending"});
    node.apply(still)?;
    let after = node.wait_pod_ready("still")?;
    assert_eq!(after["phase"], "Running");
    assert_eq!(after["containerStatuses"], before["containerStatuses"], "it was touched");
    Ok(())
}

#[test]
fn a_control_group_that_is_busy_goes_once_it_is_free() -> Result<()> {
    let Some(node) = Node::start()? else { return Ok(()) };
    node.apply(sleeper("busy"))?;
    node.wait_pod_ready("busy")?;
    let groups = node.containerd.leftovers()?.groups;
    let mut stranger = Command::new("sleep").arg("600").spawn()?;
    let pid = stranger.id().to_string();
    let joined = groups.iter().any(|group| fs::write(group.join("cgroup.procs"), &pid).is_ok());
    let seen = joined.then_some(()).context("the pod has no group that takes a process");
    let seen = seen.and_then(|()| {
        node.delete("busy")?;
        node.wait_pod_gone("busy")?;
        wait_until("the group is found busy", LONG, || {
            node.rig.module_log(Module::Edged).contains("cannot remove the control group")
        })
    });
    stranger.kill()?;
    stranger.wait()?;
    seen?;
    node.wait_until_clean()
}
