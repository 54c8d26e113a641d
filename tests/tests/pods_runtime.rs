//! A container runtime that dies, hangs or is not there: pods go on, the node says so, and all is
//! taken up again where it was.

use std::path::Path;

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::NODE;
use edgecore_tests::rig::cri::Cri;
use edgecore_tests::rig::pods::{LONG, Node, can_run_or_skip, condition, page, pod, sleeper};
use edgecore_tests::rig::{process, wait_for, wait_until};
use private_containerd::Containerd;
use rustix::process::Signal;
use serde_json::{Value, json};

/// A web server that needs nothing but itself.
fn web() -> Value {
    let command = ["httpd", "-f", "-p", "80", "-h", "/etc"];
    pod("web", json!({"containers": [{"name": "c", "command": command}]}))
}

/// Waits until the cloud is told that the node is not ready, and returns the message.
fn wait_for_complaint(node: &Node) -> Result<String> {
    let complaint = wait_for("the cloud is told that the runtime is down", LONG, || {
        let path = format!("null/node/{NODE}");
        let told = node.cloud.with(|cloud| async move { cloud.object(&path).await });
        let status = told.ok()??["status"].take();
        let all = status["conditions"].as_array()?;
        let ready = all.iter().find(|it| it["type"] == "Ready" && it["status"] == "False")?;
        Some(ready["message"].as_str().unwrap_or_default().to_owned())
    });
    complaint.with_context(|| node.evidence())
}

/// Waits until the cloud is told that the node is ready.
fn wait_for_health(node: &Node) -> Result<()> {
    let path = format!("null/node/{NODE}");
    wait_until("the cloud is told that the node is ready", LONG, || {
        let path = path.clone();
        let told = node.cloud.with(|cloud| async move { cloud.object(&path).await });
        told.ok().flatten().is_some_and(|it| condition(&it["status"], "Ready") == "True")
    })
    .with_context(|| node.evidence())
}

#[test]
fn pods_outlive_a_runtime_that_is_killed() -> Result<()> {
    let Some(mut node) = Node::start()? else { return Ok(()) };
    node.apply(web())?;
    let status = node.wait_pod_ready("web")?;
    let before = node.cri.running()?;
    let ip = status["podIP"].as_str().context("no address")?;
    node.containerd.kill()?;
    let complaint = wait_for_complaint(&node)?;
    assert!(complaint.contains("container runtime is down"), "{complaint}");
    assert!(!page(ip, "/hosts").is_empty(), "the pod does not serve any more");
    node.apply(sleeper("later"))?;
    node.containerd.start_again()?;
    node.cri = Cri::new(node.containerd.socket())?;
    wait_for_health(&node)?;
    node.wait_pod_ready("later")?;
    let after = node.cri.running()?;
    assert!(before.iter().all(|it| after.contains(it)), "{before:?} became {after:?}");
    assert_eq!(node.wait_pod_ready("web")?["containerStatuses"], status["containerStatuses"]);
    Ok(())
}

#[test]
fn pods_outlive_a_runtime_that_hangs() -> Result<()> {
    let Some(node) = Node::start()? else { return Ok(()) };
    node.apply(web())?;
    let status = node.wait_pod_ready("web")?;
    let before = node.cri.running()?;
    let ip = status["podIP"].as_str().context("no address")?;
    let containerd = node.containerd.pid().context("containerd is dead")?;
    process::signal(containerd, Signal::STOP)?;
    let complaint = wait_for_complaint(&node)?;
    assert!(complaint.contains("container runtime is down"), "{complaint}");
    assert!(!page(ip, "/hosts").is_empty(), "the pod does not serve any more");
    process::signal(containerd, Signal::CONT)?;
    wait_for_health(&node)?;
    node.apply(sleeper("later"))?;
    node.wait_pod_ready("later")?;
    let after = node.cri.running()?;
    assert!(before.iter().all(|it| after.contains(it)), "{before:?} became {after:?}");
    Ok(())
}

#[test]
fn pods_wait_for_a_runtime_that_is_not_there_yet() -> Result<()> {
    if !can_run_or_skip()? {
        return Ok(());
    }
    let mut node = Node::launch(Containerd::prepare()?, |_| {})?;
    assert!(!Path::new(&node.containerd.socket()).exists());
    wait_for_complaint(&node)?;
    node.apply(sleeper("early"))?;
    node.containerd.begin()?;
    node.wait_until_ready()?;
    node.wait_pod_ready("early")?;
    Ok(())
}
