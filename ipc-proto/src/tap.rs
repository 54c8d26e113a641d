//! What `edgectl tap` sees: one record for each message between modules, never a content.
//!
//! A module writes records straight to the operator's socket, one datagram each; the supervisor
//! only hands that socket over. While nobody looks a message costs one comparison.

use serde::{Deserialize, Serialize};

use crate::id::MessageId;
use crate::message::Message;
use crate::module::Module;
use crate::words::{Group, Operation, Source};

/// The greatest record in bytes; longer resources are cut to fit.
pub const MAX_RECORD: usize = 4096;

/// The greatest number of bytes of a resource that a record shows.
const MAX_RESOURCE: usize = 512;

/// Which messages the operator wants to see; nothing set means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Only messages from or to this module.
    pub module: Option<Module>,
    /// Only messages whose resource has this text in it.
    pub resource: Option<String>,
}

impl Filter {
    /// Tells whether the operator wants to see this message.
    #[must_use]
    pub fn wants(&self, from: Module, to: Module, message: &Message) -> bool {
        self.module.is_none_or(|module| module == from || module == to)
            && self
                .resource
                .as_ref()
                .is_none_or(|part| message.route.resource.to_string().contains(part.as_str()))
    }
}

/// What happened to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    /// It was written to the receiver's connection.
    Sent,
    /// The receiver settled it, this many microseconds after it was sent.
    Settled(u64),
    /// The receiver refused it, for this reason.
    Refused(Box<str>),
}

/// One line of the tap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Unix time in microseconds.
    pub at: i64,
    /// The sender, who writes the record.
    pub from: Module,
    /// The receiver.
    pub to: Module,
    /// What happened.
    pub happening: Happening,
    /// The message.
    pub id: MessageId,
    /// The message that it answers.
    pub parent: Option<MessageId>,
    /// Who made it.
    pub source: Source,
    /// The group it is for.
    pub group: Group,
    /// What it asks for.
    pub operation: Operation,
    /// What it is about, cut to 512 bytes.
    pub resource: Box<str>,
    /// The size of its content in bytes.
    pub bytes: u64,
    /// Records that this sender had to drop before this one, because the operator read too slowly.
    pub dropped: u64,
}

impl Record {
    /// Describes a message.
    #[must_use]
    pub fn of(message: &Message, from: Module, to: Module, happening: Happening, at: i64) -> Self {
        let mut resource = message.route.resource.to_string();
        let mut end = resource.len().min(MAX_RESOURCE);
        while !resource.is_char_boundary(end) {
            end -= 1;
        }
        resource.truncate(end);
        Self {
            at,
            from,
            to,
            happening,
            id: message.header.id.clone(),
            parent: message.header.parent.clone(),
            source: message.route.source.clone(),
            group: message.route.group.clone(),
            operation: message.route.operation.clone(),
            resource: resource.into(),
            bytes: message.content.raw().len() as u64,
            dropped: 0,
        }
    }

    /// Encodes the record as one datagram.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a record's types have known lengths")
    }

    /// Decodes a datagram.
    ///
    /// # Errors
    /// When it is no record of this version.
    pub fn decode(datagram: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(datagram)
    }
}
