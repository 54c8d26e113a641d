//! The store at work: the real metamanager behind the real edgehub, a cloud that pushes, and the test
//! in edged's place.

#[path = "store/node.rs"]
mod node;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::cloud::NODE;
use edgecore_tests::rig::{SOON, wait_until};
use ipc_proto::{Group, Module, Operation};
use minicloud::core::Push;
use minicloud::fault::Fault;
use node::{Node, SERVED};
use serde_json::{Value, json};

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "i"}]}
    })
}

fn patch(uid: &str, phase: &str) -> Value {
    // On the wire a patch is a text.
    json!({"metadata": {"uid": uid}, "status": {"phase": phase}}).to_string().into()
}

#[test]
fn a_pod_of_the_cloud_is_stored_and_reaches_edged_and_its_status_goes_back() -> Result<()> {
    let node = Node::registered()?;
    node.cloud.apply(pod("web"))?;
    let pushed: Value = node.next_about("default/pod/web")?.content.decode()?;
    node.wait_until_acknowledged()?;
    assert_eq!(node.stored("pod")?, ["default/pod/web"]);
    let uid = pushed["metadata"]["uid"].as_str().context("a uid")?;
    let answer = node.ask(Operation::Patch, "default/podpatch/web", &patch(uid, "Running"))?;
    assert_eq!(answer["Object"]["status"]["phase"], "Running", "{answer}");
    let kept = node.ask(Operation::Query, "default/pod/web", &Value::Null)?;
    assert_eq!((&kept["kind"], &kept["status"]["phase"]), (&json!("Pod"), &json!("Running")));
    let all = node.ask(Operation::Query, "default/pod", &Value::Null)?;
    assert_eq!(all.as_array().map(Vec::len), Some(1));
    Ok(())
}

#[test]
fn a_new_edged_and_a_new_store_begin_with_the_whole_set() -> Result<()> {
    let node = Node::registered()?;
    for name in ["a", "b"] {
        node.cloud.apply(pod(name))?;
    }
    node.wait_until_acknowledged()?;
    node.kill(Module::Metamanager)?;
    loop {
        let set: Vec<Value> = node.next_about("null/pod")?.content.decode()?;
        if set.len() == 2 {
            return Ok(());
        }
    }
}

#[test]
fn kills_under_load_lose_nothing_that_was_acknowledged() -> Result<()> {
    const PODS: usize = 200;
    let node = Node::registered()?;
    let session = node.cloud.session()?;
    for number in 0..PODS {
        node.cloud.apply(pod(&format!("p{number:03}")))?;
        if number % 20 == 10 {
            node.kill(Module::Metamanager)?;
        }
    }
    node.wait_until_acknowledged()?;
    let expected: Vec<_> = (0..PODS).map(|number| format!("default/pod/p{number:03}")).collect();
    assert_eq!(node.stored("pod")?, expected);
    assert_eq!(node.cloud.session()?, session, "the cloud noticed nothing");
    Ok(())
}

#[test]
fn a_status_arrives_after_an_outage_in_which_everything_died() -> Result<()> {
    let node = Node::registered()?;
    node.cloud.apply(pod("web"))?;
    let pushed: Value = node.next_about("default/pod/web")?.content.decode()?;
    let uid = pushed["metadata"]["uid"].as_str().context("a uid")?.to_owned();
    node.wait_until_acknowledged()?;
    let down_millis = 8000;
    node.cloud.fault(Fault::Restart { down_millis })?;
    wait_until("the link is gone", SOON, || node.cloud.session().is_ok_and(|it| it == 0))?;
    for phase in ["Running", "Failed", "Succeeded"] {
        let answer = node.ask(Operation::Patch, "default/podpatch/web", &patch(&uid, phase))?;
        ensure!(answer == "OK" || answer["Err"].is_null(), "{answer}");
    }
    for module in [Module::Metamanager, Module::Edgehub, Module::Metamanager] {
        node.kill(module)?;
    }
    let local = node.ask(Operation::Query, "default/pod", &Value::Null)?;
    assert_eq!(local.as_array().map(Vec::len), Some(1), "what runs is known without a cloud");
    wait_until("the last status arrives", SOON + SOON, || {
        let pod = node.cloud.with(|cloud| async move { cloud.object("default/pod/web").await });
        pod.is_ok_and(|pod| pod.is_some_and(|pod| pod["status"]["phase"] == "Succeeded"))
    })
    .with_context(|| node.rig.module_log(Module::Metamanager))
}

