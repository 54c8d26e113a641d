//! One task per peer: it owns the connection and the cores, and moves messages between them.
//!
//! Each turn takes all that came in and all commands of the module, lets the module work once, and
//! then writes messages and settlements together: a request and its answer cost one read and one
//! write on either side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use bytes::Bytes;
use ipc_proto::allow;
use ipc_proto::frame::{self, Frame, Hello, Outcome, Settlement};
use ipc_proto::tap::Happening;
use ipc_proto::{Message, Module};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use super::connection::{Connection, Ready};
use super::delivery::Claim;
use super::gauge::{Gauge, Passed};
use super::handshake::{self, Established};
use super::inbound::{Life, Verdict};
use super::lanes::{Incoming, Lane, Outbound};
use super::requests::Requests;
use super::{Delivery, Lives, Outgoing, Place, RequestError, Seat, Then, Waiter};
use crate::clock::{self, Alarm};
use crate::tap::Tap;

/// Commands taken at once.
const COMMANDS: usize = 256;

/// How long a peer may be gone before it counts as dead. A cut connection is dialled again after
/// 10 ms; what takes longer than this is a process that has to start.
const GRACE: Duration = Duration::from_secs(1);

/// What a link is told by its module.
#[derive(Debug)]
pub(super) enum Command {
    /// Send this message.
    Send(Box<Outgoing>),
    /// The work on a delivery has ended.
    Settle { life: Life, sequence: u64, outcome: Outcome },
    /// A delivery was dropped unsettled.
    LetGo { life: Life, sequence: u64 },
    /// Show messages there from now on, or no longer.
    Tap(Option<Arc<Tap>>),
    /// Write out what there is, then end.
    Finish(mpsc::Sender<()>),
}

/// A message in the queue.
#[derive(Debug)]
struct Item {
    head: Bytes,
    content: Bytes,
    then: Then,
    /// Held for its drop alone, which frees the room.
    _place: Option<Place>,
    /// When it was written; known only while somebody looks.
    sent: Option<Instant>,
}

/// How a connection ended.
#[derive(Debug)]
enum End {
    /// It broke, or the peer closed it.
    Broken(anyhow::Error),
    /// The peer has dialled anew.
    Replaced(Established),
    /// This module ends.
    Finished,
}

#[derive(Debug)]
pub(super) struct Link {
    seat: Arc<Seat>,
    peer: Module,
    queue: Outbound<Item>,
    inbound: Incoming,
    requests: Requests<Waiter>,
    inbox: mpsc::Sender<Delivery>,
    lives: Arc<watch::Sender<Lives>>,
    /// The way back to this link, for deliveries.
    way_back: mpsc::WeakSender<Command>,
    tap: Option<Arc<Tap>>,
    passed: Passed,
    alarm: Alarm,
    /// When the peer counts as dead, while it is gone and somebody waits.
    given_up: Option<Instant>,
    /// Set when the module ends; dropped when all was written.
    finish: Option<mpsc::Sender<()>>,
}

impl Link {
    pub(crate) fn new(
        seat: Arc<Seat>,
        peer: Module,
        inbox: mpsc::Sender<Delivery>,
        lives: Arc<watch::Sender<Lives>>,
        way_back: mpsc::WeakSender<Command>,
    ) -> Self {
        let requests = u32::try_from(seat.commands()).unwrap_or(u32::MAX);
        let inbound = Incoming::new(seat.window, requests);
        Self {
            seat,
            peer,
            queue: Outbound::new(),
            inbound,
            requests: Requests::new(),
            inbox,
            lives,
            way_back,
            tap: None,
            passed: Passed::default(),
            alarm: Alarm::default(),
            given_up: None,
            finish: None,
        }
    }

