//! The peers of a module: sending with back-pressure, requests, and deliveries to settle.
//!
//! One task per peer owns the connection and all that is known of it ([`link`]); a [`Peers`] is a
//! cheap handle that hands it commands. The decisions are in cores without IO: [`queue`] for what
//! goes out, [`inbound`] for what comes in, [`requests`] for who waits for an answer.

mod connection;
mod delivery;
mod gauge;
mod handshake;
#[cfg(test)]
mod histories;
mod inbound;
mod insist;
mod lanes;
mod link;
mod queue;
mod requests;
mod room;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ipc_proto::allow::{self, NotAllowed};
use ipc_proto::frame::{self, FrameError, Hello, Outcome, Window};
use ipc_proto::lifeline::{Load, QueueBounds, Traffic};
use ipc_proto::{
    Content, Group, Instance, Message, MessageId, Module, ModuleSet, Operation, Resource, Route,
    Source,
};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;

pub use delivery::Delivery;

use crate::inbox::Inbox;
use crate::tap::Tap;
use crate::{clock, random};
use delivery::Claim;
use gauge::Gauge;
use inbound::Life;
use lanes::Lane;
use link::{Command, Link};
use requests::Patience;
use room::{Place, Room};

/// What a peer may have in flight towards a module that says nothing else: as many messages as
/// KubeEdge's channels hold (WIRE.md §1.6), and 4 MiB.
pub const WINDOW: Window = Window { messages: 1024, bytes: 4 * 1024 * 1024 };

/// Where a process sits among the modules, and what it may hold.
#[derive(Debug)]
pub struct Seat {
    /// Which module it is.
    pub module: Module,
    /// This life of the process.
    pub instance: Instance,
    /// The folder of the listening sockets.
    pub runtime_dir: PathBuf,
    /// The user id of each module's process, by [`Module::index`].
    pub users: [u32; Module::COUNT],
    /// The modules that run on this node; the others are not dialled.
    pub enabled: ModuleSet,
    /// Bounds of what it holds for one peer.
    pub queue: QueueBounds,
    /// What each peer may have in flight towards it.
    pub window: Window,
}

impl Seat {
    fn hello(&self, to: Module) -> Hello {
        Hello { from: self.module, to, instance: self.instance, window: self.window }
    }

    /// Takes the seat: listens on `listener`, if there is one, dials, and keeps every connection.
    /// To be called inside a runtime. A process that is no module can sit in a module's seat too,
    /// as tests do.
    ///
    /// # Errors
    /// When the runtime cannot watch the listener.
    pub fn take(self, listener: Option<OwnedFd>) -> io::Result<(Peers, Inbox)> {
        let listener = listener.map(listen).transpose()?;
        let seat = Arc::new(self);
        let peers: Vec<Module> = seat.module.peers().collect();
        let windows = peers.len().max(1) * seat.window.messages.max(1) as usize;
        let (inbox, deliveries) = mpsc::channel(windows.min(1 << 20));
        let (lives_sender, lives) = watch::channel(Lives::default());
        let lives_sender = Arc::new(lives_sender);
        let mut doors = [const { None }; Module::COUNT];
        let mut arrivals = [const { None }; Module::COUNT];
        for peer in peers {
            let (commands, receiver) = mpsc::channel(seat.commands());
            let (arrival, arriving) = mpsc::channel(1);
            let gauge = Arc::new(Gauge::default());
            let way_back = commands.downgrade();
            let lives = Arc::clone(&lives_sender);
            let link = Link::new(Arc::clone(&seat), peer, inbox.clone(), lives, way_back);
            tokio::spawn(link.run(receiver, arriving, Arc::clone(&gauge)));
            arrivals[peer.index()] = Some(arrival);
            doors[peer.index()] = Some(Door { commands, room: Room::new(seat.queue), gauge });
        }
        let (module, enabled) = (seat.module, seat.enabled);
        if let Some(listener) = listener {
            tokio::spawn(handshake::accept(seat, listener, arrivals));
        }
        let peers = Peers(Arc::new(Doors { module, enabled, doors }));
        Ok((peers.clone(), Inbox::new(peers, deliveries, lives)))
    }

