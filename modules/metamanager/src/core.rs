//! The decisions of the store: what a message means for the database, for the other modules and
//! for the cloud. Events and the time go in, effects come out; no IO, no clock, no waiting.
//!
//! The rules in short (WIRE.md §5.2, and what is done better than there):
//!
//! - The cloud's objects are committed, then acknowledged, then passed on to those who act on them.
//!   Devices go to devicetwin, services and endpoints to edgemesh, pods and what they need to
//!   edged. metaserver hears what became of each row of `meta_v2`, whoever changed it.
//! - A module that (re)connects, or that was too slow to take a change, gets the whole set of what
//!   it acts on: an `update` of `null/<type>`, whose content is the array of all objects. What it
//!   knew before may be old. So no change waits in memory for a module that is dead.
//! - Requests of edged go to the cloud or are answered from the database ([`query`]); without the
//!   cloud everything is answered from the database, at once.
//! - What must reach the cloud goes through the outbox ([`outbox`]).

mod answers;
mod cloud;
mod modules;
pub(crate) mod object;
mod outbox;
mod query;
mod reply;
mod sets;
mod tables;
pub(crate) mod token;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ipc_proto::{Content, Group, Message, MessageId, Module, Operation, Resource, Route, Source};
use module_runtime::Now;

use crate::row::{Answer, Change, Fate, News, Question};
use outbox::Outbox;
use query::Query;
use sets::Sets;

/// Names a delivery that is to be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Receipt(pub(crate) u64);

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A module sent a message.
    Message {
        /// Who.
        from: Module,
        /// What.
        message: Message,
        /// By which it is settled.
        receipt: Receipt,
    },
    /// A request was answered, by a message that is to be settled too; or will not be.
    Replied(Tag, Result<(Message, Receipt), Silence>),
    /// A parcel that has no answer was settled, or was not.
    Delivered(i64, Result<(), Silence>),
    /// Changes are on the disk.
    Committed(Then),
    /// An object came, changed or went.
    News(News),
    /// A question was answered; `Err` says why not.
    Answered(Then, Result<Answer, String>),
    /// A module is connected.
    PeerUp(Module),
    /// A module is no longer connected.
    PeerDown(Module),
    /// The queue to a module was full: what was sent last did not go.
    Crowded(Module),
    /// The database was restored from its snapshot.
    Restored,
    /// A deadline may have passed.
    Time,
}

/// Why a message came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Its receiver will never take it, for this reason.
    Refused(String),
    /// It was answered with an error, or nobody knows what became of it.
    Unknown(String),
}

impl Silence {
    fn into_reason(self) -> String {
        match self {
            Self::Refused(reason) | Self::Unknown(reason) => reason,
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Commit these changes.
    Commit(Vec<Change>, Then),
    /// Ask the database.
    Ask(Question, Then),
    /// The work on a delivery is done.
    Settle(Receipt),
    /// A delivery will never be taken.
    Refuse(Receipt, String),
    /// Answer a request, if the delivery is one, and settle it.
    Respond(Receipt, Content),
    /// Answer a request with an error, if the delivery is one, and settle it.
    Fail(Receipt, String),
    /// Pass a message on to a module, if there is room.
    Send(Module, Message),
    /// Send a parcel that has no answer.
    Deliver(Message, i64),
    /// Send a request.
    Request(Module, Message, Tag),
}

/// Which request was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tag {
    /// One to the cloud, for a module.
    Asked(MessageId),
    /// A parcel of the outbox.
    Parcel(i64),
    /// One to edged, for the cloud.
    Volume(MessageId),
    /// One of the store's own, to the cloud.
    Own,
}

/// What follows once the store is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// These effects.
    Do(Vec<Effect>),
    /// These effects, and the outbox has something new.
    Queued(Vec<Effect>),
    /// A query goes on.
    Query(Box<Query>),
    /// A module gets all objects of a type.
    Set(Module, ipc_proto::Kind),
    /// Parcels are sent.
    Parcels(u32),
    /// The cloud is told the statuses of all pods that were kept whole.
    Statuses,
    /// The cloud is asked about all objects of a type: the database was restored.
    Verify(ipc_proto::Kind),
}

/// A request that a module waits for.
#[derive(Debug)]
struct Asked {
    receipt: Receipt,
    /// Without its content.
    request: Message,
    /// What is done with the object in the answer.
    keep: Keep,
    /// The same question to the database, if it is one.
    question: Option<Question>,
}

/// What is done with the object that an answer carries.
#[derive(Clone, Debug)]
enum Keep {
    /// It is kept under its own name.
    Object(object::Name),
    /// It is a token, kept under this key.
    Token(Box<str>),
    /// It is the cluster's certificate authority.
    Ca,
    /// Nothing.
    Nothing,
}

