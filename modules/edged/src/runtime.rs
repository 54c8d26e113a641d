//! Watching the runtime: whether it is there and ready, and what changes in it.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::cri::{Runtime, Trouble, words as w};
use crate::pod::names;

/// How often the runtime is asked how it is.
const LOOK: Duration = Duration::from_secs(10);

/// How often it is asked while it does not answer.
const RETRY: Duration = Duration::from_secs(2);

/// How often it may be said that it does not answer.
const COMPLAIN: Duration = Duration::from_secs(60);

/// How often what it has is listed: with pods, without, and when it tells of changes itself.
const LIST: Duration = Duration::from_secs(1);
const LIST_EMPTY: Duration = Duration::from_secs(5);
const LIST_TOLD: Duration = Duration::from_secs(20);

/// How long after an event the list is made: events come in crowds.
const GATHER: Duration = Duration::from_millis(20);

/// How the runtime is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Whether this is from a look at it.
    pub(crate) looked: bool,
    pub(crate) name: String,
    pub(crate) version: String,
    /// Why no pods can run; empty when they can.
    pub(crate) trouble: String,
}

/// Keeps the state up to date, for ever.
pub(crate) async fn watch(runtime: Runtime, states: watch::Sender<State>) {
    let mut complained: Option<tokio::time::Instant> = None;
    loop {
        let known = states.borrow().clone();
        let state = match look(&runtime).await {
            Ok(state) => state,
            Err(trouble) => State {
                looked: true,
                trouble: format!("container runtime is down: {trouble}"),
                ..known.clone()
            },
        };
        let answers = state.trouble.is_empty();
        if answers && (!known.looked || !known.trouble.is_empty()) {
            info!(name = %state.name, version = %state.version, "the container runtime is ready");
            complained = None;
        } else if !answers && complained.is_none_or(|said| said.elapsed() >= COMPLAIN) {
            warn!("no pod can run: {}", state.trouble);
            complained = Some(tokio::time::Instant::now());
        }
        states.send_if_modified(|told| std::mem::replace(told, state.clone()) != state);
        tokio::time::sleep(if answers { LOOK } else { RETRY }).await;
    }
}

async fn look(runtime: &Runtime) -> Result<State, Trouble> {
    let version = w::VersionRequest { version: "0.1.0".to_owned() };
    let version = runtime.version(version).await?;
    let status = runtime.status(w::StatusRequest {}).await?.status.unwrap_or_default();
    let unmet = |kind: &str| {
        let condition = status.conditions.iter().find(|it| it.r#type == kind);
        match condition {
            Some(condition) if condition.status => None,
            Some(condition) => {
                Some(format!("{kind} is false: {} {}", condition.reason, condition.message))
            }
            None => Some(format!("{kind} is not told")),
        }
    };
    let trouble: Vec<_> = ["RuntimeReady", "NetworkReady"].into_iter().filter_map(unmet).collect();
    Ok(State {
        looked: true,
        name: version.runtime_name,
        version: version.runtime_version,
        trouble: trouble.join("; "),
    })
}

/// A pod that the runtime has something of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What a list brought: all pods, and of which something changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    pub(crate) all: Vec<Trace>,
    pub(crate) changed: Vec<String>,
}

/// The containers that run, by id. It is told anew whenever anything changed in the runtime, so that
/// who does not find a container has a reason to ask after it, and none to ask again and again.
pub(crate) type Running = Arc<HashSet<String>>;

/// Lists what the runtime has, whenever something may have changed, for ever.
/// With `wanted` pods that are to run it looks more often than without.
pub(crate) async fn list(
    runtime: Runtime,
    mut wanted: watch::Receiver<usize>,
    listings: mpsc::Sender<Listing>,
    running: watch::Sender<Running>,
) {
    let mut known = BTreeMap::new();
    let mut events = None;
    let mut knows_events = true;
    loop {
        let pause = match runtime.list(BTreeMap::new()).await {
            Ok(lists) => {
                let listing = compare(&mut known, &lists);
                if !listing.changed.is_empty() {
                    let runs = |it: &&w::Container| it.state() == w::ContainerState::Running;
                    let ids = lists.1.iter().filter(runs).map(|it| it.id.clone());
                    running.send_replace(Arc::new(ids.collect()));
                }
                if listings.send(listing).await.is_err() {
                    return;
                }
                if events.is_none() && knows_events {
                    match runtime.events().await {
                        Ok(stream) => events = Some(stream),
                        Err(trouble) => knows_events = !trouble.is_unimplemented(),
                    }
                }
                match (&events, known.is_empty() && *wanted.borrow_and_update() == 0) {
                    (Some(_), _) => LIST_TOLD,
                    (None, true) => LIST_EMPTY,
                    (None, false) => LIST,
                }
            }
            Err(_) => {
                // It may be a newer one when it is back.
                (events, knows_events) = (None, true);
                RETRY
            }
        };
        let told = async {
            match &mut events {
                Some(stream) => stream.message().await.is_ok_and(|event| event.is_some()),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Ok(()) = wanted.changed() => {}
            more = told => {
                if !more {
                    events = None;
                }
                tokio::time::sleep(GATHER).await;
            }
        }
    }
}

type Lists = (Vec<w::PodSandbox>, Vec<w::Container>);

/// Finds out of which pods something changed since the last list.
fn compare(known: &mut BTreeMap<String, u64>, lists: &Lists) -> Listing {
    let mut hashes = BTreeMap::<String, DefaultHasher>::new();
    let mut all = BTreeMap::new();
    let mut note = |labels: &BTreeMap<String, String>, id: &str, state: i32| {
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        let uid = label(names::POD_UID);
        if !names::is_plain(&uid) {
            return;
        }
        (id, state).hash(hashes.entry(uid.clone()).or_default());
        let (namespace, name) = (label(names::POD_NAMESPACE), label(names::POD_NAME));
        all.insert(uid.clone(), Trace { uid, namespace, name });
    };
    for sandbox in &lists.0 {
        note(&sandbox.labels, &sandbox.id, sandbox.state);
    }
    for container in &lists.1 {
        note(&container.labels, &container.id, container.state);
    }
    let now: BTreeMap<String, u64> =
        hashes.iter().map(|(uid, hash)| (uid.clone(), hash.finish())).collect();
    let gone = known.keys().filter(|uid| !now.contains_key(*uid));
    let new = now.iter().filter(|(uid, hash)| known.get(*uid) != Some(hash)).map(|(uid, _)| uid);
    let changed = gone.chain(new).cloned().collect();
    *known = now;
    Listing { all: all.into_values().collect(), changed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(id: &str, uid: &str, state: i32) -> w::PodSandbox {
        let labels = names::selector(uid);
        w::PodSandbox { id: id.to_owned(), state, labels, ..Default::default() }
    }

    #[test]
    fn what_comes_changes_and_goes_is_told_once() {
        let mut known = BTreeMap::new();
        let mut changed =
            |list: &[w::PodSandbox]| compare(&mut known, &(list.to_vec(), Vec::new())).changed;
        let (a, b, ended) = (sandbox("1", "a", 0), sandbox("2", "b", 0), sandbox("1", "a", 1));
        assert_eq!(changed(&[a.clone(), b.clone()]), ["a", "b"]);
        assert_eq!(changed(&[a, b.clone()]), [""; 0]);
        assert_eq!(changed(&[ended, b.clone()]), ["a"]);
        assert_eq!(changed(&[b]), ["a"]);
        let foreign = sandbox("3", "../x", 0);
        assert_eq!(compare(&mut known, &(vec![foreign], Vec::new())).all, []);
    }
}