#[test]
fn uploads_and_twin_reports_of_an_outage_arrive_after_it() -> Result<()> {
    let reports = [
        (Module::Eventbus, Group::User, Operation::Upload, "default/up"),
        (Module::Servicebus, Group::User, Operation::Upload, "default/call"),
        (
            Module::Devicetwin,
            Group::Resource,
            Operation::Update,
            "device/default/sensor1/twin/edge_updated",
        ),
    ];
    let node = Node::registered_with(&reports.each_ref().map(|(module, ..)| *module))?;
    node.cloud.apply(json!({
        "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
        "metadata": {"name": "sensor1", "namespace": "default"},
        "spec": {"nodeName": NODE, "properties": [{"name": "temperature"}]}
    }))?;
    node.wait_until_acknowledged()?;
    node.cloud.fault(Fault::Restart { down_millis: 4000 })?;
    wait_until("the link is gone", SOON, || node.cloud.session().is_ok_and(|it| it == 0))?;
    for (module, group, operation, resource) in reports.clone() {
        let twin = json!({"event_id": "", "timestamp": 0, "twin": {"temperature": null}});
        assert_eq!(node.ask_as(module, group, operation, resource, &twin)?, "OK");
    }
    node.kill(Module::Metamanager)?;
    for (.., operation, resource) in reports {
        let wanted = format!("{operation} {resource}");
        wait_until(&wanted, SOON, || {
            node.cloud.received().is_ok_and(|received| received.contains(&wanted))
        })
        .with_context(|| node.rig.module_log(Module::Metamanager))?;
    }
    wait_until("nothing waits any more", SOON, || node.waiting().is_ok_and(|it| it == 0))
}

#[test]
fn the_clusters_certificate_is_there_without_the_cloud() -> Result<()> {
    let node = Node::registered_with(&[Module::Metaserver])?;
    let ask = || {
        let (module, group) = (Module::Metaserver, Group::Meta);
        node.ask_as(module, group, Operation::Query, "k8s/ca.crt", &Value::Null)
    };
    let certificate = ask()?;
    assert!(certificate.as_str().is_some_and(|pem| pem.contains("BEGIN CERTIFICATE")));
    node.cloud.fault(Fault::Restart { down_millis: 4000 })?;
    wait_until("the link is gone", SOON, || node.cloud.session().is_ok_and(|it| it == 0))?;
    assert_eq!(ask()?, certificate);
    Ok(())
}

#[test]
fn volume_requests_of_the_cloud_are_answered_by_edged() -> Result<()> {
    let node = Node::registered()?;
    let operations = [
        ("createvolume", true),
        ("deletevolume", false),
        ("controllerpublishvolume", true),
        ("controllerunpublishvolume", false),
    ];
    for (operation, serves) in operations {
        let resource = format!("default/volume/{operation}");
        let push = Push {
            source: "cloudhub".into(),
            group: "resource".into(),
            operation: operation.into(),
            resource: resource.clone(),
            version: String::new(),
            content: json!(r#"{"volumeId":"v"}"#),
        };
        node.cloud.with(|cloud| async move { cloud.push(NODE, push).await })?;
        let asked = node.next_about(&resource)?;
        assert_eq!(asked.content.decode::<String>()?, r#"{"volumeId":"v"}"#);
        let (verdict, text) = if serves {
            (Operation::Response, SERVED)
        } else {
            (Operation::Error, "no such driver")
        };
        wait_until("the cloud has the answer", SOON, || {
            let received = node.cloud.with(|cloud| async move { cloud.received(0).await });
            received.is_ok_and(|received| {
                received.iter().map(|it| &it.message).any(|it| {
                    it.header.parent.as_ref() == Some(&asked.header.id)
                        && it.route.operation == verdict
                        && it.content.decode::<String>().is_ok_and(|said| said.contains(text))
                })
            })
        })?;
    }
    Ok(())
}
