//! The decisions about devices: messages, answers and the time go in, effects come out. No IO, no
//! clock, no waiting.
//!
//! - A change is applied in memory, its rows are stored, and only then its results go out and it is
//!   settled. Changes of one device that come while its rows are being stored are stored together.
//! - The rows are the outbox: what the cloud has not confirmed of a device is told again, the latest
//!   of each property, one report of a device at a time. After a death of this process everything
//!   is told again. So a slow cloud, or none, costs no room and loses nothing.
//! - Devices come with their objects, whose whole set the store sends at each connection; what the
//!   cloud says of memberships only comes earlier.

mod objects;
mod outside;
mod report;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ipc_proto::{Content, MessageId};
use module_runtime::Now;
use serde::Serialize;

use crate::device::{Device, Packed, Rows};
use crate::mappers::{Call, Mappers};
use crate::payload::{Base, Change, Delta, Document, MsgTwin, MsgTwins, Refusal, Twins};
use crate::twin::{Merged, Origin, Twin};
use crate::value;
pub(crate) use report::Sent;
use report::{Reports, Telling};

/// The greatest number of properties of a device: ten times what a real one has.
pub(crate) const MAX_TWINS: usize = 1024;

/// Devices whose rows are being stored at a time: the store commits them together.
const STORES: usize = 256;

/// How long after a failure the store is asked again.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Names somebody who waits for the end of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Receipt(pub(crate) u64);

/// A request that is refused, in KubeEdge's codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// 400, 404 or 500.
    pub(crate) code: u16,
    /// What is wrong: the thing, the value, what was expected.
    pub(crate) reason: String,
}

impl Refused {
    pub(crate) const fn bad(reason: String) -> Self {
        Self { code: 400, reason }
    }

    pub(crate) fn unknown(id: &str) -> Self {
        let short: String = id.chars().take(256).collect();
        Self { code: 404, reason: format!("device '{short}' is not on this node") }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Store a device's rows; [`Core::on_stored`] is told, by this number.
    Store(u64, Box<Rows>),
    /// Remove a device's rows; [`Core::on_removed`] is told.
    Remove(Box<str>),
    /// Publish on a topic.
    Publish(String, Content),
    /// The work is done.
    Settle(Receipt),
    /// The work is refused.
    Refuse(Receipt, Refused),
    /// Tell the cloud of a device; [`Core::on_reported`] is told.
    Report(Box<str>, Sent, Content),
    /// Tell a mapper; [`Mappers::called`] is told.
    Call(Box<str>, Call),
}

/// A device, and what is under way for it.
#[derive(Debug, Default)]
struct Entry {
    device: Packed,
    storing: Storing,
    /// What the cloud is to be told of what is stored, where more is being stored already.
    ready: Option<Box<Telling>>,
    /// Whether only a membership message has told of it so far.
    only_member: bool,
}

/// Whether a device's rows are stored, and what is to be done once they are.
#[derive(Debug, Default)]
enum Storing {
    #[default]
    Done,
    /// For there is no room, or it failed: it is to be done.
    Waiting(Vec<Effect>),
    Flying(Box<Flying>),
}

/// Rows on their way.
#[derive(Debug)]
struct Flying {
    /// Tells the answer from one to rows of a device of the same name that is gone.
    number: u64,
    then: Vec<Effect>,
    /// Waits for the rows after them.
    next: Option<Vec<Effect>>,
    /// What the cloud is to be told when they are stored.
    telling: Option<Telling>,
}

/// What went wrong with what came in, for `edgectl status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counts {
    /// Requests that were no such, or asked for what cannot be.
    pub(crate) bad_requests: u64,
    /// Requests about devices that are not on this node.
    pub(crate) unknown_devices: u64,
    /// Objects of devices and models that cannot be read.
    pub(crate) bad_objects: u64,
    /// The last of them.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) last: Box<str>,
}

