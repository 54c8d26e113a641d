//! The beginning of every path: numbered echoes, sent with the product's own [`Peers`], and now and
//! then a request whose answer is waited for.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use ipc_proto::lifeline::QueueBounds;
use ipc_proto::{Content, Group, Instance, Module, ModuleSet, Operation, Resource};
use module_runtime::{Delivery, Event, Inbox, Peers, Seat, Ticket, WINDOW};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

use super::ledger::Ledger;
use super::{PATHS, Pace, SCRIBE, SENDER, Target};

/// Every so many messages a request is sent beside them.
const REQUEST_EVERY: u64 = 32;

/// How long a request waits for its answer.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// The content of a message.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Note {
    /// Which of [`PATHS`].
    pub(super) stream: usize,
    /// From 1.
    pub(super) number: u64,
}

/// Takes the sender's place and sends as told, for ever.
pub(super) async fn run(
    runtime_dir: PathBuf,
    instance: Instance,
    queue: u32,
    pace: Pace,
    target: watch::Receiver<Target>,
    ledger: Rc<RefCell<Ledger>>,
) {
    let seat = Seat {
        module: SENDER,
        instance,
        runtime_dir,
        users: [0; Module::COUNT],
        enabled: Module::ALL.into_iter().collect::<ModuleSet>(),
        queue: QueueBounds { messages: queue, bytes: 64 << 20 },
        window: WINDOW,
    };
    let (peers, inbox) = seat.take(None).expect("no listener, so nothing can fail");
    spawn_local(drain(inbox));
    for (stream, path) in PATHS.into_iter().enumerate() {
        let (tickets, waiting) = mpsc::channel(1 << 20);
        spawn_local(watch_settlements(stream, waiting, Rc::clone(&ledger)));
        let sending = Sending { peers: peers.clone(), stream, path, ledger: Rc::clone(&ledger) };
        spawn_local(sending.run(pace, target.clone(), tickets));
    }
}

/// Takes what comes to the sender's place, where nobody has any business.
async fn drain(mut inbox: Inbox) {
    loop {
        if let Event::Message(delivery) = inbox.next().await {
            delivery.unsupported();
        }
    }
}

/// One stream.
struct Sending {
    peers: Peers,
    stream: usize,
    path: &'static [Module],
    ledger: Rc<RefCell<Ledger>>,
}

impl Sending {
    async fn run(
        self,
        pace: Pace,
        mut target: watch::Receiver<Target>,
        tickets: mpsc::Sender<(u64, Ticket)>,
    ) {
        let Some((&first, rest)) = self.path.split_first() else { return };
        let rest: Vec<&str> = rest.iter().chain([&SCRIBE]).map(|module| module.name()).collect();
        let way = Resource::Text(rest.join("/").into());
        let mut number = 0;
        while target.wait_for(|target| number < *target).await.is_ok() {
            number += 1;
            let content = Content::encode(&Note { stream: self.stream, number })
                .expect("two numbers are JSON");
            let echo = self.peers.message(Group::Diagnostic, Operation::Echo, way.clone(), content);
            self.ledger.borrow_mut().sent();
            match self.peers.send(first, echo).await {
                Ok(ticket) => drop(tickets.send((number, ticket)).await),
                Err(_) => self.ledger.borrow_mut().refused(),
            }
            if number % REQUEST_EVERY == 0 {
                self.ask(first);
            }
            if let Pace::Bursts(count, pause) = pace
                && number % count == 0
            {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Sends a request and notes how it ends.
    fn ask(&self, to: Module) {
        let (peers, ledger) = (self.peers.clone(), Rc::clone(&self.ledger));
        let ping = peers.message(Group::Diagnostic, Operation::Ping, Resource::None, Content::NULL);
        ledger.borrow_mut().asked();
        spawn_local(async move {
            let answer = peers.request(to, ping, REQUEST_PATIENCE).await.map(Delivery::settle);
            ledger.borrow_mut().request_ended(answer.is_ok());
        });
    }
}

/// Notes settlements in the order in which the messages were sent.
async fn watch_settlements(
    stream: usize,
    mut waiting: mpsc::Receiver<(u64, Ticket)>,
    ledger: Rc<RefCell<Ledger>>,
) {
    while let Some((number, ticket)) = waiting.recv().await {
        match ticket.settled().await {
            Ok(()) => ledger.borrow_mut().settled(stream, number),
            Err(_) => ledger.borrow_mut().refused(),
        }
    }
}
