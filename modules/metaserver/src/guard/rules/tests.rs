//! What roles allow.

use hyper::Method;
use module_runtime::query::Query;
use serde_json::json;

use super::*;
use crate::path::{self, Route};

fn access(rules: &serde_json::Value) -> Access {
    let subject = json!({"kind": "ServiceAccount", "name": "reader", "namespace": "shop"});
    serde_json::from_value(json!({
        "metadata": {"name": "reader", "namespace": "shop"},
        "spec": {
            "serviceAccount": {"metadata": {"name": "reader", "namespace": "shop"}},
            "serviceAccountUid": "u1",
            "accessRoleBinding": [{
                "roleBinding": {"metadata": {"name": "b", "namespace": "shop"},
                    "subjects": [subject]},
                "rules": rules,
            }],
            "accessClusterRoleBinding": [{
                "clusterRoleBinding": {"metadata": {"name": "c"}, "subjects": [
                    {"kind": "Group", "name": "operators"}, {"kind": "User", "name": "ann"}]},
                "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            }],
        },
    }))
    .unwrap()
}

fn user(name: &str, groups: &[&str]) -> User {
    User { name: name.to_owned(), groups: groups.iter().map(|&group| group.to_owned()).collect() }
}

fn allows(access: &Access, user: &User, method: &Method, address: &str) -> bool {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let route = path::route(method, path, &Query::parse(query)).unwrap();
    let Route::Objects(verb, target) = route else { unreachable!("{address} is about objects") };
    access.allows(user, verb, &target)
}

#[test]
fn a_role_counts_for_its_subjects_in_its_namespace() {
    let access = access(&json!([
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/status"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"]},
        {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"]},
        {"verbs": ["update"], "apiGroups": [""], "resources": ["*/scale"]},
    ]));
    let reader = user("system:serviceaccount:shop:reader", &[]);
    let shop = "/api/v1/namespaces/shop";
    for (method, path, expected) in [
        (Method::GET, format!("{shop}/pods"), true),
        (Method::GET, format!("{shop}/pods/p"), true),
        (Method::GET, format!("{shop}/pods/p/status"), true),
        (Method::GET, format!("{shop}/pods/p/log"), false),
        (Method::GET, format!("{shop}/pods?watch=true"), false),
        (Method::DELETE, format!("{shop}/pods/p"), false),
        (Method::POST, format!("{shop}/pods"), false),
        (Method::GET, "/api/v1/pods".to_owned(), false),
        (Method::GET, "/api/v1/namespaces/other/pods".to_owned(), false),
        (Method::GET, format!("{shop}/secrets/one"), true),
        (Method::GET, format!("{shop}/secrets/two"), false),
        (Method::GET, format!("{shop}/secrets"), false),
        (Method::DELETE, "/apis/apps/v1/namespaces/shop/deployments".to_owned(), true),
        (Method::DELETE, "/apis/batch/v1/namespaces/shop/jobs/j".to_owned(), false),
        (Method::PUT, format!("{shop}/replicationcontrollers/r/scale"), true),
        (Method::PUT, format!("{shop}/replicationcontrollers/r"), false),
    ] {
        assert_eq!(allows(&access, &reader, &method, &path), expected, "{method} {path}");
    }
    for stranger in ["system:serviceaccount:other:reader", "system:serviceaccount:shop:r", "reader"]
    {
        assert!(!allows(&access, &user(stranger, &[]), &Method::GET, &format!("{shop}/pods")));
    }
}

#[test]
fn a_role_of_the_cluster_counts_for_users_and_groups_everywhere() {
    let access = access(&json!(null));
    for (user, expected) in [
        (user("ann", &[]), true),
        (user("bob", &["operators"]), true),
        (user("bob", &["system:authenticated"]), false),
    ] {
        for path in ["/api/v1/nodes/n", "/api/v1/namespaces/x/pods/p"] {
            assert_eq!(allows(&access, &user, &Method::DELETE, path), expected, "{user:?} {path}");
        }
    }
}

#[test]
fn an_access_is_of_one_account() {
    let access = access(&json!([]));
    assert!(access.is_of("shop", "reader", "u1"));
    for (namespace, name, uid) in
        [("shop", "reader", "u2"), ("shop", "reader", ""), ("other", "reader", "u1")]
    {
        assert!(!access.is_of(namespace, name, uid), "{namespace} {name} {uid}");
    }
    assert!(!Access::default().is_of("", "", ""));
}
