//! Every kind of message that a cloud sends goes where it belongs.

use bytes::Bytes;

use super::*;

/// Makes a message from the cloud's words.
fn message(source: &str, group: &str, operation: &str, resource: &str, content: &str) -> Message {
    let json = format!(
        r#"{{"header":{{"msg_id":"m"}},"route":{{"source":"{source}","group":"{group}","operation":"{operation}","resource":"{resource}"}},"content":{content}}}"#
    );
    ipc_proto::json::decode(&Bytes::from(json)).expect("the test's own message")
}

fn answer(source: &str, group: &str, operation: &str, resource: &str) -> Message {
    let mut message = message(source, group, operation, resource, "{}");
    message.header.parent = Some(ipc_proto::MessageId::parse("asked"));
    message
}

#[test]
fn what_asks_for_nothing_goes_by_its_group() {
    let cases = [
        ("edgecontroller", "resource", "update", "default/pod/p", Way::To(Module::Metamanager)),
        ("edgecontroller", "func", "update", "default/pod/p", Way::To(Module::Metamanager)),
        ("devicecontroller", "resource", "insert", "d/device/x", Way::To(Module::Metamanager)),
        ("cloudhub", "resource", "createvolume", "d/volume/v", Way::To(Module::Metamanager)),
        ("devicecontroller", "twin", "update", "membership", Way::To(Module::Devicetwin)),
        ("router_eventbus", "user", "publish", "a/b", Way::To(Module::Eventbus)),
        ("router_servicebus", "user", "POST", "80:/x", Way::To(Module::Servicebus)),
        ("me", "user", "publish", "a/b", Way::Unsupported),
        ("taskmanager", "taskmanager", "Check", "t", Way::To(Module::Taskmanager)),
        ("edgecontroller", "novel", "update", "default/pod/p", Way::Unsupported),
        ("edgecontroller", "diagnostic", "ping", "", Way::Unsupported),
    ];
    for (source, group, operation, resource, expected) in cases {
        let message = message(source, group, operation, resource, "null");
        assert_eq!(way(&message, None), expected, "{source} {group} {operation} {resource}");
    }
}

#[test]
fn an_answer_goes_to_who_asked() {
    let config = answer("edgecontroller", "resource", "response", "default/configmap/c");
    assert_eq!(way(&config, Some(Module::Metaserver)), Way::To(Module::Metaserver));
    assert_eq!(way(&config, None), Way::To(Module::Metamanager), "it came late, it is worth a row");
    let twin = answer("devicecontroller", "twin", "response", "twin");
    assert_eq!(way(&twin, Some(Module::Devicetwin)), Way::To(Module::Devicetwin));
    let app = answer("dynamiccontroller", "resource", "applicationResponse", "watchapp/sync");
    assert_eq!(way(&app, None), Way::To(Module::Metaserver));
    let user = answer("router_rest", "user", "response", "x");
    assert_eq!(way(&user, Some(Module::Servicebus)), Way::To(Module::Servicebus));
    assert_eq!(way(&user, None), Way::Stray);
}

#[test]
fn acknowledged_is_what_the_cloud_waits_for() {
    let cases = [
        ("edgecontroller", "resource", "update", "default/pod/p", "{}", true),
        ("edgecontroller", "resource", "response", "default/pod/p", "{}", false),
        ("edgecontroller", "resource", "delete", "default/pod/p", "{}", true),
        ("edgecontroller", "resource", "response", "default/configmap/c", "{}", true),
        ("edgecontroller", "resource", "response", "null/persistentvolume/p", "{}", true),
        ("edgecontroller", "resource", "update", "null/node/n", "{}", true),
        ("edgecontroller", "resource", "response", "null/node/n", "{}", false),
        ("edgecontroller", "resource", "response", "null/nodepatch/n", "{}", false),
        ("edgecontroller", "resource", "response", "kube-node-lease/lease/n", "{}", false),
        ("edgecontroller", "resource", "response", "default/podpatch/p", "{}", false),
        ("edgecontroller", "resource", "response", "a/serviceaccounttoken/s", "{}", false),
        ("edgecontroller", "resource", "response", "default/podstatus/p", "\"OK\"", false),
        ("cloudhub", "resource", "response", "k8s/ca.crt", "\"pem\"", false),
        ("devicecontroller", "twin", "update", "membership", "{}", false),
        ("devicecontroller", "twin", "response", "twin", "\"OK\"", false),
        ("devicecontroller", "resource", "insert", "d/device/x", "{}", true),
        ("dynamiccontroller", "resource", "insert", "d/configmap/x", "{}", true),
        ("dynamiccontroller", "resource", "applicationResponse", "i/A/i", "{}", false),
        ("policycontroller", "resource", "update", "d/serviceaccountaccess/x", "{}", true),
        ("router_eventbus", "user", "publish", "a/b", "{}", false),
        ("taskmanager", "taskmanager", "Check", "t", "{}", false),
        ("cloudhub", "resource", "createvolume", "d/volume/v", "\"{}\"", false),
    ];
    for (source, group, operation, resource, content, expected) in cases {
        let message = message(source, group, operation, resource, content);
        assert_eq!(wants_acknowledgement(&message), expected, "{source} {operation} {resource}");
    }
}
