//! What goes up to the cloud: in which order, how fast, and when it may be forgotten.
//!
//! A message stays here until the cloud has answered it, or until a barrier behind it was
//! answered; until then its sender keeps it too. After a lost link everything that is not confirmed
//! goes again, in order, under the same identity. How much there is bound by the windows of the
//! senders.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use ipc_proto::{Message, MessageId, Module};

use super::barrier::Order;
use super::bucket::Bucket;
use super::kinds;

/// What a message that a module sent is settled by.
pub(crate) type Token = u64;

/// The place of a message in the order of arrival.
type Place = u64;

/// Without a link a waiter is told after so long: it has a copy in the store, or asks again, and a
/// link that only blinked is back by then.
const BLINK: Duration = Duration::from_secs(5);

/// Nobody waits longer for an answer (`remoteQueryTimeout`): what did not go by then need not.
const WAITERS_PATIENCE: Duration = Duration::from_secs(60);

/// Some requests the cloud never answers (WIRE.md §6.2). After so long one that it has read counts
/// as done.
const ANSWER_PATIENCE: Duration = Duration::from_secs(90);

/// Unanswered messages wait so long for company before a barrier is sent for them.
const BARRIER_DELAY: Duration = Duration::from_secs(1);

/// So many of them do not wait.
const BARRIER_COUNT: usize = 128;

/// After so many urgent messages in a row one of the others goes.
const URGENT_IN_A_ROW: u32 = 4;

/// What is confirmed: who is to be told, and of which message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Confirmed {
    /// Who sent it.
    pub(crate) from: Module,
    /// What settles it, and the messages that it superseded.
    pub(crate) tokens: Vec<Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Urgent,
    Bulk,
}

#[derive(Debug)]
struct Item {
    message: Message,
    from: Module,
    tokens: Vec<Token>,
    arrived: Instant,
    lane: Lane,
    answered: bool,
    written: Option<(Order, Instant)>,
}

/// The messages on their way up.
#[derive(Debug)]
pub(crate) struct Upstream {
    items: BTreeMap<Place, Item>,
    places: HashMap<MessageId, Place>,
    next_place: Place,
    urgent: BTreeSet<Place>,
    bulk: BTreeSet<Place>,
    urgent_in_a_row: u32,
    /// Requests with a waiter that are not written.
    waiters: BTreeSet<Place>,
    /// Acknowledgements and refusals: first of all, and gone with their link.
    replies: VecDeque<Message>,
    bucket: Bucket,
    written: Order,
    /// When a barrier is wanted, and how many messages want it.
    barrier_wanted: Option<Instant>,
    unconfirmed: usize,
    down_since: Option<Instant>,
}

impl Upstream {
    pub(crate) fn new(now: Instant, bucket: Bucket) -> Self {
        Self {
            items: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
            urgent: BTreeSet::new(),
            bulk: BTreeSet::new(),
            urgent_in_a_row: 0,
            waiters: BTreeSet::new(),
            replies: VecDeque::new(),
            bucket,
            written: 0,
            barrier_wanted: None,
            unconfirmed: 0,
            down_since: Some(now),
        }
    }

