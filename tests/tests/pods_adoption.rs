//! Pods change hands: edged takes over what a kubelet of 1.32 (KubeEdge's own edgecore) started, and
//! leaves its own so that such a kubelet can take it over.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::cri::{plain_container, plain_sandbox};
use edgecore_tests::rig::pods::{Node, pod};
use edged::cri::words as w;
use ipc_proto::Module;
use ipc_proto::control::Request;
use serde_json::{Value, json};

/// What kubelet 1.32 computes of a container named `c` of the rig's image: FNV-1a over its dump of
/// `{"image":"registry.test/busybox:1","name":"c"}`.
const HASH: &str = "1f103125";

fn labelled() -> Value {
    let mut pod = pod(
        "p",
        json!({"containers": [{"name": "c", "command": ["sleep", "1000000"],
            "ports": [{"name": "web", "containerPort": 80, "protocol": "TCP"}]}]}),
    );
    pod["metadata"]["labels"] = json!({"app": "a"});
    pod["metadata"]["annotations"] = json!({"note": "n"});
    pod
}

fn texts<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The labels of a pod's parts.
fn identity(uid: &str) -> BTreeMap<String, String> {
    texts([
        ("io.kubernetes.pod.name", "p"),
        ("io.kubernetes.pod.namespace", "default"),
        ("io.kubernetes.pod.uid", uid),
    ])
}

fn sandbox_labels(uid: &str) -> BTreeMap<String, String> {
    let mut labels = identity(uid);
    labels.extend(texts([("app", "a")]));
    labels
}

fn container_labels(uid: &str) -> BTreeMap<String, String> {
    let mut labels = identity(uid);
    labels.extend(texts([("io.kubernetes.container.name", "c")]));
    labels
}

fn container_annotations() -> BTreeMap<String, String> {
    texts([
        ("io.kubernetes.container.hash", HASH),
        ("io.kubernetes.container.restartCount", "0"),
        ("io.kubernetes.container.terminationMessagePath", "/dev/termination-log"),
        ("io.kubernetes.container.terminationMessagePolicy", "File"),
        ("io.kubernetes.pod.terminationGracePeriod", "1"),
        (
            "io.kubernetes.container.ports",
            r#"[{"name":"web","containerPort":80,"protocol":"TCP"}]"#,
        ),
    ])
}

/// Makes the pod as kubelet makes it, and returns the container's identity.
fn make_as_kubelet(node: &Node, uid: &str) -> Result<String> {
    let logs = node.containerd.path().join("pods");
    let mut sandbox = plain_sandbox("p", &logs);
    sandbox.metadata.as_mut().context("metadata")?.uid = uid.to_owned();
    sandbox.log_directory = logs.join(format!("default_p_{uid}")).display().to_string();
    sandbox.labels = sandbox_labels(uid);
    sandbox.annotations = texts([
        ("note", "n"),
        ("kubernetes.io/config.seen", "2026-01-02T03:04:05.678901234Z"),
        ("kubernetes.io/config.source", "api"),
    ]);
    let mut container = plain_container("c", &["sleep", "1000000"]);
    container.log_path = "c/0.log".to_owned();
    container.labels = container_labels(uid);
    container.annotations = container_annotations();
    std::fs::create_dir_all(logs.join(format!("default_p_{uid}/c")))?;
    let id = node.cri.ask(|runtime| async move {
        let config = Some(sandbox.clone());
        let request = w::RunPodSandboxRequest { config, runtime_handler: String::new() };
        let pod_sandbox_id = runtime.run_sandbox(request).await?.pod_sandbox_id;
        let request = w::CreateContainerRequest {
            pod_sandbox_id,
            config: Some(container),
            sandbox_config: Some(sandbox),
        };
        let container_id = runtime.create_container(request).await?.container_id;
        let request = w::StartContainerRequest { container_id: container_id.clone() };
        runtime.start_container(request).await?;
        Ok::<_, edged::cri::Trouble>(container_id)
    })?;
    Ok(id)
}