/// How often the statuses of pods that were kept whole go to the cloud; the cloud answers with a
/// deletion for each pod that it does not have.
const STATUS_SYNC: Duration = Duration::from_secs(60);

/// How long after it was too slow a module gets the whole set.
const CROWDED_PAUSE: Duration = Duration::from_millis(500);

/// The state of the decisions.
#[derive(Debug)]
pub(crate) struct Core {
    draw: fn() -> MessageId,
    /// Whether the cloud is connected, as edgehub told.
    linked: bool,
    asked: HashMap<MessageId, Asked>,
    /// CSI requests that edged works on, without their contents.
    volumes: HashMap<MessageId, (Receipt, Message)>,
    outbox: Outbox,
    sets: Sets,
    /// Whether the cloud is still to be asked about everything.
    unverified: bool,
    next_sync: Instant,
}

impl Core {
    /// Makes the core; `draw` draws the identity of a new message.
    pub(crate) fn new(draw: fn() -> MessageId, now: Instant) -> Self {
        Self {
            draw,
            linked: false,
            asked: HashMap::new(),
            volumes: HashMap::new(),
            outbox: Outbox::default(),
            sets: Sets::default(),
            unverified: false,
            next_sync: now + STATUS_SYNC,
        }
    }

    /// Takes an event and appends what is to be done.
    pub(crate) fn handle(&mut self, now: Now, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Message { from, message, receipt } => {
                self.on_message(now, from, message, receipt, out);
            }
            Event::Replied(tag, result) => self.on_reply(now, tag, result, out),
            Event::Delivered(sequence, result) => self.on_delivered(sequence, result, out),
            Event::Committed(then) => self.on_committed(then, out),
            Event::News(news) => self.tell_news(now, news, out),
            Event::Answered(then, answer) => self.on_answer(now, then, answer, out),
            Event::PeerUp(module) => self.sets.connected(module, out),
            Event::PeerDown(module) => {
                self.sets.disconnected(module);
                if module == Module::Edgehub {
                    self.on_link(now, false, out);
                }
            }
            Event::Crowded(module) => self.sets.crowded(module, now.at + CROWDED_PAUSE),
            Event::Restored => {
                self.unverified = true;
                self.verify(out);
            }
            Event::Time => self.on_time(now, out),
        }
    }

    /// Returns when [`Event::Time`] is next due.
    pub(crate) fn deadline(&self) -> Instant {
        self.sets.deadline().map_or(self.next_sync, |deadline| deadline.min(self.next_sync))
    }

    fn on_message(
        &mut self,
        now: Now,
        from: Module,
        message: Message,
        receipt: Receipt,
        out: &mut Vec<Effect>,
    ) {
        if message.is_answer() {
            self.late_answer(from, &message, receipt, out);
            return;
        }
        match from {
            Module::Edgehub => self.cloud_says(now, message, receipt, out),
            Module::Edged => self.edged_says(message, receipt, out),
            Module::Devicetwin
            | Module::Eventbus
            | Module::Servicebus
            | Module::Taskmanager
            | Module::Metaserver
            | Module::Edgemesh => self.module_says(from, message, receipt, out),
            Module::Metamanager | Module::Edgestream => {
                out.push(Effect::Refuse(receipt, unsupported(&message)));
            }
        }
    }

    fn on_committed(&mut self, then: Then, out: &mut Vec<Effect>) {
        match then {
            Then::Do(effects) => self.pass(effects, out),
            Then::Queued(effects) => {
                self.pass(effects, out);
                self.outbox.more();
                self.outbox.pump(self.linked, out);
            }
            Then::Query(_)
            | Then::Set(..)
            | Then::Parcels(_)
            | Then::Statuses
            | Then::Verify(_) => {
                tracing::error!(?then, "a commit came back as a question");
            }
        }
    }

    /// Lets effects out, but for messages to modules that will get the whole set anyway.
    fn pass(&self, effects: Vec<Effect>, out: &mut Vec<Effect>) {
        out.extend(effects.into_iter().filter(|effect| match effect {
            Effect::Send(to, _) => self.sets.takes_changes(*to),
            Effect::Commit(..)
            | Effect::Ask(..)
            | Effect::Settle(_)
            | Effect::Refuse(..)
            | Effect::Respond(..)
            | Effect::Fail(..)
            | Effect::Deliver(..)
            | Effect::Request(..) => true,
        }));
    }

    fn on_answer(
        &mut self,
        now: Now,
        then: Then,
        answer: Result<Answer, String>,
        out: &mut Vec<Effect>,
    ) {
        match then {
            Then::Query(query) => self.go_on(now, *query, answer, out),
            Then::Set(module, kind) => match answer {
                Ok(Answer::Array(array)) => {
                    let scope = ipc_proto::Scope::Cluster;
                    let resource = Resource::Object { scope, kind, name: None };
                    let set = self.own(now, resource, Content::from_raw(array));
                    self.sets.send(module, set, out);
                }
                other => {
                    tracing::warn!(%module, %kind, ?other, "no set for a module");
                    self.sets.crowded(module, now.at + CROWDED_PAUSE);
                }
            },
            Then::Parcels(limit) => {
                self.outbox.read(limit, answer, out);
                self.outbox.pump(self.linked, out);
            }
            Then::Statuses => self.send_statuses(now, answer, out),
            Then::Verify(kind) => self.ask_about(now, &kind, answer, out),
            Then::Do(_) | Then::Queued(_) => {
                tracing::error!("a question came back as a commit");
            }
        }
    }

    /// Notes that the cloud came or went.
    fn on_link(&mut self, now: Now, linked: bool, out: &mut Vec<Effect>) {
        self.linked = linked;
        if linked {
            // Nobody should wait for edged's next beat to see that the node lives.
            self.pass(vec![Effect::Send(Module::Edged, self.notice(now))], out);
            self.verify(out);
        } else {
            let asked: Vec<_> = self.asked.drain().map(|(_, asked)| asked).collect();
            for asked in asked {
                Self::without_cloud(asked, NOT_LINKED, out);
            }
            self.outbox.unlinked(out);
        }
        self.outbox.pump(linked, out);
    }

    /// Tells metaserver, at which somebody may watch, what became of an object.
    fn tell_news(&self, now: Now, news: News, out: &mut Vec<Effect>) {
        if !self.sets.takes_changes(Module::Metaserver) {
            return;
        }
        let content = Content::from_raw(news.value);
        let mut message = self.own(now, Resource::Text(news.key), content);
        message.route.operation = match news.fate {
            Fate::Came => Operation::Insert,
            Fate::Changed => Operation::Update,
            Fate::Went => Operation::Delete,
        };
        if news.version > 0 {
            message.header.resource_version = news.version.to_string().into();
        }
        out.push(Effect::Send(Module::Metaserver, message));
    }

    fn on_time(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.sets.on_time(now.at, out).contains(Module::Metaserver) {
            // It lacks some news, and nobody knows which.
            let lost = self.own(now, Resource::Text("/".into()), Content::NULL);
            out.push(Effect::Send(Module::Metaserver, lost));
        }
        if now.at >= self.next_sync {
            self.next_sync = now.at + STATUS_SYNC;
            // Should the outbox have been unreadable, it is tried again here.
            self.outbox.more();
            self.outbox.pump(self.linked, out);
            if self.linked {
                let kind = ipc_proto::Kind::PodStatus.as_str().into();
                out.push(Effect::Ask(Question::Rows(kind), Then::Statuses));
            }
        }
    }

    /// Makes the notice that the cloud is back.
    fn notice(&self, now: Now) -> Message {
        let mut notice = self.own(now, Resource::Connection, Content::text("cloud_connected"));
        notice.route.operation = Operation::Connect;
        notice
    }

    /// Makes a message of the store's own: an update in group `resource`.
    fn own(&self, now: Now, resource: Resource, content: Content) -> Message {
        let route = Route {
            source: Source::Metamanager,
            group: Group::Resource,
            operation: Operation::Update,
            resource,
        };
        Message::new((self.draw)(), now.unix_ms, route, content)
    }
}

