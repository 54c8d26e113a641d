//! How the Kubernetes API says no: an object of kind `Status`.

use hyper::{Response, StatusCode};
use serde_json::json;

use crate::body::{self, Body};
use crate::history::TooOld;
use crate::path::Target;

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: u16,
    /// A word such as `NotFound`.
    reason: String,
    message: String,
    /// Seconds after which to ask again.
    retry: Option<u32>,
}

impl Refusal {
    fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.to_owned(), message: message.into(), retry: None }
    }

    /// What the cloud said.
    pub(crate) fn of_cloud(code: u16, reason: &str, message: &str) -> Self {
        Self::new(code, reason, message)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// It is not clear who asks.
    pub(crate) fn unauthorized(why: &str) -> Self {
        Self::new(401, "Unauthorized", format!("Unauthorized: {why}"))
    }

    /// Who asks may not do that.
    pub(crate) fn forbidden(user: &str, verb: &str, target: &Target) -> Self {
        let Target { group, plural, namespace, name, subresource, .. } = target;
        let what = target.group_resource();
        let name = name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
        let slash = if subresource.is_empty() { "" } else { "/" };
        let place = match namespace {
            Some(namespace) => format!("in the namespace \"{namespace}\""),
            None => "at the cluster scope".to_owned(),
        };
        let message = format!(
            "{what}{name} is forbidden: User \"{user}\" cannot {verb} resource \
             \"{plural}{slash}{subresource}\" in API group \"{group}\" {place}"
        );
        Self::new(403, "Forbidden", message)
    }

    pub(crate) fn unknown_path(path: &str) -> Self {
        let shown: String = path.chars().take(200).collect();
        let message = format!("the server could not find the requested resource ({shown})");
        Self::new(404, "NotFound", message)
    }

    pub(crate) fn not_found(target: &Target) -> Self {
        let (what, name) = (target.group_resource(), target.name.as_deref().unwrap_or_default());
        Self::new(404, "NotFound", format!("{what} \"{name}\" not found"))
    }

    pub(crate) fn method(method: &str, path: &str) -> Self {
        let shown: String = path.chars().take(200).collect();
        Self::new(405, "MethodNotAllowed", format!("{method} is not supported on {shown}"))
    }

    pub(crate) fn not_acceptable() -> Self {
        let message = "only application/json is served here, also as Table and as \
                       PartialObjectMetadata of meta.k8s.io/v1";
        Self::new(406, "NotAcceptable", message)
    }

    pub(crate) fn unsupported_media(kind: &str) -> Self {
        let shown: String = kind.chars().take(100).collect();
        let message = format!("content type '{shown}' is not supported, expected application/json");
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("the request's body is over {limit} bytes");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    pub(crate) fn not_implemented(what: &str) -> Self {
        Self::new(501, "NotImplemented", format!("{what} is not served by this node's API"))
    }

    /// The cloud is needed, and away.
    pub(crate) fn offline(what: &str) -> Self {
        let message = format!("{what} needs the cloud, which is not connected");
        Self { retry: Some(10), ..Self::new(503, "ServiceUnavailable", message) }
    }

    /// Something that passes is in the way.
    pub(crate) fn unavailable(why: impl Into<String>) -> Self {
        Self { retry: Some(1), ..Self::new(503, "ServiceUnavailable", why) }
    }

    /// The cloud did not answer in time.
    pub(crate) fn timeout(why: impl Into<String>) -> Self {
        Self { retry: Some(1), ..Self::new(504, "Timeout", why) }
    }

    /// Tells whether it says that there is no such object.
    pub(crate) const fn is_missing(&self) -> bool {
        self.code == 404
    }

    /// Tells whether it may be otherwise a moment later.
    pub(crate) const fn is_passing(&self) -> bool {
        self.retry.is_some()
    }

    /// Returns the object.
    pub(crate) fn status(&self) -> serde_json::Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if let Some(seconds) = self.retry {
            status["details"] = json!({"retryAfterSeconds": seconds});
        }
        status
    }

    /// Returns the answer. It has no `Retry-After`: clients of Kubernetes ask again by themselves
    /// where there is one, ten times, and `kubectl describe` took 100 s without a cloud.
    pub(crate) fn reply(&self) -> Response<Body> {
        let mut reply = body::json(self.status().to_string());
        *reply.status_mut() =
            StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        reply
    }
}

impl From<TooOld> for Refusal {
    fn from(TooOld: TooOld) -> Self {
        let message = "too old resource version: this node does not know what changed since";
        Self::new(410, "Expired", message)
    }
}
