//! What an API server fills into a pod that its author left out, and what it puts into a namespace.

use serde_json::{Value, json};

use super::cluster::fields;

/// Where a pod's containers find the token of their service account.
const TOKEN_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Fills in a pod's defaults, the volume of the service account's token among them.
pub(super) fn complete_pod(pod: &mut Value) {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mirror = pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some();
    let spec = &mut pod["spec"];
    fields(spec);
    let defaults = json!({
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "priority": 0,
        "enableServiceLinks": true,
        "preemptionPolicy": "PreemptLowerPriority",
    });
    fill(spec, &defaults);
    if !mirror {
        let tolerate = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        let tolerations =
            [tolerate("node.kubernetes.io/not-ready"), tolerate("node.kubernetes.io/unreachable")];
        let account = spec["serviceAccountName"].as_str().unwrap_or("default").to_owned();
        fill(
            spec,
            &json!({"serviceAccountName": account, "serviceAccount": account, "tolerations": tolerations}),
        );
    }
    for list in ["containers", "initContainers"] {
        for container in elements(spec, list) {
            complete_container(container);
        }
    }
    if !mirror && spec["automountServiceAccountToken"] != false {
        mount_token(spec, &token_volume_name(&name));
    }
    let class = quality(&pod["spec"]);
    let fresh = json!({"phase": "Pending", "qosClass": class});
    fill(&mut pod["status"], &fresh);
}

/// Adds the fields that are missing.
fn fill(into: &mut Value, defaults: &Value) {
    let into = fields(into);
    for (name, value) in defaults.as_object().into_iter().flatten() {
        into.entry(name).or_insert_with(|| value.clone());
    }
}

fn complete_container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let tag = image.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    let floating = !image.contains('@') && tag.is_none_or(|tag| tag == "latest");
    let policy = if floating { "Always" } else { "IfNotPresent" };
    let defaults = json!({
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": policy,
    });
    fill(container, &defaults);
    if let Some(limits) = container["resources"].get("limits").cloned() {
        fill(&mut container["resources"], &json!({ "requests": limits }));
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container.get(probe).is_some_and(Value::is_object) {
            let defaults = json!({"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1,
                "failureThreshold": 3});
            fill(&mut container[probe], &defaults);
        }
    }
    for port in elements(container, "ports") {
        fill(port, &json!({"protocol": "TCP"}));
    }
}

/// Names the token's volume after the pod, so that applying a pod again changes nothing.
fn token_volume_name(pod: &str) -> String {
    let hash = pod.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("kube-api-access-{:05x}", hash & 0xf_ffff)
}

fn mount_token(spec: &mut Value, volume: &str) {
    let source = json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}});
    let mount = json!({"name": volume, "readOnly": true, "mountPath": TOKEN_MOUNT});
    let mut mounted = false;
    for list in ["containers", "initContainers"] {
        for container in elements(spec, list) {
            let mounts = array(&mut container["volumeMounts"]);
            if mounts.iter().all(|mount| mount["mountPath"] != TOKEN_MOUNT) {
                mounts.push(mount.clone());
                mounted = true;
            }
        }
    }
    if mounted {
        array(&mut spec["volumes"]).push(source);
    }
}

fn elements<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn array(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value.as_array_mut() {
        Some(list) => list,
        None => unreachable!("it was made an array above"),
    }
}

/// Returns the pod's class of service. Simplified: requests that were filled in from limits are
/// equal to them, everything else that asks for anything can burst.
fn quality(spec: &Value) -> &'static str {
    let resources = || {
        let containers = spec["containers"].as_array().into_iter().flatten();
        containers.map(|container| &container["resources"])
    };
    let guaranteed = |one: &Value| {
        one["limits"].get("cpu").is_some()
            && one["limits"].get("memory").is_some()
            && one["limits"] == one["requests"]
    };
    if resources().all(|one| one.get("limits").is_none() && one.get("requests").is_none()) {
        "BestEffort"
    } else if resources().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Returns what a namespace has from its first day: the default service account and the cluster's
/// certificate authority.
#[must_use]
pub(super) fn namespace_objects(namespace: &str, ca_pem: &str) -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"ca.crt": ca_pem},
            "metadata": {"name": "kube-root-ca.crt", "namespace": namespace}}),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_completed_once() {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}});
        complete_pod(&mut pod);
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], TOKEN_MOUNT);
        assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
        let once = pod.clone();
        complete_pod(&mut pod);
        assert_eq!(pod, once);
    }

    #[test]
    fn a_pod_can_go_without_a_token() {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "a/b:1"}]}});
        complete_pod(&mut pod);
        assert!(pod["spec"].get("volumes").is_none());
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
    }
}
