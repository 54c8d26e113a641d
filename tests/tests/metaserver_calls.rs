//! What KubeEdge's tools ask of the local API beside Kubernetes' own words, on a node that runs pods.

#[path = "metaserver/place.rs"]
#[expect(dead_code, reason = "the other tests of the local API use the rest")]
mod place;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::cloud::NODE;
use edgecore_tests::rig::pods::{Node, sleeper};
use place::Api;
use serde_json::json;

/// Starts a node with its local API; nothing where the machine cannot run pods.
fn start() -> Result<Option<(Node, Api)>> {
    let mut api = None;
    let node = Node::start_with(|setup| {
        setup.supervisor["modules"]["metaserver"]["enabled"] = true.into();
        api = Some(Api::enable(setup));
    })?;
    let Some(node) = node else { return Ok(None) };
    Ok(Some((node, api.context("a configuration")??)))
}

#[test]
fn pods_are_started_again_on_demand() -> Result<()> {
    let Some((node, api)) = start()? else { return Ok(()) };
    node.apply(sleeper("web"))?;
    node.wait_pod_ready("web")?;
    let path = "/api/v1/namespaces/default/pods/restart";
    let answer = api.ask("POST", path, "", r#"["web","none"]"#)?.json()?;
    let done = answer["LogMessages"][0].as_str().unwrap_or_default();
    ensure!(done.contains("the pod \"default/web\" restart successful"), "{answer}");
    let failed = answer["errMessages"][0].as_str().unwrap_or_default();
    ensure!(failed.contains("not found pod:\"/default/none\""), "{answer}");
    node.wait_pod("web", "was started again", |status| {
        status["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
    })?;
    for bad in ["", "{}", "[1]"] {
        assert_eq!(api.ask("POST", path, "", bad)?.code, 400, "{bad}");
    }
    Ok(())
}

#[test]
fn pods_that_are_held_back_are_let_go() -> Result<()> {
    let Some((node, api)) = start()? else { return Ok(()) };
    let held = |name: &str| {
        let mut pod = sleeper(name);
        pod["metadata"]["annotations"] = json!({"edge.kubeedge.io/hold-upgrade": "true"});
        pod
    };
    node.apply(sleeper("free"))?;
    for name in ["one", "two"] {
        node.apply(held(name))?;
        node.wait_pod(name, "is held back", |status| {
            let conditions = status["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|it| it["type"] == "HeldUpgrade" && it["status"] == "True")
        })?;
    }
    node.wait_pod_ready("free")?;
    let (pods, nodes) = ("/api/v1/pods/unhold-upgrade", "/api/v1/nodes/unhold-upgrade");
    for (path, body, code) in [
        (pods, "default", 400),
        (pods, "default/none", 404),
        (pods, "default/free", 400),
        (nodes, "", 400),
        (nodes, "other", 404),
    ] {
        assert_eq!(api.ask("POST", path, "", body)?.code, code, "{path} {body}");
    }
    assert_eq!(api.ask("POST", pods, "", "default/one")?.code, 200);
    node.wait_pod_ready("one")?;
    assert_eq!(api.ask("POST", nodes, "", NODE)?.code, 200);
    node.wait_pod_ready("two")?;
    Ok(())
}
