//! The node's Kubernetes API: serves what the store holds to applications on this node, with or
//! without the cloud, and takes to the cloud what only the cluster can do.
//!
//! It keeps nothing of its own but the last changes, so that watches can go on where they were: the
//! store is read in pages ([`store`]), and metamanager tells of each change ([`history`]).

mod accept;
mod body;
mod calls;
mod certificate;
mod cloud;
mod config;
mod desk;
mod discovery;
mod door;
mod guard;
mod history;
mod kinds;
mod list;
mod object;
mod path;
mod selector;
mod serve;
mod status;
mod store;
mod table;
pub mod trial;
mod watch;
mod write;

use ipc_proto::{Module, Operation, Resource};
use module_runtime::{Context, Delivery, Event, Peers};
use serde::Serialize;
use tokio::sync::{mpsc, watch as state};
use tracing::warn;

use certificate::{Keeper, Secured};
use config::Config;
use desk::Desk;
use guard::Guard;
use history::{Change, Fate};
use serve::Site;
use store::Store;

/// Orders of requests that may wait for the main loop.
const ORDERS: usize = 64;

/// What `edgectl status` shows.
#[derive(Debug, Serialize)]
struct Report {
    /// Where it is served, or why it is not.
    doors: Vec<door::Standing>,
}

/// Runs the module until it is asked to drain.
///
/// # Errors
/// When the configuration is wrong.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let config = context.config::<config::Sections>()?.check()?;
    let (orders, mut ordered) = mpsc::channel(ORDERS);
    let (link, linked) = state::channel(false);
    let (shown, mut standings) = state::channel(Vec::new());
    let (guard, secured) = secure(&config, context.peers(), &linked);
    let site = Site::new(&config, guard, context.peers(), orders, linked);
    // Held until the end.
    let _of_mesh = config.mesh.then(|| site.cloud.watch_for_mesh());
    if config.serves {
        door::open(&config, &site, &secured, shown);
    }
    let mut desk = Desk::new(module_runtime::unix_millis().unsigned_abs());
    loop {
        tokio::select! {
            event = context.next() => match event {
                Event::Message(delivery) => take(&mut desk, &link, delivery),
                // What it told before it fell silent may not be all that it did.
                Event::PeerUp(Module::Metamanager) => desk.lost(),
                Event::PeerDown(Module::Edgehub) => drop(link.send_replace(false)),
                Event::PeerUp(_) | Event::PeerDown(_) => {}
                Event::Drain => return Ok(()),
            },
            Some(order) = ordered.recv() => desk.obey(order),
            Ok(()) = standings.changed() => {
                let doors = standings.borrow_and_update().clone();
                context.report(&Report { doors })?;
            }
        }
    }
}

/// Sees to it that clients can say who they are, where they have to.
fn secure(
    config: &Config,
    peers: Peers,
    linked: &state::Receiver<bool>,
) -> (Option<Guard>, state::Receiver<Secured>) {
    let first = "the certificate is being looked at".to_owned();
    let (secured, shown) = state::channel(Err(first));
    let guard = config.secure.as_ref().map(|secure| {
        let (keys, known) = state::channel(Vec::new().into());
        let keeper = Keeper::new(config, secure, peers.clone(), linked.clone());
        tokio::spawn(keeper.keep(secured, keys));
        Guard::new(secure.tokens.clone(), known, Store(peers))
    });
    (guard, shown)
}

/// Takes a message: a change of the store, or the notice that the cloud came or went.
fn take(desk: &mut Desk, link: &state::Sender<bool>, delivery: Delivery) {
    let message = &delivery.message;
    if message.is_answer() {
        // Nobody waits for it any more.
        return delivery.settle();
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are no changes")]
    let fate = match message.route.operation {
        Operation::Insert => Some(Fate::Came),
        Operation::Update => Some(Fate::Changed),
        Operation::Delete => Some(Fate::Went),
        _ => None,
    };
    match (delivery.from, &message.route.resource, fate) {
        (Module::Metamanager, Resource::Text(key), _) if **key == *"/" => desk.lost(),
        (Module::Metamanager, Resource::Text(key), Some(fate)) => {
            let value = message.content.raw().clone();
            desk.tell(Change { key: key.clone(), fate, value });
        }
        (Module::Edgehub, Resource::Connection, None) => match message.content.decode::<&str>() {
            Ok(word) => drop(link.send_replace(word == "cloud_connected")),
            Err(error) => warn!("a notice of the cloud link is no text: {error}"),
        },
        _ => return delivery.unsupported(),
    }
    delivery.settle();
}
