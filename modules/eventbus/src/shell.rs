//! Carries out what the core decides: to the connections, to the peers, to the disk.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ipc_proto::{Module, Operation};
use module_runtime::{Delivery, Peers, RequestError, SendError, instance, unix_millis};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::bridge::{self, Wish};
use crate::config::Config;
use crate::connection::{Happening, Port};
use crate::core::{
    Act, CLOUD, ConnectionId, Core, Decided, FromPeer, LAST_ID, Message, Now, QueueId, TO_BROKER,
    TWIN,
};
use crate::gate::Gate;
use crate::journal::{self, Journal};
use crate::mqtt::{Options, Packet, Qos, Reason};
use crate::rules::{self, Done, Order};
use crate::status::{External, Internal, Report};

/// Changes of topics that may wait for the store.
const RULES: usize = 256;

/// Filters in one packet.
const FILTERS: usize = 64;

/// The settlement of a message that a peer has.
type Settlement = Pin<Box<dyn Future<Output = (QueueId, u64, Result<(), RequestError>)>>>;

/// Everything that the main loop has.
pub(crate) struct Shell {
    node: String,
    peers: Peers,
    core: Core,
    journal: Journal,
    decided: Decided,
    /// What waits for the disk, by the mark that it waits for.
    gate: Gate,
    ports: HashMap<ConnectionId, Port>,
    /// Messages of peers that are not safe yet.
    deliveries: HashMap<u64, Delivery>,
    last_token: u64,
    settlements: FuturesUnordered<Settlement>,
    /// Messages for which a peer's queue had no room.
    stalled: VecDeque<(QueueId, Rc<Message>)>,
    orders: mpsc::Sender<Order>,
    done: mpsc::Receiver<Done>,
    /// Changes of topics that the store has not written yet.
    writing: usize,
    /// The identity of the last packet that subscribed.
    last_filter_id: u16,
    external: External,
    internal: Internal,
    reported: Option<Report>,
}

fn now() -> Now {
    Now { steady: Instant::now(), unix: unix_millis() }
}

