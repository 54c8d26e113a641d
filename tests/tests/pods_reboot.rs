//! A reboot without a cloud: what lived in memory is gone, nobody answers, and every pod comes back
//! with what its node had stored.

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::pods::{LONG, Node, page, pod};
use edgecore_tests::rig::wait_until;
use edged::cri::words as w;
use serde_json::{Value, json};

/// How many pods the node has.
const PODS: usize = 10;

/// A pod that serves a config map, a secret and a token of its own.
fn web(number: usize) -> [Value; 3] {
    let name = format!("web{number}");
    let metadata = json!({"name": name, "namespace": "default"});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
        "data": {"index.html": format!("page {number}")}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": metadata, "data": {"password": "aHVzaA=="}});
    let pod = pod(
        &name,
        json!({
            "serviceAccountName": "default",
            "volumes": [{"name": "pages", "projected": {"sources": [
                {"configMap": {"name": name}}, {"secret": {"name": name}},
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
            ]}}],
            "containers": [{
                "name": "httpd", "command": ["httpd", "-f", "-p", "80", "-h", "/www"],
                "volumeMounts": [{"name": "pages", "mountPath": "/www"}],
            }],
        }),
    );
    [map, secret, pod]
}

/// Returns the addresses of the sandboxes that are ready.
fn addresses(node: &Node) -> Result<Vec<String>> {
    let (sandboxes, _) = node.cri.list()?;
    let ready = sandboxes.into_iter().filter(|it| it.state() == w::PodSandboxState::Ready);
    let address = |sandbox: w::PodSandbox| {
        let request = w::PodSandboxStatusRequest { pod_sandbox_id: sandbox.id };
        let status = node.cri.ask(|it| async move { it.sandbox_status(request).await })?.status;
        Ok(status.and_then(|it| it.network).context("a sandbox without an address")?.ip)
    };
    ready.map(address).collect()
}

#[test]
fn every_pod_comes_back_after_a_reboot_without_a_cloud() -> Result<()> {
    let Some(mut node) = Node::start()? else { return Ok(()) };
    for object in (0..PODS).flat_map(web) {
        node.apply(object)?;
    }
    for number in 0..PODS {
        node.wait_pod_ready(&format!("web{number}"))?;
    }
    node.reboot_without_cloud()?;
    wait_until("every pod runs again", LONG, || {
        node.cri.running().is_ok_and(|running| running.len() == PODS)
    })
    .with_context(|| node.evidence())?;
    let addresses = addresses(&node)?;
    assert_eq!(addresses.len(), PODS, "{addresses:?}");
    let mut pages = Vec::new();
    for address in &addresses {
        wait_until("it serves", LONG, || !page(address, "/").is_empty())?;
        pages.push(page(address, "/"));
        assert_eq!(page(address, "/password"), "hush");
        let token = page(address, "/token");
        ensure!(token.split('.').count() == 3, "no token: {token:?}");
    }
    pages.sort();
    let wanted: Vec<_> = (0..PODS).map(|number| format!("page {number}")).collect();
    assert_eq!(pages, wanted);
    // Addresses of the sandboxes from before are given back.
    wait_until("old addresses are free again", LONG, || {
        node.containerd.leftovers().is_ok_and(|left| left.addresses.len() == PODS)
    })
    .with_context(|| format!("{:?}", node.containerd.leftovers()))
}
