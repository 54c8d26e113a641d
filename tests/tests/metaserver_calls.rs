//! What KubeEdge's tools ask of the local API beside Kubernetes' own words, on a node that runs pods.

#[path = "metaserver/place.rs"]
#[expect(dead_code, reason = "the other tests of the local API use the rest")]
mod place;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::cloud::NODE;
use edgecore_tests::rig::operator::Said;
use edgecore_tests::rig::pods::{LONG, Node, sleeper};
use edgecore_tests::rig::wait_until;
use ipc_proto::Module;
use place::Api;
use serde_json::json;

/// Starts a node with its local API; nothing where the machine cannot run pods.
fn start(authorization: bool) -> Result<Option<(Node, Api)>> {
    let mut api = None;
    let node = Node::start_with(|setup| {
        setup.supervisor["modules"]["metaserver"]["enabled"] = true.into();
        setup.edgecore["featureGates"] = json!({"requireAuthorization": authorization});
        // No address of this host is made for it.
        setup.edgecore["modules"]["metaManager"]["metaServer"]["dummyServer"] = "".into();
        api = Some(Api::enable(setup));
    })?;
    let Some(node) = node else { return Ok(None) };
    Ok(Some((node, api.context("a configuration")??)))
}

#[test]
fn pods_are_started_again_on_demand() -> Result<()> {
    let Some((node, api)) = start(false)? else { return Ok(()) };
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

/// Makes pods that are held back, and waits until they are.
fn hold(node: &Node, names: &[&str]) -> Result<()> {
    for name in names {
        let mut pod = sleeper(name);
        pod["metadata"]["annotations"] = json!({"edge.kubeedge.io/hold-upgrade": "true"});
        node.apply(pod)?;
        node.wait_pod(name, "is held back", |status| {
            let conditions = status["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|it| it["type"] == "HeldUpgrade" && it["status"] == "True")
        })?;
    }
    Ok(())
}

#[test]
fn pods_that_are_held_back_are_let_go() -> Result<()> {
    let Some((node, api)) = start(false)? else { return Ok(()) };
    node.apply(sleeper("free"))?;
    hold(&node, &["one", "two"])?;
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

#[test]
fn edgectl_does_what_keadm_does_also_where_clients_have_to_say_who_they_are() -> Result<()> {
    for authorization in [false, true] {
        let Some((node, _)) = start(authorization)? else { return Ok(()) };
        node.apply(sleeper("web"))?;
        node.wait_pod_ready("web")?;
        hold(&node, &["one", "two"])?;
        let said = |arguments: &[&str]| node.rig.edgectl(arguments);
        let pods = said(&["pods"])?;
        ensure!(["web", "one", "two"].iter().all(|name| pods.out.contains(name)), "{}", pods.out);
        // It serves a moment after it runs.
        wait_until("the local API is served", LONG, || {
            said(&["restart-pod", "none"]).is_ok_and(|it| it.err.contains("not found pod"))
        })
        .with_context(|| node.rig.module_log(Module::Metaserver))?;
        let restarted = said(&["restart-pod", "-n", "default", "web", "none"])?;
        assert_eq!(restarted.out, "the pod \"default/web\" restart successful\n");
        ensure!(restarted.code == 1 && restarted.err.contains("default/none"), "{restarted:?}");
        node.wait_pod("web", "was started again", |status| {
            status["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
        })?;
        assert_eq!(said(&["unhold-upgrade", "pod", "one"])?, Said::done());
        node.wait_pod_ready("one")?;
        let again = said(&["unhold-upgrade", "pod", "none"])?;
        ensure!(again.code == 1 && again.err.contains("\"none\" not found"), "{again:?}");
        assert_eq!(said(&["unhold-upgrade", "node"])?, Said::done());
        node.wait_pod_ready("two")?;
        let confirmed = said(&["confirm-upgrade"])?;
        ensure!(confirmed.code == 1 && !confirmed.err.is_empty(), "{confirmed:?}");
    }
    Ok(())
}
