//! Tests of the decisions: a small world of a core and a database that is a map.

mod cloud;
mod edged;
mod histories;
mod others;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::*;
use crate::row::{Object, Removal};

/// How the work on a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Settled,
    Refused(String),
    Responded(Content),
    Failed(String),
}

/// A core, its database, and what it did.
struct World {
    core: Core,
    now: Now,
    rows: BTreeMap<Box<str>, Object>,
    outbox: BTreeMap<i64, (Option<Box<str>>, Message)>,
    last_parcel: i64,
    receipts: u64,
    ends: BTreeMap<u64, End>,
    sent: Vec<(Module, Message)>,
    requests: Vec<(Module, Message, Tag)>,
    delivered: Vec<(Message, i64)>,
    /// Commits that were not told of yet, while the disk is held up.
    held: Option<Vec<(Vec<Change>, Then)>>,
}

fn draw() -> MessageId {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let mut random = [0; 16];
    random[8..].copy_from_slice(&DRAWN.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    MessageId::from_random(random)
}

impl World {
    fn new() -> Self {
        let now = Now { at: Instant::now(), unix_ms: 1_800_000_000_000 };
        Self {
            core: Core::new(draw, now.at),
            now,
            rows: BTreeMap::new(),
            outbox: BTreeMap::new(),
            last_parcel: 0,
            receipts: 0,
            ends: BTreeMap::new(),
            sent: Vec::new(),
            requests: Vec::new(),
            delivered: Vec::new(),
            held: None,
        }
    }

    /// A world whose cloud is connected.
    fn linked() -> Self {
        let mut world = Self::new();
        world.link(true);
        world
    }

    fn link(&mut self, up: bool) {
        let content = if up { "\"cloud_connected\"" } else { "\"cloud_disconnected\"" };
        let notice = message("edgehub", "resource", "connect", "node/connection", content);
        self.says(Module::Edgehub, notice);
    }

    fn handle(&mut self, event: Event) {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            self.core.handle(self.now, event, &mut effects);
            for effect in effects {
                events.extend(self.act(effect));
            }
        }
    }

    fn act(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Commit(changes, then) => {
                if let Some(held) = &mut self.held {
                    held.push((changes, then));
                    return None;
                }
                changes.into_iter().for_each(|change| self.apply(change));
                return Some(Event::Committed(then));
            }
            Effect::Ask(question, then) => {
                return Some(Event::Answered(then, Ok(self.answer(&question))));
            }
            Effect::Settle(receipt) => self.end(receipt, End::Settled),
            Effect::Refuse(receipt, reason) => self.end(receipt, End::Refused(reason)),
            Effect::Respond(receipt, content) => self.end(receipt, End::Responded(content)),
            Effect::Fail(receipt, reason) => self.end(receipt, End::Failed(reason)),
            Effect::Send(to, message) => self.sent.push((to, message)),
            Effect::Deliver(message, sequence) => self.delivered.push((message, sequence)),
            Effect::Request(to, message, tag) => self.requests.push((to, message, tag)),
        }
        None
    }

    fn end(&mut self, receipt: Receipt, end: End) {
        let earlier = self.ends.insert(receipt.0, end);
        assert_eq!(earlier, None, "a delivery ended twice");
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Put(object) => {
                self.rows.insert(object.key.clone(), object);
            }
            Change::Refresh(object) if !self.rows.contains_key(&object.key) => drop(object),
            Change::PutUnlessNewer(object) | Change::Refresh(object) => {
                let version = |object: &Object| object.mirror.as_ref().map(|row| row.version);
                let stored = self.rows.get(&object.key).and_then(version);
                if stored.is_none_or(|stored| Some(stored) <= version(&object)) {
                    self.rows.insert(object.key.clone(), object);
                }
            }
            Change::Remove(Removal { key, uid, along, .. }) => {
                let stored = self.rows.get(&key).and_then(|row| object::uid(&row.value));
                if uid.is_empty() || stored.is_none_or(|stored| stored == uid) {
                    along.iter().chain([&key]).for_each(|key| drop(self.rows.remove(key)));
                }
            }
            Change::RemoveToken(key) => drop(self.rows.remove(&key)),
            Change::Queue(parcel) => {
                self.outbox.retain(|place, (subject, _)| {
                    *place <= parcel.sent || subject.is_none() || *subject != parcel.subject
                });
                self.last_parcel += 1;
                let text = Bytes::from(parcel.text.into_string());
                let message = ipc_proto::json::decode(&text).unwrap();
                self.outbox.insert(self.last_parcel, (parcel.subject, message));
            }
            Change::Dequeue(place) => drop(self.outbox.remove(&place)),
            Change::PutRecord(..)
            | Change::RemoveRecord(_)
            | Change::AddWord(..)
            | Change::RemoveWord(..)
            | Change::PutTwin(_)
            | Change::RemoveTwin(_) => {}
        }
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Object> {
        self.rows.values().filter(move |row| *row.kind == *kind)
    }

    fn answer(&self, question: &Question) -> Answer {
        match question {
            Question::Object(key) | Question::Token { key, .. } => {
                Answer::One(self.rows.get(key).map(|row| row.value.clone()))
            }
            Question::Kind(kind) => {
                let values: Vec<_> = self.of_kind(kind).map(|row| text(&row.value)).collect();
                Answer::Array(format!("[{}]", values.join(",")).into())
            }
            Question::Rows(kind) => Answer::Rows(
                self.of_kind(kind).map(|row| (row.key.clone(), row.value.clone())).collect(),
            ),
            Question::Outbox { after, limit } => Answer::Outbox(
                self.outbox
                    .range(after + 1..)
                    .take(*limit as usize)
                    .map(|(place, (_, message))| (*place, message.clone()))
                    .collect(),
            ),
            Question::Record(_) | Question::Twin(_) => Answer::One(None),
            Question::Records(_) | Question::Page(_) | Question::Words(_) | Question::Twins => {
                Answer::Array(Bytes::from_static(b"[]"))
            }
        }
    }

    /// Has a module say something; returns the receipt of it.
    fn says(&mut self, from: Module, message: Message) -> u64 {
        self.receipts += 1;
        self.handle(Event::Message { from, message, receipt: Receipt(self.receipts) });
        self.receipts
    }

    /// Takes the last request that was made, of the module that was asked.
    fn asked(&mut self, to: Module) -> (Message, Tag) {
        let (module, message, tag) = self.requests.pop().expect("a request");
        assert_eq!(module, to);
        (message, tag)
    }

    /// Has the last request answered by the cloud, which tells the version in the header.
    fn cloud_answers(&mut self, content: &str, version: &str) {
        let (request, tag) = self.asked(Module::Edgehub);
        let mut reply = request.response(draw(), 0, raw(content));
        reply.header.resource_version = version.into();
        self.replied(tag, Ok(reply));
    }

    /// Has a request end; the answer must be settled.
    fn replied(&mut self, tag: Tag, result: Result<Message, Silence>) {
        self.receipts += 1;
        let receipt = self.receipts;
        let answered = result.is_ok();
        self.handle(Event::Replied(tag, result.map(|reply| (reply, Receipt(receipt)))));
        if answered && self.held.is_none() {
            assert_eq!(self.ends[&receipt], End::Settled);
        } else if !answered {
            self.receipts -= 1;
        }
    }

    fn row(&self, key: &str) -> Option<&str> {
        self.rows.get(key).map(|row| text(&row.value))
    }

    /// Returns the content of the answer to a request.
    fn response(&self, receipt: u64) -> &str {
        match self.ends.get(&receipt) {
            Some(End::Responded(content)) => text(content.raw()),
            other => panic!("expected an answer, got {other:?}"),
        }
    }

    fn failure(&self, receipt: u64) -> &str {
        match self.ends.get(&receipt) {
            Some(End::Failed(reason) | End::Refused(reason)) => reason,
            other => panic!("expected a failure, got {other:?}"),
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn raw(json: &str) -> Content {
    Content::from_raw(Bytes::copy_from_slice(json.as_bytes()))
}

fn message(source: &str, group: &str, operation: &str, resource: &str, json: &str) -> Message {
    let group = Group::parse(group);
    let route = Route {
        source: Source::parse(source),
        operation: Operation::parse(operation),
        resource: Resource::parse(&group, resource),
        group,
    };
    Message::new(draw(), 0, route, raw(json))
}

/// A message of edgecontroller's with a version.
fn pushed(operation: &str, resource: &str, version: u64, json: &str) -> Message {
    let mut message = message("edgecontroller", "resource", operation, resource, json);
    message.header.resource_version = version.to_string().into();
    message
}

/// A request of edged's.
fn request(operation: &str, resource: &str, json: &str) -> Message {
    let mut message = message("edged", "meta", operation, resource, json);
    message.header.sync = true;
    message
}

const POD: &str = r#"{"metadata":{"name":"web","namespace":"ns","uid":"u-1"}}"#;
