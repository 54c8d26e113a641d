//! Pods with all of their metadata and specification, byte for byte as the cloud or a manifest gave
//! them, and their status now.
//!
//! The engine keeps of a pod only what it acts on. So what is shown is read when it is asked for, a
//! pod at a time.

use hyper::Response;
use hyper::header::{HeaderValue, WARNING};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::reply::{self, Body, without_nulls};
use crate::pod::spec::{Container, Pod, Port};
use crate::pods::Shown;
use crate::statics::MIRROR;
use crate::store::Store;

/// A pod as it came.
#[derive(Deserialize)]
struct Came<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
    #[serde(borrow)]
    spec: &'a RawValue,
    status: Option<Class>,
}

/// What the cloud finds out about a pod's resources.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Class {
    qos_class: Option<String>,
}

/// Which pod it is.
#[derive(Deserialize)]
struct Identity {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    annotations: Option<crate::pod::spec::Texts>,
}

/// A pod as it is shown.
#[derive(Serialize)]
struct Whole<'a> {
    metadata: &'a RawValue,
    spec: &'a RawValue,
    status: Value,
}

/// Lists pods. A pod that the store does not have, because it is ending, say, is shown as far as it
/// is known; all are, with a warning in the head of the answer, while the store does not answer.
pub(super) async fn list(store: &Store, pods: &[Shown]) -> Response<Body> {
    let mut list = r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":["#.to_owned();
    let mut answers = true;
    for (index, pod) in pods.iter().enumerate() {
        let metadata = &pod.pod.metadata;
        let row =
            if answers { store.pod(&metadata.namespace, &metadata.name).await } else { Ok(None) };
        answers &= row.is_ok();
        let row = row.ok().flatten();
        let row = row.as_ref().and_then(|row| serde_json::from_slice(row.raw()).ok());
        if index > 0 {
            list.push(',');
        }
        list.push_str(&written(pod, row.as_ref()));
    }
    list.push_str("]}");
    let mut reply = reply::written(list);
    if !answers {
        let text = r#"299 - "the store does not answer: of pods only what is acted on is shown""#;
        reply.headers_mut().insert(WARNING, HeaderValue::from_static(text));
    }
    reply
}

/// Writes a pod, of whose name the store has a row or none.
fn written(shown: &Shown, row: Option<&Came<'_>>) -> String {
    let identity = |row: &Came<'_>| serde_json::from_str::<Identity>(row.metadata.get()).ok();
    let identity = row.and_then(identity);
    let is_row = identity.as_ref().is_some_and(|it| it.uid == shown.pod.metadata.uid);
    let is_mirror = identity.and_then(|it| it.annotations?.remove(MIRROR)).is_some();
    let own = shown.object.as_deref().and_then(|object| serde_json::from_str(object).ok());
    let Some(came) = own.as_ref().or(row.filter(|_| is_row)) else {
        return show(shown).to_string();
    };
    let mut status = shown.status();
    let class = row
        .filter(|_| is_row || is_mirror)
        .and_then(|row| row.status.as_ref()?.qos_class.as_deref());
    if let Some(class) = class {
        status["qosClass"] = class.into();
    }
    let whole = Whole { metadata: came.metadata, spec: came.spec, status };
    serde_json::to_string(&whole).expect("texts and JSON can be written")
}

/// Shows a pod that nobody has as it came: of its metadata and specification what is acted on here,
/// and its status.
fn show(shown: &Shown) -> Value {
    let Pod { metadata, spec, .. } = &*shown.pod;
    let container = |it: &Container| {
        let port = |it: &Port| {
            without_nulls(json!({
                "name": Some(&it.name).filter(|name| !name.is_empty()),
                "containerPort": it.container_port,
                "hostPort": Some(it.host_port).filter(|port| *port != 0),
                "protocol": Some(&it.protocol).filter(|name| !name.is_empty()),
            }))
        };
        let ports: Vec<_> = it.ports.iter().map(port).collect();
        let sidecar = it.is_sidecar().then_some("Always");
        without_nulls(json!({
            "name": it.name, "image": it.image, "ports": ports, "restartPolicy": sidecar,
        }))
    };
    let containers = |list: &[Container]| list.iter().map(container).collect::<Vec<_>>();
    json!({
        "metadata": without_nulls(json!({
            "name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid,
            "labels": metadata.labels, "annotations": metadata.annotations,
            "creationTimestamp": metadata.creation_timestamp,
            "deletionTimestamp": metadata.deletion_timestamp,
            "deletionGracePeriodSeconds": metadata.deletion_grace_period_seconds,
        })),
        "spec": {
            "nodeName": spec.node_name,
            "hostNetwork": spec.host_network,
            "initContainers": containers(&spec.init_containers),
            "containers": containers(&spec.containers),
        },
        "status": shown.status(),
    })
}
