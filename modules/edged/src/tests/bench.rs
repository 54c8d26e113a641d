//! The engine between a real runtime and a store that the test plays.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ipc_proto::lifeline::QueueBounds;
use ipc_proto::{Content, Kind, Module, Operation, Resource};
use module_runtime::{Event, Inbox, Seat, WINDOW};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::containerd::{Containerd, IMAGE, SOON};
use crate::api::Ask;
use crate::config::{Config, Sections};
use crate::cri::Runtime;
use crate::csi::Csi;
use crate::devices::Devices;
use crate::notes::{Note, Notes};
use crate::pods::Pods;
use crate::pressure::{Eviction, Guard, Pressures};
use crate::probes::Tally;
use crate::runtime::{self, Listing};
use crate::shutdown::{Places, Shutdown};
use crate::store::Store;
use crate::worker::{Host, NodeFacts};

/// What the engine told the store.
#[derive(Debug)]
enum Told {
    Status(String, Value),
    Deleted(String),
    Made(String, Value),
}

/// The engine and what it is surrounded by.
pub(super) struct Bench {
    pub(super) pods: Pods,
    listings: mpsc::Receiver<Listing>,
    pub(super) running: watch::Receiver<runtime::Running>,
    told: mpsc::Receiver<Told>,
    pub(super) maps: watch::Sender<BTreeMap<String, Value>>,
    pub(super) statuses: BTreeMap<String, Value>,
    /// Under which uid the status was told, by name.
    pub(super) uids: BTreeMap<String, Value>,
    /// Pods that the engine made in the cloud, by name.
    pub(super) made: BTreeMap<String, Value>,
    pub(super) deleted: Vec<String>,
    /// What happened to which pod: reason and message.
    pub(super) notes: Vec<(String, &'static str, String)>,
    noted: mpsc::Receiver<Note>,
    pub(super) host: Arc<Host>,
    pub(super) store: tokio::task::JoinHandle<()>,
    pressures: watch::Sender<Pressures>,
    /// Questions of the guard, and what it wants.
    asks: (mpsc::Sender<Ask>, mpsc::Receiver<Ask>),
    evictions: (mpsc::Sender<Eviction>, mpsc::Receiver<Eviction>),
    pub(super) leaving: (watch::Sender<bool>, watch::Receiver<bool>),
    /// What the engine knows of its node.
    pub(super) facts: watch::Sender<NodeFacts>,
    _wanted: watch::Sender<usize>,
}

fn seat(module: Module, folder: &Path) -> Seat {
    Seat {
        module,
        instance: module_runtime::instance(),
        runtime_dir: folder.into(),
        users: [rustix::process::getuid().as_raw(); Module::COUNT],
        enabled: Module::ALL.into_iter().collect(),
        queue: QueueBounds::default(),
        window: WINDOW,
    }
}

fn config(folder: &Path, runtime: &Path, more: &Value) -> Config {
    let path = folder.display();
    let mut text = json!({"edged": {"rootDirectory": format!("{path}/kubelet"), "tailoredKubeletConfig": {
        "podLogsDir": format!("{path}/pods"),
        "containerRuntimeEndpoint": format!("unix://{}", runtime.display()),
        "cgroupRoot": private_containerd::group(folder),
    }}});
    let kubelet = text["edged"]["tailoredKubeletConfig"].as_object_mut().unwrap();
    kubelet.extend(more.as_object().unwrap().clone());
    serde_json::from_value::<Sections>(text).unwrap().check().unwrap()
}

/// What the engine knows of its node.
fn facts() -> NodeFacts {
    NodeFacts {
        name: "n".to_owned(),
        addresses: vec!["192.0.2.1".to_owned()],
        cpu: 1000,
        memory: 1 << 30,
        room: 1 << 30,
        storage: 1 << 40,
        terms: Arc::default(),
        runtime: "containerd".to_owned(),
        recursive: Arc::default(),
        acknowledged: false,
        clash: String::new(),
    }
}

/// Plays the store.
async fn serve(
    mut inbox: Inbox,
    maps: watch::Receiver<BTreeMap<String, Value>>,
    told: mpsc::Sender<Told>,
) {
    loop {
        let Event::Message(delivery) = inbox.next().await else { continue };
        let Resource::Object { kind, name: Some(name), .. } = &delivery.message.route.resource
        else {
            delivery.unsupported();
            continue;
        };
        let (kind, name) = (kind.clone(), name.to_string());
        match (&delivery.message.route.operation, kind) {
            (Operation::Query, _) => {
                let missing = json!({"ErrStatus": {"status": "Failure", "reason": "NotFound"}});
                let answer = maps.borrow().get(&name).cloned().unwrap_or(missing);
                delivery.respond(Content::encode(&answer).unwrap()).unwrap();
            }
            (Operation::Patch, Kind::PodPatch) => {
                let patch: String = delivery.message.content.decode().unwrap();
                let patch = serde_json::from_str(&patch).unwrap();
                told.send(Told::Status(name, patch)).await.unwrap();
                delivery.settle();
            }
            (Operation::Update, Kind::Node) => {
                told.send(Told::Made(name, delivery.message.content.decode().unwrap()))
                    .await
                    .unwrap();
                delivery.settle();
            }
            (Operation::Delete, Kind::Pod) => {
                told.send(Told::Deleted(name)).await.unwrap();
                delivery.settle();
            }
            (Operation::Insert, Kind::Pod) => {
                let object: Value = delivery.message.content.decode().unwrap();
                let answer = json!({"Object": object, "Err": null});
                told.send(Told::Made(name, object)).await.unwrap();
                delivery.respond(Content::encode(&answer).unwrap()).unwrap();
            }
            _ => delivery.unsupported(),
        }
    }
}

impl Bench {
    pub(super) fn new(containerd: &Containerd) -> Self {
        Self::at(containerd.path(), &containerd.socket())
    }

