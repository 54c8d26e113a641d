//! Logs of containers: which file, from where in it, and how long.

mod read;
mod shape;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::ears::Ears;
use super::reply::{Refusal, Reply, streamed};
use super::route::{Query, Target};
use super::{Site, off_thread};
use crate::cri::words as w;
use read::{Log, Step};
pub(crate) use shape::Options;
pub(super) use shape::Shape;
use shape::nanos;

/// Parts that wait for a slow client.
const WAITING: usize = 2;

/// Answers with a container's log.
pub(crate) async fn answer(site: &Arc<Site>, target: &Target, query: &Query) -> Reply {
    let options = options(query)?;
    let none = format!("pod {:?} does not exist", target.pod);
    let shown = site.pod(&target.namespace, &target.pod, &none).await?;
    let name = &target.container;
    if shown.pod.spec.container(name).is_none() {
        let text = format!("container {name:?} not found in pod {:?}", target.pod);
        return Err(Refusal::new(StatusCode::NOT_FOUND, text));
    }
    let container = choose(&shown.status(), target, options.previous)?;
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    let request = w::ContainerStatusRequest { container_id: container.clone() };
    let status = site.runtime.container_status(request).await.map_err(|it| bad(it.to_string()))?;
    let path = PathBuf::from(status.status.unwrap_or_default().log_path);
    let permit = Arc::clone(&site.streams).try_acquire_owned().map_err(|_| too_many())?;
    let follow = options.follow;
    let (path, log) = off_thread(move || open(&path, options)).await?;
    let ears = if follow { listen(site, &path).await } else { None };
    let (sender, parts) = mpsc::channel(WAITING);
    let site = Arc::clone(site);
    tokio::spawn(async move {
        pump(Arc::clone(&site), log, container, ears, sender).await;
        // When there is no room, others have said it.
        site.gone.try_send(()).unwrap_or_default();
        drop(permit);
    });
    Ok(streamed(parts))
}

/// Opens a log; returns where it is, too.
fn open(path: &Path, options: Options) -> Result<(PathBuf, Log), Refusal> {
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    // Links are followed once: where the file is rotated is where changes are heard of.
    let path = path.canonicalize().map_err(|error| {
        bad(format!("failed to try resolving symlinks in path {:?}: {error}", path.display()))
    })?;
    let log = Log::open(&path, options)
        .map_err(|error| bad(format!("failed to open log file {:?}: {error}", path.display())))?;
    Ok((path, log))
}

/// Of a node that has all the streams that it can have.
pub(crate) fn too_many() -> Refusal {
    let text = "maximum number of in-flight requests exceeded";
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, text)
}

async fn listen(site: &Site, path: &Path) -> Option<Ears> {
    let (sender, receiver) = oneshot::channel();
    let folder = path.parent()?.to_owned();
    site.ears.send((folder, sender)).await.ok()?;
    let changes = receiver.await.ok()?;
    Some(Ears { changes, running: site.sources.running.clone() })
}

/// Chooses the container whose log is meant, out of the pod's status: its id.
fn choose(status: &Value, target: &Target, previous: bool) -> Result<String, Refusal> {
    let (name, pod) = (&target.container, &target.pod);
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    let lists = ["containerStatuses", "initContainerStatuses"].into_iter();
    let mut all = lists.filter_map(|list| status[list].as_array()).flatten();
    let Some(container) = all.find(|it| it["name"] == **name) else {
        return Err(bad(format!("container {name:?} in pod {pod:?} is not available")));
    };
    let (state, last) = (&container["state"], &container["lastState"]["terminated"]);
    let id = |of: &Value| {
        let id = of["containerID"].as_str()?;
        Some(id.split_once("://").map_or(id, |(_, id)| id).to_owned()).filter(|id| !id.is_empty())
    };
    let text = if previous {
        format!("previous terminated container {name:?} in pod {pod:?} not found")
    } else if state["running"].is_object() {
        return id(container).ok_or_else(|| bad(format!("container {name:?} has no id")));
    } else if let Some(ended) = id(&state["terminated"]) {
        return Ok(ended);
    } else {
        let why = match state["waiting"]["reason"].as_str() {
            Some("ErrImagePull") => "image can't be pulled",
            Some("ImagePullBackOff") => "trying and failing to pull image",
            Some(reason) => reason,
            None => "no logs yet",
        };
        let begin = format!("container {name:?} in pod {pod:?}");
        format!("{begin} is waiting to start: {why}").replace(": no logs", " - no logs")
    };
    id(last).ok_or_else(|| bad(text))
}