/// Reads the annotation that is JSON, in which the order of keys says nothing.
fn with_ports_read(annotations: BTreeMap<String, String>) -> BTreeMap<String, Value> {
    let read = |(key, text): (String, String)| {
        let value = match serde_json::from_str(&text) {
            Ok(ports @ Value::Array(_)) => ports,
            Ok(_) | Err(_) => text.into(),
        };
        (key, value)
    };
    annotations.into_iter().map(read).collect()
}

fn uid(node: &Node) -> Result<String> {
    let pod = node.pod("p")?.context("the cloud has no pod")?;
    Ok(pod["metadata"]["uid"].as_str().context("no uid")?.to_owned())
}

#[test]
fn what_a_kubelet_started_is_taken_over_without_a_restart() -> Result<()> {
    let Some(node) = Node::start()? else { return Ok(()) };
    node.rig.demand(&Request::Stop { modules: vec![Module::Edged] })?;
    node.apply(labelled())?;
    let id = make_as_kubelet(&node, &uid(&node)?)?;
    node.rig.demand(&Request::Start { modules: vec![Module::Edged] })?;
    let status = node.wait_pod_ready("p")?;
    let told = &status["containerStatuses"][0];
    assert_eq!(told["containerID"], format!("containerd://{id}"));
    assert_eq!(told["restartCount"], 0);
    let all = node.cri.containers()?;
    assert_eq!(all.iter().map(|it| &it.id).collect::<Vec<_>>(), [&id], "something else was made");
    let (sandboxes, _) = node.cri.list()?;
    assert_eq!(sandboxes.len(), 1, "{sandboxes:?}");

    // A crash counts on from there.
    node.cri.crash(&id)?;
    let again = |status: &Value| status["containerStatuses"][0]["restartCount"] == 1;
    node.wait_pod("p", "is restarted once", again)?;
    node.delete("p")?;
    node.wait_pod_gone("p")?;
    node.wait_until_clean()
}

#[test]
fn what_edged_started_has_all_that_a_kubelet_looks_for() -> Result<()> {
    let Some(node) = Node::start()? else { return Ok(()) };
    node.apply(labelled())?;
    node.wait_pod_ready("p")?;
    let uid = uid(&node)?;
    let (sandboxes, containers) = node.cri.list()?;
    let (sandbox, container) = (&sandboxes[0], &containers[0]);
    assert_eq!(sandbox.labels, sandbox_labels(&uid));
    let metadata = sandbox.metadata.clone().context("a sandbox without metadata")?;
    let named =
        (metadata.name.as_str(), metadata.namespace.as_str(), metadata.uid, metadata.attempt);
    assert_eq!(named, ("p", "default", uid.clone(), 0), "{}", node.evidence());
    assert_eq!(container.labels, container_labels(&uid));
    let metadata = container.metadata.clone().context("a container without metadata")?;
    assert_eq!((metadata.name.as_str(), metadata.attempt), ("c", 0));
    assert_eq!(
        with_ports_read(node.cri.container(&container.id)?.annotations),
        with_ports_read(container_annotations())
    );
    let folder = node.containerd.path().join("pods").join(format!("default_p_{uid}"));
    assert!(folder.join("c/0.log").exists(), "the log is not where kubelet looks for it");
    let folder = node.folder("p")?;
    for part in ["etc-hosts", "containers/c"] {
        assert!(folder.join(part).exists(), "{part} is not where kubelet has it");
    }
    let group = format!("kubepods/besteffort/pod{uid}");
    let groups = node.containerd.leftovers()?.groups;
    let misplaced = groups.iter().find(|it| !it.ends_with(&group));
    ensure!(
        !groups.is_empty() && misplaced.is_none(),
        "kubelet kills a pod without {group}: {groups:?}"
    );
    Ok(())
}
