//! Which messages wait for an acknowledgement: as observed on a real cloud.

use ipc_proto::{Content, MessageId, Route};
use serde_json::{Value, json};

use super::*;

fn message(source: &str, group: &str, operation: &str, resource: &str, content: &Value) -> Message {
    let group = Group::parse(group);
    let route = Route {
        source: Source::parse(source),
        operation: Operation::parse(operation),
        resource: Resource::parse(&group, resource),
        group,
    };
    let mut message =
        Message::new(MessageId::parse("m"), 0, route, Content::encode(content).unwrap());
    message.header.resource_version = "7".into();
    message
}

#[test]
fn answers_about_the_nodes_own_objects_are_sent_once() {
    let body = json!({"Object": null, "Err": null});
    for (operation, resource) in [
        ("response", "null/node/edge1"),
        ("response", "kube-node-lease/lease/edge1"),
        ("response", "null/nodepatch/edge1"),
        ("response", "default/podpatch/p"),
        ("response", "default/pod/p"),
        ("response", "default/certificatesigningrequest/c"),
        ("response", "default/serviceaccounttoken/default"),
    ] {
        let message = message("edgecontroller", "resource", operation, resource, &body);
        assert_eq!(delivery(&message), Delivery::Once, "{operation} {resource}");
    }
}

#[test]
fn objects_and_answers_that_carry_one_are_reliable() {
    let body = json!({"metadata": {"uid": "u"}});
    for (source, operation, resource) in [
        ("edgecontroller", "update", "null/node/edge1"),
        ("edgecontroller", "update", "default/pod/p"),
        ("edgecontroller", "insert", "default/pod/p"),
        ("edgecontroller", "response", "default/configmap/c"),
        ("edgecontroller", "response", "null/persistentvolume/v"),
        ("dynamiccontroller", "insert", "default/configmap/c"),
        ("devicecontroller", "insert", "default/device/d"),
        ("policycontroller", "update", "default/serviceaccountaccess/a"),
    ] {
        let message = message(source, "resource", operation, resource, &body);
        let Delivery::Reliable(subject) = delivery(&message) else { panic!("{resource}") };
        assert_eq!((&*subject.uid, subject.version), ("u", 7));
        assert_eq!(subject.stage, Stage::Live);
    }
}

#[test]
fn side_traffic_is_sent_once() {
    let nothing = Value::Null;
    for (source, group, operation, resource) in [
        ("devicecontroller", "twin", "update", "membership"),
        ("devicecontroller", "twin", "response", "twin"),
        ("router_eventbus", "user", "subscribe", "default/up"),
        ("taskmanager", "taskmanager", "Check", "operations.kubeedge.io/v1alpha2/a/b/node/edge1"),
        ("dynamiccontroller", "resource", "applicationResponse", "ignore/Application/ignore"),
        ("cloudhub", "resource", "response", "k8s/ca.crt"),
    ] {
        let body = if resource == "twin" { json!("OK") } else { nothing.clone() };
        let message = message(source, group, operation, resource, &body);
        assert_eq!(delivery(&message), Delivery::Once, "{resource}");
    }
}

#[test]
fn errors_are_sent_once_and_versionless_objects_never() {
    let error = json!({"ErrStatus": {"metadata": {}, "code": 404}});
    let refused = message("edgecontroller", "resource", "response", "default/secret/s", &error);
    assert_eq!(delivery(&refused), Delivery::Once);
    let body = json!({"metadata": {"uid": "u"}});
    let mut pod = message("edgecontroller", "resource", "update", "default/pod/p", &body);
    pod.header.resource_version = "".into();
    assert_eq!(delivery(&pod), Delivery::Never);
    pod.route.operation = Operation::Delete;
    assert!(matches!(delivery(&pod), Delivery::Reliable(Subject { stage: Stage::Gone, .. })));
}
