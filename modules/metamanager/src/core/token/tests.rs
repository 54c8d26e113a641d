//! Tokens: their keys and their lives.

use ipc_proto::{Group, Resource};

use super::*;

fn account() -> Name {
    let resource = Resource::parse(&Group::Meta, "ns1/serviceaccounttoken/default");
    Name::of(&resource).unwrap()
}

const REQUEST: &str = r#"{"metadata":{"creationTimestamp":null},"spec":{"audiences":null,
        "expirationSeconds":3607,"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"p",
        "uid":"u-1"}},"status":{"token":"","expirationTimestamp":null}}"#;

fn content(text: &'static str) -> Content {
    Content::from_raw(text.as_bytes().into())
}

#[test]
fn the_key_is_the_requests_in_gos_form() {
    let (question, key) = question(&account(), &content(REQUEST)).unwrap();
    assert_eq!(
        &*key,
        r#""default"/"ns1"/[]string(nil)/3607/v1.BoundObjectReference{Kind:"Pod", APIVersion:"v1", Name:"p", UID:"u-1"}"#
    );
    let Question::Token { like: Some((begin, end)), .. } = question else { panic!() };
    assert!(key.starts_with(&*begin) && key.ends_with(&*end));
    assert!(key.ends_with(&bound_to("u-1")));
}

#[test]
fn requests_that_differ_have_keys_that_differ() {
    let key = |text| question(&account(), &content(text)).unwrap().1;
    let keys = [
        key(REQUEST),
        key(r#"{"spec":{"audiences":[],"expirationSeconds":3607}}"#),
        key(r#"{"spec":{"audiences":["a","b"],"expirationSeconds":3607}}"#),
        key(r#"{"spec":{"audiences":["a\", \"b"],"expirationSeconds":3607}}"#),
        key(r#"{"spec":{"audiences":["a","b"]}}"#),
        key("{}"),
    ];
    let distinct: std::collections::HashSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len(), "{keys:#?}");
}

#[test]
fn a_token_is_renewed_in_the_last_fifth_of_its_life_or_after_a_day() {
    let stored = br#"{"spec":{"expirationSeconds":3600},
            "status":{"token":"t","expirationTimestamp":"1970-01-01T02:00:00Z"}}"#;
    assert_eq!(freshness(stored, 3600), Freshness::Fresh);
    assert_eq!(freshness(stored, 7200 - 720 - 1), Freshness::Fresh);
    assert_eq!(freshness(stored, 7200 - 720), Freshness::Due);
    assert_eq!(freshness(stored, -1_000_000), Freshness::Fresh, "a clock that was set back");
    let year = br#"{"spec":{"expirationSeconds":31536000},
            "status":{"token":"t","expirationTimestamp":"1971-01-01T00:00:00Z"}}"#;
    assert_eq!(freshness(year, 86399), Freshness::Fresh);
    assert_eq!(freshness(year, 86400), Freshness::Due);
}

#[test]
fn what_is_no_token_is_due() {
    for stored in ["", "null", "{}", "[]", r#"{"status":{"token":""}}"#, r#"{"spec":7}"#] {
        assert_eq!(freshness(stored.as_bytes(), 0), Freshness::Due, "{stored}");
    }
    assert!(question(&account(), &content("[1]")).is_err());
}
