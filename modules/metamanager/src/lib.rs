//! The store of the node's objects: what the cloud sends is committed here before it is
//! acknowledged, edged and the other modules ask here, and what must reach the cloud waits here
//! until it has.
//!
//! The decisions stand in `core`, the database in [`store`]; this file carries what they say from
//! one to the other.

mod config;
mod core;
pub mod row;
pub mod store;
pub mod trial;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use module_runtime::{Context, Delivery, Event as Incoming, Now, Peers, RequestError, SendError};
use serde::Serialize;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::core::{Core, Effect, Event, Receipt, Silence, Tag, Then};
use config::{Config, Sections};
use ipc_proto::Message;
use store::{Done, Recovery, Size, Store, Trouble};

/// How long edged may take over a CSI request: the cloud's driver waits no longer.
const VOLUME_PATIENCE: Duration = Duration::from_secs(60);

/// How long the store may take to finish when the module ends.
const LAST_WRITES: Duration = Duration::from_secs(3);

/// Runs the module until the supervisor asks it to drain.
///
/// # Errors
/// When the configuration is wrong, or when the store's thread ends.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let config = context.config::<Sections>()?.check()?;
    let mut shell = Shell::start(&config, context.peers())?;
    shell.show(&mut context)?;
    let mut size = shell.store.size();
    loop {
        let deadline = shell.core.deadline();
        tokio::select! {
            event = context.next() => match event {
                Incoming::Message(delivery) => shell.take(delivery),
                Incoming::PeerUp(module) => shell.handle(Event::PeerUp(module)),
                Incoming::PeerDown(module) => shell.handle(Event::PeerDown(module)),
                Incoming::Drain => break,
            },
            done = shell.store.next() => {
                let done = done.context("the store's thread has ended")?;
                if shell.on_done(done) {
                    shell.show(&mut context)?;
                }
            }
            Ok(()) = size.changed() => {
                let Size { rows, outbox } = *size.borrow_and_update();
                (shell.report.rows, shell.report.outbox) = (rows, outbox);
                shell.show(&mut context)?;
            }
            Some(errand) = shell.errands.join_next() => {
                shell.on_errand(errand.context("a request's task has ended")?);
            }
            () = tokio::time::sleep_until(deadline.into()) => shell.handle(Event::Time),
        }
    }
    shell.finish().await;
    Ok(())
}

/// What `edgectl status` shows.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    database: Health,
    #[serde(skip_serializing_if = "Option::is_none")]
    restored: Option<String>,
    /// Events, uploads and reports that had to go because the cloud was away for too long.
    dropped_events: u64,
    /// Other messages that had to go for that.
    dropped_messages: u64,
    /// Objects in the database.
    rows: u64,
    /// Messages that the cloud does not have yet.
    outbox: u64,
}

#[derive(Debug, Serialize)]
struct Health {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: "ok", reason: None }
    }
}

/// How a message to another module ended.
#[expect(clippy::large_enum_variant, reason = "nearly all errands are requests")]
enum Errand {
    Replied(Tag, Result<Delivery, RequestError>),
    Delivered(i64, Result<(), RequestError>),
}

struct Shell {
    core: Core,
    store: Store<Then>,
    peers: Peers,
    patience: Duration,
    /// Messages that are being worked on; the windows of the peers bound them.
    deliveries: HashMap<Receipt, Delivery>,
    next_receipt: u64,
    /// Messages to other modules whose answers or settlements are awaited.
    errands: JoinSet<Errand>,
    report: Report,
}

impl Shell {
    fn start(config: &Config, peers: Peers) -> anyhow::Result<Self> {
        let store = Store::start(config.database.clone()).context("cannot start the store")?;
        Ok(Self {
            core: Core::new(module_runtime::message_id, Instant::now()),
            store,
            peers,
            patience: config.patience,
            deliveries: HashMap::new(),
            next_receipt: 0,
            errands: JoinSet::new(),
            report: Report::default(),
        })
    }

    fn show(&self, context: &mut Context) -> anyhow::Result<()> {
        context.report(&self.report)
    }

    fn take(&mut self, delivery: Delivery) {
        let from = delivery.from;
        let (message, receipt) = self.register(delivery);
        self.handle(Event::Message { from, message, receipt });
    }

    /// Keeps a delivery until the core has it settled.
    fn register(&mut self, delivery: Delivery) -> (Message, Receipt) {
        self.next_receipt += 1;
        let receipt = Receipt(self.next_receipt);
        let message = delivery.message.clone();
        self.deliveries.insert(receipt, delivery);
        (message, receipt)
    }

    fn on_errand(&mut self, errand: Errand) {
        let event = match errand {
            Errand::Replied(tag, Ok(reply)) => Event::Replied(tag, Ok(self.register(reply))),
            Errand::Replied(tag, Err(error)) => Event::Replied(tag, Err(silence(&error))),
            Errand::Delivered(sequence, result) => {
                Event::Delivered(sequence, result.map_err(|error| silence(&error)))
            }
        };
        self.handle(event);
    }

