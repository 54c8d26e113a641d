//! Service account tokens: under which key one is kept, and when it is due to be renewed.
//!
//! A token is kept under the key of the request that asked for it, in the Go edgecore's form. (Go
//! keeps it under the answer's audiences, which the cloud fills in, and so never finds it again.)

use ipc_proto::Content;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::object::Name;
use crate::row::Question;

/// A token is renewed at this age in seconds, however long it is valid: kubelet's bound.
const MAX_AGE: i64 = 24 * 60 * 60;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenRequest {
    spec: Spec,
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    audiences: Option<Vec<String>>,
    expiration_seconds: Option<i64>,
    bound_object_ref: Option<Bound>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Bound {
    kind: String,
    api_version: String,
    name: String,
    uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    token: Option<String>,
    expiration_timestamp: Option<String>,
}

/// How a stored token is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// As it is.
    Fresh,
    /// Only when no newer one can be had: a pod starts with it, and gets a new one with the cloud.
    Due,
}

/// Returns the question for the token that a request asks for, and the key to keep the answer
/// under.
///
/// # Errors
/// When the content is no token request.
pub(crate) fn question(
    account: &Name,
    request: &Content,
) -> Result<(Question, Box<str>), serde_json::Error> {
    let TokenRequest { spec, .. } = request.decode()?;
    let Spec { audiences, expiration_seconds, bound_object_ref } = spec;
    let (name, namespace) = (&account.name, account.scope.as_str());
    let begin = format!("{name:?}/{namespace:?}/");
    let Bound { kind, api_version, name, uid } = bound_object_ref.unwrap_or_default();
    let end = format!(
        "/{}/v1.BoundObjectReference{{Kind:{kind:?}, APIVersion:{api_version:?}, Name:{name:?}, {}",
        expiration_seconds.unwrap_or(0),
        bound_to(&uid),
    );
    let (wanted, like) = match audiences {
        // A token that the Go edgecore stored for such a request is under the cloud's audiences.
        None => ("(nil)".to_owned(), Some((begin.clone().into(), end.clone().into()))),
        Some(audiences) => {
            let quoted: Vec<_> = audiences.iter().map(|audience| format!("{audience:?}")).collect();
            (format!("{{{}}}", quoted.join(", ")), None)
        }
    };
    let key: Box<str> = format!("{begin}[]string{wanted}{end}").into();
    Ok((Question::Token { key: key.clone(), like }, key))
}

/// Returns what the keys of tokens end with that are bound to the object of this uid.
pub(crate) fn bound_to(uid: &str) -> String {
    format!("UID:{uid:?}}}")
}

/// Judges a stored token: it is due in the last fifth of its life, and when it is a day old.
pub(crate) fn freshness(stored: &[u8], unix_seconds: i64) -> Freshness {
    let judged = || {
        let request: TokenRequest = serde_json::from_slice(stored).ok()?;
        let status = request.status?;
        status.token.filter(|token| !token.is_empty())?;
        let expires = OffsetDateTime::parse(&status.expiration_timestamp?, &Rfc3339).ok()?;
        let expires = expires.unix_timestamp();
        let life = request.spec.expiration_seconds.filter(|life| *life > 0)?;
        let renewed = (expires - life / 5).min(expires - life + MAX_AGE);
        (unix_seconds < renewed).then_some(Freshness::Fresh)
    };
    judged().unwrap_or(Freshness::Due)
}

#[cfg(test)]
mod tests;
