//! Carries out what the core decides: requests to the store and to the cloud, topics, calls to
//! mappers, and the settlements that wait for them.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use ipc_proto::{Content, Group, Kind, Message, Module, Operation, Resource};
use module_runtime::{Delivery, Now, Peers, SendError};
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::core::{Core, Effect, Receipt, Refused, Sent};
use crate::device::Rows;
use crate::dmi::{Ask, client, words as w};
use crate::mappers::{CallError, Info};
use crate::objects::{self, STORE_PATIENCE};
use crate::report::Report;

/// How long the cloud may take to confirm a report.
const CLOUD_PATIENCE: Duration = Duration::from_secs(60);

/// How long after a failure the store is asked for its rows again.
const LOAD_PAUSE: Duration = Duration::from_secs(1);

/// How often what is shown is made anew, at most.
const NEWS: Duration = Duration::from_secs(1);

/// Devices whose mapper or rows are asked about when nothing else is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Who waits for a piece of work.
#[expect(clippy::large_enum_variant, reason = "nearly all who wait are messages")]
enum Waiter {
    Message(Delivery),
    Mapper(oneshot::Sender<Result<(), Refused>>),
}

/// How something outside ended.
pub(crate) enum Errand {
    Stored(Box<str>, u64, bool),
    Removed(Box<str>, bool),
    Reported(Box<str>, Sent, bool),
    Called(Box<str>, Result<(), CallError>),
    /// All rows of the twin tables, and all mappers.
    Loaded(Option<(Content, Content)>),
    /// The row of a mapper with this protocol is stored, and there are the devices that it asked for.
    Kept(Registered, Box<str>, Option<Content>),
}

type Registered = oneshot::Sender<Result<w::MapperRegisterResponse, Refused>>;

pub(crate) struct Shell {
    core: Core,
    peers: Peers,
    waiters: HashMap<Receipt, Waiter>,
    next_receipt: u64,
    pub(crate) errands: JoinSet<Errand>,
    /// What came in before the rows were there; the windows of the peers bound it.
    early: VecDeque<Delivery>,
    loaded: bool,
    loading: bool,
    reload: Option<Instant>,
    trouble: Option<String>,
    unpublished: u64,
    shown: Option<Report>,
    next_news: Instant,
    unshown: bool,
}

impl Shell {
    pub(crate) fn new(node: &str, peers: Peers) -> Self {
        Self {
            core: Core::new(node, module_runtime::message_id),
            peers,
            waiters: HashMap::new(),
            next_receipt: 0,
            errands: JoinSet::new(),
            early: VecDeque::new(),
            loaded: false,
            loading: false,
            reload: None,
            trouble: None,
            unpublished: 0,
            shown: None,
            next_news: Now::read().at,
            unshown: true,
        }
    }

    pub(crate) const fn is_loaded(&self) -> bool {
        self.loaded
    }

    pub(crate) fn no_mappers(&mut self, reason: String) {
        self.trouble = Some(reason);
    }

    /// Returns when [`Shell::on_time`] is next due.
    pub(crate) fn deadline(&self) -> Instant {
        let news = self.unshown.then_some(self.next_news);
        let all = [self.core.deadline(), self.reload, news];
        all.into_iter().flatten().min().unwrap_or_else(|| Now::read().at + IDLE)
    }

    /// Returns what is to be shown, if it is due and has changed.
    pub(crate) fn news(&mut self) -> Option<Report> {
        if !self.unshown || Now::read().at < self.next_news {
            return None;
        }
        self.unshown = false;
        self.next_news = Now::read().at + NEWS;
        let report = Report::new(&self.core, self.trouble.as_ref(), self.unpublished);
        if self.shown.as_ref() == Some(&report) {
            return None;
        }
        self.shown = Some(report.clone());
        Some(report)
    }