impl Counts {
    fn refused(&mut self, refused: &Refused) {
        let count =
            if refused.code == 404 { &mut self.unknown_devices } else { &mut self.bad_requests };
        *count += 1;
        self.last = refused.reason.chars().take(256).collect::<String>().into();
    }

    fn bad_object(&mut self, reason: &str) {
        self.bad_objects += 1;
        self.last = reason.chars().take(256).collect::<String>().into();
    }
}

/// The state of the decisions.
#[derive(Debug)]
pub(crate) struct Core {
    node: Box<str>,
    draw: fn() -> MessageId,
    devices: BTreeMap<Box<str>, Entry>,
    /// Devices whose rows wait to be stored, in order, and how many are on their way.
    unstored: VecDeque<Box<str>>,
    flying: usize,
    /// The number of the last rows on their way.
    stores: u64,
    /// Devices whose rows are still to be removed.
    removed: BTreeSet<Box<str>>,
    /// When what could not be stored is tried again.
    retry: Option<Instant>,
    reports: Reports,
    pub(crate) mappers: Mappers,
    pub(crate) counts: Counts,
}

impl Core {
    /// Makes the core of a node; `draw` draws the identity of an event.
    pub(crate) fn new(node: &str, draw: fn() -> MessageId) -> Self {
        Self {
            node: node.into(),
            draw,
            devices: BTreeMap::new(),
            unstored: VecDeque::new(),
            flying: 0,
            stores: 0,
            removed: BTreeSet::new(),
            retry: None,
            reports: Reports::default(),
            mappers: Mappers::default(),
            counts: Counts::default(),
        }
    }

    /// Takes the rows that the store has. To be called before anything else comes in.
    pub(crate) fn load(&mut self, rows: Rows) {
        let id = rows.id.clone();
        let device = Device::from_rows(rows).pack();
        self.reports.tell(&id);
        self.devices.insert(id, Entry { device, ..Entry::default() });
    }

    /// Returns how many devices there are.
    pub(crate) fn len(&self) -> usize {
        self.devices.len()
    }

    /// Returns how many devices have something that the cloud has not confirmed.
    pub(crate) fn untold(&self) -> usize {
        self.reports.waiting()
    }

    fn base(&self, now: Now) -> Base {
        Base { event_id: (self.draw)().to_string().into(), timestamp: now.unix_ms }
    }

    /// Merges what is said of a device's properties, and stores it. What follows goes out with the
    /// rows; `receipt` is settled then.
    fn update(
        &mut self,
        now: Now,
        said: &Said<'_>,
        receipt: Receipt,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        let Said { origin, id, event_id, twins: said } = *said;
        let entry = self.devices.get_mut(id).ok_or_else(|| Refused::unknown(id))?;
        let mut device = entry.device.open();
        let Work { changed, conflicts } = merge(&device, origin, now.unix_ms, said)?;
        for name in &conflicts {
            device.forget_told(Some(name));
        }
        let mut results = MsgTwins::new();
        let mut documents = BTreeMap::new();
        for after in changed {
            let name = after.name.clone();
            let message = |twin: &Twin| (!twin.is_deleted()).then(|| twin.message(false));
            let last = device.twin(&name).and_then(message);
            let current = message(&after);
            results.insert(name.clone(), answer(current.as_ref(), said.get(&name)));
            documents.insert(name, Change { last, current });
            device.put(after);
        }
        if origin == Origin::Edge {
            device.last_report = now.unix_ms;
        }
        entry.device = device.pack();
        let base = Base { event_id: event_id.into(), timestamp: now.unix_ms };
        let mut then = Vec::new();
        if origin == Origin::Edge {
            publish(
                id,
                "twin/update/result",
                &Twins { base: base.clone(), twin: &results },
                &mut then,
            );
        }
        if !documents.is_empty() {
            publish(id, "twin/update/document", &Document { base, twin: &documents }, &mut then);
        }
        if let Some(delta) = delta(&device.twins, self.base(now)) {
            publish(id, "twin/update/delta", &delta, &mut then);
        }
        then.push(Effect::Settle(receipt));
        if documents.is_empty() {
            out.append(&mut then);
            self.reports.tell(id);
        } else {
            self.store(now, id, then, out);
        }
        Ok(())
    }

