//! What this node tells of schemas. CloudCore passes on none but a list of them, and kubectl refuses to
//! apply anything when one of that list cannot be had. What kubectl looks for before it leaves the
//! check of an object to the server is whether changes take `fieldValidation`. They do: it goes to the
//! cluster with the change.

use serde_json::{Map, Value, json};

use crate::kinds::{self, Known};

/// Finds a document below `/openapi/v3`: the list, or that of a group and version.
pub(super) fn find(parts: &[&str]) -> Option<Value> {
    match parts {
        [] => Some(json!({"paths": list()})),
        ["api", version] => document("", version),
        ["apis", group, version] => document(group, version),
        _ => None,
    }
}

fn list() -> Map<String, Value> {
    let named = kinds::groups().map(|(group, version)| format!("apis/{group}/{version}"));
    let all = std::iter::once("api/v1".to_owned()).chain(named);
    all.map(|path| {
        let address = json!({"serverRelativeURL": format!("/openapi/v3/{path}")});
        (path, address)
    })
    .collect()
}

fn document(group: &str, version: &str) -> Option<Value> {
    let of_group = |known: &&Known| known.group == group && known.version == version;
    let paths: Map<String, Value> = kinds::ALL.iter().filter(of_group).map(path).collect();
    (!paths.is_empty()).then(|| {
        json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "unversioned"},
            "paths": paths})
    })
}

/// Returns the path of a resource's objects, and how they are changed.
fn path(known: &Known) -> (String, Value) {
    let Known { group, version, plural, kind, namespaced, .. } = known;
    let stem = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
    let place = if *namespaced { "/namespaces/{namespace}" } else { "" };
    let validation =
        json!({"name": "fieldValidation", "in": "query", "schema": {"type": "string"}});
    let change = json!({"patch": {
        "parameters": [validation],
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        "responses": {"200": {"description": "OK"}},
    }});
    (format!("{stem}/{version}{place}/{plural}/{{name}}"), change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_of_the_list_is_there() {
        let list = list();
        assert!(list.contains_key("api/v1") && list.contains_key("apis/apps/v1"));
        for (path, address) in &list {
            assert_eq!(address["serverRelativeURL"], format!("/openapi/v3/{path}"));
            let parts: Vec<_> = path.split('/').collect();
            assert!(find(&parts).unwrap()["paths"].as_object().is_some_and(|it| !it.is_empty()));
        }
        assert_eq!(find(&["api", "v2"]), None);
        assert_eq!(find(&["apis", "x"]), None);
    }

    #[test]
    fn changes_take_field_validation() {
        let core = find(&["api", "v1"]).unwrap();
        let path = "/api/v1/namespaces/{namespace}/configmaps/{name}";
        let patch = &core["paths"][path]["patch"];
        assert_eq!(patch["parameters"][0]["name"], "fieldValidation");
        let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
        assert_eq!(patch["x-kubernetes-group-version-kind"], kind);
        assert!(core["paths"]["/api/v1/nodes/{name}"].is_object());
    }
}
