//! The control API: HTTP and JSON on the loopback, by which tests of any language look at the
//! cloud and steer it.
//!
//! | request | what |
//! |---|---|
//! | `GET /objects[?kind=pod]` | the objects, as a list |
//! | `GET /objects/<namespace\|null>/<kind>/<name>` | one |
//! | `PUT /objects` | applies the objects of the body (JSON or YAML, any number) |
//! | `DELETE /objects/<namespace\|null>/<kind>/<name>[?force=true]` | deletes one |
//! | `GET /nodes/<name>` | a node as the node controller judges it |
//! | `GET /sessions` | the nodes' sessions |
//! | `GET /syncs` | what nodes have acknowledged (ObjectSyncs) |
//! | `GET /received[?since=<sequence>]` | what nodes sent |
//! | `POST /send/<node>` | sends a message: `{"source", "group", "operation", "resource", "content"}` |
//! | `POST /fault[?node=<node>]` | begins a fault: `{"fault": "drop", "count": 3}` |
//! | `GET /token` | a fresh bootstrap token |

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::core::key::Key;
use crate::core::received::Received;
use crate::core::{Cloud, Push};
use crate::fault::Fault;
use crate::manifests;
use crate::owner::Command;
use crate::shared::Shared;
use crate::token;

/// The largest body that is taken.
const MAX_BODY: usize = 32 << 20;
/// How long the head of a request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most messages that one answer lists.
const MAX_RECEIVED: usize = 1000;

/// What a request came to: a body, or a status and a reason.
type Outcome = Result<Value, (StatusCode, String)>;

/// Serves a connection until it ends.
pub(crate) async fn serve(stream: TcpStream, shared: Shared) {
    let service = service_fn(|request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
    });
    let server = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    // How a connection ends is the client's affair.
    server.await.ok();
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let outcome = match Limited::new(body, MAX_BODY).collect().await {
        Err(error) => Err((StatusCode::BAD_REQUEST, error.to_string())),
        Ok(body) => {
            let query = head.uri.query().unwrap_or_default();
            route(&head.method, head.uri.path(), query, &body.to_bytes(), shared).await
        }
    };
    let (status, value) = match outcome {
        Ok(value) => (StatusCode::OK, value),
        Err((status, why)) => (status, json!({ "error": why })),
    };
    let mut response = Response::new(Full::new(value.to_string().into()));
    *response.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