/// What a module is told whose request needs the cloud.
const NOT_LINKED: &str = "the cloud is not connected";

/// What a message wants, as far as the store is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Insert,
    Update,
    Patch,
    Delete,
    Query,
    Upload,
    /// edgehub's notice of the link.
    Connect,
    /// CSI, from the cloud to edged.
    Volume,
    /// Nothing that the store does.
    Unsupported,
}

impl Wish {
    const fn of(message: &Message) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others are other modules' words")]
        match message.route.operation {
            Operation::Insert => Self::Insert,
            Operation::Update => Self::Update,
            Operation::Patch => Self::Patch,
            Operation::Delete => Self::Delete,
            Operation::Query => Self::Query,
            Operation::Upload => Self::Upload,
            Operation::Connect => Self::Connect,
            Operation::CreateVolume
            | Operation::DeleteVolume
            | Operation::ControllerPublishVolume
            | Operation::ControllerUnpublishVolume => Self::Volume,
            _ => Self::Unsupported,
        }
    }
}

/// Says what is unsupported about a message.
fn unsupported(message: &Message) -> String {
    let short = |text: &str| text.chars().take(128).collect::<String>();
    format!(
        "unsupported: operation '{}' on '{}' from source '{}'",
        short(message.route.operation.as_str()),
        short(&message.route.resource.to_string()),
        short(message.route.source.as_str()),
    )
}

/// The content that says that all is well.
fn ok() -> Content {
    Content::from_raw(bytes::Bytes::from_static(b"\"OK\""))
}
