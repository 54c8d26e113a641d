//! What is the same wherever a package is tried: running programs there, and looking at the node.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use private_containerd::IMAGE;
use serde_json::{Value, json};

use super::{output, until};
use crate::demo::cloud::Cloud;

/// The node's name, and its pod's.
pub(super) const NODE: &str = "trial";
pub(super) const POD: &str = "page";

/// What the pod finds in a volume.
const GREETING: &str = "good morning";

/// Settings of a node that shares this machine's disk with others: how full it is makes no difference.
pub(super) const ANY_DISK: [&str; 2] = [
    "modules.edged.tailoredKubeletConfig.imageGCHighThresholdPercent=100",
    "modules.edged.tailoredKubeletConfig.evictionHard={\"nodefs.available\":\"0%\",\
     \"nodefs.inodesFree\":\"0%\",\"imagefs.available\":\"0%\",\"imagefs.inodesFree\":\"0%\"}",
];

/// A Debian in a folder.
pub(super) trait Place {
    /// Returns its folder.
    fn folder(&self) -> &Path;

    /// Prepares a program to run inside.
    fn command(&self, words: &[&str]) -> Command;

    /// Runs a program inside, and returns what it prints.
    fn run(&self, words: &[&str]) -> Result<String> {
        output(&mut self.command(words))
    }

    /// Puts a file inside; returns its path there.
    fn take(&self, file: &Path) -> Result<String> {
        let name = file.file_name().context("a file has a name")?.to_string_lossy();
        fs::copy(file, self.folder().join("srv").join(&*name))?;
        Ok(format!("/srv/{name}"))
    }

    /// Writes a file inside.
    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.folder().join(path);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn has(&self, path: &str) -> bool {
        self.folder().join(path).symlink_metadata().is_ok()
    }

    fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.run(&["edgectl", "status", "-o", "json"])?)?)
    }
}

/// Has the node join, with the settings of its configuration that differ from the defaults.
pub(super) fn join(place: &dyn Place, cloud: &Cloud, more: &[&str]) -> Result<()> {
    let port = cloud.https.rsplit(':').next().unwrap_or_default();
    let mut words = vec!["edgectl", "join", "--cloud", &cloud.hub, "--cert-port", port];
    words.extend(["--token", &cloud.token, "--node-name", NODE]);
    words.extend(ANY_DISK.iter().flat_map(|setting| ["--set", setting]));
    words.extend(more);
    place.run(&words).map(drop)
}

/// Waits until a pod runs on the node, with what its volumes hold; returns what must stay.
pub(super) fn watch(place: &dyn Place, cloud: &Cloud) -> Result<Value> {
    until("the cloud finds the node ready", || cloud.finds_ready(NODE))?;
    cloud.apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"greeting": GREETING},
        "metadata": {"name": "words", "namespace": "default"},
    }))?;
    cloud.apply(&pod())?;
    until("the pod runs", || container(cloud).is_some())?;
    let seen = in_pod(place, &["cat", "/words/greeting"])?;
    ensure!(seen == GREETING, "the pod's volume says '{seen}', expected '{GREETING}'");
    let sandbox: Value = serde_json::from_str(&place.run(&["edgectl", "sandbox", "-o", "json"])?)?;
    let users: Vec<_> = modules(&sandbox).filter_map(|module| module["uid"].as_u64()).collect();
    ensure!(users.iter().any(|user| *user != 0), "every module runs as root: {users:?}");
    Ok(json!({ "container": container(cloud), "pids": pids(&place.status()?) }))
}

/// Runs a program in the pod, and returns what it prints.
pub(super) fn in_pod(place: &dyn Place, words: &[&str]) -> Result<String> {
    place.run(&[&["edgectl", "exec", POD, "--"], words].concat())
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": POD, "namespace": "default"},
        "spec": {
            "nodeName": NODE, "automountServiceAccountToken": false, "enableServiceLinks": false,
            "containers": [{"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "3600"], "volumeMounts": [
                    {"name": "words", "mountPath": "/words"},
                    {"name": "memory", "mountPath": "/memory"}]}],
            "volumes": [{"name": "words", "configMap": {"name": "words"}},
                {"name": "memory", "emptyDir": {"medium": "Memory"}}],
        },
    })
}

/// Returns the running container, and how often it was restarted.
pub(super) fn container(cloud: &Cloud) -> Option<Value> {
    let status = &cloud.pod(POD)?["status"]["containerStatuses"][0];
    let running = !status["state"]["running"].is_null();
    running.then(|| json!([status["containerID"], status["restartCount"]]))
}

/// Returns what is said of each module.
pub(super) fn modules(said: &Value) -> impl Iterator<Item = &Value> {
    said["modules"].as_array().into_iter().flatten()
}

/// Returns the agent's processes, the supervisor's first.
pub(super) fn pids(status: &Value) -> Vec<u64> {
    let modules = modules(status).filter_map(|module| module["pid"].as_u64());
    status["supervisor"]["pid"].as_u64().into_iter().chain(modules).collect()
}

/// Looks whether all is as before an upgrade, but that every module is the new program.
pub(super) fn upgraded(place: &dyn Place, cloud: &Cloud, before: &Value) -> Result<()> {
    let status = place.status()?;
    let (now, old) = (pids(&status), before["pids"].as_array().context("they were counted")?);
    ensure!(status["supervisor"]["reloads"] == 1, "the supervisor is not the new program");
    ensure!(now.first().map(|pid| json!(pid)).as_ref() == old.first(), "the supervisor has ended");
    ensure!(now.len() == old.len(), "{} processes, expected {}", now.len(), old.len());
    ensure!(!now[1..].iter().any(|pid| old.contains(&json!(pid))), "a module is the old program");
    untouched(place, cloud, before)
}

/// Looks whether the cloud hears the node, and the pod's container is the one from before.
pub(super) fn untouched(place: &dyn Place, cloud: &Cloud, before: &Value) -> Result<()> {
    until("the cloud hears the node again", || {
        place.status().is_ok_and(|status| status["cloud"]["state"] == "connected")
    })?;
    ensure!(cloud.finds_ready(NODE), "the node is not ready");
    let container = json!(container(cloud));
    ensure!(container == before["container"], "{container} was {} before", before["container"]);
    Ok(())
}
