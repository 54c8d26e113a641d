//! The core's hands: carries out its effects on peers and link, and keeps what they need.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use ipc_proto::frame::Outcome;
use ipc_proto::{Content, Group, Message, MessageId, Module, ModuleSet, Operation, Resource, json};
use module_runtime::{Delivery, Now, Peers, RequestError, SendError, Ticket};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tracing::{debug, warn};

use crate::certs::rfc3339;
use crate::config::Config;
use crate::core::{Core, Effect, Note, Outgoing, Token};
use crate::dialler::Standing;
use crate::report::{Report, State};
use crate::transport::{Frame, Incoming, Link};
use crate::trouble::Trouble;

/// Who is told that the cloud is there or is not.
pub(crate) const TOLD: [Module; 7] = [
    Module::Metamanager,
    Module::Devicetwin,
    Module::Eventbus,
    Module::Servicebus,
    Module::Taskmanager,
    Module::Metaserver,
    Module::Edgestream,
];

/// A message that is in a module's queue, or cannot be.
pub(crate) type HandedOver = (MessageId, Result<Ticket, SendError>);

/// A message that a module is done with.
pub(crate) type Worked = (MessageId, Result<(), RequestError>);

/// Work that ends with `T`.
type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A probe that the cloud has not answered.
#[derive(Debug)]
struct Probe {
    sent: Instant,
    /// What had been read by then.
    read: u64,
}

/// The state around the core.
pub(crate) struct Hub {
    pub(crate) core: Core,
    pub(crate) link: Option<Link>,
    peers: Peers,
    /// The modules that are connected.
    up: ModuleSet,
    /// What modules sent up and is not confirmed.
    sent_up: HashMap<Token, Delivery>,
    next_token: Token,
    to_deliver: VecDeque<(Module, Message)>,
    pub(crate) handing_over: Option<Pending<HandedOver>>,
    pub(crate) works: FuturesUnordered<Pending<Worked>>,
    read_deadline: Duration,
    probe: Option<Probe>,
    /// Unix milliseconds.
    last_heartbeat: Option<i64>,
    /// Since when the cloud serves this node, or does not: Unix milliseconds.
    since: i64,
}

impl Hub {
    pub(crate) fn new(core: Core, peers: Peers, read_deadline: Duration) -> Self {
        Self {
            core,
            link: None,
            peers,
            up: ModuleSet::EMPTY,
            sent_up: HashMap::new(),
            next_token: 0,
            to_deliver: VecDeque::new(),
            handing_over: None,
            works: FuturesUnordered::new(),
            read_deadline,
            probe: None,
            last_heartbeat: None,
            since: Now::read().unix_ms,
        }
    }

    /// Takes a link that stands.
    pub(crate) fn link_up(&mut self, link: Link) {
        self.link = Some(link);
        self.probe = None;
        self.core.link_up(Now::read());
    }

    /// Lets go of a link that ended.
    pub(crate) fn link_down(&mut self) {
        self.link = None;
        self.probe = None;
        self.core.link_down(Now::read());
    }

