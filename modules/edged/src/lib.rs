//! The pod engine: makes the node run what the cloud wants, and tells what runs.
//!
//! Every pod has an actor of its own ([`worker`]), which has its steps planned by the pure
//! [`pod::plan`] and takes them through the container runtime ([`cri`]). This file tells the actors
//! what the store has and that the runtime changed; [`node`] keeps the node itself known.

mod admission;
mod api;
pub mod bare;
mod cgroup;
mod config;
pub mod cri;
mod devices;
mod env;
mod events;
mod node;
mod notes;
mod pod;
mod podresources;
mod pods;
mod probes;
mod quantity;
mod registry;
mod rpc;
mod runtime;
mod statics;
mod status;
mod store;
mod volumes;
mod worker;

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
use devices::Devices;
use node::{Node, Sources};
use notes::Notes;
use pods::Pods;
use runtime::State;
use store::Store;
use worker::{Host, NodeFacts};

/// Questions of the node's API that wait for the engine.
const ASKS: usize = 64;

/// Runs the module until the supervisor asks it to drain. Containers go on running then.
///
/// # Errors
/// When the configuration is wrong.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let config = context.config::<Sections>()?.check().context("cannot use the configuration")?;
    let runtime = Runtime::new(config.socket.clone());
    let store = Store::new(context.peers());
    let (facts_sender, facts) = watch::channel(NodeFacts::default());
    let (states_sender, mut states) = watch::channel(State::default());
    let (listings_sender, mut listings) = mpsc::channel(1);
    let (running_sender, running) = watch::channel(runtime::Running::default());
    let (notes, noted) = mpsc::channel(notes::WAITING);
    let (node, report) = (context.node().to_owned(), config.report_event);
    tokio::spawn(events::write(node, store.clone(), report, noted));
    let notes = Notes::new(notes);
    let tally = probes::Tally::default();
    offer_address(&config);
    let devices = Devices::begin(&config.root);
    let shared = runtime.clone();
    let host = Host { runtime: shared, store, config, facts, notes, tally, devices };
    let host = Arc::new(host);
    let linked = Arc::new(Notify::new());
    let sources = Sources {
        runtime: states.clone(),
        fleet: context.fleet(),
        linked: Arc::clone(&linked),
        devices: host.devices.amounts(),
    };
    let node = Node::new(context.node(), Arc::clone(&host), facts_sender, sources);
    tokio::spawn(runtime::watch(runtime.clone(), states_sender));
    let (wanted_sender, wanted) = watch::channel(0);
    tokio::spawn(runtime::list(runtime, wanted, listings_sender, running_sender));
    tokio::spawn(node.run());
    let (statics_sender, mut statics) = mpsc::channel(1);
    let manifests = host.config.statics.clone();
    let (asks_sender, mut asks) = mpsc::channel::<api::Ask>(ASKS);
    let mut services = serve(context.node(), &host, asks_sender, running)?;
    let mut pods = Pods::new(context.node(), host);
    begin_statics(&mut pods, &manifests, context.node(), statics_sender);
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
            Ok(()) = states.changed() => {}
            Ok(()) = services.changed() => {}
            // Who asked may be gone.
            Some(ask) = asks.recv() => drop(ask.send(pods.all())),
        }
        let service = services.borrow_and_update().clone();
        let report = Report::new(&states.borrow_and_update(), &pods, service);
        if pods.said.as_ref() != Some(&report) {
            context.report(&report)?;
            wanted_sender.send_replace(pods.count());
            pods.said = Some(report);
        }
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
    let sources =
        api::Sources { asks, running, tally: host.tally.clone(), store: host.store.clone() };
    let begun = api::begin(node, &host.config, sources, sender);
    begun.context("cannot start the thread of the node's API")?;
    Ok(services)
}

/// Sees to it that pods find the node's own API, where they are told of it.
fn offer_address(config: &config::Config) {
    let address = config.api.as_ref().and_then(|(address, _)| address.parse().ok());
    if let Some(Err(error)) = address.map(node::dummy::ensure) {
        warn!("pods do not find the local API: {error}");
    }
}

/// Reads the static pods, which need neither store nor cloud, and has them watched.
fn begin_statics(
    pods: &mut Pods,
    path: &Path,
    node: &str,
    sender: mpsc::Sender<Vec<statics::Static>>,
) {
    let mut folder = statics::Folder::new(path, node);
    let read = if path.as_os_str().is_empty() { Ok(Vec::new()) } else { folder.read() };
    match &read {
        Ok(known) => pods.set_statics(known.clone()),
        Err(error) => warn!("cannot read the static pods in {}: {error}", path.display()),
    }
    if !path.as_os_str().is_empty() {
        tokio::spawn(statics::watch(folder, read.ok(), sender));
    }
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
    fn new(state: &State, pods: &Pods, api: api::Service) -> Self {
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
        }
    }
}

#[cfg(test)]
mod tests;
