//! A trial of what the cloud and the modules say: fuzz targets and tests put bytes in, and each
//! message is to be settled, once. The module itself has no use for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use ipc_proto::{Content, MessageId, Module, json};
use module_runtime::Now;

use crate::core::{Core, Effect, Event, Receipt, Silence};
use crate::row::{Answer, Change, Question};

/// Messages, one in a line; the first byte of each chooses who says it. Whom the store asks answers
/// with that message's content, or not at all.
///
/// # Panics
/// When one is settled twice, or what is stored is no JSON.
pub fn messages(data: &[u8]) {
    let now = Now { at: Instant::now(), unix_ms: 1_795_408_033_822 };
    let core = Core::new(draw, now.at);
    let (rows, ended) = (BTreeMap::new(), BTreeSet::new());
    let mut trial = Trial { core, now, rows, receipts: 0, ended };
    trial.goes(Event::PeerUp(Module::Edged), &Content::NULL);
    for line in data.split(|byte| *byte == b'\n').take(16) {
        let Some((choice, text)) = line.split_first() else { continue };
        let Ok(message) = json::decode(&Bytes::copy_from_slice(text)) else { continue };
        let from = Module::ALL[usize::from(*choice) % Module::COUNT];
        let content = if choice & 0x80 == 0 { message.content.clone() } else { Content::NULL };
        let receipt = trial.receipt();
        trial.goes(Event::Message { from, message, receipt }, &content);
    }
}

/// A core whose database is a map, and whose peers answer at once.
struct Trial {
    core: Core,
    now: Now,
    rows: BTreeMap<Box<str>, Bytes>,
    receipts: u64,
    ended: BTreeSet<u64>,
}

impl Trial {
    fn receipt(&mut self) -> Receipt {
        self.receipts += 1;
        Receipt(self.receipts)
    }

    /// Lets the core decide and does what it says until it has nothing more to do; not for ever,
    /// as one who is always told the same may ask again.
    fn goes(&mut self, event: Event, content: &Content) {
        let mut events = VecDeque::from([event]);
        for _ in 0..64 {
            let Some(event) = events.pop_front() else { return };
            let mut effects = Vec::new();
            self.core.handle(self.now, event, &mut effects);
            for effect in effects {
                events.extend(self.act(effect, content));
            }
        }
    }

    fn act(&mut self, effect: Effect, content: &Content) -> Option<Event> {
        match effect {
            Effect::Commit(changes, then) => {
                changes.into_iter().for_each(|change| self.apply(change));
                Some(Event::Committed(then))
            }
            Effect::Ask(question, then) => Some(Event::Answered(then, Ok(self.answer(&question)))),
            Effect::Settle(receipt)
            | Effect::Refuse(receipt, _)
            | Effect::Respond(receipt, _)
            | Effect::Fail(receipt, _) => {
                assert!(self.ended.insert(receipt.0), "a delivery ended twice");
                None
            }
            Effect::Request(_, request, tag) if content.raw() != Content::NULL.raw() => {
                let answer = request.response(draw(), self.now.unix_ms, content.clone());
                let receipt = self.receipt();
                Some(Event::Replied(tag, Ok((answer, receipt))))
            }
            Effect::Request(_, _, tag) => {
                Some(Event::Replied(tag, Err(Silence::Unknown("nobody answers".to_owned()))))
            }
            Effect::Send(..) | Effect::Deliver(..) => None,
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Put(row) | Change::PutUnlessNewer(row) | Change::Refresh(row) => {
                let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&row.value).is_ok();
                // The cluster's CA is a text of its own.
                let is_ca = *row.kind == *"ca.crt";
                assert!(is_json || is_ca, "{} is stored as {:?}", row.key, row.value);
                self.rows.insert(row.key, row.value);
            }
            Change::Remove(removal) => drop(self.rows.remove(&removal.key)),
            Change::Queue(parcel) => {
                let text = Bytes::copy_from_slice(parcel.text.as_bytes());
                json::decode(&text).expect("what waits for the cloud can be read");
            }
            Change::RemoveToken(_)
            | Change::PutRecord(..)
            | Change::RemoveRecord(_)
            | Change::AddWord(..)
            | Change::RemoveWord(..)
            | Change::PutTwin(_)
            | Change::RemoveTwin(_)
            | Change::Dequeue(_) => {}
        }
    }

    fn answer(&self, question: &Question) -> Answer {
        match question {
            Question::Object(key) | Question::Token { key, .. } => {
                Answer::One(self.rows.get(key).cloned())
            }
            Question::Rows(_) => Answer::Rows(
                self.rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            ),
            Question::Outbox { .. } => Answer::Outbox(Vec::new()),
            Question::Record(_) | Question::Twin(_) => Answer::One(None),
            Question::Kind(_)
            | Question::Records(_)
            | Question::Page(_)
            | Question::Words(_)
            | Question::Twins => Answer::Array(Bytes::from_static(b"[]")),
        }
    }
}

fn draw() -> MessageId {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let mut random = [0; 16];
    random[8..].copy_from_slice(&DRAWN.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    MessageId::from_random(random)
}
