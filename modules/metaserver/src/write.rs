//! Changes: the cluster alone makes them, so they are taken to the cloud as they came.

use bytes::Bytes;
use data_encoding::BASE64;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response, StatusCode};
use module_runtime::query::Query;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::body::{self, Body};
use crate::calls::{self, Call};
use crate::cloud::Ask;
use crate::path::{Target, Verb};
use crate::serve::Site;
use crate::status::Refusal;

/// The longest body, in bytes, as KubeEdge bounds it.
const MAX_BODY: usize = 3 * 1024 * 1024;

/// How long a body may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// The forms of a patch.
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Has the cloud make a change.
///
/// # Errors
/// What the cloud says, or why it is not asked.
pub(crate) async fn answer(
    site: &Site,
    verb: Verb,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let call = if verb == Verb::Create { Call::of(target) } else { None };
    if let Some(call) = call {
        let text = read(request).await?;
        return calls::answer(site, call, target, &text).await;
    }
    if let Some(what) = unserved(verb, target) {
        return Err(Refusal::not_implemented(&what));
    }
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned();
    let body = read(request).await?;
    let ask = ask(verb, target, query, &kind, &body)?;
    let answer = site.cloud.apply(ask).await?;
    // A deletion is answered with nothing.
    if answer.is_empty() || &answer[..] == b"null" {
        return Ok(body::json(done(target).to_string()));
    }
    let mut reply = body::json(answer);
    if verb == Verb::Create {
        *reply.status_mut() = StatusCode::CREATED;
    }
    Ok(reply)
}

/// Returns what is asked for if nobody here or in CloudCore does that.
fn unserved(verb: Verb, target: &Target) -> Option<String> {
    let resource = target.group_resource();
    match (verb, target.subresource.as_str()) {
        (Verb::DeleteCollection, _) => Some(format!("deleting a collection of {resource}")),
        (_, "exec" | "attach" | "portforward" | "proxy" | "log") => {
            Some(format!("the subresource {} of {resource}", target.subresource))
        }
        (Verb::Create, "") if target.name.is_some() => {
            let name = target.name.as_deref().unwrap_or_default();
            Some(format!("the call {resource}/{name}"))
        }
        _ => None,
    }
}

async fn read(request: Request<Incoming>) -> Result<Bytes, Refusal> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    match timeout(PATIENCE, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::too_large(MAX_BODY))
        }
        Ok(Err(error)) => Err(Refusal::bad_request(format!("cannot read the body: {error}"))),
        Err(_) => Err(Refusal::timeout("the request's body did not come in time")),
    }
}

/// Makes an application of a request.
pub(crate) fn ask<'a>(
    verb: Verb,
    target: &'a Target,
    query: &Query,
    kind: &str,
    body: &'a [u8],
) -> Result<Ask<'a>, Refusal> {
    let key = target.application_key();
    let subresource = target.subresource.as_str();
    let is_json = kind.is_empty() || kind == "application/json";
    if verb != Verb::Patch && !is_json {
        return Err(Refusal::unsupported_media(kind));
    }
    match verb {
        Verb::Patch => {
            if !PATCHES.contains(&kind) {
                return Err(Refusal::unsupported_media(kind));
            }
            let subresources: Vec<_> =
                subresource.split('/').filter(|part| !part.is_empty()).collect();
            let option = json!({
                "Name": target.name, "PatchType": kind, "Data": BASE64.encode(body),
                "Options": options(query), "Subresources": subresources,
            });
            let option = Some(option.to_string());
            Ok(Ask { key, verb: "patch", option, body: None, subresource })
        }
        Verb::Delete => {
            let option = if body.is_empty() { options(query).to_string() } else { object(body)? };
            Ok(Ask { key, verb: "delete", option: Some(option), body: None, subresource })
        }
        Verb::Get
        | Verb::List
        | Verb::Watch
        | Verb::Create
        | Verb::Update
        | Verb::DeleteCollection => {
            object(body)?;
            let (verb, subresource) = match (verb, subresource) {
                (Verb::Update, "status") => ("updatestatus", ""),
                _ => (verb.word(), subresource),
            };
            let option = Some(options(query).to_string());
            Ok(Ask { key, verb, option, body: Some(body), subresource })
        }
    }
}

/// Takes a text for an object, or says that it is none.
fn object(body: &[u8]) -> Result<String, Refusal> {
    let wrong = |error| Refusal::bad_request(format!("the body is no JSON: {error}"));
    let raw: &RawValue = serde_json::from_slice(body).map_err(wrong)?;
    if raw.get().starts_with('{') {
        Ok(raw.get().to_owned())
    } else {
        Err(Refusal::bad_request("the body is no object"))
    }
}

/// Takes the options of a change out of the address.
fn options(query: &Query) -> Value {
    let mut options = Map::new();
    for key in ["fieldManager", "fieldValidation", "propagationPolicy"] {
        if let Some(value) = query.first(key) {
            options.insert(key.to_owned(), value.into());
        }
    }
    let dry = query.all("dryRun");
    if !dry.is_empty() {
        options.insert("dryRun".to_owned(), dry.into());
    }
    if query.first("force").is_some() {
        options.insert("force".to_owned(), query.is_set("force").into());
    }
    if let Some(grace) = query.first("gracePeriodSeconds").and_then(|text| text.parse::<i64>().ok())
    {
        options.insert("gracePeriodSeconds".to_owned(), grace.into());
    }
    Value::Object(options)
}

/// What a deletion is answered with.
fn done(target: &Target) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": target.name, "group": target.group, "kind": target.plural},
    })
}
