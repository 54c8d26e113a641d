//! Which change of a pod is news.

use serde_json::{Value, json};

use super::Pod;

fn pod(object: &Value) -> Pod {
    serde_json::from_value(object.clone()).unwrap()
}

#[test]
fn what_the_node_itself_reported_is_no_news() {
    let base = json!({
        "metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Pending"},
    });
    let gated = json!({"readinessGates": [{"conditionType": "g"}]});
    let condition = json!([{"type": "g", "status": "True"}]);
    for (path, value, same) in [
        ("/status", json!({"phase": "Running", "podIPs": [{"ip": "192.0.2.1"}]}), true),
        ("/status", json!({"phase": "Pending", "conditions": condition}), true),
        ("/status/phase", json!("Failed"), false),
        ("/metadata/labels/a", json!("c"), false),
        ("/metadata", json!({"name": "p", "deletionTimestamp": "2026-11-23T00:00:00Z"}), false),
        ("/spec/containers/0/image", json!("j"), false),
    ] {
        let mut other = base.clone();
        *other.pointer_mut(path).unwrap() = value;
        assert_eq!(pod(&base).wants_same(&pod(&other)), same, "{path}");
    }
    let (mut before, mut after) = (base.clone(), base);
    before["spec"] = gated.clone();
    after["spec"] = gated;
    assert!(pod(&before).wants_same(&pod(&after)));
    after["status"]["conditions"] = condition;
    assert!(!pod(&before).wants_same(&pod(&after)), "readiness waits for it");
}
