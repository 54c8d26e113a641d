//! Golden tests over one message of each kind that a real cloud and a real edge exchanged: each is
//! understood, and comes out as it went in.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use ipc_proto::frame::{self, Frame};
use ipc_proto::{Group, Kind, Message, MessageId, Operation, Resource, Scope, Source, json};

/// Reads the recorded messages, by file name.
fn recorded() -> BTreeMap<String, Bytes> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/messages");
    let files: BTreeMap<_, _> = std::fs::read_dir(folder)
        .expect("the fixtures are there")
        .map(|entry| {
            let entry = entry.expect("the fixtures can be listed");
            let bytes = std::fs::read(entry.path()).expect("a fixture can be read");
            (entry.file_name().to_string_lossy().into_owned(), Bytes::from(bytes))
        })
        .collect();
    assert_eq!(files.len(), 79, "one file for each recorded kind");
    files
}

fn value(json: &[u8]) -> serde_json::Value {
    serde_json::from_slice(json).expect("fixtures are JSON")
}

#[test]
fn every_recorded_message_comes_out_as_it_went_in() {
    for (name, bytes) in recorded() {
        let message = json::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let out = json::encode(&message).unwrap();
        assert_eq!(value(&out), value(&bytes), "{name}");
        assert_eq!(json::decode(&out.into()).unwrap(), message, "{name}");
    }
}

#[test]
fn the_content_keeps_its_bytes_and_is_not_copied() {
    for (name, bytes) in recorded() {
        let content = json::decode(&bytes).unwrap().content.into_raw();
        if content.as_ref() == b"null" {
            continue;
        }
        let within = bytes.as_ptr_range();
        assert!(within.contains(&content.as_ptr()), "{name}: the content was copied");
        let text = std::str::from_utf8(&bytes).unwrap();
        let written = text.split_once("\"content\":").unwrap().1.trim_end();
        assert_eq!(content, written.strip_suffix('}').unwrap(), "{name}");
    }
}

#[test]
fn spaces_big_numbers_and_escapes_of_a_content_stay() {
    let content = "{ \"a\" : 9007199254740993 ,\t\"b\":\"\\u003c\\u00e9\", \"c\": 1.50 }";
    let bytes = format!("{{\"header\":{{\"msg_id\":\"m\"}},\"route\":{{}},\"content\":{content}}}");
    let message = json::decode(&bytes.into()).unwrap();
    assert_eq!(message.content.raw(), content.as_bytes());
    let out = String::from_utf8(json::encode(&message).unwrap()).unwrap();
    assert!(out.ends_with(&format!("\"content\":{content}}}")), "{out}");
}

#[test]
fn every_recorded_word_is_known() {
    for (name, bytes) in recorded() {
        let route = json::decode(&bytes).unwrap().route;
        assert!(!matches!(route.operation, Operation::Unknown(_)), "{name}: {route:?}");
        assert!(!matches!(route.group, Group::Unknown(_)), "{name}: {route:?}");
        assert!(!matches!(route.source, Source::Unknown(_)), "{name}: {route:?}");
        let free_text = matches!(route.group, Group::User | Group::Dynamiccontroller);
        let answer_to_metaserver = route.operation == Operation::ApplicationResponse;
        if !free_text && !answer_to_metaserver {
            assert!(!matches!(route.resource, Resource::Text(_)), "{name}: {route:?}");
            assert!(!matches!(route.resource.kind(), Some(Kind::Unknown(_))), "{name}: {route:?}");
        }
    }
}

#[test]
fn a_recorded_pod_update_reads_as_what_it_is() {
    let message =
        json::decode(&recorded()["down-edgecontroller-resource-update-pod.json"]).unwrap();
    assert_eq!(message.route.source, Source::Edgecontroller);
    assert_eq!(message.route.group, Group::Resource);
    assert_eq!(message.route.operation, Operation::Update);
    let scope = Scope::Namespace("default".into());
    assert_eq!(message.route.resource, Resource::object(scope, Kind::Pod, "cap-pod"));
    assert!(matches!(message.header.id, MessageId::Uuid(_)));
    assert_eq!(message.header.parent, None);
    assert!(!message.header.resource_version.is_empty());
}

