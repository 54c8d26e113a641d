//! Devices: what twins report, into the DeviceStatus (WIRE.md §7.4).

use ipc_proto::{Operation, Resource};
use serde_json::{Map, Value, json};

use super::super::cluster::fields;
use super::super::key::Key;
use super::{Answer, Call, parse_text};

/// Takes a report. Devices that the cluster does not know, and questions, get no answer.
pub(super) fn report(call: &mut Call<'_>) -> Option<Answer> {
    let Resource::Device { namespace, name, change } = &call.message.route.resource else {
        return None;
    };
    if call.message.route.operation != Operation::Update {
        return None;
    }
    let body = parse_text(&call.message.content.decode().ok()?)?;
    let device = call.cloud.cluster.get(&Key::new("device", namespace, name))?.clone();
    let key = Key::new("devicestatus", namespace, name);
    let edit: Box<dyn FnOnce(&mut Value)> = match &**change {
        "twin/edge_updated" => Box::new(move |object| merge_twins(object, &device, &body)),
        "state/update" => Box::new(move |object| merge_state(object, &body)),
        _ => return None,
    };
    call.cloud.cluster.modify(&key, edit).ok()?;
    Some(Answer::ok())
}

/// Takes reported properties that the device has. The first report of a property only makes its
/// entry; the value of the second is the first to be kept, as in the real cloud (WIRE.md §13, C7).
fn merge_twins(object: &mut Value, device: &Value, body: &Value) {
    let known = |name: &str| {
        let properties = device["spec"]["properties"].as_array();
        properties.into_iter().flatten().any(|property| property["name"] == name)
    };
    let status = fields(fields(object).entry("status").or_insert(Value::Null));
    let twins = status.entry("twins").or_insert_with(|| json!([]));
    let Some(twins) = twins.as_array_mut() else { return };
    let reported = body["twin"].as_object().into_iter().flatten();
    for (name, twin) in reported.filter(|(name, twin)| known(name) && twin.is_object()) {
        match twins.iter_mut().find(|entry| entry["propertyName"] == name.as_str()) {
            None => twins.push(json!({"propertyName": name, "observedDesired": {"value": ""},
                "reported": {"value": ""}})),
            Some(entry) => merge_twin(fields(entry), twin),
        }
    }
}

fn merge_twin(entry: &mut Map<String, Value>, twin: &Value) {
    for (field, from) in [("observedDesired", "expected"), ("reported", "actual")] {
        let Some(value) = twin[from].get("value") else { continue };
        let mut metadata = Map::new();
        if let Some(timestamp) = twin[from]["metadata"]["timestamp"].as_i64() {
            metadata.insert("timestamp".to_owned(), timestamp.to_string().into());
        }
        if let Some(kind) = twin["metadata"].get("type") {
            metadata.insert("type".to_owned(), kind.clone());
        }
        entry.insert(field.to_owned(), json!({"value": value, "metadata": metadata}));
    }
}

fn merge_state(object: &mut Value, body: &Value) {
    let status = fields(fields(object).entry("status").or_insert(Value::Null));
    for field in ["state", "lastOnlineTime"] {
        if let Some(value) = body["device"].get(field) {
            status.insert(field.to_owned(), value.clone());
        }
    }
}