    /// Takes a message of a module. One that is here already, because its sender died and sent it
    /// again, is not sent twice.
    pub(crate) fn push(&mut self, now: Instant, from: Module, token: Token, message: Message) {
        if let Some(item) =
            self.places.get(&message.header.id).and_then(|place| self.items.get_mut(place))
        {
            item.tokens.push(token);
            return;
        }
        let lane = if kinds::is_urgent(&message) { Lane::Urgent } else { Lane::Bulk };
        if let Some(place) = self.superseded(lane, from, &message) {
            self.supersede(place, token, message);
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.places.insert(message.header.id.clone(), place);
        if message.header.sync {
            self.waiters.insert(place);
        }
        self.lane(lane).insert(place);
        let answered = kinds::is_answered(&message);
        let tokens = vec![token];
        let item = Item { message, from, tokens, arrived: now, lane, answered, written: None };
        self.items.insert(place, item);
    }

    /// Finds the waiting status that `message` makes superfluous. Only the latest message about
    /// the object may be: what was sent between two of them has its meaning between them.
    fn superseded(&mut self, lane: Lane, from: Module, message: &Message) -> Option<Place> {
        if !kinds::is_status(message) {
            return None;
        }
        let items = &self.items;
        let waiting = match lane {
            Lane::Urgent => &self.urgent,
            Lane::Bulk => &self.bulk,
        };
        let (place, latest) = waiting
            .iter()
            .rev()
            .filter_map(|place| Some((*place, items.get(place)?)))
            .find(|(_, item)| kinds::about_one_object(&item.message, message))?;
        let same = latest.from == from
            && latest.message.route.operation == message.route.operation
            && latest.message.route.resource == message.route.resource
            && kinds::is_status(&latest.message);
        same.then_some(place)
    }

    fn supersede(&mut self, place: Place, token: Token, message: Message) {
        let Some(item) = self.items.get_mut(&place) else { return };
        self.places.remove(&item.message.header.id);
        self.places.insert(message.header.id.clone(), place);
        item.message = message;
        item.tokens.push(token);
    }

    /// Takes an acknowledgement or a refusal for the cloud.
    pub(crate) fn reply(&mut self, message: Message) {
        self.replies.push_back(message);
    }

    /// Notes that messages may be written.
    pub(crate) fn link_up(&mut self) {
        self.down_since = None;
    }

    /// Notes that the link is gone: what is not confirmed waits again.
    pub(crate) fn link_down(&mut self, now: Instant) {
        self.down_since.get_or_insert(now);
        self.replies.clear();
        self.barrier_wanted = None;
        self.unconfirmed = 0;
        for (place, item) in &mut self.items {
            if item.written.take().is_none() {
                continue;
            }
            match item.lane {
                Lane::Urgent => self.urgent.insert(*place),
                Lane::Bulk => self.bulk.insert(*place),
            };
            if item.message.header.sync {
                self.waiters.insert(*place);
            }
        }
    }

    /// Returns when a barrier is wanted for messages that were written.
    pub(crate) const fn barrier_wanted(&self) -> Option<Instant> {
        self.barrier_wanted
    }

    /// Returns how many messages were written so far.
    pub(crate) const fn written(&self) -> Order {
        self.written
    }

    /// Takes a token of the bucket for a message that is made elsewhere.
    pub(crate) fn take_token(&mut self, now: Instant) -> bool {
        self.bucket.take(now)
    }

    /// Returns the next reply. Replies do not wait for tokens: the cloud sends the next object when
    /// it has the acknowledgement of the one before, so the pace is the cloud's own.
    pub(crate) fn next_reply(&mut self) -> Option<Message> {
        self.replies.pop_front()
    }

    /// Returns the next message of a module, if one may go now.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Message> {
        let place = self.peek()?;
        if !self.bucket.take(now) {
            return None;
        }
        self.waiters.remove(&place);
        if self.urgent.remove(&place) {
            self.urgent_in_a_row += 1;
        } else {
            self.bulk.remove(&place);
            self.urgent_in_a_row = 0;
        }
        self.written += 1;
        let item = self.items.get_mut(&place)?;
        item.written = Some((self.written, now));
        let wanted = if item.answered {
            now + ANSWER_PATIENCE
        } else {
            self.unconfirmed += 1;
            if self.unconfirmed >= BARRIER_COUNT { now } else { now + BARRIER_DELAY }
        };
        self.barrier_wanted = Some(self.barrier_wanted.map_or(wanted, |at| at.min(wanted)));
        let mut message = item.message.clone();
        // Between modules it says that somebody waits; on the wire it is never set (WIRE.md §1.6).
        message.header.sync = false;
        Some(message)
    }

