//! The beehive message (WIRE.md §1): the only thing that crosses between modules.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::MessageId;
use crate::resource::Resource;
use crate::words::{Group, Operation, Source};

/// A message: header, route and content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Identity and time.
    pub header: Header,
    /// Who, what and about what.
    pub route: Route,
    /// The body: raw JSON text that only its owner parses.
    pub content: Content,
}

/// The identity and time of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// This message.
    pub id: MessageId,
    /// The message that this one answers.
    pub parent: Option<MessageId>,
    /// Unix time in milliseconds.
    pub timestamp: i64,
    /// The Kubernetes resourceVersion of the object carried; empty when there is none.
    pub resource_version: Box<str>,
    /// Set by a sender that waits for the answer; never true on the cloud's wire.
    pub sync: bool,
}

/// Who sent a message, and what it asks about what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Who made it.
    pub source: Source,
    /// The group it is for, or comes from.
    pub group: Group,
    /// What it asks for or tells.
    pub operation: Operation,
    /// What it is about.
    pub resource: Resource,
}

/// The body of a message: JSON text, exactly as it came, in bytes that are shared, not copied.
///
/// Nobody but the module that acts on it parses it; what comes from a module is checked to be JSON
/// before it goes to the cloud ([`crate::json::encode`]).
#[derive(Clone, PartialEq, Eq)]
pub struct Content(Bytes);

impl Content {
    /// The JSON value `null`: no body.
    pub const NULL: Self = Self(Bytes::from_static(b"null"));

    /// Takes bytes that the caller knows, or is told by a peer, to be JSON text.
    #[must_use]
    pub const fn from_raw(json: Bytes) -> Self {
        Self(json)
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    /// What the value's own serialisation fails with, such as a map whose keys are no strings.
    pub fn encode(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self(serde_json::to_vec(value)?.into()))
    }

    /// Writes a text as a JSON string.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self(serde_json::Value::from(text).to_string().into())
    }

    /// Parses the body. To be called once, by the module whose business it is.
    ///
    /// # Errors
    /// When the bytes are no JSON or do not have the wanted shape.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }

    /// Returns the JSON text.
    #[must_use]
    pub const fn raw(&self) -> &Bytes {
        &self.0
    }

    /// Returns the JSON text.
    #[must_use]
    pub fn into_raw(self) -> Bytes {
        self.0
    }
}

impl std::fmt::Debug for Content {
    /// Tells the size alone: a body can be a secret, and it can be long.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}

impl Message {
    /// Makes a message that answers no other.
    #[must_use]
    pub fn new(id: MessageId, timestamp: i64, route: Route, content: Content) -> Self {
        let resource_version = Box::default();
        let header = Header { id, parent: None, timestamp, resource_version, sync: false };
        Self { header, route, content }
    }

    /// Makes the answer to this message: same source, group and resource, operation `response`
    /// (WIRE.md §1.6).
    #[must_use]
    pub fn response(&self, id: MessageId, timestamp: i64, content: Content) -> Self {
        self.answer(id, timestamp, Operation::Response, content)
    }

    /// Makes the refusal of this message: operation `error`, the content is the reason as text.
    /// Unlike KubeEdge's it keeps source and group, so that it finds its way.
    #[must_use]
    pub fn error(&self, id: MessageId, timestamp: i64, reason: &str) -> Self {
        self.answer(id, timestamp, Operation::Error, Content::text(reason))
    }

    fn answer(&self, id: MessageId, time: i64, operation: Operation, content: Content) -> Self {
        let mut answer = Self::new(id, time, Route { operation, ..self.route.clone() }, content);
        answer.header.parent = Some(self.header.id.clone());
        answer
    }

    /// Tells whether this answers another message.
    #[must_use]
    pub const fn is_answer(&self) -> bool {
        self.header.parent.is_some()
    }
}
