//! A node whose disk fills, through the shipped programs: the cloud sees the pressure, who filled the
//! disk goes, and the pressure goes, too.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::cloud::NODE;
use edgecore_tests::rig::pods::{LONG, Node, can_run_or_skip, condition, pod, sleeper};
use edgecore_tests::rig::wait_until;
use private_containerd::Containerd;
use serde_json::json;

/// Tells whether the cloud has the node under pressure for want of disk.
fn is_pressed(node: &Node) -> Option<bool> {
    let path = format!("null/node/{NODE}");
    let object = node.cloud.with(|cloud| async move { cloud.object(&path).await }).ok()??;
    match condition(&object["status"], "DiskPressure") {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

#[test]
fn a_full_disk_shows_in_the_cloud_until_who_filled_it_has_gone() -> Result<()> {
    if !can_run_or_skip()? {
        return Ok(());
    }
    let containerd = Containerd::start()?;
    let disk = containerd.path().join("kubelet");
    fs::create_dir(&disk)?;
    // It goes with the folder of the container runtime.
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(&disk);
    ensure!(mount.status().context("cannot run mount")?.success(), "no small disk");
    let node = Node::launch(containerd, |setup| {
        let kubelet = &mut setup.edgecore["modules"]["edged"]["tailoredKubeletConfig"];
        kubelet["evictionHard"]["nodefs.available"] = json!("30%");
        kubelet["evictionPressureTransitionPeriod"] = json!("5s");
    })?;
    node.wait_until_ready()?;
    node.apply(sleeper("quiet"))?;
    node.wait_pod_ready("quiet")?;
    ensure!(is_pressed(&node) == Some(false), "{}", node.evidence());
    let greedy = json!({
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{
            "name": "c", "command": ["sh", "-c", "cat /dev/zero > /v/file; sleep 1000"],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        }],
    });
    node.apply(pod("greedy", greedy))?;
    wait_until("the cloud sees the pressure", LONG, || is_pressed(&node) == Some(true))
        .with_context(|| node.evidence())?;
    let status = node.wait_pod("greedy", "is let go", |status| status["reason"] == "Evicted")?;
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(message.contains("The node was low on resource: ephemeral-storage. "), "{message}");
    ensure!(condition(&status, "DisruptionTarget") == "True", "{status:#}");
    wait_until("the pressure passes", LONG, || is_pressed(&node) == Some(false))
        .with_context(|| node.evidence())?;
    node.wait_pod_ready("quiet")?;
    node.apply(sleeper("later"))?;
    node.wait_pod_ready("later").map(drop)
}
