//! Nodes: registration, status, leases.

use serde_json::{Value, json};

use super::super::cluster::fields;
use super::super::nodes::key;
use super::super::status::Status;
use super::super::{controllers, version_of};
use super::{Answer, Call, Request};

/// Registers a node under the name of the resource, whatever its body says.
pub(super) fn insert(call: &mut Call<'_>, request: Request) -> Answer {
    let Request { key, mut body } = request;
    adorn(call, &mut body, key.name());
    let created = call.cloud.cluster.create(call.now, body);
    Answer::envelope(created.and_then(|key| find(call, key.name())))
}

fn adorn(call: &Call<'_>, body: &mut Value, name: &str) {
    let node = fields(body);
    node.insert("kind".to_owned(), "Node".into());
    let meta = fields(node.entry("metadata").or_insert(Value::Null));
    meta.insert("name".to_owned(), name.into());
    let notes = fields(meta.entry("annotations").or_insert(Value::Null));
    notes.insert("cloudcore".to_owned(), call.cloud.settings.address.as_str().into());
    controllers::admit(&call.cloud.cluster, body);
}

fn find<'a>(call: &'a Call<'_>, name: &str) -> Result<&'a Value, Status> {
    call.cloud.cluster.get(&key(name)).ok_or_else(|| Status::not_found("node", name))
}

/// Merges labels and annotations.
pub(super) fn update(call: &mut Call<'_>, request: &Request) -> Option<Answer> {
    let merge = |node: &mut Value| {
        let meta = fields(&mut node["metadata"]);
        for part in ["labels", "annotations"] {
            let given = request.body["metadata"][part].as_object();
            let into = fields(meta.entry(part).or_insert(Value::Null));
            into.extend(
                given.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())),
            );
        }
    };
    call.cloud.cluster.modify(&request.key, merge).ok()?;
    Some(Answer::ok())
}

/// Registers a node in the way of old edges: a node that is there is as good as a new one.
pub(super) fn insert_status(call: &mut Call<'_>, request: Request) -> Answer {
    let Request { key, mut body } = request;
    adorn(call, &mut body, key.name());
    match call.cloud.cluster.create(call.now, body) {
        Err(status) if status.reason != "AlreadyExists" => {
            Answer { content: status.message.into(), version: 0 }
        }
        Ok(_) | Err(_) => Answer::ok(),
    }
}

/// Takes a node's status in the way of old edges; a failure is not answered.
pub(super) fn update_status(call: &mut Call<'_>, request: &Request) -> Option<Answer> {
    let status = request.body.get("Status").filter(|status| status.is_object())?;
    let edit = |node: &mut Value| node["status"] = status.clone();
    let node = call.cloud.cluster.modify(&request.key, edit).ok()?;
    Some(Answer { version: version_of(node), ..Answer::ok() })
}

/// Makes a lease.
pub(super) fn insert_lease(call: &mut Call<'_>, request: Request) -> Answer {
    let Request { key, mut body } = request;
    let lease = fields(&mut body);
    lease.insert("kind".to_owned(), "Lease".into());
    let meta = json!({"name": key.name(), "namespace": key.namespace()});
    let given = fields(lease.entry("metadata").or_insert(Value::Null));
    given.extend(meta.as_object().cloned().unwrap_or_default());
    let created = call.cloud.cluster.create(call.now, body);
    if created.is_ok() {
        call.cloud.renewed.insert(key.name().into(), call.now);
    }
    let cluster = &call.cloud.cluster;
    let found = created
        .and_then(|key| cluster.get(&key).ok_or_else(|| Status::not_found("lease", key.name())));
    Answer::envelope(found)
}

/// Renews a lease, if it is still the one that the node read.
pub(super) fn renew_lease(call: &mut Call<'_>, request: Request) -> Answer {
    let Request { key, body } = request;
    let cluster = &mut call.cloud.cluster;
    let read = version_of(&body);
    let result = match cluster.get(&key) {
        None => Err(Status::not_found("lease", key.name())),
        Some(lease) if read > 0 && read != version_of(lease) => {
            let why = "the object has been modified; please apply your changes to the latest \
                       version and try again";
            Err(Status::conflict("lease", key.name(), why))
        }
        Some(_) => {
            call.cloud.renewed.insert(key.name().into(), call.now);
            cluster.modify(&key, |lease| {
                lease["spec"] = body["spec"].clone();
                if let Some(owners) = body["metadata"].get("ownerReferences") {
                    lease["metadata"]["ownerReferences"] = owners.clone();
                }
            })
        }
    };
    Answer::envelope(result)
}
