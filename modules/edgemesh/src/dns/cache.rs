//! Other servers' replies, kept for as long as they hold, and longer for when those servers are away
//! (RFC 8767). Bounded in number and bytes: the oldest goes. No IO, no clock.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::fqdn::Domain;
use super::wire::{Foreign, Query, code};

/// Replies that are kept.
const MOST: usize = 2048;

/// Bytes that they take together.
const BYTES: usize = 2 << 20;

/// The longest that is kept, in bytes.
const LONGEST: usize = 4096;

/// How long a reply is fresh at most, in seconds, whatever it says.
const FRESH: u32 = 3600;

/// How long one is kept for when its server is away.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// For how long a stale answer may be kept by who gets it, in seconds (RFC 8767 §4).
const STALE_TTL: u32 = 30;

/// Queries that have the same reply.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    name: Domain,
    kind: u16,
    class: u16,
    dnssec: Option<bool>,
    unchecked: bool,
}

impl Key {
    fn of(query: &Query) -> Self {
        Self {
            name: query.name.folded(),
            kind: query.kind,
            class: query.class,
            dnssec: query.edns.map(|edns| edns.dnssec),
            unchecked: query.is_unchecked(),
        }
    }
}

#[derive(Debug)]
struct Entry {
    reply: Foreign,
    at: Instant,
    ttl: u32,
}

/// A reply that is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    pub(super) reply: &'a Foreign,
    /// How old it is in seconds, or nothing when it is stale.
    pub(super) age: Option<u32>,
}

impl Held<'_> {
    /// Returns what a time to live has become.
    pub(super) fn left(self, ttl: u32) -> u32 {
        self.age.map_or(STALE_TTL, |age| ttl.saturating_sub(age))
    }
}

/// The replies.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    /// In the order in which they came for the first time.
    order: VecDeque<Key>,
    bytes: usize,
}

impl Cache {
    /// Keeps the reply to a query, if it says for how long it holds.
    pub(super) fn put(&mut self, query: &Query, reply: Foreign, now: Instant) {
        let is_good = matches!(reply.code(), code::OK | code::NO_NAME);
        let ttl = reply.ttl.filter(|ttl| *ttl > 0);
        let Some(ttl) = ttl.filter(|_| is_good && !reply.is_truncated()) else { return };
        let size = reply.size();
        if size > LONGEST {
            return;
        }
        let key = Key::of(query);
        let entry = Entry { reply, at: now, ttl: ttl.min(FRESH) };
        self.bytes += size;
        match self.entries.insert(key.clone(), entry) {
            Some(before) => self.bytes -= before.reply.size(),
            None => self.order.push_back(key),
        }
        while self.entries.len() > MOST || self.bytes > BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(gone) = self.entries.remove(&oldest) {
                self.bytes -= gone.reply.size();
            }
        }
    }

    /// Returns the reply to a query.
    pub(super) fn get(&self, query: &Query, now: Instant) -> Option<Held<'_>> {
        let Entry { reply, at, ttl } = self.entries.get(&Key::of(query))?;
        let age = now.saturating_duration_since(*at);
        let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        let is_kept = age < Duration::from_secs((*ttl).into()) + STALE;
        is_kept.then_some(Held { reply, age: Some(seconds).filter(|age| age < ttl) })
    }
}