    /// Makes it in a folder, for the runtime behind a socket.
    pub(super) fn at(folder: &Path, runtime: &Path) -> Self {
        Self::with(folder, runtime, &json!({}))
    }

    /// Makes it in a folder, for the runtime behind a socket, with more of kubelet's configuration.
    pub(super) fn with(folder: &Path, runtime: &Path, more: &Value) -> Self {
        let socket = folder.join(Module::Metamanager.socket_name());
        let listener = OwnedFd::from(UnixListener::bind(socket).unwrap());
        let (_, inbox) = seat(Module::Metamanager, folder).take(Some(listener)).unwrap();
        let (sender, told) = mpsc::channel(1024);
        let (maps, watched) = watch::channel(BTreeMap::new());
        let store = tokio::spawn(serve(inbox, watched, sender));
        let (peers, mut inbox) = seat(Module::Edged, folder).take(None).unwrap();
        tokio::spawn(async move {
            loop {
                drop(inbox.next().await);
            }
        });
        let (facts_sender, facts) = watch::channel(facts());
        let config = config(folder, runtime, more);
        let ((asks_sender, asks), (eviction, evictions)) = (mpsc::channel(8), mpsc::channel(8));
        let (notes, noted) = mpsc::channel(1024);
        let runtime = Runtime::new(runtime.to_owned());
        let notes = Notes::new(notes);
        let tally = Tally::default();
        let (pressures, pressures_told) = watch::channel(Pressures::new());
        let handle = Store::new(peers);
        let host = Host {
            runtime: runtime.clone(),
            csi: Csi::begin(&folder.join("kubelet"), "n", handle.clone(), notes.clone()),
            store: handle,
            config,
            facts,
            notes,
            tally,
            devices: Devices::begin(&folder.join("kubelet")),
            pressures: pressures_told,
        };
        let host = Arc::new(host);
        let (wanted, receiver) = watch::channel(1);
        let (listing, listings) = mpsc::channel(1);
        let (runs, running) = watch::channel(runtime::Running::default());
        tokio::spawn(runtime::list(runtime, receiver, listing, runs));
        let mut pods = Pods::new("n", Arc::clone(&host));
        pods.set_statics(Vec::new());
        Self {
            pods,
            listings,
            running,
            told,
            maps,
            statuses: BTreeMap::new(),
            uids: BTreeMap::new(),
            made: BTreeMap::new(),
            deleted: Vec::new(),
            notes: Vec::new(),
            noted,
            host,
            store,
            pressures,
            asks: (asks_sender, asks),
            evictions: (eviction, evictions),
            leaving: watch::channel(false),
            facts: facts_sender,
            _wanted: wanted,
        }
    }

    /// Makes what looks after the node.
    pub(super) fn guard(&self) -> Guard {
        let (asks, evictions) = (self.asks.0.clone(), self.evictions.0.clone());
        Guard::new(Arc::clone(&self.host), "n", asks, evictions, self.pressures.clone())
    }

    /// Makes what ends the pods when the host shuts down.
    pub(super) fn shutdown(&self, places: Places) -> Shutdown {
        Shutdown {
            host: Arc::clone(&self.host),
            node: "n".to_owned(),
            asks: self.asks.0.clone(),
            evictions: self.evictions.0.clone(),
            places,
            leaving: self.leaving.0.clone(),
        }
    }

