//! What nodes are told of changes in the cluster (WIRE.md §§6.4, 7.4).

use ipc_proto::{Group, Kind, Operation, Resource, Route, Scope, Source};
use serde_json::{Value, json};

use super::cluster::{Change, ChangeKind, Cluster, uid_of, version_of};
use super::key::Key;
use super::nodes::{self, EDGE_LABEL};

/// A message for a node that has no id yet.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    /// The node.
    pub node: String,
    /// Who says what about what.
    pub route: Route,
    /// The version of the object carried; 0 when it carries none.
    pub version: u64,
    /// The body.
    pub content: Value,
}

/// Returns what a change means for the nodes, in order.
#[must_use]
pub(super) fn notices(cluster: &Cluster, change: &Change) -> Vec<Notice> {
    match change.key.kind() {
        "pod" => about_pod(cluster, change),
        "node" => about_node(change),
        "configmap" | "secret" => about_config(cluster, change),
        "device" => about_device(cluster, change),
        "devicemodel" => about_model(cluster, change),
        "rule" => super::router::about_rule(cluster, change),
        "serviceaccountaccess" => about_access(change),
        _ => Vec::new(),
    }
}

/// Makes a notice of an object as it is.
pub(super) fn object(
    node: &str,
    source: Source,
    operation: Operation,
    key: &Key,
    object: &Value,
) -> Notice {
    let route = Route { source, group: Group::Resource, operation, resource: key.resource() };
    Notice { node: node.to_owned(), route, version: version_of(object), content: object.clone() }
}

pub(super) const fn operation(kind: ChangeKind) -> Operation {
    match kind {
        ChangeKind::Added => Operation::Insert,
        ChangeKind::Modified => Operation::Update,
        ChangeKind::Removed => Operation::Delete,
    }
}

fn is_edge(cluster: &Cluster, node: &str) -> bool {
    let node = cluster.get(&nodes::key(node));
    node.is_some_and(|node| node["metadata"]["labels"].get(EDGE_LABEL).is_some())
}

fn about_pod(cluster: &Cluster, change: &Change) -> Vec<Notice> {
    let Some(node) = change.object["spec"]["nodeName"].as_str() else { return Vec::new() };
    if !is_edge(cluster, node) {
        return Vec::new();
    }
    let ends = change.object["metadata"].get("deletionTimestamp").is_some();
    let ending = ends && change.kind == ChangeKind::Added;
    let operation = if ending { Operation::Update } else { operation(change.kind) };
    vec![object(node, Source::Edgecontroller, operation, &change.key, &change.object)]
}

/// A new node is not told of itself.
fn about_node(change: &Change) -> Vec<Notice> {
    let edge = change.object["metadata"]["labels"].get(EDGE_LABEL).is_some();
    if !edge || change.kind == ChangeKind::Added {
        return Vec::new();
    }
    let operation = operation(change.kind);
    vec![object(change.key.name(), Source::Edgecontroller, operation, &change.key, &change.object)]
}