    /// Commands that a link may be behind with. Each belongs to a message that has its place in
    /// the queue, or in a window of this process or its peers; the factor leaves room for
    /// deliveries of earlier lives that the module still holds.
    fn commands(&self) -> usize {
        let queue = self.queue.messages as usize;
        let windows = Module::COUNT * self.window.messages as usize;
        (queue + 2 * windows).clamp(64, 1 << 20)
    }
}

/// The connected peers by [`Module::index`].
pub(crate) type Lives = [Option<Life>; Module::COUNT];

/// The handle on a module's peers.
#[derive(Clone, Debug)]
pub struct Peers(Arc<Doors>);

#[derive(Debug)]
struct Doors {
    module: Module,
    enabled: ModuleSet,
    doors: [Option<Door>; Module::COUNT],
}

/// The way to one peer's link.
#[derive(Debug)]
struct Door {
    commands: mpsc::Sender<Command>,
    room: Room,
    gauge: Arc<Gauge>,
}

/// A message on its way to a link, encoded.
#[derive(Debug)]
struct Outgoing {
    lane: Lane,
    head: BytesMut,
    content: Bytes,
    /// Its place in the queue's room; none for answers and relayed messages, whose number is
    /// bounded by the windows of those who asked.
    place: Option<Place>,
    then: Then,
    /// Who waits for its answer, and how long.
    waiter: Option<(Patience, Waiter)>,
}

impl Outgoing {
    fn new(message: Message, then: Then) -> Result<Self, FrameError> {
        let head = frame::message_head(&message)?;
        let lane = if message.is_answer() { Lane::Answers } else { Lane::Messages };
        let content = message.content.into_raw();
        Ok(Self { lane, head, content, place: None, then, waiter: None })
    }

    /// Returns the bytes that it takes on the wire.
    fn bytes(&self) -> u32 {
        u32::try_from(self.head.len() + self.content.len()).unwrap_or(u32::MAX)
    }
}

/// Who hears of a message's settlement.
#[derive(Debug)]
enum Then {
    /// Its sender.
    Tell(oneshot::Sender<Outcome>),
    /// The request that it answers: it is settled likewise.
    Settle(Claim),
    /// The waiter for its answer, of a refusal only.
    Request(MessageId),
    /// Nobody.
    Nothing,
}

/// Who waits for an answer.
#[derive(Debug)]
enum Waiter {
    /// A caller in this process.
    Caller(oneshot::Sender<Result<Delivery, RequestError>>),
    /// The sender of the request that was passed on.
    Asker(Box<Delivery>),
}

impl Waiter {
    /// Ends the wait; gives an answer back that its caller does not wait for any more.
    fn resolve(self, result: Result<Delivery, RequestError>) -> Option<Delivery> {
        let asker = match self {
            Self::Caller(caller) => return caller.send(result).err().and_then(Result::ok),
            Self::Asker(asker) => asker,
        };
        let answered = match result.map(Delivery::take) {
            Ok(answer) if answer.route.operation == Operation::Error => {
                asker.respond_error(&answer.content.decode::<String>().unwrap_or_default())
            }
            Ok(answer) => asker.respond(answer.content),
            Err(error) => asker.respond_error(&error.to_string()),
        };
        if let Err(error) = answered {
            debug!("cannot pass an answer on: {error}");
        }
        None
    }
}

/// A message that was not taken for sending.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The allow-list forbids it: a bug of the sender.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// It is larger than a frame may be.
    #[error(transparent)]
    TooLong(#[from] FrameError),
    /// The receiver does not run on this node.
    #[error("{0} is not enabled on this node")]
    NotEnabled(Module),
    /// The queue to the receiver is full.
    #[error("the queue to {0} is full")]
    NoRoom(Module),
    /// This process is on its way out.
    #[error("the connection to {0} has been given up: this module is ending")]
    Ending(Module),
}