    /// Takes what the store has done; tells whether there is something new to show.
    fn on_done(&mut self, done: Done<Then>) -> bool {
        match done {
            Done::Committed(then, row::Committed { dropped, lost, news }) => {
                self.report.dropped_events += u64::from(dropped);
                self.report.dropped_messages += u64::from(lost);
                if dropped + lost > 0 {
                    warn!(
                        dropped,
                        lost, "the outbox is full: events and uploads, then the oldest had to go"
                    );
                }
                self.handle(Event::Committed(then));
                for news in news {
                    self.handle(Event::News(news));
                }
                dropped + lost > 0
            }
            Done::Answer(then, answer) => {
                let answer = answer.map_err(|trouble| trouble.to_string());
                self.handle(Event::Answered(then, answer));
                false
            }
            Done::Health(trouble) => self.on_health(trouble),
            Done::Restored(recovery) => self.on_restored(&recovery),
        }
    }

    fn on_health(&mut self, trouble: Option<Trouble>) -> bool {
        self.report.database = match trouble {
            Some(trouble) => {
                error!(state = trouble.word(), "{trouble}");
                Health { state: trouble.word(), reason: Some(trouble.to_string()) }
            }
            None => {
                info!("the database is open");
                Health::default()
            }
        };
        true
    }

    fn on_restored(&mut self, recovery: &Recovery) -> bool {
        self.report.restored = Some(recovery.to_string());
        self.handle(Event::Restored);
        true
    }

    /// Has the core decide, and does what it decides, until nothing is left.
    fn handle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        let mut effects = Vec::new();
        while let Some(event) = events.pop_front() {
            self.core.handle(Now::read(), event, &mut effects);
            events.extend(effects.drain(..).filter_map(|effect| self.act(effect)));
        }
    }

    /// Does one thing; returns the event that it causes at once.
    fn act(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Commit(changes, then) => self.store.commit(changes, then),
            Effect::Ask(question, then) => self.store.ask(question, then),
            Effect::Settle(receipt) => self.end(receipt, Delivery::settle),
            Effect::Refuse(receipt, reason) => self.end(receipt, |delivery| {
                warn!(from = %delivery.from, %reason, "message refused");
                if delivery.is_request() {
                    answered(delivery.respond_error(&reason));
                } else {
                    delivery.refuse(&reason);
                }
            }),
            Effect::Respond(receipt, content) => self.end(receipt, |delivery| {
                if delivery.is_request() {
                    answered(delivery.respond(content));
                } else {
                    delivery.settle();
                }
            }),
            Effect::Fail(receipt, reason) => self.end(receipt, |delivery| {
                if delivery.is_request() {
                    answered(delivery.respond_error(&reason));
                } else {
                    delivery.settle();
                }
            }),
            Effect::Send(to, message) => match self.peers.try_send(to, message) {
                Err(SendError::NoRoom(_)) => return Some(Event::Crowded(to)),
                Err(SendError::NotEnabled(_)) | Ok(_) => {}
                Err(error) => warn!("cannot pass a message on: {error}"),
            },
            Effect::Deliver(message, sequence) => {
                self.errands.spawn(deliver(self.peers.clone(), message, sequence));
            }
            Effect::Request(to, message, tag) => {
                let patience = match tag {
                    Tag::Volume(_) => VOLUME_PATIENCE,
                    Tag::Asked(_) | Tag::Parcel(_) | Tag::Own => self.patience,
                };
                let peers = self.peers.clone();
                self.errands.spawn(async move {
                    Errand::Replied(tag, peers.request(to, message, patience).await)
                });
            }
        }
        None
    }

    fn end(&mut self, receipt: Receipt, how: impl FnOnce(Delivery)) {
        match self.deliveries.remove(&receipt) {
            Some(delivery) => how(delivery),
            None => error!(?receipt, "a delivery was to be settled twice"),
        }
    }

    /// Commits what was begun, and settles it.
    async fn finish(mut self) {
        self.store.close();
        let last = tokio::time::timeout(LAST_WRITES, async {
            while let Some(done) = self.store.next().await {
                self.on_done(done);
            }
        });
        if last.await.is_err() {
            warn!(
                "the store did not finish in time: what was not committed was not settled either"
            );
        }
    }
}

/// Notes an answer that could not be given.
fn answered(result: Result<(), SendError>) {
    if let Err(error) = result {
        warn!("cannot answer a request: {error}");
    }
}

/// Sends a parcel that has no answer, and waits until edgehub knows that it has arrived.
async fn deliver(peers: Peers, message: Message, sequence: i64) -> Errand {
    let sent = peers.send(ipc_proto::Module::Edgehub, message).await;
    let settled = match sent {
        Ok(ticket) => ticket.settled().await,
        Err(error) => Err(error.into()),
    };
    Errand::Delivered(sequence, settled)
}

fn silence(error: &RequestError) -> Silence {
    match error {
        RequestError::Failed { answer, .. } => {
            let reason = answer.content.decode();
            Silence::Unknown(reason.unwrap_or_else(|_| error.to_string()))
        }
        RequestError::Refused { .. }
        | RequestError::NotSent(SendError::NotAllowed(_) | SendError::TooLong(_)) => {
            Silence::Refused(error.to_string())
        }
        RequestError::NotSent(_)
        | RequestError::TimedOut { .. }
        | RequestError::PeerDied { .. }
        | RequestError::Repeated => Silence::Unknown(error.to_string()),
    }
}