    /// Stores a device's rows; `then` follows when they are stored.
    fn store(&mut self, now: Now, id: &str, mut then: Vec<Effect>, out: &mut Vec<Effect>) {
        let Some(entry) = self.devices.get_mut(id) else { return out.append(&mut then) };
        match &mut entry.storing {
            Storing::Done => {
                entry.storing = Storing::Waiting(then);
                self.unstored.push_back(id.into());
                self.store_waiting(now, out);
            }
            Storing::Waiting(all) => all.append(&mut then),
            Storing::Flying(flying) => flying.next.get_or_insert_default().append(&mut then),
        }
    }

    /// Stores what waits, while there is room and no failure to be waited after.
    fn store_waiting(&mut self, now: Now, out: &mut Vec<Effect>) {
        while self.flying < STORES && self.retry.is_none() {
            let Some(id) = self.unstored.pop_front() else { return };
            let base = self.base(now);
            // It may be gone, or another one of the same name.
            let Some(entry) = self.devices.get_mut(&id) else { continue };
            let Storing::Waiting(then) = &mut entry.storing else { continue };
            let (then, device) = (std::mem::take(then), entry.device.open());
            let telling = (!self.reports.is_busy(&id)).then(|| Telling::of(&device, base));
            self.flying += 1;
            self.stores += 1;
            let number = self.stores;
            let flying = Flying { number, then, next: None, telling: telling.flatten() };
            entry.storing = Storing::Flying(Box::new(flying));
            out.push(Effect::Store(number, Box::new(device.rows(&id))));
        }
    }

    /// Notes that the rows of this number are stored, or are not.
    pub(crate) fn on_stored(
        &mut self,
        now: Now,
        (id, number): (&str, u64),
        ok: bool,
        out: &mut Vec<Effect>,
    ) {
        self.flying = self.flying.saturating_sub(1);
        if !ok {
            self.retry = Some(now.at + STORE_PAUSE);
        }
        self.end_store(id, number, ok, out);
        self.store_waiting(now, out);
    }

    fn end_store(&mut self, id: &str, number: u64, ok: bool, out: &mut Vec<Effect>) {
        let Some(entry) = self.devices.get_mut(id) else { return };
        let flying = match std::mem::take(&mut entry.storing) {
            Storing::Flying(flying) if flying.number == number => flying,
            other @ (Storing::Done | Storing::Waiting(_) | Storing::Flying(_)) => {
                entry.storing = other;
                return;
            }
        };
        let Flying { mut then, next, telling, .. } = *flying;
        if ok {
            out.append(&mut then);
            entry.ready = telling.filter(|_| next.is_some()).map(Box::new);
            self.reports.tell(id);
        }
        if !ok || next.is_some() {
            then.extend(next.into_iter().flatten());
            entry.storing = Storing::Waiting(then);
            self.unstored.push_back(id.into());
        }
    }

    /// Notes that a device's rows are gone, or are not.
    pub(crate) fn on_removed(&mut self, now: Now, id: &str, ok: bool) {
        if ok {
            self.removed.remove(id);
        } else {
            self.removed.insert(id.into());
            self.retry = Some(now.at + STORE_PAUSE);
        }
    }

    /// Does what is due.
    pub(crate) fn on_time(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.retry.is_some_and(|retry| retry <= now.at) {
            self.retry = None;
            let removed = self.removed.iter().filter(|id| !self.devices.contains_key(*id));
            out.extend(removed.map(|id| Effect::Remove(id.clone())));
            self.store_waiting(now, out);
        }
        self.pump(now, out);
    }

