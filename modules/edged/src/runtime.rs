//! Watching the runtime: whether it is there and ready, and what changes in it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::cgroup::Driver;
use crate::cri::{Runtime, Trouble, words as w};
use crate::pod::names;

/// How often the runtime is asked how it is.
const LOOK: Duration = Duration::from_secs(10);

/// How often it is asked while it does not answer.
const RETRY: Duration = Duration::from_secs(2);

/// How often it may be said that it does not answer.
const COMPLAIN: Duration = Duration::from_secs(60);

/// How many of these looks pass until its version is asked for again: it may have been replaced
/// between two of them.
const VERSION_LOOKS: u32 = 6;

/// How often the containers are listed: with pods, without, and when the runtime tells of changes
/// itself.
const LIST: Duration = Duration::from_secs(1);
const LIST_EMPTY: Duration = Duration::from_secs(10);
const LIST_TOLD: Duration = Duration::from_secs(20);

/// How often the sandboxes are listed where no container changed: a sandbox seldom ends alone.
const LIST_SANDBOXES: Duration = Duration::from_secs(10);

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
    /// The handlers that can keep from writing what is mounted below a volume.
    pub(crate) recursive: Arc<BTreeSet<String>>,
    /// Who makes control groups for it, if it tells.
    driver: Option<Driver>,
    /// Why it and the node cannot make control groups together; empty when they can.
    pub(crate) clash: String,
}

/// Keeps the state up to date, for ever.
/// `own` is who makes the groups of pods, if they have any.
pub(crate) async fn watch(runtime: Runtime, own: Option<Driver>, states: watch::Sender<State>) {
    let mut complained: Option<Instant> = None;
    let mut looks = 0u32;
    loop {
        let known = states.borrow().clone();
        let named = known.trouble.is_empty() && !looks.is_multiple_of(VERSION_LOOKS);
        looks = looks.wrapping_add(1);
        let state = match look(&runtime, own, Some(&known).filter(|_| named)).await {
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
            complained = Some(Instant::now());
        }
        states.send_if_modified(|told| std::mem::replace(told, state.clone()) != state);
        tokio::time::sleep(if answers { LOOK } else { RETRY }).await;
    }
}

/// Looks how the runtime is; its name and version are taken from `known`, if that is there.
async fn look(
    runtime: &Runtime,
    own: Option<Driver>,
    known: Option<&State>,
) -> Result<State, Trouble> {
    let (name, version, driver) = match known {
        Some(known) => (known.name.clone(), known.version.clone(), known.driver),
        None => {
            let version = w::VersionRequest { version: "0.1.0".to_owned() };
            let version = runtime.version(version).await?;
            (version.runtime_name, version.runtime_version, Driver::of(runtime).await)
        }
    };
    let answer = runtime.status(w::StatusRequest::default()).await?;
    let can = |it: &w::RuntimeHandler| {
        it.features.is_some_and(|features| features.recursive_read_only_mounts)
    };
    let recursive = answer.runtime_handlers.into_iter().filter(can).map(|it| it.name).collect();
    let status = answer.status.unwrap_or_default();
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
    let mut trouble: Vec<_> =
        ["RuntimeReady", "NetworkReady"].into_iter().filter_map(unmet).collect();
    let clash = own.zip(driver).and_then(|(own, driver)| own.clash(driver));
    trouble.extend(clash.clone());
    let (trouble, recursive) = (trouble.join("; "), Arc::new(recursive));
    let clash = clash.unwrap_or_default();
    Ok(State { looked: true, name, version, trouble, recursive, driver, clash })
}

