//! HTTP: carries calls between the cloud's router and services on this node.
//!
//! The cloud calls services of the node by port and path; applications of the node call URLs in the
//! cloud, through a listener that is open as long as the cloud has a rule for one.

mod config;
mod door;
mod service;
mod status;
mod tls;
pub mod trial;
mod urls;
mod words;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_proto::{Group, Message, Module, Operation, Resource, Source};
use module_runtime::{Alarm, Context, Delivery, Event, Peers};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{debug, warn};

use status::{Note, Report};
use urls::Order;

/// Calls to services at a time; more wait.
const CALLS: usize = 64;

/// Changes of rules that may wait for the store, and notes for the status.
const WAITING: usize = 256;

/// How long after a change the status is told: calls come in crowds.
const SOON: Duration = Duration::from_secs(1);

/// Runs the module until it is asked to drain.
///
/// # Errors
/// When the configuration is wrong.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let config = context.config::<config::Sections>()?.check()?;
    let peers = context.peers();
    let (orders, receiver) = mpsc::channel(WAITING);
    let (sender, mut urls) = watch::channel(urls::Urls::default());
    tokio::spawn(urls::keep(peers.clone(), receiver, sender));
    let (notes, mut noted) = mpsc::channel(WAITING);
    tokio::spawn(door::keep(config, peers.clone(), urls.clone(), notes.clone()));
    let desk = Desk { peers, places: Arc::new(Semaphore::new(CALLS)), orders, notes };
    let mut tell = Alarm::default();
    tell.set(Some(Instant::now()));
    let mut report = Report::default();
    loop {
        tokio::select! {
            event = context.next() => match event {
                Event::Message(delivery) => desk.take(delivery),
                Event::PeerUp(Module::Metamanager) => desk.order(Order::Read),
                Event::PeerUp(_) | Event::PeerDown(_) => {}
                Event::Drain => return Ok(()),
            },
            Some(note) = noted.recv() => {
                report.note(note);
                tell.set(Some(Instant::now() + SOON));
            }
            Ok(()) = urls.changed() => {
                report.urls = urls.borrow_and_update().len();
                tell.set(Some(Instant::now() + SOON));
            }
            () = tell.ring() => context.report(&report)?,
        }
    }
}

/// What is done with what comes from the cloud.
struct Desk {
    peers: Peers,
    places: Arc<Semaphore>,
    orders: mpsc::Sender<Order>,
    notes: mpsc::Sender<Note>,
}

impl Desk {
    fn take(&self, delivery: Delivery) {
        let route = &delivery.message.route;
        match (&route.operation, &route.source) {
            (Operation::Start | Operation::Stop, Source::RouterServicebus) => {
                self.order(Order::Change(delivery));
            }
            (_, Source::RouterServicebus) => {
                let (peers, notes) = (self.peers.clone(), self.notes.clone());
                let places = Arc::clone(&self.places);
                tokio::spawn(call(peers, places, notes, delivery));
            }
            _ => delivery.unsupported(),
        }
    }

    /// Has the rules changed or read. What finds no room is let go: the sender has it still, and
    /// the store is asked again when it is there again.
    fn order(&self, order: Order) {
        if let Err(error) = self.orders.try_send(order) {
            warn!("too many changes of rules wait for the store: {error}");
        }
    }
}

/// Calls a service. The call counts as taken before it is made, because to make it twice could do
/// harm; whoever waits for it in the cloud hears of a call that was lost by a time-out.
async fn call(peers: Peers, places: Arc<Semaphore>, notes: mpsc::Sender<Note>, delivery: Delivery) {
    // The semaphore is never closed.
    let Ok(_place) = places.acquire_owned().await else { return };
    let request = delivery.take();
    let reply = match words::call(&request.route.resource, &request.content) {
        Ok(call) => service::call(call).await,
        Err(reply) => reply,
    };
    debug!(resource = %request.route.resource, status = reply.status, "a service was called");
    let worked = reply.status < 400;
    if let Err(error) = peers.send(Module::Edgehub, answer(&peers, &request, &reply)).await {
        warn!("a reply does not reach the cloud: {error}");
    }
    let _ending = notes.send(Note::FromCloud(worked)).await;
}

/// Makes the answer that the cloud's router looks for: operation `upload`, also where something
/// went wrong; without it the router lets its caller wait for nothing (WIRE.md §8.3).
fn answer(peers: &Peers, request: &Message, reply: &words::Reply) -> Message {
    let mut answer = peers.message(Group::User, Operation::Upload, Resource::None, reply.content());
    answer.header.parent = Some(request.header.id.clone());
    answer
}
