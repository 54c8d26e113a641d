//! The pod engine: makes the node run what the cloud wants, and tells what runs.
//!
//! Every pod has an actor of its own ([`worker`]), which has its steps planned by the pure
//! [`pod::plan`] and takes them through the container runtime ([`cri`]). This file tells the actors
//! what the store has and that the runtime changed; [`node`] keeps the node itself known.

mod admission;
mod api;
pub mod bare;
mod bus;
mod cgroup;
mod config;
pub mod cri;
mod csi;
mod devices;
mod duration;
mod env;
mod events;
mod gc;
mod node;
mod notes;
mod pod;
mod podresources;
mod pods;
mod pressure;
mod probes;
mod quantity;
mod registry;
mod rotate;
pub mod rpc;
mod runtime;
mod shutdown;
mod statics;
mod status;
mod store;
pub mod survey;
pub mod trial;
mod volumes;
mod worker;

pub use csi::words as csi_words;
pub use devices::words as device_words;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use ipc_proto::{Kind, Operation, Resource};
use module_runtime::{Context, Delivery, Event};
use serde::Serialize;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{debug, warn};

use config::Sections;
use cri::Runtime;
use csi::Csi;
use devices::Devices;
use node::{Node, Sources};
use notes::Notes;
use pods::Pods;
use pressure::Guard;
use runtime::State;
use shutdown::Shutdown;
use store::Store;
use worker::{Host, NodeFacts};

/// Questions of the node's API that wait for the engine.
const ASKS: usize = 64;

/// Pods that have to go and that wait for the engine.
const EVICTIONS: usize = 16;

/// Runs the module until the supervisor asks it to drain. Containers go on running then.
///
/// # Errors
/// When the configuration is wrong.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let config = context.config::<Sections>()?.check().context("cannot use the configuration")?;
    config.defence.check_swap(&std::fs::read_to_string("/proc/swaps").unwrap_or_default())?;
    let runtime = Runtime::new(config.socket.clone());
    let store = Store::new(context.peers());
    let (facts_sender, facts) = watch::channel(NodeFacts::default());
    let mut known = facts.clone();
    let (states_sender, mut states) = watch::channel(State::default());
    let (listings_sender, mut listings) = mpsc::channel(1);
    let (running_sender, running) = watch::channel(runtime::Running::default());
    let (notes, noted) = mpsc::channel(notes::WAITING);
    let (node, report) = (context.node().to_owned(), config.report_event);
    tokio::spawn(events::write(node, store.clone(), report, noted));
    let (notes, tally) = (Notes::new(notes), probes::Tally::default());
    offer_address(&config);
    let (pressures_sender, pressures) = watch::channel(pressure::Pressures::new());
    let (told, own, devices) = (pressures.clone(), runtime.clone(), Devices::begin(&config.root));
    let csi = Csi::begin(&config.root, context.node(), store.clone(), notes.clone());
    let host =
        Host { runtime: own, store, config, facts, notes, tally, devices, csi, pressures: told };
    let (host, linked) = (Arc::new(host), Arc::new(Notify::new()));
    let (asks_sender, mut asks) = mpsc::channel::<api::Ask>(ASKS);
    let (mut ends, mut leaving) = defend(&host, context.node(), &asks_sender, pressures_sender);
    let (looks, fleet, devices) = (states.clone(), context.fleet(), host.devices.amounts());
    let (link, leaves) = (Arc::clone(&linked), leaving.clone());
    let sources =
        Sources { runtime: looks, fleet, pressures, linked: link, devices, leaving: leaves };
    tokio::spawn(Node::new(context.node(), Arc::clone(&host), facts_sender, sources).run());
    let driver = host.config.groups.as_ref().map(|groups| groups.driver);
    tokio::spawn(runtime::watch(runtime.clone(), driver, states_sender));
    let (wanted_sender, wanted) = watch::channel(0);
    tokio::spawn(runtime::list(runtime, wanted, listings_sender, running_sender));
    let manifests = host.config.statics.clone();
    let mut services = serve(context.node(), &host, asks_sender, running)?;
    let mut pods = Pods::new(context.node(), host);
    let mut statics = begin_statics(&mut pods, &manifests, context.node());
    loop {
        tokio::select! {
            event = context.next() => match event {
                Event::Message(delivery) => take(&mut pods, &linked, delivery),
                Event::PeerUp(peer) => debug!(%peer, "peer is up"),
                Event::PeerDown(peer) => debug!(%peer, "peer is down"),
                Event::Drain => return Ok(()),
            },
            Some(listing) = listings.recv() => pods.listed(listing),
            Some(all) = statics.recv() => pods.set_statics(all),
            Some(()) = pods.next_ended() => {}
            Some(eviction) = ends.recv() => pods.evict(eviction),
            Ok(()) = leaving.changed() => pods.leave(*leaving.borrow_and_update()),
            Ok(()) = states.changed() => {}
            Ok(()) = services.changed() => {}
            Ok(()) = known.changed() => {}
            // Who asked may be gone.
            Some(ask) = asks.recv() => drop(ask.send(pods.all())),
        }
        let service = services.borrow_and_update().clone();
        let taken = known.borrow_and_update().acknowledged;
        let report = Report::new(&states.borrow_and_update(), &pods, service, taken);
        say(report, &mut context, &mut pods, &wanted_sender)?;
    }
}

