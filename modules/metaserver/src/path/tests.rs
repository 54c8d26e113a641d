//! Tests of what a request is about.

use super::*;

fn found(method: &Method, address: &str) -> (Verb, Target) {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    match route(method, path, &Query::parse(query)).unwrap() {
        Route::Objects(verb, target) => (verb, target),
        Route::Health | Route::Discovery => panic!("{address} names no objects"),
    }
}

#[test]
fn paths_name_objects_as_the_store_does() {
    for (method, address, verb, key) in [
        (Method::GET, "/api/v1/pods", Verb::List, "/core/v1/pods/"),
        (Method::GET, "/api/v1/pods?watch=true", Verb::Watch, "/core/v1/pods/"),
        (Method::GET, "/api/v1/pods?watch=0", Verb::List, "/core/v1/pods/"),
        (Method::GET, "/api/v1/namespaces/ns/pods", Verb::List, "/core/v1/pods/ns/"),
        (Method::GET, "/api/v1/namespaces/ns/pods/p", Verb::Get, "/core/v1/pods/ns/p"),
        (Method::GET, "/api/v1/nodes/edge1", Verb::Get, "/core/v1/nodes/null/edge1"),
        (Method::GET, "/api/v1/namespaces", Verb::List, "/core/v1/namespaces/"),
        (Method::GET, "/api/v1/namespaces/ns", Verb::Get, "/core/v1/namespaces/null/ns"),
        (
            Method::POST,
            "/apis/apps/v1/namespaces/ns/deployments",
            Verb::Create,
            "/apps/v1/deployments/ns/",
        ),
        (
            Method::PUT,
            "/apis/apps/v1/namespaces/ns/deployments/d/status",
            Verb::Update,
            "/apps/v1/deployments/ns/d",
        ),
        (Method::DELETE, "/api/v1/namespaces/ns/pods/a%2Db", Verb::Delete, "/core/v1/pods/ns/a-b"),
        (Method::DELETE, "/api/v1/namespaces/ns/pods", Verb::DeleteCollection, "/core/v1/pods/ns/"),
    ] {
        let (found_verb, target) = found(&method, address);
        assert_eq!((found_verb, target.key().as_str()), (verb, key), "{address}");
    }
    let (_, target) = found(&Method::GET, "/api/v1/namespaces/ns/pods");
    assert_eq!(target.application_key(), "/core/v1/pods/ns/null");
    let (_, target) = found(&Method::GET, "/api/v1/namespaces/ns/pods/p/log");
    assert_eq!(target.subresource, "log");
}

#[test]
fn what_there_is_not_is_told() {
    let is = |method: Method, path: &str| route(&method, path, &Query::default());
    assert_eq!(is(Method::GET, "/readyz/etcd"), Ok(Route::Health));
    assert_eq!(is(Method::GET, "/apis/apps/v1"), Ok(Route::Discovery));
    assert_eq!(is(Method::GET, "/openapi/v3/api/v1"), Ok(Route::Discovery));
    for path in ["/", "/metrics", "/api/v1/namespaces/n%2Fx/pods", "/apis/%zz"] {
        assert_eq!(is(Method::GET, path), Err(Refusal::unknown_path(path)));
    }
    assert_eq!(is(Method::POST, "/version"), Err(Refusal::method("POST", "/version")));
    let pods = "/api/v1/namespaces/ns/pods";
    assert_eq!(is(Method::PUT, pods), Err(Refusal::method("PUT", pods)));
}
