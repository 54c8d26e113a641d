//! Patches: the part of Kubernetes' strategic merge that kubelet's status patches use, and the
//! plain JSON merge (RFC 7386).

use serde_json::{Map, Value};

/// The deepest nesting that is followed; a patch that goes deeper replaces there.
const MAX_DEPTH: u32 = 64;

/// Lists that merge element by element, and the field that tells their elements apart. All other
/// lists are replaced as a whole, as in the API's own types.
const MERGE_KEYS: &[(&str, &str)] = &[
    ("conditions", "type"),
    ("addresses", "type"),
    ("podIPs", "ip"),
    ("hostIPs", "ip"),
    ("ownerReferences", "uid"),
];

/// Applies a strategic merge patch.
pub(super) fn strategic(target: &mut Value, patch: &Value) {
    merge(target, patch, true, 0);
}

/// Applies a JSON merge patch.
pub(super) fn json(target: &mut Value, patch: &Value) {
    merge(target, patch, false, 0);
}

fn merge(target: &mut Value, patch: &Value, strategic: bool, depth: u32) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(into) = target.as_object_mut() else { return };
    if strategic && fields.get("$patch").is_some_and(|what| what == "replace") {
        into.clear();
    }
    for (name, value) in fields {
        if strategic && name.starts_with('$') {
            continue;
        }
        merge_field(into, name, value, strategic, depth);
    }
    if strategic {
        order_lists(into, fields);
    }
}

fn merge_field(
    into: &mut Map<String, Value>,
    name: &str,
    value: &Value,
    strategic: bool,
    depth: u32,
) {
    if value.is_null() {
        into.remove(name);
        return;
    }
    let key = MERGE_KEYS.iter().find(|(list, _)| strategic && *list == name);
    match (key, value.as_array()) {
        (Some((_, key)), Some(elements)) => {
            let list = into.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            merge_list(list, elements, key, depth);
        }
        _ if value.is_object() && depth < MAX_DEPTH => {
            let field = into.entry(name).or_insert(Value::Null);
            merge(field, value, strategic, depth + 1);
        }
        _ => {
            into.insert(name.to_owned(), value.clone());
        }
    }
}

fn merge_list(list: &mut Value, elements: &[Value], key: &str, depth: u32) {
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    let Some(list) = list.as_array_mut() else { return };
    for element in elements {
        let same = |other: &Value| other.get(key) == element.get(key);
        if element.get("$patch").is_some_and(|what| what == "delete") {
            list.retain(|other| !same(other));
        } else if let Some(found) = list.iter_mut().find(|other| same(other)) {
            merge(found, element, true, depth + 1);
        } else {
            let mut fresh = Value::Null;
            merge(&mut fresh, element, true, depth + 1);
            list.push(fresh);
        }
    }
}

/// Brings lists into the order that `$setElementOrder/<list>` names; what it does not name stays
/// behind, in its order.
fn order_lists(into: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (directive, order) in patch {
        let Some(name) = directive.strip_prefix("$setElementOrder/") else { continue };
        let Some((_, key)) = MERGE_KEYS.iter().find(|(list, _)| *list == name) else { continue };
        let Some(list) = into.get_mut(name).and_then(Value::as_array_mut) else { continue };
        let Some(order) = order.as_array() else { continue };
        list.sort_by_key(|element| {
            let place = order.iter().position(|other| other.get(key) == element.get(key));
            place.unwrap_or(order.len())
        });
    }
}

#[cfg(test)]
mod tests;