/// Serves those who ask about pods: the node's API, on a thread of its own, and monitors of devices.
fn serve(
    node: &str,
    host: &Host,
    asks: mpsc::Sender<api::Ask>,
    running: watch::Receiver<runtime::Running>,
) -> anyhow::Result<watch::Receiver<api::Service>> {
    podresources::begin(&host.config.root, asks.clone(), host.devices.clone());
    let (sender, services) = watch::channel(api::Service::default());
    let (tally, store, csi) = (host.tally.clone(), host.store.clone(), host.csi.clone());
    let sources = api::Sources { asks, running, tally, store, csi };
    let begun = api::begin(node, &host.config, sources, sender);
    begun.context("cannot start the thread of the node's API")?;
    Ok(services)
}

/// Has the node look after itself; returns where it says which pods have to go, and whether the host
/// shuts down.
fn defend(
    host: &Arc<Host>,
    node: &str,
    asks: &mpsc::Sender<api::Ask>,
    pressures: watch::Sender<pressure::Pressures>,
) -> (mpsc::Receiver<pressure::Eviction>, watch::Receiver<bool>) {
    let (sender, evictions) = mpsc::channel(EVICTIONS);
    let (leaving, told) = watch::channel(false);
    let shutdown = Shutdown {
        host: Arc::clone(host),
        node: node.to_owned(),
        asks: asks.clone(),
        evictions: sender.clone(),
        places: shutdown::Places::default(),
        leaving,
    };
    tokio::spawn(shutdown.run());
    let guard = Guard::new(Arc::clone(host), node, asks.clone(), sender, pressures);
    tokio::spawn(guard.run());
    tokio::spawn(cgroup::levels::run(Arc::clone(host), node.to_owned(), asks.clone()));
    tokio::spawn(rotate::run(Arc::clone(host)));
    (evictions, told)
}

/// Says what is news; how many pods there are goes to who lists them, too.
fn say(
    report: Report,
    context: &mut Context,
    pods: &mut Pods,
    wanted: &watch::Sender<usize>,
) -> anyhow::Result<()> {
    if pods.said.as_ref() != Some(&report) {
        context.report(&report)?;
        wanted.send_replace(pods.count());
        pods.said = Some(report);
    }
    Ok(())
}

/// Sees to it that pods find the node's own API, where they are told of it.
fn offer_address(config: &config::Config) {
    let address = config.api.as_ref().and_then(|(address, _)| address.parse().ok());
    if let Some(Err(error)) = address.map(node::dummy::ensure) {
        warn!("pods do not find the local API: {error}");
    }
}

/// Reads the static pods, which need neither store nor cloud, and has them watched.
fn begin_statics(pods: &mut Pods, path: &Path, node: &str) -> mpsc::Receiver<Vec<statics::Static>> {
    let (sender, changes) = mpsc::channel(1);
    let mut folder = statics::Folder::new(path, node);
    let read = if path.as_os_str().is_empty() { Ok(Vec::new()) } else { folder.read() };
    match &read {
        Ok(known) => pods.set_statics(known.clone()),
        Err(error) => warn!("cannot read the static pods in {}: {error}", path.display()),
    }
    if !path.as_os_str().is_empty() {
        tokio::spawn(statics::watch(folder, read.ok(), sender));
    }
    changes
}

/// Takes a message of the store. It is settled at once: the store has what it says, and sends
/// everything again to an engine that has died.
fn take(pods: &mut Pods, linked: &Notify, delivery: Delivery) {
    let route = &delivery.message.route;
    let content = delivery.message.content.raw();
    match (&route.operation, &route.resource) {
        (_, Resource::Connection) => linked.notify_one(),
        (
            Operation::Insert | Operation::Update,
            Resource::Object { kind: Kind::Pod, name: None, .. },
        ) => {
            pods.set(content);
        }
        (Operation::Insert | Operation::Update, Resource::Object { kind: Kind::Pod, .. }) => {
            pods.apply(content);
        }
        (Operation::Delete, Resource::Object { kind: Kind::Pod, scope, name: Some(name) }) => {
            pods.remove(scope.as_str(), name, content);
        }
        (
            Operation::UnholdUpgrade,
            Resource::Object { kind: Kind::Pod, scope, name: Some(name) },
        ) => pods.release(scope.as_str(), name),
        (Operation::Restart, Resource::Object { kind: Kind::Pod, scope, name: Some(name) }) => {
            let (namespace, name) = (scope.as_str().to_owned(), name.clone());
            return pods.restart(&namespace, &name, delivery);
        }
        (Operation::Pull, Resource::Task(_)) => return pods.get(delivery),
        (
            Operation::Insert | Operation::Update | Operation::Delete,
            Resource::Object { kind: Kind::ConfigMap | Kind::Secret, scope, .. },
        ) => pods.refresh(scope.as_str()),
        _ => {
            delivery.unsupported();
            return;
        }
    }
    delivery.settle();
}

/// What `edgectl status` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    runtime: RuntimeReport,
    pods: usize,
    api: api::Service,
    /// Whether the cloud took the node's state and its lease, as far as it was last told.
    acknowledged: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct RuntimeReport {
    state: &'static str,
    name: String,
    version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl Report {
    fn new(state: &State, pods: &Pods, api: api::Service, acknowledged: bool) -> Self {
        let word = match (state.looked, state.trouble.is_empty()) {
            (false, _) => "unknown",
            (true, true) => "ready",
            (true, false) => "unready",
        };
        let (name, version) = (state.name.clone(), state.version.clone());
        let reason = state.trouble.clone();
        Self {
            runtime: RuntimeReport { state: word, name, version, reason },
            pods: pods.count(),
            api,
            acknowledged,
        }
    }
}

#[cfg(test)]
mod tests;