    /// Takes what came from the cloud.
    pub(crate) fn came(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Probed(id) => self.core.probed(Now::read(), &id),
            Incoming::Message(frame) => match json::decode(&frame) {
                Ok(message) => self.core.came_down(Now::read(), message),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(
                        bytes = frame.len(),
                        cause, "cannot read a message of the cloud: {error}"
                    );
                    if let Some(id) = salvage_id(&frame) {
                        self.core.unreadable(Now::read(), id);
                    }
                }
            },
        }
    }

    /// Takes a message of a module.
    pub(crate) fn sent(&mut self, delivery: Delivery) {
        if serde_json::from_slice::<IgnoredAny>(delivery.message.content.raw()).is_err() {
            return delivery.refuse("its content is not JSON, or nested too deep");
        }
        let token = self.next_token;
        self.next_token += 1;
        self.core.sent_up(Now::read(), delivery.from, token, delivery.message.clone());
        self.sent_up.insert(token, delivery);
    }

    /// Notes that a message is in a module's queue, or cannot be.
    pub(crate) fn handed_over(&mut self, id: MessageId, ticket: Result<Ticket, SendError>) {
        self.handing_over = None;
        if let Some(probe) = &mut self.probe {
            // Nothing was read meanwhile: the answer may lie in the socket.
            probe.sent = Now::read().at;
        }
        match ticket {
            Ok(ticket) => self.works.push(Box::pin(async move { (id, ticket.settled().await) })),
            Err(error) => {
                let outcome = Outcome::Refused(error.to_string().into());
                self.core.settled(Now::read(), &id, outcome);
            }
        }
    }

    /// Notes that a module is done with a message.
    pub(crate) fn worked(&mut self, id: &MessageId, result: Result<(), RequestError>) {
        let outcome = match result {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Refused(error.to_string().into()),
        };
        self.core.settled(Now::read(), id, outcome);
    }

    /// Notes that a module is connected, perhaps a new process, and tells it how the link is.
    pub(crate) fn peer_up(&mut self, peer: Module) {
        self.up = self.up.with(peer);
        if TOLD.contains(&peer) {
            self.tell(peer, self.core.is_served());
        }
    }

    /// Notes that a module is not connected.
    pub(crate) fn peer_down(&mut self, peer: Module) {
        self.up = self.up.without(peer);
    }

    /// Carries out what the core decided.
    pub(crate) fn carry_out(&mut self) {
        self.core.tick(Now::read());
        while let Some(effect) = self.core.effect() {
            match effect {
                Effect::Deliver(to, message) => self.to_deliver.push_back((to, message)),
                Effect::Done(token) => {
                    if let Some(delivery) = self.sent_up.remove(&token) {
                        delivery.settle();
                    }
                }
                Effect::Refuse(token, why) => {
                    if let Some(delivery) = self.sent_up.remove(&token) {
                        warn!(from = %delivery.from, "refused: {why}");
                        delivery.refuse(&why);
                    }
                }
                Effect::Fail(token, why) => self.fail(token, why),
                Effect::Announce(up) => {
                    self.since = Now::read().unix_ms;
                    TOLD.into_iter()
                        .filter(|peer| self.up.contains(*peer))
                        .for_each(|peer| self.tell(peer, up));
                }
                Effect::Unserved => self.give_up(Trouble::Unserved),
                Effect::Note(note) => say(note),
            }
        }
        if self.handing_over.is_none()
            && let Some((to, message)) = self.to_deliver.pop_front()
        {
            let peers = self.peers.clone();
            let id = message.header.id.clone();
            self.handing_over = Some(Box::pin(async move { (id, peers.send(to, message).await) }));
        }
    }

    fn fail(&mut self, token: Token, why: &str) {
        let Some(delivery) = self.sent_up.remove(&token) else { return };
        if let Err(error) = delivery.respond_error(why) {
            debug!("cannot tell a waiter that no answer comes: {error}");
        }
    }

    /// Tells a module whether the cloud is there.
    fn tell(&self, peer: Module, up: bool) {
        let content = Content::text(if up { "cloud_connected" } else { "cloud_disconnected" });
        let notice =
            self.peers.message(Group::Resource, Operation::Connect, Resource::Connection, content);
        if let Err(error) = self.peers.try_send(peer, notice) {
            debug!(%peer, "cannot tell how the link is: {error}");
        }
    }

    /// Returns what is to be written now.
    fn next_frame(&mut self) -> Option<Frame> {
        let time = Now::read();
        match self.core.next(time)? {
            Outgoing::Message(message) => {
                if message.route.operation == Operation::Keepalive {
                    self.last_heartbeat = Some(time.unix_ms);
                }
                match json::encode(&message) {
                    Ok(json) => Some(Frame::Message(json)),
                    Err(error) => {
                        warn!("cannot write a message: {error}");
                        None
                    }
                }
            }
            Outgoing::Probe(id) => {
                let read = self.link.as_ref().map_or(0, |link| link.activity.read());
                self.probe.get_or_insert(Probe { sent: time.at, read });
                Some(Frame::Probe(id))
            }
        }
    }

    /// Gives the link up when the cloud has not answered a probe in time. While a full queue keeps
    /// this module from reading that proves nothing.
    pub(crate) fn watch(&mut self) {
        let (Some(probe), Some(link)) = (&mut self.probe, &self.link) else { return };
        let read = link.activity.read();
        if read > probe.read {
            self.probe = None;
        } else if self.handing_over.is_some() {
            probe.sent = Now::read().at;
        } else if probe.sent + self.read_deadline <= Now::read().at {
            self.give_up(Trouble::Silent(self.read_deadline));
        }
    }

    /// Writes the next thing; to be called when the link has room.
    pub(crate) fn write(&mut self) {
        if let Some(frame) = self.next_frame()
            && let Some(link) = &self.link
            && link.outgoing.try_send(frame).is_err()
        {
            // The link has just ended; what goes up goes again on the next one.
            debug!("a message found no link");
        }
    }

    /// Ends the link cleanly and waits for that, at most `patience`.
    pub(crate) async fn say_goodbye(self, patience: Duration) {
        let Some(mut link) = self.link else { return };
        link.end.because(Trouble::Ending);
        let ended = async { while link.incoming.recv().await.is_some() {} };
        let _in_time = tokio::time::timeout(patience, ended).await;
    }

    /// Tells whether the cloud serves this node now.
    pub(crate) fn is_served(&self) -> bool {
        self.core.is_served()
    }

    /// Returns what the operator is shown.
    pub(crate) fn report(&self, config: &Config, standing: &Standing) -> Report {
        let served = self.core.is_served();
        let tally = self.core.tally();
        let (waiting, unconfirmed, in_work) = self.core.load();
        Report {
            state: State::of(standing, served),
            endpoint: format!("wss://{}", config.hub),
            since: rfc3339(self.since / 1000),
            connects: standing.connects,
            last_heartbeat: self.last_heartbeat.map(|millis| rfc3339(millis / 1000)),
            certificate_expires: standing.expires.clone(),
            reason: standing.reason.clone().filter(|_| !served),
            waiting,
            unconfirmed,
            in_work,
            unsupported: tally.unsupported,
            refused: tally.refused,
        }
    }

    fn give_up(&mut self, trouble: Trouble) {
        self.probe = None;
        if let Some(link) = &self.link {
            link.end.because(trouble);
        }
    }

    /// Returns when something is to be done by itself. What is to be written now waits for room in
    /// the link, not for time.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        let watch = self.probe.as_ref().map(|probe| probe.sent + self.read_deadline);
        let write = self.core.next_at(now).filter(|at| *at > now);
        self.core.tick_at().into_iter().chain(watch).chain(write).min()
    }

    /// Tells whether something is to be written now.
    pub(crate) fn wants_to_write(&self) -> bool {
        let now = Instant::now();
        self.core.next_at(now).is_some_and(|at| at <= now)
    }
}

/// Finds the id of a message that is otherwise unreadable.
pub(crate) fn salvage_id(frame: &[u8]) -> Option<MessageId> {
    #[derive(Deserialize)]
    struct Salvage {
        header: SalvageHeader,
    }
    #[derive(Deserialize)]
    struct SalvageHeader {
        msg_id: String,
    }
    let Salvage { header } = serde_json::from_slice(frame).ok()?;
    (!header.msg_id.is_empty()).then(|| MessageId::parse(&header.msg_id))
}

fn say(note: Note) {
    match note {
        Note::Unsupported { id, route, why } => warn!(
            %id, source = %route.source, group = %route.group, operation = %route.operation,
            resource = %route.resource, "unsupported message of the cloud: {why}"
        ),
        Note::Refused { id, why } => warn!(%id, "a message of the cloud was refused: {why}"),
        Note::NoBarriers => {
            warn!("this cloud does not answer queries of its CA: WebSocket pings take their place");
        }
    }
}