async fn route(method: &Method, path: &str, query: &str, body: &[u8], shared: &Shared) -> Outcome {
    let (door, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    let rest = rest.to_owned();
    match (method, door.trim_start_matches('/')) {
        (&Method::GET, "objects") if rest.is_empty() => {
            let kind = parameter(query, "kind").map(str::to_owned);
            look(shared, move |cloud| Ok(objects(cloud, kind.as_deref()))).await
        }
        (&Method::GET, "objects") => {
            let key = key(&rest)?;
            let found = move |cloud: &Cloud| cloud.cluster().get(&key).cloned();
            look(shared, move |cloud| found(cloud).ok_or_else(|| missing(&rest))).await
        }
        (&Method::PUT, "objects") => apply(shared, body).await,
        (&Method::DELETE, "objects") => delete(shared, &rest, query).await,
        (&Method::GET, "nodes") => {
            let node = move |cloud: &Cloud, now| {
                cloud.node(now, &rest).map(|node| json!(node)).ok_or_else(|| missing(&rest))
            };
            shared.look(node).await.map_err(ended)?
        }
        (&Method::GET, "sessions") => look(shared, |cloud| Ok(json!(cloud.hub().sessions()))).await,
        (&Method::GET, "syncs") => look(shared, |cloud| Ok(syncs(cloud))).await,
        (&Method::GET, "received") => {
            let since = parameter(query, "since").and_then(|text| text.parse().ok()).unwrap_or(0);
            look(shared, move |cloud| Ok(received(cloud, since))).await
        }
        (&Method::POST, "send") => {
            let push: Push = serde_json::from_slice(body).map_err(bad)?;
            let send = move |cloud: &mut Cloud, now, out: &mut Vec<_>| {
                cloud.push(now, &rest, &push, out);
            };
            shared.act(send).await.map_err(ended).map(|()| json!({}))
        }
        (&Method::POST, "fault") => {
            let fault: Fault = serde_json::from_slice(body).map_err(bad)?;
            let node = parameter(query, "node").map(str::to_owned);
            let command = Command::Fault(node, fault);
            let sent = shared.commands.send(command).await.ok().context("the cloud has ended");
            sent.map_err(ended).map(|()| json!({}))
        }
        (&Method::GET, "token") => Ok(token::fresh(shared).into()),
        _ => Err((StatusCode::NOT_FOUND, format!("no such request: {method} {path}"))),
    }
}

async fn look(shared: &Shared, view: impl FnOnce(&Cloud) -> Outcome + Send + 'static) -> Outcome {
    shared.look(move |cloud, _| view(cloud)).await.map_err(ended)?
}

async fn apply(shared: &Shared, body: &[u8]) -> Outcome {
    let text = std::str::from_utf8(body).map_err(bad)?;
    let objects = manifests::parse(text).map_err(bad)?;
    let apply = move |cloud: &mut Cloud, now, out: &mut Vec<_>| -> Outcome {
        let mut keys = Vec::new();
        for object in objects {
            let key = cloud.apply(now, object, out).map_err(bad)?;
            keys.push(key.to_string());
        }
        Ok(json!({ "applied": keys }))
    };
    shared.act(apply).await.map_err(ended)?
}

async fn delete(shared: &Shared, path: &str, query: &str) -> Outcome {
    let key = key(path)?;
    let force = parameter(query, "force") == Some("true");
    let path = path.to_owned();
    let delete = move |cloud: &mut Cloud, now, out: &mut Vec<_>| -> Outcome {
        cloud.delete(now, &key, force, out).map_err(|_| missing(&path))?;
        Ok(json!({}))
    };
    shared.act(delete).await.map_err(ended)?
}

fn objects(cloud: &Cloud, kind: Option<&str>) -> Value {
    let wanted = |key: &Key| kind.is_none_or(|kind| key.kind() == kind);
    let objects = cloud.cluster().iter().filter(|(key, _)| wanted(key));
    objects.map(|(_, object)| object.clone()).collect()
}

fn syncs(cloud: &Cloud) -> Value {
    let syncs = cloud.hub().syncs().iter();
    let view = |((node, uid), sync): (&crate::hub::core::SyncKey, &crate::hub::core::Sync)| {
        json!({"node": node, "uid": uid, "resource": sync.resource.to_string(),
            "version": sync.version.to_string()})
    };
    syncs.map(view).collect()
}

fn received(cloud: &Cloud, since: u64) -> Value {
    let view = |entry: &Received| {
        let Received { sequence, at, node, message } = entry;
        let route = &message.route;
        let content: Value = message.content.decode().unwrap_or_default();
        json!({"sequence": sequence, "at": at.text(), "node": node,
            "id": message.header.id.to_string(),
            "parent": message.header.parent.as_ref().map(ToString::to_string),
            "source": route.source.as_str(), "group": route.group.as_str(),
            "operation": route.operation.as_str(), "resource": route.resource.to_string(),
            "content": content})
    };
    cloud.received().since(since).take(MAX_RECEIVED).map(view).collect()
}

fn key(path: &str) -> Result<Key, (StatusCode, String)> {
    Key::parse(path).map_err(bad)
}

/// Finds a parameter of a query; escapes are not needed and not known here.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

fn bad(why: impl Into<anyhow::Error>) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, why.into().to_string())
}

fn missing(path: &str) -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, format!("no object {path}"))
}

fn ended(why: impl Into<anyhow::Error>) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, why.into().to_string())
}
