//! The errors of a Kubernetes API server, as the cloud passes them to nodes.

use serde_json::{Value, json};

use super::kinds::{self, qualify};

/// A refusal by the API: what `metav1.Status` says of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The text for people.
    pub message: String,
    /// The word that clients decide on: `NotFound`, `AlreadyExists`, ...
    pub reason: &'static str,
    /// The HTTP status.
    pub code: u16,
    details: Value,
}

impl Status {
    fn about(word: &str, name: &str, reason: &'static str, code: u16, what: &str) -> Self {
        let names = kinds::by_word(word);
        let (plural, group) = names.map_or((word, ""), |names| (names.plural, names.group));
        let message = format!("{} \"{name}\" {what}", qualify(plural, group));
        Self { message, reason, code, details: details(name, group, plural) }
    }

    /// The API server has no such object.
    #[must_use]
    pub fn not_found(word: &str, name: &str) -> Self {
        Self::about(word, name, "NotFound", 404, "not found")
    }

    /// The cloud's own cache has no such object: the same error, but the kind's word instead of
    /// its plural. Node, lease, configmap and secret are answered from there (WIRE.md §6.2).
    #[must_use]
    pub fn not_cached(word: &str, name: &str) -> Self {
        let group = kinds::by_word(word).map_or("", |names| names.group);
        let message = format!("{} \"{name}\" not found", qualify(word, group));
        Self { message, reason: "NotFound", code: 404, details: details(name, group, word) }
    }

    /// There is such an object already.
    #[must_use]
    pub fn already_exists(word: &str, name: &str) -> Self {
        Self::about(word, name, "AlreadyExists", 409, "already exists")
    }

    /// The object changed since the caller read it, or is another one of the same name.
    #[must_use]
    pub fn conflict(word: &str, name: &str, why: &str) -> Self {
        let mut status = Self::about(word, name, "Conflict", 409, "");
        let plural =
            kinds::by_word(word).map_or_else(|| word.to_owned(), |names| names.qualified());
        status.message = format!("Operation cannot be fulfilled on {plural} \"{name}\": {why}");
        status
    }

    /// The request is no valid one.
    #[must_use]
    pub fn bad_request(message: &str) -> Self {
        let message = message.to_owned();
        Self { message, reason: "BadRequest", code: 400, details: Value::Null }
    }

    /// The cluster is full: minicloud's own bound on objects.
    #[must_use]
    pub fn too_many(limit: usize) -> Self {
        let message = format!("cluster holds {limit} objects, which is its bound");
        Self { message, reason: "Forbidden", code: 403, details: Value::Null }
    }

    /// Writes the error as Go's API errors marshal: `{"ErrStatus": <metav1.Status>}`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        json!({ "ErrStatus": status })
    }
}

fn details(name: &str, group: &str, kind: &str) -> Value {
    let mut details = json!({"name": name, "kind": kind});
    if !group.is_empty() {
        details["group"] = group.into();
    }
    details
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_found_reads_as_recorded() {
        let status = Status::not_cached("lease", "edge1").to_value();
        let recorded = json!({"ErrStatus": {"metadata": {}, "status": "Failure",
            "message": "lease.coordination.k8s.io \"edge1\" not found", "reason": "NotFound",
            "details": {"name": "edge1", "group": "coordination.k8s.io", "kind": "lease"},
            "code": 404}});
        assert_eq!(status, recorded);
    }
}
