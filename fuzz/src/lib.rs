//! What is asked of every decoder: it takes rubbish without harm, and what it does take comes back
//! the same when it is written and read once more.
//!
//! libFuzzer runs these functions through `fuzz_targets/`, the ordinary tests through
//! `ipc-proto/tests/decoders.rs`, which includes this file.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use ipc_proto::control::{Request, Response};
use ipc_proto::frame::{self, Frame};
use ipc_proto::lifeline::{self, ToModule, ToSupervisor};
use ipc_proto::{Group, Kind, MessageId, Operation, Resource, Source, json, tap};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A function below and the name of its target; also of the folder of its seeds.
pub type Target = (&'static str, fn(&[u8]) -> Taken);

/// All targets.
pub const TARGETS: [Target; 8] = [
    ("frame", frame),
    ("to_module", to_module),
    ("to_supervisor", to_supervisor),
    ("json", json),
    ("control_request", control_request),
    ("control_response", control_response),
    ("tap", tap),
    ("words", words),
];

/// Whether the decoder took the input, all of it; seeds must be taken.
pub type Taken = bool;

/// Frames between modules, as many as the bytes hold.
pub fn frame(data: &[u8]) -> Taken {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(frame)) = frame::take(&mut buffer) {
        let mut again = BytesMut::from(encoded(&frame).as_slice());
        assert_eq!(frame::take(&mut again), Ok(Some(frame)), "written and read once more");
        assert!(again.is_empty(), "the length field covers the whole frame");
    }
    buffer.is_empty()
}

/// Writes a frame as modules do: a message's content follows its head.
fn encoded(frame: &Frame) -> Vec<u8> {
    match frame {
        Frame::Hello(hello) => frame::hello(hello).to_vec(),
        Frame::Welcome(hello) => frame::welcome(hello).to_vec(),
        Frame::Refused(reason) => frame::refused(reason).to_vec(),
        Frame::Settle(settlements) => frame::settle(settlements).to_vec(),
        Frame::Message(sequence, message) => {
            let mut head = frame::message_head(message).expect("what was taken is within bounds");
            frame::set_sequence(&mut head, *sequence);
            [&head[..], message.content.raw()].concat()
        }
    }
}

/// What the supervisor tells a module.
pub fn to_module(data: &[u8]) -> Taken {
    lifeline::<ToModule>(data)
}

/// What a module tells the supervisor.
pub fn to_supervisor(data: &[u8]) -> Taken {
    lifeline::<ToSupervisor>(data)
}

fn lifeline<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) -> Taken {
    let Ok(record) = lifeline::decode::<T>(data) else { return false };
    let packet = lifeline::encode(&record).expect("what was taken is within bounds");
    assert_eq!(lifeline::decode(&packet), Ok(record), "written and read once more");
    true
}

/// The cloud's JSON.
pub fn json(data: &[u8]) -> Taken {
    let Ok(message) = json::decode(&Bytes::copy_from_slice(data)) else { return false };
    let text = json::encode(&message).expect("a content that came as JSON goes as JSON");
    let again = json::decode(&text.into()).expect("what is written can be read");
    assert_eq!(again, message, "written and read once more");
    true
}

/// The operator's requests.
pub fn control_request(data: &[u8]) -> Taken {
    let Ok(request) = serde_json::from_slice::<Request>(data) else { return false };
    let line = serde_json::to_vec(&request).expect("a request's types are JSON's");
    let again = serde_json::from_slice::<Request>(&line).expect("what is written can be read");
    assert_eq!(again, request, "written and read once more");
    true
}

/// The supervisor's responses; not compared, for a number's last digit may change on its way.
pub fn control_response(data: &[u8]) -> Taken {
    let Ok(response) = serde_json::from_slice::<Response>(data) else { return false };
    let line = serde_json::to_vec(&response).expect("a response's types are JSON's");
    assert!(!line.contains(&b'\n'), "a response is one line");
    serde_json::from_slice::<Response>(&line).expect("what is written can be read");
    true
}

/// The records of `edgectl tap`.
pub fn tap(data: &[u8]) -> Taken {
    let Ok(record) = tap::Record::decode(data) else { return false };
    assert_eq!(tap::Record::decode(&record.encode()), Ok(record), "written and read once more");
    true
}

/// The words of a route and the id of a message: every text is taken and none is changed. The first
/// byte chooses the group that says how a resource is read.
pub fn words(data: &[u8]) -> Taken {
    let Some((choice, text)) = data.split_first() else { return false };
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let group = Group::KNOWN.get(usize::from(*choice)).copied().unwrap_or("other");
    assert_eq!(Resource::parse(&Group::parse(group), text).to_string(), text);
    assert_eq!(MessageId::parse(text).to_string(), text);
    assert_eq!(Operation::parse(text).as_str(), text);
    assert_eq!(Source::parse(text).as_str(), text);
    assert_eq!(Kind::parse(text).as_str(), text);
    true
}
