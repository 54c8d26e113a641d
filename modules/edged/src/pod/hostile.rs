//! Pods with anything in the place of anything: whatever can be read of them, the pure parts of the
//! engine take it without breaking.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::spec::Pod;
use super::trial::take;

/// A pod with something of everything.
fn full() -> Value {
    let probe = json!({
        "exec": {"command": ["true"]}, "httpGet": {"path": "/", "port": "web", "host": "h", "scheme": "HTTP",
        "httpHeaders": [{"name": "A", "value": "b"}]}, "tcpSocket": {"port": 1}, "grpc": {"port": 2, "service": "s"},
        "initialDelaySeconds": 1, "timeoutSeconds": 1, "periodSeconds": 1, "successThreshold": 1,
        "failureThreshold": 3, "terminationGracePeriodSeconds": 5,
    });
    let container = json!({
        "name": "c", "image": "i", "command": ["$(A)"], "args": ["$(B)"], "workingDir": "/w",
        "ports": [{"name": "web", "hostPort": 1, "containerPort": 2, "protocol": "UDP", "hostIP": "x"}],
        "envFrom": [{"prefix": "P", "configMapRef": {"name": "m", "optional": true}}, {"secretRef": {"name": "s", "optional": true}}],
        "env": [{"name": "A", "value": "$(B)$(A)$$($("}, {"name": "B", "value": "$(A)"},
            {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}},
            {"name": "R", "valueFrom": {"resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}}},
            {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k", "optional": true}}}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "64Mi"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x", "subPathExpr": "$(A)", "mountPropagation": "None"}],
        "livenessProbe": probe, "readinessProbe": probe, "startupProbe": probe,
        "lifecycle": {"postStart": {"sleep": {"seconds": 1}}, "preStop": {"exec": {"command": ["x"]}}},
        "securityContext": {"capabilities": {"add": ["A"], "drop": ["B"]}, "privileged": false, "runAsUser": 1,
            "runAsNonRoot": true, "seccompProfile": {"type": "Localhost", "localhostProfile": "x"}, "procMount": "Default"},
    });
    json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "b"}, "annotations": {"c": "d"},
            "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3},
        "spec": {
            "nodeName": "n", "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "activeDeadlineSeconds": 60,
            "dnsPolicy": "ClusterFirst", "dnsConfig": {"nameservers": ["x"], "searches": ["y"], "options": [{"name": "z", "value": "1"}]},
            "hostname": "h", "subdomain": "s", "hostAliases": [{"ip": "1", "hostnames": ["a"]}], "hostNetwork": false,
            "securityContext": {"runAsUser": 1, "fsGroup": 2, "supplementalGroups": [3], "sysctls": [{"name": "a", "value": "b"}]},
            "readinessGates": [{"conditionType": "g"}], "imagePullSecrets": [{"name": "s"}],
            "volumes": [
                {"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                {"name": "m", "configMap": {"name": "m", "optional": true, "defaultMode": 420, "items": [{"key": "k", "path": "f", "mode": 256}]}},
                {"name": "d", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}},
                    {"path": "r", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}}]}},
                {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}},
            ],
            "initContainers": [container], "containers": [container],
        },
        "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "podIPs": [{"ip": "1"}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "x"}],
            "containerStatuses": [{"containerID": "x://c1", "ready": true, "started": true}]},
    })
}

/// Names all places of a tree.
fn places(tree: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match tree {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{at}/{key}"), all);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                places(value, &format!("{at}/{index}"), all);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(Value::Null),
        1 => Just(json!([])),
        1 => Just(json!({})),
        1 => any::<bool>().prop_map(Value::from),
        2 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        2 => (-3_i64..70_000).prop_map(Value::from),
        8 => prop_oneof![
            Just("9223372036854775807"),
            Just("99999999Ei"),
            Just("-1"),
            Just("1e300"),
            Just("../../x"),
            Just("/"),
            Just("$(A)"),
            Just("$(A"),
            Just("$"),
            Just(""),
            Just("\0"),
            Just("requests.cpu"),
            Just("limits."),
            Just("metadata.labels['"),
            Just("2026-13-01T00:00:00Z"),
            Just("9999-12-31T23:59:59Z"),
            Just("Never"),
        ]
        .prop_map(Value::from),
        2 => ".{0,40}".prop_map(Value::from),
        1 => Just("x".repeat(1 << 12)).prop_map(Value::from),
    ]
}

#[test]
fn the_pod_with_something_of_everything_can_be_read() {
    take(&serde_json::from_value(full()).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn nothing_in_a_pod_breaks_the_engine(
        changes in prop::collection::vec((any::<prop::sample::Index>(), anything()), 1..5),
    ) {
        let mut pod = full();
        for (index, value) in changes {
            let mut all = Vec::new();
            places(&pod, "", &mut all);
            let place = index.get(&all).clone();
            if let Some(there) = pod.pointer_mut(&place) {
                *there = value;
            }
        }
        if let Ok(pod) = serde_json::from_value::<Pod>(pod) {
            take(&pod);
        }
    }
}
