//! Between MQTT and the node's messages: what a message of a peer means, and what one of a client
//! becomes (WIRE.md §8.1).

use bytes::Bytes;
use ipc_proto::{Content, Group, Message, MessageId, Operation, Resource, Route, Source};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::topic;

/// What a peer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Messages on a topic are to go to the cloud, or no longer.
    Topic(Box<str>, bool),
    /// A message for the clients.
    Publish(Box<str>, Bytes),
    /// Something that this module does not do.
    Unsupported,
    /// Something that cannot be done; why.
    Bad(String),
}

/// Reads what the cloud or devicetwin sent.
pub(crate) fn wish(node: &str, message: &Message) -> Wish {
    let Resource::Text(resource) = &message.route.resource else { return Wish::Unsupported };
    let content = &message.content;
    let operation = &message.route.operation;
    if *operation == Operation::GetResult && **resource == *"auth_info" {
        let topic = format!("$hw/events/node/{node}/authInfo/get/result");
        return publish(&topic, content.raw().clone());
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "the allow-list lets these words through")]
    match operation {
        Operation::Subscribe | Operation::Unsubscribe if !topic::is_filter(resource) => {
            Wish::Bad(format!("'{}' is no topic filter", short(resource)))
        }
        Operation::Subscribe => Wish::Topic(resource.clone(), true),
        Operation::Unsubscribe => Wish::Topic(resource.clone(), false),
        Operation::Publish => publish(resource, payload(content)),
        Operation::Message => match inner(content) {
            Some((topic, payload)) => publish(&topic, payload),
            None => Wish::Bad("expected content {\"message\": {\"topic\": …}}".to_owned()),
        },
        _ => Wish::Unsupported,
    }
}

fn publish(topic: &str, payload: Bytes) -> Wish {
    if topic::is_topic(topic) {
        Wish::Publish(topic.into(), payload)
    } else {
        Wish::Bad(format!("'{}' is no topic", short(topic)))
    }
}

fn short(text: &str) -> String {
    text.chars().take(128).collect()
}

/// Takes a body: the letters of a text, else the JSON as it stands.
fn payload(content: &Content) -> Bytes {
    match content.decode::<String>() {
        Ok(text) => text.into(),
        Err(_) => content.raw().clone(),
    }
}

/// Takes the message inside of a message: its topic, and all of it as the body.
fn inner(content: &Content) -> Option<(Box<str>, Bytes)> {
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        message: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Inner {
        topic: Box<str>,
    }
    let outer: Outer<'_> = content.decode().ok()?;
    let raw = outer.message.get();
    let inner: Inner = serde_json::from_str(raw).ok()?;
    Some((inner.topic, content.raw().slice_ref(raw.as_bytes())))
}

/// Makes the message that takes what a client published to the cloud or to devicetwin. It has the
/// same identity each time, also after a death of this process: who has it already knows it.
///
/// Bytes that are no UTF-8 become `�`, because the cloud's messages are JSON (WIRE.md §8.1).
pub(crate) fn upload(
    identity: u64,
    sequence: u64,
    now: i64,
    operation: Operation,
    topic: &str,
    payload: &[u8],
) -> Message {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&identity.to_be_bytes());
    id[8..].copy_from_slice(&sequence.rotate_left(12).to_be_bytes());
    let content = Content::text(&String::from_utf8_lossy(payload));
    let route = Route {
        source: Source::Bus,
        group: Group::User,
        operation,
        resource: Resource::Text(topic.into()),
    };
    Message::new(MessageId::from_random(id), now, route, content)
}

#[cfg(test)]
mod tests;
