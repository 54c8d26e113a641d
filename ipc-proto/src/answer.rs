//! What the API server's answers say when CloudCore passes them on (WIRE.md §§5.4, 5.5, 6.2): an
//! object, bare or in an envelope with capital keys, or an error, which is easily taken for one.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// An answer that is a JSON object. What it holds is read no further.
#[derive(Debug, Deserialize)]
pub struct Answer<'a> {
    /// The object of an envelope.
    #[serde(rename = "Object", borrow, default)]
    pub object: Option<&'a RawValue>,
    #[serde(rename = "Err", default)]
    error: Option<Wrapped>,
    #[serde(rename = "ErrStatus", default)]
    status: Option<Failure>,
    #[serde(default)]
    metadata: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Wrapped {
    #[serde(rename = "ErrStatus", default)]
    status: Option<Failure>,
}

/// An error of the API server. One of CloudCore's own says nothing at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// `Failure`, mostly.
    pub status: Option<String>,
    /// A word such as `NotFound`.
    pub reason: Option<String>,
    /// What a reader is told.
    pub message: Option<String>,
    /// The status code of HTTP.
    pub code: Option<i64>,
}

impl Failure {
    /// Tells whether it says nothing: Go writes an absent error so.
    fn is_empty(&self) -> bool {
        let is_blank = |text: &Option<String>| text.as_deref().unwrap_or("").is_empty();
        is_blank(&self.status) && is_blank(&self.reason) && self.code.unwrap_or(0) == 0
    }
}

impl<'a> Answer<'a> {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it is no JSON object, or its parts are not what they have to be.
    pub fn read(json: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }

    /// Tells whether it is an object itself.
    #[must_use]
    pub const fn is_bare(&self) -> bool {
        self.metadata.is_some()
    }

    /// Takes the error that it carries, which then says nothing where CloudCore did not.
    pub fn failure(&mut self) -> Option<Failure> {
        match (self.status.take(), self.error.take()) {
            (Some(status), _) => Some(status),
            (None, Some(Wrapped { status: None })) => Some(Failure::default()),
            (None, Some(Wrapped { status })) => status.filter(|status| !status.is_empty()),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> Option<Failure> {
        Answer::read(text.as_bytes()).unwrap().failure()
    }

    #[test]
    fn an_error_is_found_bare_and_in_the_envelope() {
        let reason = Some("NotFound".to_owned());
        let missing = Some(Failure { reason, ..Failure::default() });
        assert_eq!(failure(r#"{"ErrStatus":{"reason":"NotFound"}}"#), missing);
        let wrapped = r#"{"Object":{"metadata":{}},"Err":{"ErrStatus":{"reason":"NotFound"}}}"#;
        assert_eq!(failure(wrapped), missing);
    }

    #[test]
    fn an_error_of_go_says_nothing_and_an_absent_one_is_none() {
        for text in [r#"{"Err":{}}"#, r#"{"ErrStatus":{}}"#, r#"{"Object":{},"Err":{}}"#] {
            assert_eq!(failure(text), Some(Failure::default()), "{text}");
        }
        for text in
            ["{}", r#"{"Object":{},"Err":null}"#, r#"{"Err":{"ErrStatus":{"metadata":{}}}}"#]
        {
            assert_eq!(failure(text), None, "{text}");
        }
    }
}