/// Reads what is wanted.
pub(super) fn options(query: &Query) -> Result<Options, Refusal> {
    let undecoded = || {
        let text = r#"{"message": "Unable to decode query."}"#;
        Refusal::new(StatusCode::BAD_REQUEST, text)
    };
    let invalid = || {
        let text = r#"{"message": "Invalid request."}"#;
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, text)
    };
    let number = |key: &str, least: i64| match query.first(key) {
        None => Ok(None),
        Some(text) => match text.parse::<i64>() {
            Ok(number) if number >= least => Ok(u64::try_from(number).ok()),
            Ok(_) => Err(invalid()),
            Err(_) => Err(undecoded()),
        },
    };
    let tail = match query.first("tail").filter(|text| !text.is_empty()) {
        Some("all") => None,
        Some(_) => number("tail", 0)?,
        None => number("tailLines", 0)?,
    };
    let (seconds, bytes) = (number("sinceSeconds", 1)?, number("limitBytes", 1)?);
    let time =
        query.first("sinceTime").map(|text| nanos(text).ok_or_else(undecoded)).transpose()?;
    if time.is_some() && seconds.is_some() {
        return Err(invalid());
    }
    let ago = |seconds: u64| {
        i128::from(module_runtime::unix_millis()) * 1_000_000 - i128::from(seconds) * 1_000_000_000
    };
    let stream = match query.first("stream").unwrap_or_default() {
        "" | "All" => None,
        "Stdout" | "stdout" => Some("stdout"),
        "Stderr" | "stderr" => Some("stderr"),
        _ => return Err(invalid()),
    };
    if stream.is_some() && tail.is_some() {
        return Err(invalid());
    }
    Ok(Options {
        follow: query.is_set("follow"),
        previous: query.is_set("previous"),
        timestamps: query.is_set("timestamps"),
        tail,
        bytes: bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        since: time.or_else(|| seconds.map(ago)),
        stream,
    })
}

/// Reads a log to its end, or as long as its container writes, and sends what is wanted of it.
/// It ends when nobody takes it any more.
async fn pump(
    site: Arc<Site>,
    mut log: Log,
    container: String,
    mut ears: Option<Ears>,
    sender: mpsc::Sender<Bytes>,
) {
    loop {
        let alive = match &mut ears {
            Some(ears) => ears.look(&container) || runs(&site, &container).await,
            None => false,
        };
        loop {
            let read = off_thread(move || {
                let step = log.step();
                (log, step)
            });
            let (back, step) = read.await;
            log = back;
            match step {
                Step::More(out) if out.is_empty() => {}
                Step::More(out) => {
                    if sender.send(out.into()).await.is_err() {
                        return;
                    }
                }
                Step::Pause => break,
                Step::Done => return,
            }
        }
        let Some(ears) = ears.as_mut().filter(|_| alive) else { break };
        tokio::select! {
            true = ears.hear() => {}
            () = sender.closed() => return,
            else => break,
        }
    }
    let last = log.last();
    if !last.is_empty() {
        // Who asked may be gone.
        drop(sender.send(last.into()).await);
    }
}

/// Asks the runtime whether a container runs that no list has shown yet, or none shows any more.
/// A runtime that does not answer ends nothing.
async fn runs(site: &Site, container: &str) -> bool {
    let request = w::ContainerStatusRequest { container_id: container.to_owned() };
    match site.runtime.container_status(request).await {
        Ok(answer) => answer.status.is_some_and(|it| it.state() == w::ContainerState::Running),
        Err(trouble) => !trouble.is_not_found(),
    }
}

#[cfg(test)]
mod tests;