    /// The store is there: its rows are asked for, the first time.
    pub(crate) fn store_up(&mut self) {
        if self.loaded || self.loading {
            return;
        }
        self.loading = true;
        let peers = self.peers.clone();
        self.errands.spawn(async move {
            let both = objects::rows(&peers).await;
            Errand::Loaded(both.inspect_err(|error| warn!("no rows from the store: {error}")).ok())
        });
    }

    fn on_loaded(&mut self, rows: Option<(Content, Content)>) {
        self.loading = false;
        let Some((twins, mappers)) = rows else {
            self.reload = Some(Now::read().at + LOAD_PAUSE);
            return;
        };
        match twins.decode::<Vec<&RawValue>>() {
            Ok(rows) => {
                for row in rows {
                    match serde_json::from_str::<Rows>(row.get()) {
                        Ok(rows) => self.core.load(rows),
                        Err(error) => warn!(%error, "a device's rows cannot be read"),
                    }
                }
            }
            Err(error) => warn!(%error, "the store's devices cannot be read"),
        }
        for info in mappers.decode::<Vec<Info>>().unwrap_or_default() {
            if let Err(reason) = self.core.mappers.take(info, true) {
                warn!(%reason, "a mapper of the store's cannot be used");
            }
        }
        self.loaded = true;
        for delivery in std::mem::take(&mut self.early) {
            self.take(delivery);
        }
        self.with(|core, now, out| core.pump(now, out));
    }

    /// Takes a message of a peer.
    pub(crate) fn take(&mut self, delivery: Delivery) {
        if !self.loaded {
            self.early.push_back(delivery);
            return;
        }
        match delivery.from {
            Module::Eventbus => self.take_topic(delivery),
            Module::Metamanager => self.take_object(delivery),
            Module::Edgehub => self.take_cloud(delivery),
            Module::Devicetwin
            | Module::Edged
            | Module::Servicebus
            | Module::Taskmanager
            | Module::Metaserver
            | Module::Edgestream
            | Module::Edgemesh => delivery.unsupported(),
        }
    }

    fn take_topic(&mut self, delivery: Delivery) {
        let Resource::Text(topic) = &delivery.message.route.resource else {
            return delivery.unsupported();
        };
        let (topic, content) = (topic.clone(), delivery.message.content.clone());
        let payload = content.decode::<String>();
        // Who sends no text sends the payload itself.
        let payload =
            payload.unwrap_or_else(|_| String::from_utf8_lossy(content.raw()).into_owned());
        let receipt = self.wait(Waiter::Message(delivery));
        self.with(|core, now, out| {
            core.on_topic(now, &topic, &payload, receipt, out);
            core.pump(now, out);
        });
    }

    /// Takes objects. They are settled at once: the store has them, and sends all again to a module
    /// that has died.
    fn take_object(&mut self, delivery: Delivery) {
        let Message { route, content, .. } = &delivery.message;
        let Resource::Object { scope, kind, name } = &route.resource else {
            return delivery.unsupported();
        };
        let id = name.as_ref().map(|name| format!("{}/{name}", scope.as_str()));
        let (json, operation) = (content.raw().clone(), route.operation.clone());
        let put = matches!(operation, Operation::Insert | Operation::Update);
        let gone = operation == Operation::Delete;
        let kind = kind.clone();
        delivery.settle();
        self.with(|core, now, out| match (kind, id) {
            (Kind::Device, None) if put => core.on_devices(now, &json, out),
            (Kind::DeviceModel, None) if put => core.on_models(now, &json, out),
            (Kind::Device, Some(_)) if put => core.on_device(now, &json, out),
            (Kind::DeviceModel, Some(_)) if put => core.on_model(now, &json, out),
            (Kind::Device, Some(id)) if gone => core.on_device_gone(now, &id, out),
            (Kind::DeviceModel, Some(id)) if gone => core.on_model_gone(now, &id, out),
            _ => {}
        });
    }

