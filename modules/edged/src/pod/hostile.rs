//! Pods with anything in the place of anything: whatever can be read of them, the pure parts of the
//! engine take it without breaking.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Health, Ledger, Sick, plan};
use super::seen::{Contained, Sandbox, Seen, State};
use super::spec::Pod;
use super::{make, names, unsupported};
use crate::env::{self, Facts, Found, services};
use crate::status::{self, Situation};
use crate::volumes::payload;

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

/// What there is of the pod.
fn seen(state: State) -> Seen {
    let contained = |id: &str, exit_code: i32| Contained {
        id: id.to_owned(),
        sandbox: "s".to_owned(),
        name: "c".to_owned(),
        state,
        exit_code,
        restarts: u32::MAX,
        started: i64::MAX,
        finished: i64::MIN,
        ..Contained::default()
    };
    let ips = vec!["10.0.0.1".to_owned()];
    let sandbox = Sandbox { id: "s".to_owned(), attempt: u32::MAX, ready: true, ips };
    Seen { sandboxes: vec![sandbox], containers: vec![contained("c1", 1), contained("c0", 0)] }
}

/// Does with a pod all that is done without a runtime and a disk.
fn take(pod: &Pod) {
    let facts = Facts { memory: 1 << 30, cpu: 1000, ..Facts::default() };
    let settings = make::Settings { root: Some(Path::new("/r")), memory: 1, ..Default::default() };
    let tokens = [((String::new(), 3600), "t".to_owned())].into();
    let _refused = unsupported(pod);
    let _sandbox = make::sandbox(pod, &settings, 1, "now");
    let _hosts = make::hosts_file(pod, &facts.pod_ips, "cluster.local", "");
    let links = services::links(pod, &[], None);
    for container in pod.spec.all_containers() {
        let made = env::variables(pod, container, &facts, &Found::new(), &links);
        let variables = made.unwrap_or_default();
        let parts = make::Parts { variables, ..make::Parts::default() };
        let _made = make::container(pod, container, &settings, parts);
        let _user = make::check_user(pod, container, &Default::default());
        assert!(names::hash(container) == names::hash(container));
    }
    for volume in &pod.spec.volumes {
        for path in payload::files(pod, volume, &facts, &Found::new(), &tokens)
            .into_iter()
            .flatten()
            .flatten()
        {
            assert!(
                !path.0.starts_with('/') && !path.0.split('/').any(|part| part == ".."),
                "{}",
                path.0
            );
        }
    }
    for state in [State::Created, State::Running, State::Exited, State::Unknown] {
        let (seen, mut ledger) = (seen(state), Ledger::default());
        let sick = Some(Sick { probe: "liveness", grace: Some(i64::MIN) });
        ledger.health.insert("c1".to_owned(), Health { started: true, ready: true, sick });
        for end in [None, Some(0), Some(i64::MAX)] {
            let plan = plan(pod, &seen, &ledger, end, 1_795_407_792_000);
            let situation = Situation {
                pod,
                uid: &pod.metadata.uid,
                held: false,
                seen: &seen,
                ledger: &ledger,
                stage: plan.stage,
                verdict: None,
                runtime: "x",
                host_ips: &["192.0.2.1".to_owned()],
                start: 0,
                now: 1_795_407_792_000,
            };
            let mut transitions = status::transitions(pod);
            let _patch = status::patch(&situation, &mut transitions);
        }
    }
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
