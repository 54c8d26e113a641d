//! Applications: metaserver's requests to the cluster's API (WIRE.md §5.8). Answered are get, list,
//! create, update, patch and delete of the kinds that the cluster knows; watches become listeners.

use data_encoding::BASE64;
use ipc_proto::{Group, Operation, Resource, Route, Source};
use serde_json::{Value, json};

use super::super::cluster::{fields, version_of};
use super::super::key::Key;
use super::super::kinds::{self, KindNames};
use super::super::listeners::Listener;
use super::super::status::Status;
use super::super::{Cloud, controllers, merge};
use super::{Answer, Call};

/// Takes a message of metaserver.
pub(super) fn receive(call: &mut Call<'_>) {
    let asked = &call.message.route.resource;
    let (resource, content) = if asked.to_string() == "watchapp/sync" {
        let Ok(Value::Object(wanted)) = call.message.content.decode::<Value>() else { return };
        (asked.clone(), watch_all(call, &wanted))
    } else {
        let application = call.message.content.decode::<Value>().ok();
        let Some(application) = application.filter(Value::is_object) else { return };
        (Resource::Text("ignore/Application/ignore".into()), answer(call, application))
    };
    let (source, group) = (Source::Dynamiccontroller, Group::Resource);
    let route = Route { source, group, operation: Operation::ApplicationResponse, resource };
    call.reply(route, &Answer { content, version: 0 });
}

/// Makes the node's listeners those of a map; returns those that there cannot be.
fn watch_all(call: &mut Call<'_>, wanted: &serde_json::Map<String, Value>) -> Value {
    call.cloud.listeners.retain(call.node, |id| wanted.contains_key(id));
    let mut failed = serde_json::Map::new();
    for (id, application) in wanted {
        if let Err(status) = watch(call, application) {
            let mut application = application.clone();
            let fields = fields(&mut application);
            fields.insert("Reason".to_owned(), status.message.into());
            fields.insert("Status".to_owned(), "Rejected".into());
            failed.insert(id.clone(), application);
        }
    }
    Value::Object(failed)
}

/// Registers a listener, and sends what there is.
fn watch(call: &mut Call<'_>, application: &Value) -> Result<(), Status> {
    let key = application["Key"].as_str().unwrap_or_default();
    let unknown = || Status::bad_request(&format!("key {key:?} names no known resource"));
    let Target { names, namespace, .. } = target(key).ok_or_else(unknown)?;
    let id = application["ID"].as_str().unwrap_or_default();
    let listener = Listener::new(names, &namespace);
    let Cloud { cluster, listeners, .. } = &mut *call.cloud;
    for notice in listeners.add(cluster, call.node, id, listener) {
        call.cloud.deliver(call.now, notice, call.out);
    }
    Ok(())
}

fn answer(call: &mut Call<'_>, mut application: Value) -> Value {
    let key = application["Key"].as_str().unwrap_or_default();
    let result = match (passed(key), &application["Verb"]) {
        (Some(body), verb) if verb == "get" => Ok(body),
        _ => perform(call, &application).map(|object| object.to_string().into_bytes()),
    };
    let fields = fields(&mut application);
    fields.insert("Timestamp".to_owned(), call.now.text().into());
    match result {
        Ok(body) => {
            fields.insert("RespBody".to_owned(), BASE64.encode(&body).into());
            fields.insert("Status".to_owned(), "Approved".into());
        }
        Err(status) => {
            fields.insert("Error".to_owned(), status.to_value());
            fields.insert("Reason".to_owned(), status.message.into());
            fields.insert("Status".to_owned(), "Rejected".into());
        }
    }
    application
}

