//! The cloud link over IETF QUIC, in a program built with that transport.
#![cfg(feature = "quic")]

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::{SOON, Setup, wait_until};
use ipc_proto::Module;
use minicloud::Config;
use minicloud::fault::Fault;
use serde_json::json;

/// A pod of the node, which the cloud sends until it is acknowledged.
fn pod() -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "i"}]}
    })
}

#[test]
fn a_node_joins_by_quic_keeps_what_it_gets_and_comes_back_after_a_restart() -> Result<()> {
    let cloud = Cloud::start(Config::default())?;
    let own = rustix::process::geteuid().as_raw();
    let mut setup = Setup::new()?.with(json!({"modules": {"edgehub": {"user": own}}}));
    cloud.lead(&mut setup);
    let server = cloud.with(|cloud| async move { cloud.quic().to_string() });
    let hub = &mut setup.edgecore["modules"]["edgeHub"];
    hub["websocket"] = json!({"enable": false});
    hub["quic"] = json!({"enable": true, "server": server});
    let joined = cloud.next_session(0);
    let rig = setup.start()?;
    joined.done().with_context(|| rig.module_log(Module::Edgehub))?;
    let session = cloud.session()?;
    cloud.with(|cloud| async move { cloud.apply(pod()).await })?;
    wait_until("the pod is acknowledged", SOON, || {
        let sessions = cloud.with(|cloud| async move { cloud.sessions().await });
        sessions.is_ok_and(|all| {
            all.iter().any(|it| it.node == NODE && it.waiting == 0 && !it.in_flight)
        })
    })?;
    assert_eq!(cloud.session()?, session);
    let joined = cloud.next_session(session);
    cloud.with(
        |cloud| async move { cloud.fault(None, Fault::Restart { down_millis: 500 }).await },
    )?;
    joined.done().with_context(|| rig.module_log(Module::Edgehub)).map(drop)
}
