//! Paths, and what they ask for.

use proptest::prelude::*;

use super::*;

fn ask(method: &Method, text: &'static str) -> Result<Route, u16> {
    route(method, &Uri::from_static(text)).map_err(|refusal| refusal.status.as_u16())
}

#[test]
fn both_forms_of_a_path_are_known() {
    let named = Target::new("ns", "p", "", "c");
    let query = Query::parse("command=a%20b&command=c%2Bd+e&x=%zz");
    assert_eq!(query.all("command"), ["a b", "c+d e"]);
    assert_eq!(query.first("x"), None);
    let uri = "/exec/ns/p/c?command=a%20b&command=c%2Bd+e&x=%zz";
    assert_eq!(ask(&Method::POST, uri), Ok(Route::Exec(named.clone(), query)));
    let with_uid = Target { uid: "u".to_owned(), ..named };
    assert_eq!(
        ask(&Method::GET, "/attach/ns/p/u/c/"),
        Ok(Route::Attach(with_uid, Query::default()))
    );
}

#[test]
fn what_is_no_route_is_refused() {
    for text in [
        "/",
        "/nothing",
        "/containerLogs/ns/p",
        "/containerLogs/ns/../../c",
        "/containerLogs/ns//c",
        "/containerLogs/ns/%2e%2e/c",
        "/pods%00",
        "/pods%zz",
        "/logs/../etc/shadow",
        "/logs/%2e%2e/shadow",
        "/logs/a//b",
        "/exec/a/b/c/d/e",
        "/checkpoint/ns/p/c",
    ] {
        assert_eq!(ask(&Method::GET, text), Err(404), "{text}");
    }
    assert_eq!(ask(&Method::DELETE, "/pods"), Err(405));
    assert_eq!(ask(&Method::GET, "/run/ns/p/c"), Err(405));
}

#[test]
fn flags_are_set_as_in_the_api() {
    let query = Query::parse("follow&timestamps=False&previous=0&x=1");
    assert!(query.is_set("follow") && query.is_set("x"));
    assert!(!query.is_set("timestamps") && !query.is_set("previous") && !query.is_set("none"));
}

proptest! {
    #[test]
    fn whatever_is_asked_has_a_route_or_is_refused(path in "/[ -~]{0,40}", query in "[ -~]{0,60}") {
        let uri = format!("{path}?{query}").parse::<Uri>();
        if let Ok(Ok(Route::Files(names))) = uri.map(|uri| route(&Method::GET, &uri)) {
            prop_assert!(names.iter().all(|it| !it.contains('/') && it != ".." && it != "."));
        }
    }
}
