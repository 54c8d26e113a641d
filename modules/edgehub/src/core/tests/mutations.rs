//! Every recorded message of a cloud, damaged in every way: nothing ends the process, and what
//! still has an id never holds the node's queue.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipc_proto::frame::Outcome;
use ipc_proto::{Message, json};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Bucket, Core, Effect, Now, Outgoing};

/// Returns the recorded messages that came down.
fn recorded() -> Vec<Value> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ipc-proto/tests/fixtures/messages");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the fixtures are part of the repository")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.file_name().is_some_and(|it| it.to_string_lossy().starts_with("down")))
        .collect();
    files.sort();
    let messages: Vec<Value> = files
        .iter()
        .map(|path| fs::read(path).expect("a file"))
        .map(|bytes| serde_json::from_slice(&bytes).expect("a message"))
        .collect();
    assert!(messages.len() > 20);
    messages
}

/// Hands a frame to a fresh core as the shell does; returns what goes up when every module that is
/// handed something settles it.
fn outcome(frame: &[u8]) -> Option<(Message, Vec<Message>)> {
    let message = json::decode(&Bytes::copy_from_slice(frame)).ok()?;
    let at = Instant::now();
    let now = Now { at, unix_ms: 0 };
    let mut core =
        Core::new(at, Duration::from_secs(15), Bucket::new(30, 60), module_runtime::message_id);
    core.link_up(now);
    core.came_down(now, message.clone());
    while let Some(effect) = core.effect() {
        if let Effect::Deliver(_, message) = effect {
            core.settled(now, &message.header.id, Outcome::Done);
        }
    }
    let mut written = Vec::new();
    while let Some(outgoing) = core.next(now) {
        if let Outgoing::Message(message) = outgoing {
            written.push(message);
        }
    }
    Some((message, written))
}

/// The values that any field may turn into.
fn damage() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        Just(Some(json!(""))),
        Just(Some(json!(-1))),
        Just(Some(json!([{}]))),
        Just(Some(json!({"a": {"a": {"a": []}}}))),
        Just(Some(json!("x".repeat(100_000)))),
        Just(Some(json!("a/b/c/d/e/f//\u{0}\u{ffff}"))),
    ]
}

const FIELDS: [&str; 10] = [
    "/header",
    "/header/msg_id",
    "/header/parent_msg_id",
    "/header/timestamp",
    "/header/resourceversion",
    "/route",
    "/route/group",
    "/route/operation",
    "/route/resource",
    "/content",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_damaged_field_ends_nothing_and_holds_nothing(
        which in any::<prop::sample::Index>(),
        field in prop::sample::select(&FIELDS),
        damage in damage(),
    ) {
        let mut messages = recorded();
        let mut message = messages.swap_remove(which.index(messages.len()));
        let (parent, key) = field.rsplit_once('/').expect("a pointer");
        if let Some(Value::Object(parent)) = message.pointer_mut(parent) {
            match damage {
                Some(value) => drop(parent.insert(key.to_owned(), value)),
                None => drop(parent.remove(key)),
            }
        }
        let frame = serde_json::to_vec(&message).expect("a value is JSON");
        if let Some((message, written)) = outcome(&frame) {
            let waits = super::super::dispatch::wants_acknowledgement(&message);
            let acknowledged = written.iter().any(|it| {
                it.header.parent.as_ref() == Some(&message.header.id)
                    && it.route.operation == ipc_proto::Operation::Response
            });
            prop_assert!(!waits || acknowledged, "{message:?}");
        }
    }

    #[test]
    fn damaged_bytes_end_nothing(
        which in any::<prop::sample::Index>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(),
    ) {
        let mut messages = recorded();
        let message = messages.swap_remove(which.index(messages.len()));
        let mut frame = serde_json::to_vec(&message).expect("a value is JSON");
        for (at, byte) in cuts {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        frame.truncate(end.index(frame.len()) + 1);
        drop(outcome(&frame));
    }
}

#[test]
fn deep_and_huge_content_passes_unparsed() {
    for content in ["[".repeat(100_000), format!("\"{}\"", "x".repeat(8 << 20))] {
        let frame = format!(
            r#"{{"header":{{"msg_id":"m"}},"route":{{"source":"edgecontroller","group":"resource","operation":"update","resource":"default/configmap/c"}},"content":{content}}}"#
        );
        drop(outcome(frame.as_bytes()));
    }
}