/// A request without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It was not sent.
    #[error(transparent)]
    NotSent(#[from] SendError),
    /// No answer came in time.
    #[error("{to} did not answer within {} ms", after.as_millis())]
    TimedOut {
        /// Who was asked.
        to: Module,
        /// How long was waited.
        after: Duration,
    },
    /// The process that was asked is gone.
    #[error("{to} died before it answered: {reason}")]
    PeerDied {
        /// Who was asked.
        to: Module,
        /// How it was noticed.
        reason: &'static str,
    },
    /// The receiver will never take it.
    #[error("{to} refused the request: {reason}")]
    Refused {
        /// Who was asked.
        to: Module,
        /// Why.
        reason: Box<str>,
    },
    /// The answer is an error; its content says why.
    #[error("{to} answered with an error: {}", String::from_utf8_lossy(answer.content.raw()))]
    Failed {
        /// Who was asked.
        to: Module,
        /// The whole answer.
        answer: Box<Message>,
    },
    /// Another request with the same id waits already.
    #[error("a request with the same message id waits already")]
    Repeated,
}

/// The promise of a message's settlement. Dropping it drops nothing else.
#[derive(Debug)]
pub struct Ticket {
    to: Module,
    outcome: oneshot::Receiver<Outcome>,
}

impl Ticket {
    /// Waits until the receiver has settled the message.
    ///
    /// # Errors
    /// [`RequestError::Refused`] with the receiver's reason, or [`SendError::Ending`] when this
    /// process ends first.
    pub async fn settled(self) -> Result<(), RequestError> {
        match self.outcome.await {
            Ok(Outcome::Done) => Ok(()),
            Ok(Outcome::Refused(reason)) => Err(RequestError::Refused { to: self.to, reason }),
            Err(_) => Err(SendError::Ending(self.to).into()),
        }
    }
}

impl Peers {
    /// Returns the module that this process is.
    #[must_use]
    pub fn module(&self) -> Module {
        self.0.module
    }

    /// Makes a message of this module with a fresh id and the present time.
    #[must_use]
    pub fn message(
        &self,
        group: Group,
        operation: Operation,
        resource: Resource,
        content: Content,
    ) -> Message {
        let route = Route { source: source(self.module()), group, operation, resource };
        Message::new(random::message_id(), clock::unix_millis(), route, content)
    }

    /// Hands a message over for sending, after all that was handed over before; waits for room.
    ///
    /// # Errors
    /// [`SendError`], never [`SendError::NoRoom`].
    pub async fn send(&self, to: Module, message: Message) -> Result<Ticket, SendError> {
        let door = self.door(to, &message)?;
        let (tell, outcome) = oneshot::channel();
        let mut outgoing = Outgoing::new(message, Then::Tell(tell))?;
        let place = door.room.take(outgoing.bytes()).await.ok_or(SendError::Ending(to))?;
        outgoing.place = Some(place);
        door.command(to, outgoing).await?;
        Ok(Ticket { to, outcome })
    }

