//! The cloud's JSON form of a message (WIRE.md §1.1), in and out.
//!
//! The content's bytes are neither parsed nor copied on the way in: they stay a slice of the frame
//! that brought them. On the way out they are checked to be one JSON value, so that no module can
//! write outside its own content.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserializer, IgnoredAny, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::id::MessageId;
use crate::message::{Content, Header, Message, Route};
use crate::resource::Resource;
use crate::words::{Group, Operation, Source};

/// A message from outside that is none.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not UTF-8, which JSON text must be (the content is checked too).
    #[error("message is not UTF-8 text")]
    NotUtf8(#[source] std::str::Utf8Error),
    /// Not JSON, or not of a message's shape.
    #[error("message is not a beehive message: expected an object with header, route and content")]
    NotAMessage(#[source] serde_json::Error),
    /// No `msg_id`, without which nothing can be acknowledged.
    #[error("message has no header.msg_id")]
    NoId,
}

/// A message whose content is not one JSON value.
#[derive(Debug, thiserror::Error)]
#[error("content of message {id} is not JSON")]
pub struct EncodeError {
    id: MessageId,
    #[source]
    source: serde_json::Error,
}

/// A string that may be missing or null, borrowed where JSON wrote no escape.
#[derive(Default)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or null")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }
        }

        deserializer.deserialize_any(TextVisitor)
    }
}

#[derive(Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow)]
    header: WireHeader<'a>,
    #[serde(borrow, default)]
    route: Option<WireRoute<'a>>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireHeader<'a> {
    #[serde(borrow, default)]
    msg_id: Text<'a>,
    #[serde(borrow, default)]
    parent_msg_id: Text<'a>,
    #[serde(default)]
    timestamp: Option<i64>,
    #[serde(borrow, default)]
    resourceversion: Text<'a>,
    #[serde(default)]
    sync: Option<bool>,
}

#[derive(Default, Deserialize)]
struct WireRoute<'a> {
    #[serde(borrow, default)]
    source: Text<'a>,
    #[serde(borrow, default)]
    group: Text<'a>,
    #[serde(borrow, default)]
    operation: Text<'a>,
    #[serde(borrow, default)]
    resource: Text<'a>,
}

/// Reads a message as the cloud writes it. Fields that are missing or null take their empty value,
/// unknown fields are passed over, the content stays a slice of `frame`.
///
/// # Errors
/// [`DecodeError`] when the frame is no UTF-8, no message, or has no id.
pub fn decode(frame: &Bytes) -> Result<Message, DecodeError> {
    let text = std::str::from_utf8(frame).map_err(DecodeError::NotUtf8)?;
    let wire: WireMessage<'_> = serde_json::from_str(text).map_err(DecodeError::NotAMessage)?;
    if wire.header.msg_id.0.is_empty() {
        return Err(DecodeError::NoId);
    }
    let parent = &wire.header.parent_msg_id.0;
    let header = Header {
        id: MessageId::parse(&wire.header.msg_id.0),
        parent: (!parent.is_empty()).then(|| MessageId::parse(parent)),
        timestamp: wire.header.timestamp.unwrap_or(0),
        resource_version: wire.header.resourceversion.0.as_ref().into(),
        sync: wire.header.sync.unwrap_or(false),
    };
    let route = wire.route.unwrap_or_default();
    let group = Group::parse(&route.group.0);
    let route = Route {
        source: Source::parse(&route.source.0),
        operation: Operation::parse(&route.operation.0),
        resource: Resource::parse(&group, &route.resource.0),
        group,
    };
    let content = match wire.content {
        Some(raw) => Content::from_raw(frame.slice_ref(raw.get().as_bytes())),
        None => Content::NULL,
    };
    Ok(Message { header, route, content })
}

#[derive(Serialize)]
struct OutHeader<'a> {
    msg_id: Shown<'a, MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_msg_id: Option<Shown<'a, MessageId>>,
    timestamp: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    resourceversion: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    sync: bool,
}

#[derive(Serialize)]
struct OutRoute<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    source: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    group: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    operation: &'a str,
    #[serde(skip_serializing_if = "is_none")]
    resource: Shown<'a, Resource>,
}

/// Writes a value as the string that it displays as, without a copy in between.
struct Shown<'a, T>(&'a T);

impl<T: fmt::Display> Serialize for Shown<'_, T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

fn is_none(resource: &Shown<'_, Resource>) -> bool {
    matches!(resource.0, Resource::None)
}

/// Writes a message as the cloud reads it, without the newline that may follow.
///
/// # Errors
/// [`EncodeError`] when the content is not exactly one JSON value.
pub fn encode(message: &Message) -> Result<Vec<u8>, EncodeError> {
    let Message { header, route, content } = message;
    let failed = |source| EncodeError { id: header.id.clone(), source };
    serde_json::from_slice::<IgnoredAny>(content.raw()).map_err(failed)?;
    let mut out = Vec::with_capacity(content.raw().len() + 320);
    out.extend_from_slice(b"{\"header\":");
    let head = OutHeader {
        msg_id: Shown(&header.id),
        parent_msg_id: header.parent.as_ref().map(Shown),
        timestamp: header.timestamp,
        resourceversion: &header.resource_version,
        sync: header.sync,
    };
    serde_json::to_writer(&mut out, &head).map_err(failed)?;
    out.extend_from_slice(b",\"route\":");
    let way = OutRoute {
        source: route.source.as_str(),
        group: route.group.as_str(),
        operation: route.operation.as_str(),
        resource: Shown(&route.resource),
    };
    serde_json::to_writer(&mut out, &way).map_err(failed)?;
    out.extend_from_slice(b",\"content\":");
    out.extend_from_slice(content.raw());
    out.push(b'}');
    Ok(out)
}
