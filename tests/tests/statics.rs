//! Static pods through the whole agent: a manifest on the node becomes a pod that runs with or without
//! a cloud, and that the cloud can see.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::NODE;
use edgecore_tests::rig::pods::{LONG, Node, can_run_or_skip, page};
use edgecore_tests::rig::{wait_for, wait_until};
use private_containerd::{Containerd, IMAGE};
use serde_json::json;

fn manifest(page: &str) -> String {
    let script = format!("mkdir /www; echo {page} > /www/index.html; exec httpd -f -p 80 -h /www");
    let container = json!({
        "name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script],
    });
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    })
    .to_string()
}

/// Starts a node whose static pods are in the returned folder.
fn node() -> Result<Option<(Node, PathBuf)>> {
    if !can_run_or_skip()? {
        return Ok(None);
    }
    let containerd = Containerd::start()?;
    let folder = containerd.path().join("manifests");
    fs::create_dir(&folder)?;
    let node = Node::launch(containerd, |setup| {
        let kubelet = &mut setup.edgecore["modules"]["edged"]["tailoredKubeletConfig"];
        kubelet["staticPodPath"] = json!(folder);
    })?;
    node.wait_until_ready()?;
    Ok(Some((node, folder)))
}

/// Writes a manifest as a careful editor does.
fn put(folder: &Path, text: &str) -> Result<()> {
    fs::write(folder.join(".web.yaml"), text)?;
    fs::rename(folder.join(".web.yaml"), folder.join("web.yaml")).context("cannot rename")
}

#[test]
fn a_manifest_is_a_pod_that_the_cloud_sees() -> Result<()> {
    let Some((node, folder)) = node()? else { return Ok(()) };
    let name = format!("web-{NODE}");
    put(&folder, &manifest("one"))?;
    let status = node.wait_pod_ready(&name)?;
    let ip = status["podIP"].as_str().context("no address")?;
    wait_until("it serves", LONG, || page(ip, "/").trim() == "one")?;

    // The mirror is deleted: it comes back, and the pod has not noticed.
    let uid = |node: &Node| Some(node.pod(&name).ok()??["metadata"]["uid"].as_str()?.to_owned());
    let first = uid(&node).context("no mirror")?;
    node.delete(&name)?;
    wait_for("another mirror", LONG, || uid(&node).filter(|uid| *uid != first))
        .with_context(|| node.evidence())?;
    let again = node.wait_pod_ready(&name)?;
    assert_eq!(again["containerStatuses"], status["containerStatuses"], "it was touched");

    // The manifest changes: so does the pod.
    put(&folder, &manifest("two"))?;
    let is_new = |uid: &str| uid != first;
    wait_for("a mirror of the new one", LONG, || uid(&node).filter(|uid| is_new(uid)))?;
    let serves = || {
        let status = node.pod(&name).ok()??["status"].take();
        // The old one's address answers nobody any more, and that takes long.
        let address = status["podIP"].as_str().filter(|now| *now != ip)?;
        (page(address, "/").trim() == "two").then_some(())
    };
    wait_for("the new page", LONG, serves).with_context(|| node.evidence())?;

    fs::remove_file(folder.join("web.yaml"))?;
    node.wait_pod_gone(&name)?;
    node.wait_until_clean()
}