    /// Keeps the connection to the peer until the module ends.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut arrivals: mpsc::Receiver<Established>,
        gauge: Arc<Gauge>,
    ) {
        let mut replacement = None;
        loop {
            let established = match replacement.take() {
                Some(established) => established,
                None => match self.connect(&mut commands, &mut arrivals, &gauge).await {
                    Some(established) => established,
                    None => return,
                },
            };
            let Established { stream, peer } = established;
            self.up(&peer);
            let connection = Connection::new(stream);
            let end = self.serve(connection, &mut commands, &mut arrivals, &gauge).await;
            self.down();
            match end {
                End::Broken(error) => info!(peer = %self.peer, "connection lost: {error:#}"),
                End::Replaced(established) => replacement = Some(established),
                End::Finished => return,
            }
        }
    }

    /// Waits for a connection; none comes any more once the module ends.
    async fn connect(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        arrivals: &mut mpsc::Receiver<Established>,
        gauge: &Gauge,
    ) -> Option<Established> {
        let (seat, peer) = (Arc::clone(&self.seat), self.peer);
        let dials = seat.module.dials().contains(&peer) && seat.enabled.contains(peer);
        let mut dialling = std::pin::pin!(async {
            if dials { handshake::dial(&seat, peer).await } else { std::future::pending().await }
        });
        loop {
            self.tell(gauge, false);
            tokio::select! {
                established = &mut dialling => return Some(established),
                Some(established) = arrivals.recv() => return Some(established),
                command = commands.recv() => self.command(command?),
                () = self.alarm.ring() => self.on_time(),
            }
            if self.finish.is_some() {
                return None;
            }
        }
    }

    /// Shows what it holds, and what has passed.
    fn tell(&self, gauge: &Gauge, connected: bool) {
        let (waiting, unsettled) = (self.queue.waiting(), self.queue.unsettled());
        gauge.set(waiting, unsettled, self.queue.bytes(), connected, self.passed);
    }

    /// Begins a connection.
    fn up(&mut self, peer: &Hello) {
        if self.inbound.connected(peer.instance) {
            self.bereave("another process has taken its place");
        }
        self.given_up = None;
        self.passed.connections += 1;
        self.queue.connected(peer.window);
        self.announce(Some(self.inbound.life()));
        debug!(peer = %self.peer, "connected");
    }

    /// Ends a connection.
    fn down(&mut self) {
        self.queue.disconnected();
        self.announce(None);
        if self.requests.deadline().is_some() {
            self.given_up = Some(clock::now() + GRACE);
            self.alarm.set(self.given_up);
        }
    }

    fn announce(&self, life: Option<Life>) {
        self.lives.send_modify(|lives| lives[self.peer.index()] = life);
    }

    /// Moves messages until the connection or the module ends.
    async fn serve(
        &mut self,
        mut connection: Connection,
        commands: &mut mpsc::Receiver<Command>,
        arrivals: &mut mpsc::Receiver<Established>,
        gauge: &Gauge,
    ) -> End {
        let mut batch = Vec::new();
        loop {
            if let Err(error) = self.flush(&mut connection) {
                return End::Broken(error.into());
            }
            self.tell(gauge, true);
            if self.finish.is_some() && connection.is_flushed() && self.queue.is_empty() {
                return End::Finished;
            }
            let mut delivered = false;
            tokio::select! {
                ready = connection.ready() => match self.on_ready(ready, &mut connection) {
                    Ok(some) => delivered = some,
                    Err(error) => return End::Broken(error),
                },
                count = commands.recv_many(&mut batch, COMMANDS) => {
                    if count == 0 {
                        return End::Finished;
                    }
                }
                Some(established) = arrivals.recv() => return End::Replaced(established),
                () = self.alarm.ring() => self.on_time(),
            }
            if delivered {
                crate::let_others_work().await;
            }
            batch.drain(..).for_each(|command| self.command(command));
            while let Ok(command) = commands.try_recv() {
                self.command(command);
            }
        }
    }

    /// Writes settlements and messages, as far as the peer's window and the kernel go.
    fn flush(&mut self, connection: &mut Connection) -> std::io::Result<()> {
        loop {
            if let Some(settlements) = self.inbound.settlements() {
                connection.push(frame::settle(&settlements));
            }
            while !connection.is_batch() {
                let Some(item) = self.queue.send_next() else { break };
                connection.push(item.head.clone());
                connection.push(item.content.clone());
                self.passed.sent += 1;
                if let Some(tap) = &self.tap {
                    item.sent = Some(clock::now());
                    tap.write(
                        self.seat.module,
                        self.peer,
                        &item.head,
                        &item.content,
                        Happening::Sent,
                    );
                }
            }
            if connection.is_flushed() {
                return Ok(());
            }
            connection.write()?;
            if !connection.is_flushed() {
                return Ok(());
            }
        }
    }

    /// Takes what came in; tells whether any of it went to the module.
    fn on_ready(
        &mut self,
        ready: std::io::Result<Ready>,
        connection: &mut Connection,
    ) -> anyhow::Result<bool> {
        match ready? {
            Ready::Write => return Ok(false),
            Ready::End => bail!("the peer closed it"),
            Ready::Read => {}
        }
        let mut delivered = false;
        while let Some((frame, bytes)) = connection.take().inspect_err(|error| {
            warn!(peer = %self.peer, "the peer broke the protocol: {error}");
        })? {
            match frame {
                Frame::Message(sequence, message) => {
                    delivered |= self.on_message(sequence, message, bytes)?;
                }
                Frame::Settle(settlements) => {
                    settlements.into_iter().for_each(|settlement| self.on_settled(settlement));
                    delivered = true;
                }
                Frame::Hello(_) | Frame::Welcome(_) | Frame::Refused(_) => {
                    bail!("the peer sent a second hello")
                }
            }
        }
        Ok(delivered)
    }

    fn on_message(&mut self, sequence: u64, message: Message, bytes: u32) -> anyhow::Result<bool> {
        if Lane::of(sequence) == Lane::Answers && message.header.parent.is_none() {
            bail!("a message that answers nothing among the answers");
        }
        match self.inbound.receive(sequence, bytes) {
            Verdict::Deliver => {}
            Verdict::Repeated => return Ok(false),
            Verdict::OverWindow => {
                warn!(peer = %self.peer, "the peer has more in flight than it was allowed");
                bail!("more messages in flight than the window allows");
            }
        }
        self.passed.received += 1;
        let life = self.inbound.life();
        if let Err(error) = allow::check(self.peer, self.seat.module, &message) {
            warn!("refused a message: {error}");
            let outcome = Outcome::Refused(error.to_string().into());
            self.inbound.settle(life, sequence, outcome);
            return Ok(false);
        }
        let Some(way_back) = self.way_back.upgrade() else { bail!("this module is ending") };
        let delivery = Delivery::new(self.peer, message, Claim::new(way_back, life, sequence));
        let parent = delivery.message.header.parent.as_ref();
        let unheard = match parent.and_then(|parent| self.requests.answered(parent)) {
            Some((request, waiter)) => {
                self.queue.cancel(request);
                waiter.resolve(Ok(delivery))
            }
            // An answer that comes too late can still carry an object worth storing.
            None => Some(delivery),
        };
        if let Some(delivery) = unheard
            && self.inbox.try_send(delivery).is_err()
        {
            bail!("more messages of earlier processes wait than the module can hold");
        }
        Ok(true)
    }

    fn on_settled(&mut self, Settlement { first, count, outcome }: Settlement) {
        let (from, to) = (self.seat.module, self.peer);
        for item in self.queue.settle(first, count) {
            if let (Some(tap), Some(sent)) = (&self.tap, item.sent) {
                let happening = match &outcome {
                    Outcome::Done => Happening::Settled(clock::micros_since(sent)),
                    Outcome::Refused(reason) => Happening::Refused(reason.clone()),
                };
                tap.write(from, to, &item.head, &item.content, happening);
            }
            match (item.then, &outcome) {
                (Then::Tell(sender), _) => {
                    // Nobody has to wait for it.
                    let _unheard = sender.send(outcome.clone());
                }
                (Then::Settle(claim), _) => claim.settle(outcome.clone()),
                (Then::Request(id), Outcome::Refused(reason)) => {
                    if let Some((_, waiter)) = self.requests.answered(&id) {
                        let reason = reason.clone();
                        waiter.resolve(Err(RequestError::Refused { to, reason }));
                    }
                }
                (Then::Request(_), Outcome::Done) | (Then::Nothing, _) => {}
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Send(outgoing) => self.send(*outgoing),
            Command::Settle { life, sequence, outcome } => {
                self.inbound.settle(life, sequence, outcome);
            }
            Command::LetGo { life, sequence } => {
                debug!(peer = %self.peer, sequence, "a message was dropped unsettled");
                self.inbound.let_go(life, sequence);
            }
            Command::Tap(tap) => self.tap = tap,
            Command::Finish(done) => self.finish = Some(done),
        }
    }

    fn send(&mut self, outgoing: Outgoing) {
        let bytes = outgoing.bytes();
        let Outgoing { lane, mut head, content, place, then, waiter } = outgoing;
        let request = match (&then, waiter) {
            (Then::Request(id), Some(waiter)) => Some((id.clone(), waiter)),
            (Then::Request(_) | Then::Tell(_) | Then::Settle(_) | Then::Nothing, _) => None,
        };
        let sequence = self.queue.push(lane, bytes, |sequence| {
            frame::set_sequence(&mut head, sequence);
            Item { head: head.freeze(), content, then, _place: place, sent: None }
        });
        let Some((id, (patience, waiter))) = request else { return };
        if let Err(waiter) = self.requests.register(id, sequence, patience, waiter) {
            self.queue.cancel(sequence);
            waiter.resolve(Err(RequestError::Repeated));
        }
        self.alarm.set(self.requests.deadline());
    }

    /// Ends what has waited long enough.
    fn on_time(&mut self) {
        let now = clock::now();
        let to = self.peer;
        while let Some((sequence, waiter)) = self.requests.expired(now) {
            self.queue.cancel(sequence);
            let after = Duration::ZERO;
            waiter.resolve(Err(RequestError::TimedOut { to, after }));
        }
        if self.given_up.is_some_and(|given_up| given_up <= now) {
            self.given_up = None;
            self.bereave("its connection ended and it has not come back");
        }
        self.alarm.set(self.given_up);
        self.alarm.set(self.requests.deadline());
    }

    /// Ends the requests that do not outlive the peer's process.
    fn bereave(&mut self, reason: &'static str) {
        let to = self.peer;
        while let Some((sequence, waiter)) = self.requests.bereaved() {
            self.queue.cancel(sequence);
            waiter.resolve(Err(RequestError::PeerDied { to, reason }));
        }
    }
}