    fn take_cloud(&mut self, delivery: Delivery) {
        let Message { route, content, .. } = &delivery.message;
        let content = content.clone();
        match (&route.operation, &route.resource) {
            (Operation::Connect, Resource::Connection) => {
                let linked = content.decode::<&str>().is_ok_and(|word| word == "cloud_connected");
                delivery.settle();
                self.link(linked);
            }
            (Operation::Update, Resource::Membership) => {
                delivery.settle();
                self.with(|core, now, out| core.on_membership(now, content.raw(), out));
            }
            (Operation::Update, Resource::Device { namespace, name, change })
                if **change == *"twin/cloud_updated" =>
            {
                let id = format!("{namespace}/{name}");
                let receipt = self.wait(Waiter::Message(delivery));
                self.with(|core, now, out| {
                    core.on_cloud_twin(now, &id, content.raw(), receipt, out);
                });
            }
            // An answer that came too late: the report went again, and its answer counts.
            (Operation::Response | Operation::Error, _) => delivery.settle(),
            _ => delivery.unsupported(),
        }
    }

    /// Notes that the cloud came or went.
    pub(crate) fn link(&mut self, linked: bool) {
        self.with(|core, now, out| core.on_link(now, linked, out));
    }

    /// Takes a call of a mapper.
    pub(crate) fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Report(report, answer) => {
                let receipt = self.wait(Waiter::Mapper(answer));
                self.with(|core, now, out| core.on_report(now, report, receipt, out));
            }
            Ask::State(state, answer) => {
                let receipt = self.wait(Waiter::Mapper(answer));
                self.with(|core, now, out| core.on_state(now, &state, receipt, out));
            }
            Ask::Register(request, answer) => {
                let with_data = request.with_data;
                match self.core.mappers.register(request) {
                    Ok(info) => self.keep_mapper(info, with_data, answer),
                    Err(reason) => registered(answer, Err(Refused::bad(reason))),
                }
                self.with(|core, now, out| core.pump(now, out));
            }
        }
    }

    fn keep_mapper(&mut self, info: Info, with_data: bool, answer: Registered) {
        let peers = self.peers.clone();
        self.errands.spawn(async move {
            let kept = objects::keep_mapper(&peers, &info).await;
            let devices = match kept {
                Ok(()) if with_data => objects::devices(&peers).await,
                Ok(()) => Ok(Content::NULL),
                Err(error) => Err(error),
            };
            let devices = devices.inspect_err(|error| warn!("a mapper cannot be kept: {error}"));
            Errand::Kept(answer, info.protocol, devices.ok())
        });
    }

    fn wait(&mut self, waiter: Waiter) -> Receipt {
        self.next_receipt += 1;
        let receipt = Receipt(self.next_receipt);
        self.waiters.insert(receipt, waiter);
        receipt
    }

    /// Does what is due.
    pub(crate) fn on_time(&mut self) {
        if self.reload.is_some_and(|reload| reload <= Now::read().at) {
            self.reload = None;
            self.store_up();
        }
        self.with(Core::on_time);
    }

    /// Takes the end of something outside.
    pub(crate) fn on_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Loaded(rows) => self.on_loaded(rows),
            Errand::Stored(id, number, ok) => self.with(|core, now, out| {
                core.on_stored(now, (&id, number), ok, out);
                core.pump(now, out);
            }),
            Errand::Removed(id, ok) => self.core.on_removed(Now::read(), &id, ok),
            Errand::Reported(id, sent, ok) => self.with(|core, now, out| {
                core.on_reported(now, &id, &sent, ok);
                core.pump(now, out);
            }),
            Errand::Called(protocol, result) => self.with(|core, now, out| {
                core.mappers.called(now.at, &protocol, result);
                core.pump(now, out);
            }),
            Errand::Kept(answer, protocol, Some(devices)) => {
                registered(answer, Ok(self.core.mappers.list(&protocol, devices.raw())));
            }
            Errand::Kept(answer, _, None) => {
                let reason = "the store does not take the mapper: try again".to_owned();
                registered(answer, Err(Refused { code: 500, reason }));
            }
        }
    }

    /// Has the core decide, and does what it decides.
    fn with(&mut self, decide: impl FnOnce(&mut Core, Now, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        decide(&mut self.core, Now::read(), &mut effects);
        self.unshown = true;
        for effect in effects {
            self.act(effect);
        }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Store(number, rows) => match Content::encode(&rows) {
                Ok(content) => {
                    let resource = objects::device(&rows.id);
                    let ended = move |ok| Errand::Stored(rows.id, number, ok);
                    self.store(resource, Operation::Update, content, ended);
                }
                Err(error) => warn!(%error, id = %rows.id, "a device cannot be stored"),
            },
            Effect::Remove(id) => {
                let resource = objects::device(&id);
                let ended = move |ok| Errand::Removed(id, ok);
                self.store(resource, Operation::Delete, Content::NULL, ended);
            }
            Effect::Publish(topic, content) => self.publish(topic, content),
            Effect::Settle(receipt) => self.end(receipt, Ok(())),
            Effect::Refuse(receipt, refused) => self.end(receipt, Err(refused)),
            Effect::Report(id, sent, content) => self.report(id, sent, content),
            Effect::Call(protocol, call) => {
                let peers = self.peers.clone();
                self.errands.spawn(async move {
                    let result = client::call(&peers, call).await;
                    Errand::Called(protocol, result)
                });
            }
        }
    }

    fn end(&mut self, receipt: Receipt, result: Result<(), Refused>) {
        match self.waiters.remove(&receipt) {
            Some(Waiter::Message(delivery)) => delivery.settle(),
            Some(Waiter::Mapper(answer)) => {
                if answer.send(result).is_err() {
                    debug!("a mapper went away before its answer");
                }
            }
            None => warn!(?receipt, "a piece of work was to end twice"),
        }
    }

    fn publish(&mut self, topic: String, content: Content) {
        let resource = Resource::Text(topic.into());
        let message = self.peers.message(Group::User, Operation::Publish, resource, content);
        match self.peers.try_send(Module::Eventbus, message) {
            Ok(_) | Err(SendError::NotEnabled(_) | SendError::Ending(_)) => {}
            Err(error) => {
                self.unpublished += 1;
                warn!("a message for applications is given up: {error}");
            }
        }
    }

    fn store(
        &mut self,
        resource: Resource,
        operation: Operation,
        content: Content,
        ended: impl FnOnce(bool) -> Errand + Send + 'static,
    ) {
        let message = self.peers.message(Group::Twin, operation, resource, content);
        let peers = self.peers.clone();
        self.errands.spawn(async move {
            let reply = peers.request(Module::Metamanager, message, STORE_PATIENCE).await;
            let reply = reply.inspect_err(|error| warn!("cannot store: {error}"));
            ended(reply.map(Delivery::settle).is_ok())
        });
    }

    fn report(&mut self, id: Box<str>, sent: Sent, content: Content) {
        let (namespace, name) = id.split_once('/').unwrap_or_default();
        let resource = Resource::Device {
            namespace: namespace.into(),
            name: name.into(),
            change: sent.change().into(),
        };
        let message = self.peers.message(Group::Resource, Operation::Update, resource, content);
        let peers = self.peers.clone();
        self.errands.spawn(async move {
            let reply = peers.request(Module::Edgehub, message, CLOUD_PATIENCE).await;
            let reply = reply.inspect_err(|error| debug!(%id, "no word of the cloud: {error}"));
            Errand::Reported(id, sent, reply.map(Delivery::settle).is_ok())
        });
    }
}

/// Answers a mapper that registered.
fn registered(answer: Registered, result: Result<w::MapperRegisterResponse, Refused>) {
    if answer.send(result).is_err() {
        debug!("a mapper went away while it registered");
    }
}
