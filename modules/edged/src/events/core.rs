//! Which events are worth a message, as client-go's correlator decides it: one that comes again is
//! counted, many that are alike become one, and an object that never rests is heard of rarely.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::notes::{About, Note};
use crate::status::rfc3339;

/// Events of one object in a row, and milliseconds until there is room for one more.
const BURST: u32 = 25;
const REFILL: i64 = 300_000;

/// From so many different messages of one reason on they are one, until none came for so many
/// milliseconds.
const ALIKE: usize = 10;
const ALIKE_TIME: i64 = 600_000;

/// The cloud forgets an event an hour after it heard of it last; one that comes again after so many
/// milliseconds is told as a new one.
const FORGOTTEN: i64 = 50 * 60_000;

/// The longest message in bytes, as the API bounds notes.
const MAX_MESSAGE: usize = 1024;

/// What is remembered at the most, of each sort; the one that was quiet for longest is forgotten.
const REMEMBERED: usize = 1024;

/// What the cloud is told.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    /// A new event.
    New(Value),
    /// An event that was told before, as it is now, and what changed of it.
    Again { event: Value, patch: Value },
}

/// What of two events has to be the same for them to be one, or alike.
type Key = (About, bool, &'static str, String);

/// Counted events, those that are alike, and how much is heard of each object.
#[derive(Debug)]
pub(crate) struct Correlator {
    node: String,
    counted: Memory<Key, Counted>,
    alike: Memory<Key, Alike>,
    buckets: Memory<About, Bucket>,
}

/// An event that is counted.
#[derive(Debug)]
struct Counted {
    event: Value,
    /// When the cloud was told of it last; not yet where there was no room for it.
    told: Option<i64>,
}

#[derive(Debug)]
struct Alike {
    /// When the last one came.
    last: i64,
    messages: Vec<String>,
}

#[derive(Debug)]
struct Bucket {
    left: u32,
    since: i64,
}

impl Correlator {
    /// Makes one for a node.
    pub(crate) fn new(node: String) -> Self {
        let (counted, alike, buckets) = (Memory::new(), Memory::new(), Memory::new());
        Self { node, counted, alike, buckets }
    }

    /// Takes what happened at `now` (Unix milliseconds) and returns what the cloud is told of it;
    /// `draw` draws a number that tells events apart.
    pub(crate) fn take(
        &mut self,
        mut note: Note,
        now: i64,
        draw: impl FnOnce() -> u64,
    ) -> Option<Said> {
        let end = (0..=MAX_MESSAGE).rev().find(|&end| note.message.is_char_boundary(end));
        note.message.truncate(end.unwrap_or_default());
        let combined = self.is_one_of_many(&note, now);
        let mut key = (note.about.clone(), note.warning, note.reason, note.message.clone());
        if combined {
            note.message = format!("(combined from similar events): {}", note.message);
            key.3.clear();
        }
        let has_room = self.has_room(&note.about, now);
        let time = rfc3339(now);
        let Some(counted) = self.counted.get(&key, now) else {
            let event = self.event(&note, &time, draw());
            let counted = Counted { event: event.clone(), told: has_room.then_some(now) };
            self.counted.insert(key, counted, now);
            return has_room.then_some(Said::New(event));
        };
        // What there is no room for is counted all the same.
        let Counted { event, told } = counted;
        let count = event["count"].as_u64().unwrap_or(1).saturating_add(1);
        let patch = json!({"count": count, "lastTimestamp": time, "message": note.message});
        for (field, value) in patch.as_object().into_iter().flatten() {
            event[field.as_str()] = value.clone();
        }
        if !has_room {
            return None;
        }
        let known = told.replace(now).is_some_and(|told| now - told < FORGOTTEN);
        if !known {
            event["metadata"]["name"] = name(&note.about, draw()).into();
            return Some(Said::New(event.clone()));
        }
        Some(Said::Again { event: event.clone(), patch })
    }

    /// Tells whether an event is one of many that differ in their message alone.
    fn is_one_of_many(&mut self, note: &Note, now: i64) -> bool {
        let key = (note.about.clone(), note.warning, note.reason, String::new());
        let Some(alike) = self.alike.get(&key, now) else {
            let first = Alike { last: now, messages: vec![note.message.clone()] };
            self.alike.insert(key, first, now);
            return false;
        };
        if now - alike.last > ALIKE_TIME {
            alike.messages.clear();
        }
        alike.last = now;
        if alike.messages.contains(&note.message) {
            return false;
        }
        if alike.messages.len() + 1 >= ALIKE {
            return true;
        }
        alike.messages.push(note.message.clone());
        false
    }

    fn has_room(&mut self, about: &About, now: i64) -> bool {
        let about = About { part: String::new(), ..about.clone() };
        let Some(bucket) = self.buckets.get(&about, now) else {
            self.buckets.insert(about, Bucket { left: BURST - 1, since: now }, now);
            return true;
        };
        let more = u32::try_from((now - bucket.since).max(0) / REFILL).unwrap_or(BURST);
        bucket.left = bucket.left.saturating_add(more).min(BURST);
        bucket.since += i64::from(more) * REFILL;
        let has = bucket.left > 0;
        bucket.left -= u32::from(has);
        has
    }

    fn event(&self, note: &Note, time: &str, number: u64) -> Value {
        let about = &note.about;
        let namespace = if about.namespace.is_empty() { "default" } else { &about.namespace };
        json!({
            "metadata": {"name": name(about, number), "namespace": namespace},
            "involvedObject": reference(about),
            "reason": note.reason,
            "message": note.message,
            "source": {"component": "kubelet", "host": self.node},
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
            "type": if note.warning { "Warning" } else { "Normal" },
            "eventTime": null,
            "reportingComponent": "kubelet",
            "reportingInstance": self.node,
        })
    }
}

/// Names an event.
fn name(about: &About, number: u64) -> String {
    format!("{}.{number:016x}", about.name)
}

/// Returns the reference to what an event is about.
fn reference(about: &About) -> Value {
    let mut reference = json!({"kind": about.kind, "name": about.name, "uid": about.uid});
    if about.kind == "Pod" {
        reference["apiVersion"] = "v1".into();
        reference["namespace"] = about.namespace.as_str().into();
        if !about.part.is_empty() {
            reference["fieldPath"] = about.part.as_str().into();
        }
    }
    reference
}

/// A bounded map.
#[derive(Debug)]
struct Memory<K, V>(HashMap<K, (i64, V)>);

impl<K: Clone + Eq + std::hash::Hash, V> Memory<K, V> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    fn get(&mut self, key: &K, now: i64) -> Option<&mut V> {
        let (used, value) = self.0.get_mut(key)?;
        *used = now;
        Some(value)
    }

    fn insert(&mut self, key: K, value: V, now: i64) {
        if self.0.len() >= REMEMBERED
            && let Some(quiet) = self.0.iter().min_by_key(|(_, (used, _))| *used)
        {
            let quiet = quiet.0.clone();
            self.0.remove(&quiet);
        }
        self.0.insert(key, (now, value));
    }
}

#[cfg(test)]
mod tests;