impl Shell {
    /// Takes up what an earlier life left.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub(crate) fn start(config: &Config, peers: Peers, node: &str) -> Result<Self> {
        let folder = &config.folder;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut core = Core::new(config.settings.clone(), instance().0);
        let start = now();
        let records = journal::load(folder, |record| core.restore(record, start))?;
        core.restored(start);
        let journal = Journal::begin(folder, &core.snapshot(start))?;
        if records > 0 {
            let (cloud, _) = core.load(CLOUD);
            let (_, sessions, _) = core.census();
            info!("taken up: {cloud} messages for the cloud, {sessions} sessions");
        }
        let mut decided = Decided::default();
        core.begin(start, &mut decided);
        let (orders, receiver) = mpsc::channel(RULES);
        let (sender, done) = mpsc::channel(RULES);
        tokio::spawn(rules::serve(peers.clone(), receiver, sender));
        let mut shell = Self {
            node: node.to_owned(),
            peers,
            core,
            journal,
            decided,
            gate: Gate::default(),
            ports: HashMap::new(),
            deliveries: HashMap::new(),
            last_token: 0,
            settlements: FuturesUnordered::new(),
            stalled: VecDeque::new(),
            orders,
            done,
            writing: 0,
            last_filter_id: LAST_ID,
            external: External::of(config),
            internal: Internal::of(config),
            reported: None,
        };
        shell.carry_out();
        Ok(shell)
    }

    /// Takes a message of the cloud or of devicetwin.
    pub(crate) fn on_message(&mut self, delivery: Delivery) {
        match bridge::wish(&self.node, &delivery.message) {
            Wish::Topic(topic, wanted) => self.change_topic(&topic, wanted, delivery),
            Wish::Publish(topic, payload) => {
                self.last_token += 1;
                let token = self.last_token;
                self.deliveries.insert(token, delivery);
                let message = FromPeer { token, topic, payload };
                self.core.peer_says(now(), message, &mut self.decided);
            }
            Wish::Unsupported => delivery.unsupported(),
            Wish::Bad(reason) => {
                warn!("a message of {} cannot be published: {reason}", delivery.from);
                delivery.refuse(&reason);
            }
        }
    }

    /// A rule of the cloud came or went. It holds at once, and is settled when the store has it.
    fn change_topic(&mut self, topic: &str, wanted: bool, delivery: Delivery) {
        match self.orders.try_reserve() {
            Ok(slot) => slot.send(Order::Write(topic.into(), wanted, delivery)),
            Err(_) => return delivery.refuse("too many changes of topics wait for the store"),
        }
        self.writing += 1;
        self.want(topic, wanted);
    }

    fn want(&mut self, topic: &str, wanted: bool) {
        if self.core.want(topic, wanted, &mut self.decided) {
            info!("the cloud {} topic '{topic}'", if wanted { "wants" } else { "leaves" });
            self.tell_broker(&[topic.into()], wanted);
        }
    }

    /// Subscribes to filters with the external broker, or leaves them.
    fn tell_broker(&mut self, filters: &[Box<str>], wanted: bool) {
        for some in filters.chunks(FILTERS) {
            self.last_filter_id = match self.last_filter_id {
                u16::MAX => LAST_ID + 1,
                last => last + 1,
            };
            let id = self.last_filter_id;
            let options = Options { qos: Qos::AtLeastOnce, ..Options::default() };
            let packet = if wanted {
                let filters = some.iter().map(|filter| (filter.clone(), options)).collect();
                Packet::Subscribe { id, identified: false, filters }
            } else {
                Packet::Unsubscribe { id, filters: some.to_vec() }
            };
            self.send(TO_BROKER, packet);
        }
    }

    /// A peer is there. Those of the store's topics that are not known are asked for.
    pub(crate) fn on_peer_up(&mut self, peer: Module) {
        if peer == Module::Metamanager {
            // When the orders have no room the store has enough to do; it is asked at its end.
            let _asked_later = self.orders.try_send(Order::Read);
        }
    }

    /// Takes what happened on a connection.
    pub(crate) fn on_happening(&mut self, happening: Happening) {
        match happening {
            Happening::Opened(id, port) => {
                self.ports.insert(id, port);
                if id == TO_BROKER {
                    let filters: Vec<Box<str>> = self.core.filters().map(Into::into).collect();
                    self.tell_broker(&filters, true);
                    self.core.broker_up(now(), &mut self.decided);
                }
            }
            Happening::Packet(id, packet, cost) => {
                let Some(port) = self.ports.get_mut(&id) else { return };
                port.came(cost);
                if id != TO_BROKER {
                    self.core.client_says(id, packet, now(), &mut self.decided);
                } else {
                    if let Packet::Suback { reasons, .. } = &packet {
                        self.external.answered(reasons);
                    }
                    self.core.broker_says(now(), packet, &mut self.decided);
                }
            }
            Happening::Closed(TO_BROKER, reason) => {
                self.broker_gone();
                self.external.lost(reason);
            }
            Happening::Closed(id, reason) => {
                match reason {
                    Some(reason) => self.core.broken(id, reason, now(), &mut self.decided),
                    None => self.core.closed(id, now(), &mut self.decided),
                }
                self.carry_out();
                self.ports.remove(&id);
            }
            Happening::Listening(result) => self.internal.listens(result),
            Happening::Unreachable(text) => self.external.down(text),
        }
    }

    /// Waits until the disk, a peer or the store has done something, and takes it.
    pub(crate) async fn work(&mut self) {
        tokio::select! {
            () = self.journal.progress() => {}
            Some((queue, sequence, result)) = self.settlements.next() => {
                self.settled(queue, sequence, result);
                while let Some(Some((queue, sequence, result))) =
                    futures_util::FutureExt::now_or_never(self.settlements.next())
                {
                    self.settled(queue, sequence, result);
                }
            }
            Some(done) = self.done.recv() => self.on_done(done),
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Written => self.writing -= 1,
            // What the list lacks may be on its way to the store.
            Done::Topics(_) if self.writing > 0 => self.on_peer_up(Module::Metamanager),
            Done::Topics(topics) => {
                let wanted: HashSet<Box<str>> = topics.into_iter().collect();
                let known = self.core.topics().clone();
                for topic in known.iter().filter(|topic| !wanted.contains(*topic)) {
                    self.want(topic, false);
                }
                for topic in wanted.iter().filter(|topic| crate::topic::is_filter(topic)) {
                    self.want(topic, true);
                }
            }
        }
    }

    fn settled(&mut self, queue: QueueId, sequence: u64, result: Result<(), RequestError>) {
        let taken = match result {
            Ok(()) => true,
            // This process ends: the next one sends it again.
            Err(RequestError::NotSent(SendError::Ending(_))) => return,
            Err(error) => {
                warn!("a message is given up: {error}");
                false
            }
        };
        self.core.settled(now(), queue, sequence, taken, &mut self.decided);
        for (queue, message) in std::mem::take(&mut self.stalled) {
            self.hand_over(queue, message);
        }
    }

    /// Looks what time has done.
    pub(crate) fn on_tick(&mut self) {
        self.core.tick(now(), &mut self.decided);
        self.journal.hurry();
        for (queue, message) in std::mem::take(&mut self.stalled) {
            self.hand_over(queue, message);
        }
    }

    /// Tells whether time alone changes nothing.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.stalled.is_empty() && self.core.is_at_rest()
    }

    /// Tells the operator what has changed.
    pub(crate) fn report(&mut self) -> Option<Report> {
        let report = Report::of(&self.core, &self.journal, &self.external, &self.internal);
        if self.reported.as_ref() == Some(&report) {
            return None;
        }
        self.reported = Some(report.clone());
        Some(report)
    }

    /// Carries out what was decided.
    pub(crate) fn carry_out(&mut self) {
        loop {
            let Decided { now: acts, records, then } = std::mem::take(&mut self.decided);
            let mark = self.journal.write(&records);
            self.gate.hold(mark, then);
            acts.into_iter().for_each(|act| self.act(act));
            let synced = self.journal.synced();
            while let Some(act) = self.gate.next(synced) {
                self.act(act);
            }
            let Decided { now, records, then } = &self.decided;
            if now.is_empty() && records.is_empty() && then.is_empty() {
                break;
            }
        }
        let core = &self.core;
        self.journal.flush(self.gate.is_empty(), || core.snapshot(now()));
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Send(id, packet) => self.send(id, packet),
            Act::Close(id) => drop(self.ports.remove(&id)),
            Act::Next(id) => {
                if let Some(port) = self.ports.get_mut(&id) {
                    port.done();
                }
            }
            Act::ToCloud(message) => self.hand_over(CLOUD, message),
            Act::ToTwin(message) => self.hand_over(TWIN, message),
            Act::Settle(token) => {
                if let Some(delivery) = self.deliveries.remove(&token) {
                    delivery.settle();
                }
            }
        }
    }

    /// Sends a packet. A connection that does not take it is ended.
    fn send(&mut self, id: ConnectionId, packet: Packet) {
        if self.ports.get(&id).is_none_or(|port| port.send(packet)) {
            return;
        }
        self.ports.remove(&id);
        if id == TO_BROKER {
            self.broker_gone();
            self.external.down("it takes packets too slowly".to_owned());
        } else {
            self.core.closed(id, now(), &mut self.decided);
        }
    }

    /// Notes that the connection to the external broker is gone, and all that was meant for it.
    fn broker_gone(&mut self) {
        self.ports.remove(&TO_BROKER);
        self.core.broker_down();
        self.gate.forget(TO_BROKER);
        self.decided.forget(TO_BROKER);
    }

    /// Hands a message to a peer.
    fn hand_over(&mut self, queue: QueueId, message: Rc<Message>) {
        if self.stalled.iter().any(|(other, _)| *other == queue) {
            return self.stalled.push_back((queue, message));
        }
        let (to, operation) = if queue == TWIN {
            (Module::Devicetwin, Operation::Message)
        } else {
            (Module::Edgehub, Operation::Upload)
        };
        let sequence = message.sequence;
        let upload = bridge::upload(
            self.core.identity(),
            sequence,
            unix_millis(),
            operation,
            &message.topic,
            &message.payload,
        );
        match self.peers.try_send(to, upload) {
            Ok(ticket) => self
                .settlements
                .push(Box::pin(async move { (queue, sequence, ticket.settled().await) })),
            Err(SendError::NoRoom(_)) => self.stalled.push_back((queue, message)),
            Err(SendError::Ending(_)) => {}
            Err(error) => {
                warn!("a message on '{}' is given up: {error}", message.topic);
                self.core.settled(now(), queue, sequence, false, &mut self.decided);
            }
        }
    }

    /// Tells the clients that the broker ends.
    pub(crate) fn say_goodbye(&mut self) {
        let clients: Vec<ConnectionId> = self.ports.keys().copied().collect();
        for id in clients {
            if id == TO_BROKER {
                let (reason, session_expiry) = (Reason::SUCCESS, None);
                self.send(id, Packet::Disconnect { reason, session_expiry });
            } else {
                self.core.broken(id, Reason::SHUTTING_DOWN, now(), &mut self.decided);
            }
        }
        self.carry_out();
    }

    /// Waits until all is on the disk.
    pub(crate) async fn rest(&mut self) {
        self.journal.hurry();
        self.carry_out();
        while !self.journal.is_clean() {
            self.journal.progress().await;
            self.journal.hurry();
            self.carry_out();
        }
    }
}
