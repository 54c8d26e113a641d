//! Which events are worth a message, as client-go's correlator decides it: one that comes again is
//! counted, many that are alike become one, and an object that never rests is heard of rarely.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::notes::{About, Note};
use crate::status::rfc3339;

/// Events of one object in a row, and milliseconds until there is room for one more.
const BURST: u32 = 25;
const REFILL: i64 = 300_000;

/// So many different messages of one reason within so many milliseconds become one.
const ALIKE: usize = 10;
const ALIKE_TIME: i64 = 600_000;

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
    told: Memory<Key, Value>,
    alike: Memory<Key, Alike>,
    buckets: Memory<About, Bucket>,
}

#[derive(Debug)]
struct Alike {
    since: i64,
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
        let (told, alike, buckets) = (Memory::new(), Memory::new(), Memory::new());
        Self { node, told, alike, buckets }
    }

    /// Takes what happened at `now` (Unix milliseconds) and returns what the cloud is told of it;
    /// `draw` draws a number that tells events apart.
    pub(crate) fn take(
        &mut self,
        mut note: Note,
        now: i64,
        draw: impl FnOnce() -> u64,
    ) -> Option<Said> {
        let combined = self.is_one_of_many(&note, now);
        let mut key = (note.about.clone(), note.warning, note.reason, note.message.clone());
        if combined {
            note.message = format!("(combined from similar events): {}", note.message);
            key.3.clear();
        }
        if !self.has_room(&note.about, now) {
            return None;
        }
        let time = rfc3339(now);
        if let Some(event) = self.told.get(&key, now) {
            let count = event["count"].as_u64().unwrap_or(1).saturating_add(1);
            let patch = json!({"count": count, "lastTimestamp": time, "message": note.message});
            for (field, value) in patch.as_object().into_iter().flatten() {
                event[field.as_str()] = value.clone();
            }
            return Some(Said::Again { event: event.clone(), patch });
        }
        let event = self.event(&note, &time, draw());
        self.told.insert(key, event.clone(), now);
        Some(Said::New(event))
    }

    /// Tells whether an event is one of many that differ in their message alone.
    fn is_one_of_many(&mut self, note: &Note, now: i64) -> bool {
        let key = (note.about.clone(), note.warning, note.reason, String::new());
        let Some(alike) = self.alike.get(&key, now) else {
            let first = Alike { since: now, messages: vec![note.message.clone()] };
            self.alike.insert(key, first, now);
            return false;
        };
        if now - alike.since > ALIKE_TIME {
            *alike = Alike { since: now, messages: Vec::new() };
        }
        if alike.messages.contains(&note.message) {
            return false;
        }
        if alike.messages.len() >= ALIKE {
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
            "metadata": {"name": format!("{}.{number:016x}", about.name), "namespace": namespace},
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