    /// Lets the engine work until something holds.
    pub(super) async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            assert!(begin.elapsed() < SOON, "not in time: {what}\n{:#?}", self.statuses);
            tokio::select! {
                Some(listing) = self.listings.recv() => self.pods.listed(listing),
                Some(()) = self.pods.next_ended() => {}
                Some(ask) = self.asks.1.recv() => drop(ask.send(self.pods.all())),
                Some(eviction) = self.evictions.1.recv() => self.pods.evict(eviction),
                Ok(()) = self.leaving.1.changed() => {
                    let leaves = *self.leaving.1.borrow_and_update();
                    self.pods.leave(leaves);
                }
                Some(note) = self.noted.recv() => {
                    self.notes.push((note.about.name, note.reason, note.message));
                }
                Some(told) = self.told.recv() => match told {
                    Told::Status(name, patch) => {
                        self.statuses.insert(name.clone(), patch["status"].clone());
                        self.uids.insert(name, patch["metadata"]["uid"].clone());
                    }
                    Told::Deleted(name) => self.deleted.push(name),
                    Told::Made(name, object) => drop(self.made.insert(name, object)),
                },
                () = tokio::time::sleep(SOON / 10) => {}
            }
        }
    }

    pub(super) fn container<'a>(&'a self, pod: &str) -> &'a Value {
        self.statuses.get(pod).map_or(&Value::Null, |status| &status["containerStatuses"][0])
    }

    /// Returns what happened to a pod, in order; of the same in a row once.
    pub(super) fn happened(&self, pod: &str) -> Vec<&'static str> {
        let of_pod = self.notes.iter().filter(|(name, ..)| name == pod);
        let mut reasons: Vec<_> = of_pod.map(|(_, reason, _)| *reason).collect();
        reasons.dedup();
        reasons
    }

    /// Tells whether a pod was given a reason with a message that has this in it.
    pub(super) fn said(&self, pod: &str, reason: &str, part: &str) -> bool {
        self.notes
            .iter()
            .any(|(name, why, message)| name == pod && *why == reason && message.contains(part))
    }

    pub(super) fn is_ready(&self, pod: &str) -> bool {
        self.container(pod)["ready"] == true
    }

    /// Lets the engine work while something else goes on.
    pub(super) async fn during(&mut self, other: impl Future<Output = ()>) {
        tokio::select! {
            () = self.until("never", |_| false) => {}
            () = other => {}
        }
    }

    /// As [`Self::until`], for a condition that has to look itself.
    pub(super) async fn while_until(&mut self, what: &str, holds: impl AsyncFnMut() -> bool) {
        self.during(super::containerd::until(what, holds)).await;
    }

    /// Begins to know devices anew, from what is on the disk; for an engine that begins anew then.
    pub(super) fn restart_devices(&mut self) {
        let Host { runtime, store, config, facts, notes, tally, csi, .. } = &*self.host;
        self.host = Arc::new(Host {
            runtime: runtime.clone(),
            store: store.clone(),
            config: config.clone(),
            facts: facts.clone(),
            notes: notes.clone(),
            pressures: self.host.pressures.clone(),
            tally: tally.clone(),
            devices: Devices::begin(&config.root),
            csi: csi.clone(),
        });
    }

    /// Ends the engine as a kill would, and begins it anew with what `begin` tells it.
    pub(super) fn begin_anew_with(&mut self, begin: impl FnOnce(&mut Pods)) {
        self.pods = Pods::new("n", Arc::clone(&self.host));
        begin(&mut self.pods);
    }

    /// Ends the engine as a kill would, and begins it anew with the same pods.
    pub(super) fn begin_anew(&mut self, pods: &[Value]) {
        self.pods = Pods::new("n", Arc::clone(&self.host));
        self.pods.set_statics(Vec::new());
        self.pods.set(&serde_json::to_vec(pods).unwrap().into());
    }
}

pub(super) fn pod(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["nodeName"] = "n".into();
    spec["terminationGracePeriodSeconds"] = 1.into();
    for container in spec["containers"].as_array_mut().unwrap() {
        container["image"] = IMAGE.into();
        container["imagePullPolicy"] = "IfNotPresent".into();
    }
    json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")}, "spec": spec})
}

pub(super) fn give(bench: &mut Bench, pod: &Value) {
    bench.pods.apply(&serde_json::to_vec(pod).unwrap());
}

/// Returns what a pod serves on its port 80; nothing when it serves nothing.
pub(super) async fn page(ip: &str) -> String {
    page_at(ip, 80).await
}

/// Returns what is served on a port of an address; nothing when nothing is.
pub(super) async fn page_at(ip: &str, port: u16) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let Ok(mut stream) = tokio::net::TcpStream::connect((ip, port)).await else {
        return String::new();
    };
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.rsplit("\r\n").next().unwrap_or_default().to_owned()
}
