//! What the cloud's answers say (WIRE.md §§5.4, 5.5, 6.2): an object, bare or in an envelope with
//! capital keys; `"OK"`; or an error, which Go's edgecore often took for an object.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

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

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "Object", borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(rename = "Err", default)]
    error: Option<Failure>,
    #[serde(rename = "ErrStatus", default)]
    status: Option<Status>,
    #[serde(default)]
    metadata: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(rename = "ErrStatus", default)]
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    status: Option<String>,
    reason: Option<String>,
    code: Option<i64>,
}

impl Status {
    /// Tells whether it says nothing: Go writes an absent error so.
    fn is_empty(&self) -> bool {
        self.status.as_deref().unwrap_or("").is_empty()
            && self.reason.as_deref().unwrap_or("").is_empty()
            && self.code.unwrap_or(0) == 0
    }

    fn judge(&self) -> Reply {
        if self.reason.as_deref() == Some("NotFound") { Reply::NotFound } else { Reply::Failed }
    }
}

impl Reply {
    /// Reads an answer.
    pub(crate) fn read(content: &Bytes) -> Self {
        if first_letter(content) != Some(b'{') {
            return Self::Other;
        }
        let Ok(answer) = serde_json::from_slice::<Answer<'_>>(content) else { return Self::Other };
        match answer {
            Answer { status: Some(status), .. } => status.judge(),
            Answer { error: Some(Failure { status: None }), .. } => Self::Failed,
            Answer { error: Some(Failure { status: Some(status) }), .. } if !status.is_empty() => {
                status.judge()
            }
            Answer { object: Some(object), .. } => {
                let object = object.get().as_bytes();
                let has_metadata = serde_json::from_slice::<Answer<'_>>(object)
                    .is_ok_and(|object| object.metadata.is_some());
                if has_metadata { Self::Object(content.slice_ref(object)) } else { Self::Other }
            }
            Answer { metadata: Some(_), .. } => Self::Object(content.clone()),
            // `{}` is how Go writes an error that is none of the API's.
            Answer { metadata: None, .. } => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Reply {
        Reply::read(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn objects_are_found_bare_and_in_the_envelope() {
        let object = r#"{"metadata":{"name":"c"}}"#;
        assert_eq!(read(object), Reply::Object(object.into()));
        assert_eq!(
            read(&format!(r#"{{"Object":{object},"Err":null}}"#)),
            Reply::Object(object.into())
        );
        assert_eq!(read(&format!(r#"{{"Object":{object}}}"#)), Reply::Object(object.into()));
        let zero = format!(r#"{{"Object":{object},"Err":{{"ErrStatus":{{"metadata":{{}}}}}}}}"#);
        assert_eq!(read(&zero), Reply::Object(object.into()));
    }

    #[test]
    fn errors_are_never_taken_for_objects() {
        let status = r#"{"metadata":{},"status":"Failure","reason":"NotFound","code":404}"#;
        assert_eq!(read(&format!(r#"{{"ErrStatus":{status}}}"#)), Reply::NotFound);
        let wrapped = format!(r#"{{"Object":{{}},"Err":{{"ErrStatus":{status}}}}}"#);
        assert_eq!(read(&wrapped), Reply::NotFound);
        for text in [
            "{}",
            r#"{"Err":{}}"#,
            r#"{"Object":{"metadata":{}},"Err":{}}"#,
            r#"{"ErrStatus":{}}"#,
            r#"{"Object":null,"Err":{"ErrStatus":{"code":500}}}"#,
        ] {
            assert_eq!(read(text), Reply::Failed, "{text}");
        }
    }

    #[test]
    fn anything_else_is_nobodys_object() {
        for text in [
            "",
            "null",
            "7",
            "[{\"metadata\":{}}]",
            "\"OK\"",
            "{",
            r#"{"Object":7,"Err":null}"#,
            r#"{"Object":{},"Err":null}"#,
            r#"{"Err":7,"metadata":{}}"#,
        ] {
            assert_eq!(read(text), Reply::Other, "{text}");
        }
    }
}
