//! Objects that nodes ask for: queries, status patches, tokens, certificate requests.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::cluster::{fields, uid_of};
use super::super::merge;
use super::super::status::Status;
use super::{Answer, Call, Request, parse_text};
use crate::token;

/// The audience of a token that asks for none.
const AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";
/// The shortest life of a token, in seconds, as the API server has it.
const MIN_TOKEN_SECONDS: u64 = 600;
/// The longest life of a token, in seconds: a year.
const MAX_TOKEN_SECONDS: u64 = 31_536_000;

fn find<'a>(call: &'a Call<'_>, request: &Request) -> Option<&'a Value> {
    call.cloud.cluster.get(&request.key)
}

/// Answers from the API server.
pub(super) fn query(call: &Call<'_>, request: &Request) -> Answer {
    let missing = || Status::not_found(request.key.kind(), request.key.name());
    Answer::bare(find(call, request).ok_or_else(missing))
}

/// Answers from the cloud's own cache.
pub(super) fn query_cached(call: &Call<'_>, request: &Request) -> Answer {
    let missing = || Status::not_cached(request.key.kind(), request.key.name());
    Answer::bare(find(call, request).ok_or_else(missing))
}

/// Answers with a lease, in the envelope.
pub(super) fn query_lease(call: &Call<'_>, request: &Request) -> Answer {
    let missing = || Status::not_cached(request.key.kind(), request.key.name());
    Answer::envelope(find(call, request).ok_or_else(missing))
}

/// Answers with a certificate request, in the envelope.
pub(super) fn query_csr(call: &Call<'_>, request: &Request) -> Answer {
    let missing = || Status::not_found(request.key.kind(), request.key.name());
    Answer::envelope(find(call, request).ok_or_else(missing))
}

/// Patches the status of a node or pod. A uid in the patch must be the object's.
pub(super) fn patch_status(call: &mut Call<'_>, request: &Request) -> Answer {
    Answer::versioned(patch(call, request))
}

fn patch<'a>(call: &'a mut Call<'_>, request: &Request) -> Result<&'a Value, Status> {
    let (word, name) = (request.key.kind(), request.key.name());
    let patch = parse_text(&request.body).filter(Value::is_object);
    let patch = patch.ok_or_else(|| Status::bad_request("patch is no JSON object"))?;
    let cluster = &mut call.cloud.cluster;
    let object = cluster.get(&request.key).ok_or_else(|| Status::not_found(word, name))?;
    let uid = uid_of(object);
    if let Some(wanted) = patch["metadata"]["uid"].as_str().filter(|wanted| *wanted != uid) {
        let why = format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
        );
        return Err(Status::conflict(word, name, &why));
    }
    cluster.modify(&request.key, |object| {
        let spec = object.get("spec").cloned();
        merge::strategic(object, &patch);
        // The status is all that this door opens to.
        if let Some(spec) = spec {
            fields(object).insert("spec".to_owned(), spec);
        }
        if word == "pod" {
            write_probe_times(object);
        }
    })
}

/// Pods' conditions always have this field, null or not: Go writes it from the API's own type.
fn write_probe_times(pod: &mut Value) {
    let status = pod.get_mut("status").and_then(|status| status.get_mut("conditions"));
    for condition in status.and_then(Value::as_array_mut).into_iter().flatten() {
        fields(condition).entry("lastProbeTime").or_insert(Value::Null);
    }
}

/// Answers a TokenRequest.
pub(super) fn token(call: &mut Call<'_>, request: &Request) -> Answer {
    let (namespace, name) = (request.key.namespace(), request.key.name());
    let Some(account) = find(call, request) else {
        return Answer {
            content: Status::not_found("serviceaccount", name).to_value(),
            version: 0,
        };
    };
    let account = account["metadata"].clone();
    let spec = &request.body["spec"];
    let asked = spec["expirationSeconds"].as_u64().unwrap_or(3600);
    let seconds = asked.clamp(MIN_TOKEN_SECONDS, MAX_TOKEN_SECONDS);
    let expires = call.now.after(Duration::from_secs(seconds));
    let audiences = match spec["audiences"].as_array() {
        Some(audiences) if !audiences.is_empty() => Value::from(audiences.clone()),
        _ => json!([AUDIENCE]),
    };
    let claims = json!({
        "iss": AUDIENCE,
        "aud": audiences,
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
        "iat": call.now.millis() / 1000,
        "exp": expires.millis() / 1000,
        "jti": call.cloud.cluster.ids.uid(),
        "kubernetes.io": {
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": account["uid"]},
            "pod": {"name": spec["boundObjectRef"]["name"], "uid": spec["boundObjectRef"]["uid"]},
        },
    });
    let token = token::sign(&call.cloud.settings.token_key, &claims);
    let mut spec = json!({"audiences": audiences, "expirationSeconds": seconds});
    if let Some(bound) = request.body["spec"].get("boundObjectRef") {
        spec["boundObjectRef"] = bound.clone();
    }
    let content = json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "uid": account["uid"],
            "creationTimestamp": call.now.text()},
        "spec": spec,
        "status": {"token": token, "expirationTimestamp": expires.text()},
    });
    Answer { content, version: 0 }
}

/// Stores a certificate request as the node's; the shell, which has the authority's key, signs it.
pub(super) fn insert_csr(call: &mut Call<'_>, request: Request) -> Answer {
    let Request { key, mut body } = request;
    let csr = fields(&mut body);
    csr.insert("kind".to_owned(), "CertificateSigningRequest".into());
    let meta = fields(csr.entry("metadata").or_insert(Value::Null));
    meta.insert("name".to_owned(), key.name().into());
    let spec = fields(csr.entry("spec").or_insert(Value::Null));
    spec.insert("username".to_owned(), format!("system:node:{}", call.node).into());
    spec.insert("groups".to_owned(), json!(["system:nodes", "system:authenticated"]));
    let cluster = &mut call.cloud.cluster;
    let created = cluster.create(call.now, body);
    let found = created
        .and_then(|key| cluster.get(&key).ok_or_else(|| Status::not_found(key.kind(), key.name())));
    Answer::envelope(found)
}
