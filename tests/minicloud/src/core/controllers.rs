//! What the cluster's controllers do: admission, scheduling, the life of nodes and devices, the end
//! of pods.

use serde_json::{Value, json};

use super::cluster::{Change, ChangeKind, Cluster, uid_of};
use super::defaults;
use super::key::Key;
use super::nodes::{self, NOT_READY};
use super::status::Status;
use crate::time::Time;

/// Completes an object before it is stored. A pod that is applied again stays on its node, and in
/// its status unless another one is given.
pub(super) fn admit(cluster: &Cluster, object: &mut Value) {
    let Ok(key) = Key::of(object) else { return };
    match key.kind() {
        "pod" => {
            let known = cluster.get(&key);
            let given = object.get("status").or_else(|| known?.get("status")).cloned();
            if let Some(status) = given {
                object["status"] = status;
            }
            defaults::complete_pod(object);
            if let Some(node) =
                known.map(|pod| &pod["spec"]["nodeName"]).filter(|it| it.is_string())
            {
                object["spec"]["nodeName"] = node.clone();
            }
        }
        "secret" => encode_strings(object),
        "node" => taint(object),
        "device" => {
            super::fields(object).entry("status").or_insert_with(|| json!({}));
        }
        _ => {}
    }
}

/// Moves `stringData` of a secret into `data`.
fn encode_strings(secret: &mut Value) {
    let plain = super::fields(secret).remove("stringData");
    let data = super::fields(super::fields(secret).entry("data").or_insert(Value::Null));
    for (name, value) in plain.iter().filter_map(Value::as_object).flatten() {
        let text = value.as_str().unwrap_or_default();
        data.insert(name.clone(), data_encoding::BASE64.encode(text.as_bytes()).into());
    }
    super::fields(secret).entry("type").or_insert_with(|| "Opaque".into());
}