#[test]
fn an_answer_names_its_question_as_the_wire_does() {
    let question =
        json::decode(&recorded()["down-edgecontroller-resource-update-pod.json"]).unwrap();
    let recorded = json::decode(&recorded()["up-edgecontroller-resource-resp-response-pod.json"]);
    let ours = question.response(MessageId::parse("x"), 1, ipc_proto::Content::text("OK"));
    assert_eq!(ours.route, recorded.unwrap().route);
    assert_eq!(ours.header.parent, Some(question.header.id.clone()));
    let refusal = question.error(MessageId::parse("y"), 1, "disk \"full\"");
    assert_eq!(refusal.route.operation, Operation::Error);
    assert_eq!(refusal.content.raw().as_ref(), br#""disk \"full\"""#);
}

#[test]
fn every_recorded_message_passes_a_frame_unchanged() {
    let mut wire = BytesMut::new();
    let messages: Vec<Message> =
        recorded().values().map(|bytes| json::decode(bytes).unwrap()).collect();
    for (sequence, message) in (1..).zip(&messages) {
        let mut head = frame::message_head(message).unwrap();
        frame::set_sequence(&mut head, sequence);
        wire.extend_from_slice(&head);
        wire.extend_from_slice(message.content.raw());
    }
    for (sequence, message) in (1..).zip(messages) {
        let frame = frame::take(&mut wire).unwrap().unwrap();
        assert_eq!(frame, Frame::Message(sequence, message));
    }
    assert!(wire.is_empty());
}

/// Changes a message in one way that a broken or hostile cloud could.
fn mutations(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    for field in ["header", "route", "content", "msg_id", "timestamp", "resource", "operation"] {
        let key = format!("\"{field}\":");
        for wrong in ["null", "[]", "{}", "7", "1e400", "true", "\"\\ud800\"", "\"\""] {
            if let Some((before, after)) = text.split_once(&key) {
                let value = &after[..value_length(after)];
                all.push(format!("{before}{key}{wrong}{}", &after[value.len()..]));
            }
        }
        all.push(text.replacen(&key, &format!("\"un{field}\":"), 1));
    }
    let deep = "[".repeat(100_000);
    all.push(format!("{{\"header\":{{\"msg_id\":\"a\"}},\"content\":{deep}"));
    all.push(format!("{deep}{text}"));
    all.push(text[..text.len() / 2].to_owned());
    all.push(format!("{text}{text}"));
    all
}

/// Returns the length of the JSON value that `text` begins with.
fn value_length(text: &str) -> usize {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    assert!(values.next().is_some());
    values.byte_offset()
}

#[test]
fn no_mutated_message_does_harm_and_what_is_taken_can_be_sent() {
    for (name, bytes) in recorded() {
        let text = std::str::from_utf8(&bytes).unwrap();
        for mutated in mutations(text) {
            if let Ok(message) = json::decode(&Bytes::from(mutated)) {
                let out = json::encode(&message).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(json::decode(&out.into()).unwrap(), message, "{name}");
            }
        }
    }
}

#[test]
fn what_is_no_message_is_refused_with_a_reason() {
    let reason =
        |bytes: &'static [u8]| json::decode(&Bytes::from_static(bytes)).unwrap_err().to_string();
    assert_eq!(reason(b"{\"header\":{},\"route\":{}}"), "message has no header.msg_id");
    assert_eq!(reason(b"\xff\xfe"), "message is not UTF-8 text");
    let shape =
        "message is not a beehive message: expected an object with header, route and content";
    for bytes in [&b""[..], b"null", b"[]", b"{}", b"\"x\"", b"{\"header\":null}"] {
        assert_eq!(reason(bytes), shape);
    }
}

#[test]
fn a_content_that_leaves_its_place_is_not_sent() {
    let message = |content: &'static [u8]| {
        let mut message =
            json::decode(&recorded()["up-websocket-resource-keepalive-node.json"]).unwrap();
        message.content = ipc_proto::Content::from_raw(Bytes::from_static(content));
        message
    };
    for content in [&b"null},\"route\":{"[..], b"", b"{", b"1 2", b"\xff", b"nul"] {
        let error = json::encode(&message(content)).unwrap_err().to_string();
        assert!(error.contains("is not JSON"), "{error}");
    }
}