    fn peek(&self) -> Option<Place> {
        let (urgent, bulk) = (self.urgent.first(), self.bulk.first());
        let turn =
            if self.urgent_in_a_row >= URGENT_IN_A_ROW { bulk.or(urgent) } else { urgent.or(bulk) };
        turn.copied()
    }

    /// Takes out the request that a message of the cloud answers.
    pub(crate) fn answered(&mut self, parent: &MessageId) -> Option<Confirmed> {
        let place = *self.places.get(parent)?;
        self.items.get(&place).filter(|item| item.answered)?;
        self.remove(place)
    }

    /// Takes out what is confirmed by the cloud having read up to `behind`.
    pub(crate) fn read_up_to(&mut self, now: Instant, behind: Order) -> Vec<Confirmed> {
        let patience_over = |at: Instant| now.duration_since(at) >= ANSWER_PATIENCE;
        let confirmed: Vec<Place> = self
            .items
            .iter()
            .filter(|(_, item)| {
                item.written.is_some_and(|(order, at)| {
                    order <= behind && (!item.answered || patience_over(at))
                })
            })
            .map(|(place, _)| *place)
            .collect();
        let confirmed = confirmed.into_iter().filter_map(|place| self.remove(place)).collect();
        self.want_barrier();
        confirmed
    }

    /// Looks what of the written messages wants a barrier.
    fn want_barrier(&mut self) {
        let written = self.items.values().filter_map(|item| Some((item, item.written?)));
        self.unconfirmed = written.clone().filter(|(item, _)| !item.answered).count();
        self.barrier_wanted = written
            .map(|(item, (_, at))| at + if item.answered { ANSWER_PATIENCE } else { BARRIER_DELAY })
            .min();
    }

    /// Takes out the requests whose waiters are to be told that no answer comes.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<Confirmed> {
        let mut expired = Vec::new();
        while let Some(place) = self.waiters.first().copied()
            && self.expiry(place).is_none_or(|at| at <= now)
        {
            self.waiters.remove(&place);
            expired.extend(self.remove(place));
        }
        expired
    }

    fn expiry(&self, place: Place) -> Option<Instant> {
        let arrived = self.items.get(&place)?.arrived;
        Some(match self.down_since {
            Some(down_since) => (arrived.max(down_since) + BLINK).min(arrived + WAITERS_PATIENCE),
            None => arrived + WAITERS_PATIENCE,
        })
    }

    fn remove(&mut self, place: Place) -> Option<Confirmed> {
        let item = self.items.remove(&place)?;
        self.places.remove(&item.message.header.id);
        self.lane(item.lane).remove(&place);
        self.waiters.remove(&place);
        Some(Confirmed { from: item.from, tokens: item.tokens })
    }

    fn lane(&mut self, lane: Lane) -> &mut BTreeSet<Place> {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Bulk => &mut self.bulk,
        }
    }

    /// Returns when the next reply or message may go. `open` tells whether messages of modules may.
    pub(crate) fn next_at(&self, now: Instant, open: bool) -> Option<Instant> {
        if !self.replies.is_empty() {
            return Some(now);
        }
        (open && self.peek().is_some()).then(|| self.bucket.ready_at(now))
    }

    /// Returns when the next waiter is to be told that no answer comes.
    pub(crate) fn expiry_at(&self) -> Option<Instant> {
        self.waiters.first().and_then(|place| self.expiry(*place))
    }

    /// Returns who sent a message that is not confirmed.
    pub(crate) fn sender(&self, id: &MessageId) -> Option<Module> {
        self.places.get(id).and_then(|place| self.items.get(place)).map(|item| item.from)
    }

    /// Returns when the bucket has a token.
    pub(crate) fn token_at(&self, now: Instant) -> Instant {
        self.bucket.ready_at(now)
    }

    /// Returns how many messages wait to be written, and how many were written and not confirmed.
    pub(crate) fn load(&self) -> (usize, usize) {
        let waiting = self.urgent.len() + self.bulk.len();
        (waiting, self.items.len() - waiting)
    }
}
