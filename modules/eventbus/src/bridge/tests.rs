//! What the bridge makes of operations, topics and uploads.

use std::collections::HashSet;

use super::*;

fn message(operation: &str, resource: &str, content: &str) -> Message {
    let route = Route {
        source: Source::RouterEventbus,
        group: Group::User,
        operation: Operation::parse(operation),
        resource: Resource::Text(resource.into()),
    };
    let content = Content::from_raw(Bytes::copy_from_slice(content.as_bytes()));
    Message::new(MessageId::from_random([1; 16]), 0, route, content)
}

#[test]
fn each_operation_has_its_wish() {
    let cases = [
        ("subscribe", "default/up", "null", Wish::Topic("default/up".into(), true)),
        ("unsubscribe", "default/up", "null", Wish::Topic("default/up".into(), false)),
        ("publish", "test", r#""{\"a\":1}""#, Wish::Publish("test".into(), r#"{"a":1}"#.into())),
        ("publish", "test", r#"{"a": 1}"#, Wish::Publish("test".into(), r#"{"a": 1}"#.into())),
        (
            "message",
            "x",
            r#"{"message": {"topic":"t", "b":1}}"#,
            Wish::Publish("t".into(), r#"{"topic":"t", "b":1}"#.into()),
        ),
        (
            "get_result",
            "auth_info",
            "{}",
            Wish::Publish("$hw/events/node/edge1/authInfo/get/result".into(), "{}".into()),
        ),
        ("get_result", "other", "{}", Wish::Unsupported),
        ("start", "http://x", "null", Wish::Unsupported),
    ];
    for (operation, resource, content, wish) in cases {
        let message = message(operation, resource, content);
        assert_eq!(super::wish("edge1", &message), wish);
    }
}

#[test]
fn what_is_no_topic_is_said() {
    for (operation, resource, content, said) in [
        ("publish", "a/#", "null", "'a/#' is no topic"),
        ("subscribe", "a#", "null", "'a#' is no topic filter"),
        ("message", "x", "{}", "expected content"),
        ("message", "x", r#"{"message": {"topic":"+"}}"#, "'+' is no topic"),
    ] {
        match wish("n", &message(operation, resource, content)) {
            Wish::Bad(reason) => assert!(reason.starts_with(said), "{reason}"),
            other @ (Wish::Topic(..) | Wish::Publish(..) | Wish::Unsupported) => {
                panic!("{other:?}")
            }
        }
    }
}

#[test]
fn uploads_are_told_apart_by_their_number() {
    let id = |sequence| upload(7, sequence, 0, Operation::Upload, "t", b"x").header.id;
    let ids: HashSet<MessageId> = (0..10_000).map(id).collect();
    assert_eq!(ids.len(), 10_000);
    assert_eq!(id(5), id(5));
}

#[test]
fn a_body_that_is_no_text_is_mangled_as_kubeedge_does() {
    let message = upload(7, 1, 0, Operation::Upload, "t", b"\xffx");
    assert_eq!(*message.content.raw(), "\"\u{fffd}x\"");
}