/// Marks a node that does not say that it is ready.
fn taint(node: &mut Value) {
    if nodes::says_ready(node) {
        return;
    }
    let spec = super::fields(super::fields(node).entry("spec").or_insert(Value::Null));
    let taints = spec.entry("taints").or_insert_with(|| json!([]));
    if let Some(taints) = taints.as_array_mut()
        && taints.iter().all(|taint| taint["key"] != NOT_READY)
    {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}

/// Reacts to a change with further ones.
pub(super) fn react(cluster: &mut Cluster, now: Time, change: &Change, ca_pem: &str) {
    let alive = change.kind != ChangeKind::Removed;
    match change.key.kind() {
        "pod" if alive => schedule(cluster, now, &change.key),
        "node" if alive => tend_node(cluster, now, change),
        "node" => collect_node(cluster, &change.key),
        "device" => tend_device(cluster, now, change),
        _ => {}
    }
    if alive && change.key.namespace() != "null" {
        furnish(cluster, now, change.key.namespace(), ca_pem);
    }
}

/// Gives a namespace what every namespace has.
fn furnish(cluster: &mut Cluster, now: Time, namespace: &str, ca_pem: &str) {
    if cluster.get(&Key::new("serviceaccount", namespace, "default")).is_none() {
        for object in defaults::namespace_objects(namespace, ca_pem) {
            // It may be there already, from a manifest; a full cluster goes without.
            cluster.create(now, object).ok();
        }
    }
}

fn schedule(cluster: &mut Cluster, now: Time, key: &Key) {
    let Some(pod) = cluster.get(key) else { return };
    let bound = pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    if bound || pod["metadata"].get("deletionTimestamp").is_some() {
        return;
    }
    let Some(node) = nodes::place(cluster, pod) else { return };
    let scheduled = json!([{"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": now.text()}]);
    let bind = |pod: &mut Value| {
        super::fields(&mut pod["spec"]).insert("nodeName".to_owned(), node.into());
        super::fields(&mut pod["status"]).insert("conditions".to_owned(), scheduled);
    };
    cluster.modify(key, bind).ok();
}

/// Frees a node that became ready, and lets pods that wait for one go there.
fn tend_node(cluster: &mut Cluster, now: Time, change: &Change) {
    let ttl = |node: &mut Value| {
        let meta = super::fields(&mut node["metadata"]);
        let notes = super::fields(meta.entry("annotations").or_insert(Value::Null));
        notes.entry("node.alpha.kubernetes.io/ttl").or_insert_with(|| "0".into());
    };
    if change.kind == ChangeKind::Added {
        cluster.modify(&change.key, ttl).ok();
        return;
    }
    let Some(node) = cluster.get(&change.key).filter(|node| nodes::says_ready(node)) else {
        return;
    };
    let taints = node["spec"]["taints"].as_array();
    if taints.is_some_and(|taints| taints.iter().any(|it| it["key"] == NOT_READY)) {
        let free = |node: &mut Value| {
            let taints = node["spec"]["taints"].as_array_mut();
            let empty = taints.is_some_and(|taints| {
                taints.retain(|it| it["key"] != NOT_READY);
                taints.is_empty()
            });
            if empty {
                super::fields(&mut node["spec"]).remove("taints");
            }
        };
        cluster.modify(&change.key, free).ok();
    }
    let free = |pod: &Value| pod["spec"]["nodeName"].is_null();
    let waiting: Vec<_> =
        cluster.of_kind("pod").filter(|(_, pod)| free(pod)).map(|(key, _)| key.clone()).collect();
    for key in waiting {
        schedule(cluster, now, &key);
    }
}

/// What was a node's goes with it.
fn collect_node(cluster: &mut Cluster, key: &Key) {
    let name = key.name();
    let pods = cluster.of_kind("pod").filter(|(_, pod)| pod["spec"]["nodeName"] == name);
    let mut orphans: Vec<_> = pods.map(|(key, _)| key.clone()).collect();
    orphans.push(nodes::lease_key(name));
    for orphan in orphans {
        cluster.remove(&orphan).ok();
    }
}

/// A device has a DeviceStatus as long as it lives.
fn tend_device(cluster: &mut Cluster, now: Time, change: &Change) {
    let key = Key::new("devicestatus", change.key.namespace(), change.key.name());
    match change.kind {
        ChangeKind::Added => {
            let owner = json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
                "name": change.key.name(), "uid": uid_of(&change.object), "controller": true,
                "blockOwnerDeletion": true});
            let status = json!({"kind": "DeviceStatus", "spec": {}, "status": {},
                "metadata": {"name": change.key.name(), "namespace": change.key.namespace(),
                    "ownerReferences": [owner]}});
            cluster.create(now, status).ok();
        }
        ChangeKind::Modified => {}
        ChangeKind::Removed => {
            cluster.remove(&key).ok();
        }
    }
}

/// Deletes an object. A pod on a node that stands gets its grace: the node is told, ends it, and
/// deletes it itself.
///
/// # Errors
/// When there is no such object.
pub(super) fn delete(
    cluster: &mut Cluster,
    now: Time,
    key: &Key,
    force: bool,
) -> Result<(), Status> {
    let object = cluster.get(key).ok_or_else(|| Status::not_found(key.kind(), key.name()))?;
    let node = object["spec"]["nodeName"].as_str().unwrap_or_default();
    let on_node = key.kind() == "pod" && cluster.get(&nodes::key(node)).is_some();
    if !on_node || force {
        return cluster.remove(key);
    }
    let grace = object["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
    if object["metadata"].get("deletionTimestamp").is_none() {
        terminate(cluster, now, key, grace)?;
    }
    Ok(())
}

/// Gives a pod its time to end.
///
/// # Errors
/// When there is no such object.
pub(super) fn terminate(
    cluster: &mut Cluster,
    now: Time,
    key: &Key,
    grace: u64,
) -> Result<(), Status> {
    let end = now.after(std::time::Duration::from_secs(grace)).text();
    cluster.modify(key, |pod| {
        let meta = super::fields(&mut pod["metadata"]);
        meta.insert("deletionTimestamp".to_owned(), end.into());
        meta.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    })?;
    Ok(())
}