    /// Returns when [`Core::on_time`] is next due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let others = [self.reports.deadline(), self.mappers.deadline()];
        others.into_iter().chain([self.retry]).flatten().min()
    }

    /// Lets out what can go: reports to the cloud and calls to the mappers.
    pub(crate) fn pump(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.report(now, out);
        let calls = self.mappers.pump(now.at);
        out.extend(calls.into_iter().map(|(protocol, call)| Effect::Call(protocol, call)));
    }
}

/// What somebody says of a device's properties.
#[derive(Clone, Copy, Debug)]
struct Said<'a> {
    origin: Origin,
    id: &'a str,
    event_id: &'a str,
    twins: &'a MsgTwins,
}

/// What a request comes to.
struct Work {
    changed: Vec<Twin>,
    /// Properties of which the cloud is to be told again.
    conflicts: Vec<Box<str>>,
}

/// Merges all properties of a request, or none.
fn merge(device: &Device, origin: Origin, now: i64, said: &MsgTwins) -> Result<Work, Refused> {
    let mut work = Work { changed: Vec::new(), conflicts: Vec::new() };
    for (name, said) in said {
        value::check_key(name).map_err(Refused::bad)?;
        let known = device.twin(name);
        if known.is_none() && said.is_none() {
            return Err(Refused::bad(format!(
                "property '{name}' does not exist: nothing to delete"
            )));
        }
        let twin = known.cloned().unwrap_or_else(|| Twin::new(name));
        let merged = twin.merge(origin, now, said.as_ref());
        match merged.map_err(|reason| Refused::bad(format!("property '{name}': {reason}"))) {
            Ok(Merged::Changed(after)) => work.changed.push(after),
            Ok(Merged::Same) => {}
            Ok(Merged::Conflict) => work.conflicts.push(name.clone()),
            Err(refused) if origin == Origin::Edge => return Err(refused),
            Err(_) => {}
        }
    }
    let new = work.changed.iter().filter(|twin| device.twin(&twin.name).is_none()).count();
    if device.twins.len() + new > MAX_TWINS {
        let reason =
            format!("{} properties, expected at most {MAX_TWINS}", device.twins.len() + new);
        return Err(Refused::bad(reason));
    }
    Ok(work)
}

/// Returns what the result says of a property: those sides that the request spoke of.
fn answer(current: Option<&MsgTwin>, said: Option<&Option<MsgTwin>>) -> Option<MsgTwin> {
    let mut answer = current?.clone();
    if let Some(Some(said)) = said {
        answer.expected = answer.expected.filter(|_| said.expected.is_some());
        answer.actual = answer.actual.filter(|_| said.actual.is_some());
    }
    Some(answer)
}

/// Says what is expected and not so yet; nothing when all is as expected.
fn delta(twins: &[Twin], base: Base) -> Option<Delta> {
    let alive = || twins.iter().filter(|twin| !twin.is_deleted());
    let wanted = |twin: &Twin| twin.expected.as_ref().is_some_and(|side| side.value.is_some());
    let delta: BTreeMap<_, _> =
        alive().filter_map(|twin| Some((twin.name.clone(), Box::from(twin.delta()?)))).collect();
    if delta.is_empty() {
        return None;
    }
    let all = alive().filter(|twin| wanted(twin));
    let twin = all.map(|twin| (twin.name.clone(), Some(twin.message(false)))).collect();
    Some(Delta { base, twin, delta })
}

fn publish(id: &str, suffix: &str, payload: &impl Serialize, out: &mut Vec<Effect>) {
    publish_on(format!("$hw/events/device/{id}/{suffix}"), payload, out);
}

fn publish_on(topic: String, payload: &impl Serialize, out: &mut Vec<Effect>) {
    match Content::encode(payload) {
        Ok(content) => out.push(Effect::Publish(topic, content)),
        Err(error) => tracing::error!(topic, %error, "a payload cannot be written"),
    }
}

fn refusal(id: &str, suffix: &str, base: Base, refused: &Refused, out: &mut Vec<Effect>) {
    let Refused { code, reason } = refused;
    publish(id, suffix, &Refusal { base, code: *code, reason }, out);
}