/// Configmaps and secrets go to the nodes whose pods use them.
fn about_config(cluster: &Cluster, change: &Change) -> Vec<Notice> {
    let secret = change.key.kind() == "secret";
    let new = secret && change.kind == ChangeKind::Added;
    let operation = if new { Operation::Update } else { operation(change.kind) };
    let users = cluster.of_kind("pod").filter(|(key, pod)| {
        key.namespace() == change.key.namespace() && uses(pod, secret, change.key.name())
    });
    let mut nodes: Vec<_> = users.filter_map(|(_, pod)| pod["spec"]["nodeName"].as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.retain(|node| is_edge(cluster, node));
    let notice = |node: &str| {
        let source = Source::Edgecontroller;
        object(node, source, operation.clone(), &change.key, &change.object)
    };
    nodes.into_iter().map(notice).collect()
}

/// Tells whether a pod uses a secret or a configmap. Init containers are not looked at: KubeEdge
/// does not either (WIRE.md §13, C11).
fn uses(pod: &Value, secret: bool, name: &str) -> bool {
    let spec = &pod["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let volume = |volume: &Value| {
        if secret {
            volume["secret"]["secretName"] == name || volume["secret"]["name"] == name
        } else {
            volume["configMap"]["name"] == name
        }
    };
    let (env, from) =
        if secret { ("secretKeyRef", "secretRef") } else { ("configMapKeyRef", "configMapRef") };
    let in_volumes = list(&spec["volumes"])
        .iter()
        .any(|it| volume(it) || list(&it["projected"]["sources"]).iter().any(volume));
    let in_containers = list(&spec["containers"]).iter().any(|container| {
        list(&container["env"]).iter().any(|it| it["valueFrom"][env]["name"] == name)
            || list(&container["envFrom"]).iter().any(|it| it[from]["name"] == name)
    });
    let pulls = secret && list(&spec["imagePullSecrets"]).iter().any(|it| it["name"] == name);
    in_volumes || in_containers || pulls
}

fn model_key(device: &Value, namespace: &str) -> Key {
    let model = device["spec"]["deviceModelRef"]["name"].as_str().unwrap_or_default();
    Key::new("devicemodel", namespace, model)
}

/// Devices of a node that use the same model as the device `key`.
fn siblings(cluster: &Cluster, key: &Key, device: &Value, node: &str) -> usize {
    let model = model_key(device, key.namespace());
    let others = cluster.of_kind("device").filter(|(other, it)| {
        *other != key && it["spec"]["nodeName"] == node && model_key(it, other.namespace()) == model
    });
    others.count()
}

/// A new device brings the node's membership and its model along; a device that goes takes along
/// the model that no other device of the node uses.
fn about_device(cluster: &Cluster, change: &Change) -> Vec<Notice> {
    let device = &change.object;
    let Some(node) = device["spec"]["nodeName"].as_str() else { return Vec::new() };
    let say = |operation, key: &Key, object_: &Value| {
        object(node, Source::Devicecontroller, operation, key, object_)
    };
    let mut notices = Vec::new();
    if change.kind != ChangeKind::Modified {
        notices.push(membership(node, change));
    }
    let model_key = model_key(device, change.key.namespace());
    let alone = siblings(cluster, &change.key, device, node) == 0;
    if let Some(model) = cluster.get(&model_key)
        && (alone || change.kind == ChangeKind::Modified)
    {
        notices.push(say(operation(change.kind), &model_key, model));
    }
    notices.push(say(operation(change.kind), &change.key, device));
    notices
}

fn membership(node: &str, change: &Change) -> Notice {
    let (namespace, name) = (change.key.namespace(), change.key.name());
    let devices = json!([{"id": format!("{namespace}/{name}"), "name": name}]);
    let (added, removed) = match change.kind {
        ChangeKind::Removed => (Value::Null, devices),
        ChangeKind::Added | ChangeKind::Modified => (devices, Value::Null),
    };
    let route = Route {
        source: Source::Devicecontroller,
        group: Group::Twin,
        operation: Operation::Update,
        resource: Resource::Membership,
    };
    // The sender fills in `event_id` and `timestamp`.
    let content = json!({"added_devices": added, "removed_devices": removed});
    Notice { node: node.to_owned(), route, version: 0, content }
}

/// A model alone is of interest only where a device uses it; a new one reaches its devices' nodes
/// when it comes after them.
fn about_model(cluster: &Cluster, change: &Change) -> Vec<Notice> {
    let users = cluster
        .of_kind("device")
        .filter(|(key, device)| model_key(device, key.namespace()) == change.key);
    let mut nodes: Vec<_> =
        users.filter_map(|(_, device)| device["spec"]["nodeName"].as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let notice = |node: &str| {
        let operation = operation(change.kind);
        object(node, Source::Devicecontroller, operation, &change.key, &change.object)
    };
    nodes.into_iter().map(notice).collect()
}

fn about_access(change: &Change) -> Vec<Notice> {
    let nodes = change.object["status"]["nodeList"].as_array().into_iter().flatten();
    let notice = |node: &str| {
        let operation = operation(change.kind);
        object(node, Source::Policycontroller, operation, &change.key, &change.object)
    };
    nodes.filter_map(Value::as_str).map(notice).collect()
}

/// Returns what the sync controller says of an object whose ObjectSync on a node names `uid` and
/// `version`: its deletion when it is gone or another one, its state when it is newer.
#[must_use]
pub(super) fn resync(
    cluster: &Cluster,
    node: &str,
    (resource, uid, version): (&Resource, &str, u64),
) -> Option<Notice> {
    let Resource::Object { scope, kind, name: Some(name) } = resource else { return None };
    let key = Key::new(kind.as_str(), scope.as_str(), name);
    let source = Source::Edgecontroller;
    match cluster.get(&key).filter(|object| uid_of(object) == uid) {
        Some(current) if version_of(current) > version => {
            let mut notice = object(node, source, Operation::Update, &key, current);
            if matches!(kind, Kind::Device | Kind::DeviceModel) {
                // As recorded: custom resources come without their type from here.
                super::untype(&mut notice.content);
            }
            Some(notice)
        }
        Some(_) => None,
        None => {
            let mut meta = json!({"name": name, "uid": uid});
            if let Scope::Namespace(namespace) = scope {
                meta["namespace"] = (**namespace).into();
            }
            let content = json!({ "metadata": meta });
            Some(object(node, source, Operation::Delete, &key, &content))
        }
    }
}
