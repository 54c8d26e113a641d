//! Pods: mirror pods, their end, and statuses in the way of old edges.

use ipc_proto::{Group, Operation, Route, Source};
use serde_json::{Value, json};

use super::super::cluster::{fields, uid_of};
use super::super::key::Key;
use super::super::status::Status;
use super::super::{controllers, defaults, downstream::Notice};
use super::{Answer, Call, Request};

/// Makes the mirror of a static pod.
pub(super) fn insert(call: &mut Call<'_>, request: Request) -> Answer {
    let Request { key, mut body } = request;
    let pod = fields(&mut body);
    pod.insert("kind".to_owned(), "Pod".into());
    let meta = fields(pod.entry("metadata").or_insert(Value::Null));
    meta.insert("name".to_owned(), key.name().into());
    meta.insert("namespace".to_owned(), key.namespace().into());
    defaults::complete_pod(&mut body);
    let cluster = &mut call.cloud.cluster;
    let created = cluster.create(call.now, body);
    let found = created
        .and_then(|key| cluster.get(&key).ok_or_else(|| Status::not_found("pod", key.name())));
    Answer::versioned(found)
}

/// Takes a pod away that its node has ended. One that is gone, or is another one, is no failure.
pub(super) fn delete(call: &mut Call<'_>, request: &Request) -> Answer {
    let Request { key, body } = request;
    // Old edges send the uid alone.
    let (uid, grace) = match body.as_str() {
        Some(uid) => (Some(uid), Some(0)),
        None => (body["preconditions"]["uid"].as_str(), body["gracePeriodSeconds"].as_u64()),
    };
    let cluster = &mut call.cloud.cluster;
    let Some(pod) = cluster.get(key) else { return Answer::ok() };
    if uid.is_some_and(|uid| uid != uid_of(pod)) {
        return Answer::ok();
    }
    let result = if grace == Some(0) {
        // The watchers of the real API server see both steps.
        let ending = controllers::terminate(cluster, call.now, key, 0);
        ending.and_then(|()| cluster.remove(key))
    } else {
        controllers::delete(cluster, call.now, key, false)
    };
    match result {
        Ok(()) => Answer::ok(),
        Err(status) => Answer { content: status.to_value(), version: 0 },
    }
}

/// Takes one status, or an array of them, in the way of old edges.
pub(super) fn statuses(
    call: &mut Call<'_>,
    namespace: &str,
    name: Option<&str>,
    body: &Value,
) -> Option<Answer> {
    let reports = match (name, body.as_array()) {
        (None, Some(reports)) => reports.as_slice(),
        (Some(_), None) => std::slice::from_ref(body),
        _ => return None,
    };
    for report in reports {
        let name = name.or_else(|| report["Name"].as_str());
        let key = Key::parse(&format!("{namespace}/pod/{}", name.unwrap_or_default())).ok()?;
        status(call, &key, report);
    }
    Some(Answer::ok())
}

/// Stores a status. A pod that the cluster does not know is to go from the node.
fn status(call: &mut Call<'_>, key: &Key, report: &Value) {
    let uid = report["UID"].as_str().unwrap_or_default();
    let cluster = &mut call.cloud.cluster;
    if cluster.get(key).is_some_and(|pod| uid_of(pod) == uid) {
        let edit = |pod: &mut Value| {
            if report["Status"].is_object() {
                pod["status"] = report["Status"].clone();
            }
        };
        cluster.modify(key, edit).ok();
        return;
    }
    let route = Route {
        source: Source::Edgecontroller,
        group: Group::Resource,
        operation: Operation::Delete,
        resource: key.resource(),
    };
    let content =
        json!({"metadata": {"name": key.name(), "namespace": key.namespace(), "uid": uid}});
    let notice = Notice { node: call.node.to_owned(), route, version: 0, content };
    call.cloud.deliver(call.now, notice, call.out);
}