/// A pod that the runtime has something of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    let mut known = Known::default();
    let mut events = None;
    let mut knows_events = true;
    loop {
        let pause = match known.look(&runtime).await {
            Ok(listing) => {
                if !listing.changed.is_empty() {
                    running.send_replace(known.running());
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
                match (&events, known.hashes.is_empty() && *wanted.borrow_and_update() == 0) {
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

/// What the lists had last.
#[derive(Default)]
struct Known {
    /// By pod, of what it has.
    hashes: BTreeMap<String, u64>,
    sandboxes: Vec<Item>,
    containers: Vec<Item>,
    /// When the sandboxes were listed.
    listed: Option<Instant>,
}

/// A sandbox or a container of a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    id: String,
    state: i32,
    pod: Trace,
}

impl Item {
    fn new(id: String, state: i32, labels: &BTreeMap<String, String>) -> Self {
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        let (uid, namespace) = (label(names::POD_UID), label(names::POD_NAMESPACE));
        Self { id, state, pod: Trace { uid, namespace, name: label(names::POD_NAME) } }
    }
}

impl Known {
    /// Lists the containers, and the sandboxes when a container changed or it is time. What changed
    /// is told once.
    async fn look(&mut self, runtime: &Runtime) -> Result<Listing, Trouble> {
        let all = w::ListContainersRequest { filter: None };
        let containers = runtime.list_containers(all).await?.containers.into_iter();
        let mut containers: Vec<_> =
            containers.map(|it| Item::new(it.id, it.state, &it.labels)).collect();
        // The runtime's order is none.
        containers.sort();
        let same = self.containers == containers;
        self.containers = containers;
        if !same || !self.is_settled() {
            // A failure leaves it to the next look to see what changed.
            self.listed = None;
            let all = w::ListPodSandboxRequest { filter: None };
            let sandboxes = runtime.list_sandboxes(all).await?.items.into_iter();
            self.sandboxes = sandboxes.map(|it| Item::new(it.id, it.state, &it.labels)).collect();
            self.listed = Some(Instant::now());
        }
        Ok(self.compare())
    }

    /// Tells whether the sandboxes were listed not long ago and none of them is just being made or
    /// removed.
    fn is_settled(&self) -> bool {
        let used: HashSet<&str> = self.containers.iter().map(|it| it.pod.uid.as_str()).collect();
        self.listed.is_some_and(|listed| listed.elapsed() < LIST_SANDBOXES)
            && self.sandboxes.iter().all(|it| used.contains(it.pod.uid.as_str()))
    }

    fn running(&self) -> Running {
        let running: i32 = w::ContainerState::Running.into();
        let running = self.containers.iter().filter(|it| it.state == running);
        Arc::new(running.map(|it| it.id.clone()).collect())
    }

    /// Finds out of which pods something changed since the last time.
    fn compare(&mut self) -> Listing {
        let mut hashes = BTreeMap::<String, DefaultHasher>::new();
        let mut all = BTreeMap::<String, Trace>::new();
        let items = self.sandboxes.iter().chain(&self.containers);
        for Item { id, state, pod } in items.filter(|it| names::is_plain(&it.pod.uid)) {
            (id, state).hash(hashes.entry(pod.uid.clone()).or_default());
            all.insert(pod.uid.clone(), pod.clone());
        }
        let now: BTreeMap<String, u64> =
            hashes.iter().map(|(uid, hash)| (uid.clone(), hash.finish())).collect();
        let before = &self.hashes;
        let gone = before.keys().filter(|uid| !now.contains_key(*uid));
        let new = now.iter().filter(|(uid, hash)| before.get(*uid) != Some(hash));
        let changed = gone.chain(new.map(|(uid, _)| uid)).cloned().collect();
        self.hashes = now;
        Listing { all: all.into_values().collect(), changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(id: &str, uid: &str, state: i32) -> Item {
        Item::new(id.to_owned(), state, &names::selector(uid))
    }

    #[test]
    fn what_comes_changes_and_goes_is_told_once() {
        let mut known = Known::default();
        let mut changed = |list: &[Item]| {
            known.sandboxes = list.to_vec();
            known.compare().changed
        };
        let (a, b, ended) = (sandbox("1", "a", 0), sandbox("2", "b", 0), sandbox("1", "a", 1));
        assert_eq!(changed(&[a.clone(), b.clone()]), ["a", "b"]);
        assert_eq!(changed(&[a, b.clone()]), [""; 0]);
        assert_eq!(changed(&[ended, b.clone()]), ["a"]);
        assert_eq!(changed(&[b]), ["a"]);
        known.sandboxes = vec![sandbox("3", "../x", 0)];
        assert_eq!(known.compare().all, []);
    }
}
