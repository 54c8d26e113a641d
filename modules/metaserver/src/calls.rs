//! What KubeEdge's own tools ask for beside the API: to start pods again, to let go of pods that are
//! held back, to go on with an upgrade.

use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use ipc_proto::{Content, Group, Kind, Module, Operation, Resource, Scope};
use module_runtime::RequestError;
use serde::Deserialize;
use serde_json::json;

use crate::body::{self, Body};
use crate::path::Target;
use crate::serve::Site;
use crate::status::Refusal;

/// How long edged may take to stop a pod's containers.
const PATIENCE: Duration = Duration::from_secs(60);

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    RestartPods,
    ReleasePod,
    ReleaseNode,
    ConfirmUpgrade,
}

impl Call {
    /// Finds the call that a creation by this name is.
    pub(crate) fn of(target: &Target) -> Option<Self> {
        let name = target.name.as_deref()?;
        match (&*target.group, &*target.plural, name, &*target.subresource) {
            ("", "pods", "restart", "") => Some(Self::RestartPods),
            ("", "pods", "unhold-upgrade", "") => Some(Self::ReleasePod),
            ("", "nodes", "unhold-upgrade", "") => Some(Self::ReleaseNode),
            (_, _, "confirm-upgrade", "") => Some(Self::ConfirmUpgrade),
            _ => None,
        }
    }
}

/// What of a pod decides whether it is let go.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Held {
    metadata: Metadata,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

impl Held {
    fn is_marked(&self) -> bool {
        let annotations = self.metadata.annotations.as_ref();
        let mark = annotations.and_then(|it| it.get("edge.kubeedge.io/hold-upgrade"));
        mark.is_some_and(|mark| mark == "true")
    }

    fn waits(&self) -> bool {
        self.status.phase.is_empty() || self.status.phase == "Pending"
    }
}

/// Does what is called for.
///
/// # Errors
/// Why it cannot be done.
pub(crate) async fn answer(
    site: &Site,
    call: Call,
    target: &Target,
    text: &Bytes,
) -> Result<Response<Body>, Refusal> {
    let words = std::str::from_utf8(text).unwrap_or_default().trim();
    match call {
        Call::RestartPods => {
            let amiss = |_| Refusal::bad_request("the body is no JSON array of pods' names");
            let names: Vec<String> = serde_json::from_slice(text).map_err(amiss)?;
            Ok(restart(site, target.namespace.as_deref().unwrap_or("default"), names).await)
        }
        Call::ReleasePod => {
            let parts = words.split_once('/').filter(|(space, name)| {
                !space.is_empty() && !name.is_empty() && !name.contains('/')
            });
            let wrong = || Refusal::bad_request("invalid format, expected <namespace>/<name>");
            let (namespace, name) = parts.ok_or_else(wrong)?;
            release_pod(site, namespace, name).await?;
            Ok(body::text(""))
        }
        Call::ReleaseNode => {
            release_node(site, words).await?;
            Ok(body::text(""))
        }
        Call::ConfirmUpgrade => confirm(site).await,
    }
}

/// Asks a module to do something with a pod, or with a job.
async fn ask(
    site: &Site,
    to: Module,
    operation: Operation,
    resource: Resource,
) -> Result<(), RequestError> {
    let peers = &site.store.0;
    let message = peers.message(Group::Resource, operation, resource, Content::NULL);
    peers.request(to, message, PATIENCE).await.map(|answer| answer.settle())
}

fn pod(namespace: &str, name: &str) -> Resource {
    Resource::object(Scope::Namespace(namespace.into()), Kind::Pod, name)
}

/// Has containers stopped, which their pods' policy then starts again. As in KubeEdge the answer is
/// a success whatever became of each.
async fn restart(site: &Site, namespace: &str, names: Vec<String>) -> Response<Body> {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for name in names {
        let restart = Operation::Restart;
        match ask(site, Module::Edged, restart, pod(namespace, &name)).await {
            Ok(()) => done.push(format!("the pod \"{namespace}/{name}\" restart successful")),
            Err(RequestError::Failed { answer, .. }) => {
                failed.push(answer.content.decode().unwrap_or_else(|_| "no reason".to_owned()));
            }
            Err(error) => failed.push(format!("pod {namespace}/{name}: {error}")),
        }
    }
    let mut answer = serde_json::Map::new();
    for (key, texts) in [("errMessages", failed), ("LogMessages", done)] {
        if !texts.is_empty() {
            answer.insert(key.to_owned(), texts.into());
        }
    }
    body::json(serde_json::Value::Object(answer).to_string())
}

async fn release_pod(site: &Site, namespace: &str, name: &str) -> Result<(), Refusal> {
    let target = Target {
        version: "v1".to_owned(),
        plural: "pods".to_owned(),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..Target::default()
    };
    let found = site.store.one(&target.key()).await?;
    let found = found.ok_or_else(|| Refusal::not_found(&target))?;
    let held: Held = serde_json::from_slice(&found).unwrap_or_default();
    if !held.is_marked() {
        return Err(Refusal::bad_request("pod is not marked with hold-upgrade annotation"));
    }
    if !held.waits() {
        return Err(Refusal::bad_request("pod is not in pending phase"));
    }
    release(site, namespace, name).await
}

async fn release(site: &Site, namespace: &str, name: &str) -> Result<(), Refusal> {
    let operation = Operation::UnholdUpgrade;
    let peers = &site.store.0;
    let message = peers.message(Group::Resource, operation, pod(namespace, name), Content::NULL);
    let why = |error: String| Refusal::unavailable(format!("the pod is not let go: {error}"));
    let sent = peers.send(Module::Edged, message).await;
    let ticket = sent.map_err(|error| why(error.to_string()))?;
    match tokio::time::timeout(PATIENCE, ticket.settled()).await {
        Ok(settled) => settled.map_err(|error| why(error.to_string())),
        Err(_) => Err(why("edged does not take it".to_owned())),
    }
}

/// Lets go of all pods of this node that are held back.
async fn release_node(site: &Site, node: &str) -> Result<(), Refusal> {
    let target = Target {
        version: "v1".to_owned(),
        plural: "nodes".to_owned(),
        name: Some(node.to_owned()),
        ..Target::default()
    };
    if node.is_empty() {
        return Err(Refusal::bad_request("node name required in body"));
    }
    if site.store.one(&target.key()).await?.is_none() {
        return Err(Refusal::not_found(&target));
    }
    let mut after = String::new();
    loop {
        let page = site.store.page("/core/v1/pods/", &after).await?;
        let rows = page.rows()?;
        for (_, object) in &rows.rows {
            let held: Held = serde_json::from_str(object.get()).unwrap_or_default();
            if held.is_marked() && held.waits() {
                release(site, &held.metadata.namespace, &held.metadata.name).await?;
            }
        }
        let Some(last) = rows.rest() else { return Ok(()) };
        after = last;
    }
}

/// Has an upgrade go on that waits for a word from the node.
async fn confirm(site: &Site) -> Result<Response<Body>, Refusal> {
    let resource = Resource::Task("confirm-upgrade".into());
    match ask(site, Module::Taskmanager, Operation::WaitingConfirmation, resource).await {
        Ok(()) => Ok(body::json(json!({}).to_string())),
        Err(RequestError::Failed { answer, .. }) => {
            let why: String = answer.content.decode().unwrap_or_default();
            Err(Refusal::bad_request(format!("the upgrade does not go on: {why}")))
        }
        Err(error) => Err(Refusal::unavailable(format!("the upgrade does not go on: {error}"))),
    }
}
