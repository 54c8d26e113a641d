//! What the cloud's answers say (WIRE.md §§5.4, 5.5, 6.2): an object, bare or in an envelope with
//! capital keys; `"OK"`; or an error, which Go's edgecore often took for an object.

use bytes::Bytes;
use ipc_proto::answer::Answer;

use super::object::first_letter;

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// An object, which is part of the answer's own bytes.
    Object(Bytes),
    /// The object does not exist.
    NotFound,
    /// Another error.
    Failed,
    /// Neither object nor error: `"OK"`, or something that is nobody's object.
    Other,
}

impl Reply {
    /// Reads an answer.
    pub(crate) fn read(content: &Bytes) -> Self {
        if first_letter(content) != Some(b'{') {
            return Self::Other;
        }
        let Ok(mut answer) = Answer::read(content) else { return Self::Other };
        if let Some(failure) = answer.failure() {
            let is_missing = failure.reason.as_deref() == Some("NotFound");
            return if is_missing { Self::NotFound } else { Self::Failed };
        }
        if let Some(object) = answer.object {
            let object = object.get().as_bytes();
            let is_object = Answer::read(object).is_ok_and(|object| object.is_bare());
            return if is_object { Self::Object(content.slice_ref(object)) } else { Self::Other };
        }
        // `{}` is how Go writes an error that is none of the API's.
        if answer.is_bare() { Self::Object(content.clone()) } else { Self::Failed }
    }
}

#[cfg(test)]
mod tests;