/// Returns what the cluster answers to questions of discovery: in protobuf, which CloudCore's client
/// asks for, but for what there is as JSON alone.
fn passed(key: &str) -> Option<Vec<u8>> {
    let recorded = match key {
        "/version" => return Some(br#"{"major":"1","minor":"36","gitVersion":"v1.36.2"}"#.into()),
        "/api" => {
            "azhzAAoPCgASC0FQSVZlcnNpb25zEiIKAnYxEhwKCTAuMC4wLjAvMBIPMTkyLjAuMi4yOjE2NDQzGgAiAA=="
        }
        "/apis/apps" => {
            "azhzAAoOCgJ2MRIIQVBJR3JvdXASJAoEYXBwcxINCgdhcHBzL3YxEgJ2MRoNCgdhcHBzL3YxEgJ2MRoAIgA="
        }
        _ => return None,
    };
    Some(BASE64.decode(recorded.as_bytes()).expect("it is as it was recorded"))
}

/// What an application's key names.
struct Target {
    names: &'static KindNames,
    namespace: String,
    name: Option<String>,
}

/// Reads `/<group or core>/<version>/<plural>/<namespace or null>/<name or null>`.
fn target(key: &str) -> Option<Target> {
    let parts: Vec<_> = key.strip_prefix('/')?.split('/').collect();
    let [group, _version, plural, namespace, name] = parts.as_slice() else { return None };
    let names = kinds::by_plural(if *group == "core" { "" } else { group }, plural)?;
    let name = (*name != "null").then(|| (*name).to_owned());
    Some(Target { names, namespace: (*namespace).to_owned(), name })
}

fn decoded(application: &Value, field: &str) -> Option<Value> {
    let text = application[field].as_str()?;
    serde_json::from_slice(&BASE64.decode(text.as_bytes()).ok()?).ok()
}

fn perform(call: &mut Call<'_>, application: &Value) -> Result<Value, Status> {
    let key = application["Key"].as_str().unwrap_or_default();
    let unknown = || Status::bad_request(&format!("key {key:?} names no known resource"));
    let Target { names, namespace, name } = target(key).ok_or_else(unknown)?;
    let verb = application["Verb"].as_str().unwrap_or_default();
    if verb == "watch" {
        return watch(call, application).map(|()| Value::Null);
    }
    let cluster = &mut call.cloud.cluster;
    let Some(name) = name else {
        return match verb {
            "list" => Ok(list(call, names, &namespace)),
            "create" => create(call, application, names, &namespace),
            _ => Err(Status::bad_request(&format!("verb {verb:?} needs a name"))),
        };
    };
    let key = Key::new(names.word, &namespace, &name);
    let found = cluster.get(&key).cloned();
    let current = found.ok_or_else(|| Status::not_found(names.word, &name));
    match verb {
        "get" => current,
        "create" => create(call, application, names, &namespace),
        "update" | "updatestatus" => {
            current?;
            let body = decoded(application, "ReqBody").filter(Value::is_object);
            let body = body.ok_or_else(|| Status::bad_request("no object in ReqBody"))?;
            cluster.modify(&key, |object| *object = body).cloned()
        }
        "patch" => {
            current?;
            patch(call, application, &key)
        }
        "delete" => {
            let gone = current?;
            controllers::delete(cluster, call.now, &key, false)?;
            Ok(gone)
        }
        _ => Err(Status::bad_request(&format!("verb {verb:?} is not supported"))),
    }
}

fn create(
    call: &mut Call<'_>,
    application: &Value,
    names: &KindNames,
    namespace: &str,
) -> Result<Value, Status> {
    let mut body = decoded(application, "ReqBody").unwrap_or(Value::Null);
    let object = fields(&mut body);
    object.insert("kind".to_owned(), names.kind.into());
    let meta = fields(object.entry("metadata").or_insert(Value::Null));
    meta.insert("namespace".to_owned(), namespace.into());
    controllers::admit(&call.cloud.cluster, &mut body);
    let key = call.cloud.cluster.create(call.now, body)?;
    let created = call.cloud.cluster.get(&key).cloned();
    created.ok_or_else(|| Status::not_found(key.kind(), key.name()))
}

fn list(call: &Call<'_>, names: &KindNames, namespace: &str) -> Value {
    let cluster = &call.cloud.cluster;
    let wanted = |key: &Key| namespace == "null" || key.namespace() == namespace;
    let items: Vec<_> = cluster
        .of_kind(names.word)
        .filter(|(key, _)| wanted(key))
        .map(|(_, object)| object.clone())
        .collect();
    json!({"apiVersion": names.api_version(), "kind": format!("{}List", names.kind),
        "metadata": {"resourceVersion": cluster.version().to_string()}, "items": items})
}

fn patch(call: &mut Call<'_>, application: &Value, key: &Key) -> Result<Value, Status> {
    let option = decoded(application, "Option").unwrap_or(Value::Null);
    let patch = decoded(&option, "Data").filter(Value::is_object);
    let patch = patch.ok_or_else(|| Status::bad_request("no patch in Option.Data"))?;
    let strategic = option["PatchType"] == "application/strategic-merge-patch+json";
    let patched = call.cloud.cluster.modify(key, |object| {
        if strategic { merge::strategic(object, &patch) } else { merge::json(object, &patch) }
    })?;
    debug_assert!(version_of(patched) > 0);
    Ok(patched.clone())
}