    /// Hands a message over for sending, if there is room now.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn try_send(&self, to: Module, message: Message) -> Result<Ticket, SendError> {
        let door = self.door(to, &message)?;
        let (tell, outcome) = oneshot::channel();
        let mut outgoing = Outgoing::new(message, Then::Tell(tell))?;
        let place = door.room.try_take(outgoing.bytes()).ok_or(SendError::NoRoom(to))?;
        outgoing.place = Some(place);
        try_command(&door.commands, to, outgoing)?;
        Ok(Ticket { to, outcome })
    }

    /// Sends a request and waits for its answer, at most `timeout` in all. When nobody waits any
    /// more the message is taken back, if it has not been written yet. The answer is the caller's
    /// to settle, once what it brought is durable; one that comes too late arrives among the
    /// module's events.
    ///
    /// # Errors
    /// [`RequestError`]. What the receiver did of the work is unknown after a time-out and after
    /// its death: ask again, or ask for the state.
    pub async fn request(
        &self,
        to: Module,
        mut message: Message,
        timeout: Duration,
    ) -> Result<Delivery, RequestError> {
        message.header.sync = true;
        let door = self.door(to, &message)?;
        let deadline = clock::now() + timeout;
        let timed_out = RequestError::TimedOut { to, after: timeout };
        let id = message.header.id.clone();
        let mut outgoing = Outgoing::new(message, Then::Request(id)).map_err(SendError::from)?;
        let bytes = outgoing.bytes();
        outgoing.place = match door.room.try_take(bytes) {
            Some(place) => Some(place),
            None => tokio::time::timeout_at(deadline.into(), door.room.take(bytes))
                .await
                .map_err(|_| timed_out.clone())?,
        };
        // The entry in the table goes with the message, so it is there before the message is sent.
        let (waiter, answer) = oneshot::channel();
        outgoing.waiter = Some((Patience::Until(deadline), Waiter::Caller(waiter)));
        door.command(to, outgoing).await?;
        match answer.await.map_err(|_| SendError::Ending(to))? {
            Ok(answer) if answer.message.route.operation == Operation::Error => {
                Err(RequestError::Failed { to, answer: Box::new(answer.take()) })
            }
            // The link looks at the deadline and does not know how long the wait was.
            Err(RequestError::TimedOut { .. }) => Err(timed_out),
            result => result,
        }
    }

    /// Passes a request on for its sender, whose window bounds how many there are, and answers it
    /// with the answer. It waits for that over any number of the receiver's lives.
    pub(crate) fn relay(
        &self,
        to: Module,
        mut message: Message,
        asker: Delivery,
    ) -> Result<(), SendError> {
        message.header.sync = true;
        let id = message.header.id.clone();
        let outgoing = self
            .door(to, &message)
            .and_then(|door| Ok((door, Outgoing::new(message, Then::Request(id))?)));
        match outgoing {
            Ok((door, outgoing)) => {
                let waiter = Some((Patience::Endless, Waiter::Asker(Box::new(asker))));
                try_command(&door.commands, to, Outgoing { waiter, ..outgoing })
            }
            Err(error) => asker.respond_error(&error.to_string()),
        }
    }

    /// Returns what is held for all peers together.
    #[must_use]
    pub fn load(&self) -> Load {
        gauge::load(self.gauges())
    }

    /// Returns what has passed between this process and all its peers.
    pub(crate) fn traffic(&self) -> Traffic {
        gauge::traffic(self.gauges())
    }

    fn gauges(&self) -> impl Iterator<Item = &Gauge> {
        self.0.doors.iter().flatten().map(|door| &*door.gauge)
    }

    /// Writes a record of each message to `tap` from now on, or no longer.
    pub(crate) fn tap(&self, tap: Option<&Arc<Tap>>) {
        for door in self.0.doors.iter().flatten() {
            // A link that is behind with so many commands shows nothing; the operator looks again.
            let _missed = door.commands.try_send(Command::Tap(tap.cloned()));
        }
    }

    /// Writes out what is held for the peers that are connected and waits until they have settled
    /// it, at most `patience`. What stays is lost with the process, unless the module keeps it.
    pub async fn flush(&self, patience: Duration) {
        let (done, mut all_done) = mpsc::channel(1);
        for door in self.0.doors.iter().flatten() {
            let _ended = door.commands.try_send(Command::Finish(done.clone()));
        }
        drop(done);
        // Nothing is ever sent: the channel ends when the last link lets go of its end.
        let _in_time = tokio::time::timeout(patience, all_done.recv()).await;
    }

    fn door(&self, to: Module, message: &Message) -> Result<&Door, SendError> {
        allow::check(self.0.module, to, message)?;
        let door = self.0.doors[to.index()].as_ref().filter(|_| self.0.enabled.contains(to));
        door.ok_or(SendError::NotEnabled(to))
    }
}

impl Door {
    async fn command(&self, to: Module, outgoing: Outgoing) -> Result<(), SendError> {
        let command = Command::Send(Box::new(outgoing));
        self.commands.send(command).await.map_err(|_| SendError::Ending(to))
    }
}

fn try_command(
    commands: &mpsc::Sender<Command>,
    to: Module,
    outgoing: Outgoing,
) -> Result<(), SendError> {
    commands.try_send(Command::Send(Box::new(outgoing))).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => SendError::NoRoom(to),
        mpsc::error::TrySendError::Closed(_) => SendError::Ending(to),
    })
}

fn listen(listener: OwnedFd) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Returns the name that a module's messages carry (WIRE.md §1.5).
fn source(module: Module) -> Source {
    match module {
        Module::Metamanager => Source::Metamanager,
        Module::Devicetwin => Source::Twin,
        Module::Edgehub => Source::Edgehub,
        Module::Edged => Source::Edged,
        Module::Eventbus => Source::Bus,
        Module::Servicebus => Source::Servicebus,
        Module::Taskmanager => Source::Taskmanager,
        Module::Metaserver => Source::Metaserver,
        Module::Edgestream | Module::Edgemesh => Source::parse(module.name()),
    }
}
