//! Reports to the cloud: the latest of each property until the cloud has confirmed it. Only what is
//! stored is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ipc_proto::Content;

use super::{Core, Effect, Entry, Now, Storing};
use crate::device::Device;
use crate::payload::{Base, DeviceState, MsgTwins, StateResult, Twins};
use crate::twin::Stamp;

/// Reports under way at a time: enough to keep the cloud's rate limit busy.
const WINDOW: usize = 32;

/// How long a device rests whose report the cloud did not answer, at first and at most: the cloud
/// never answers a report about a device that it does not know.
const REST: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// A report on its way. Each has a number of its own, so that the answer to one about a device that is
/// gone is not taken for one about a device of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    number: u64,
    pub(super) says: Says,
}

/// What a report says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// These properties in these versions.
    Twins(Vec<(Box<str>, Stamp)>),
    /// The state and when it was seen last.
    State(Box<str>, Box<str>),
}

impl Sent {
    /// Returns the last part of the report's resource.
    pub(crate) const fn change(&self) -> &'static str {
        match self.says {
            Says::Twins(_) => "twin/edge_updated",
            Says::State(..) => "state/update",
        }
    }
}

/// A report: what it says, and in which words.
#[derive(Clone, Debug)]
pub(super) struct Telling(Says, Content);

impl Telling {
    /// Says what the cloud does not know of a device: its properties first, then its state.
    pub(super) fn of(device: &Device, base: Base) -> Option<Self> {
        let untold: Vec<_> = device.untold().collect();
        if untold.is_empty() {
            let state = DeviceState {
                name: &device.name,
                state: &device.state,
                last_online_time: &device.last_online,
            };
            let text = || serde_json::to_string(&StateResult { base, device: state });
            let says = || Says::State(device.state.clone(), device.last_online.clone());
            return device
                .state_untold
                .then(|| Self(says(), Content::text(&text().unwrap_or_default())));
        }
        let said = untold.iter().map(|twin| (twin.name.clone(), Some(twin.message(true))));
        let content = Content::encode(&Twins { base, twin: &said.collect::<MsgTwins>() });
        let stamps = untold.iter().map(|twin| (twin.name.clone(), twin.stamp()));
        Some(Self(Says::Twins(stamps.collect()), content.unwrap_or(Content::NULL)))
    }
}

/// Which devices have something to tell.
#[derive(Debug, Default)]
pub(super) struct Reports {
    linked: bool,
    /// The number of the last report.
    number: u64,
    queue: VecDeque<Box<str>>,
    queued: BTreeSet<Box<str>>,
    /// Reports without an answer.
    flying: BTreeMap<Box<str>, Sent>,
    /// Devices that rest, and how long they do.
    resting: BTreeMap<Box<str>, (Instant, Duration)>,
}

impl Reports {
    /// Notes that a device may have something to tell.
    pub(super) fn tell(&mut self, id: &str) {
        if !self.is_busy(id) && self.queued.insert(id.into()) {
            self.queue.push_back(id.into());
        }
    }

    /// Notes that the device is gone: one of the same name that comes does not wait for its answers.
    pub(super) fn forget(&mut self, id: &str) {
        self.flying.remove(id);
        self.resting.remove(id);
    }

    /// Tells whether a report of the device is under way, or it rests.
    pub(super) fn is_busy(&self, id: &str) -> bool {
        self.flying.contains_key(id) || self.resting.contains_key(id)
    }

    fn next(&mut self) -> Option<Box<str>> {
        if !self.linked || self.flying.len() >= WINDOW {
            return None;
        }
        let id = self.queue.pop_front()?;
        self.queued.remove(&id);
        Some(id)
    }

    /// Counts the devices that wait to tell something, or for an answer.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len() + self.flying.len() + self.resting.len()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let asleep = self.resting.iter().filter(|(id, _)| self.sleeps(id));
        asleep.map(|(_, (until, _))| *until).min().filter(|_| self.linked)
    }

    fn sleeps(&self, id: &str) -> bool {
        !self.flying.contains_key(id) && !self.queued.contains(id)
    }

    fn wake(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let due = self.resting.iter().filter(|(id, (until, _))| *until <= now && self.sleeps(id));
        let due: Vec<_> = due.map(|(id, _)| id.clone()).collect();
        for id in due {
            if self.queued.insert(id.clone()) {
                self.queue.push_back(id);
            }
        }
    }
}

impl Core {
    /// Notes that the cloud came or went.
    pub(crate) fn on_link(&mut self, now: Now, linked: bool, out: &mut Vec<Effect>) {
        let reports = &mut self.reports;
        reports.linked = linked;
        if linked {
            for id in std::mem::take(&mut reports.resting).into_keys() {
                reports.tell(&id);
            }
        }
        self.pump(now, out);
    }

    /// Notes that the cloud has confirmed a report, or has not answered.
    pub(crate) fn on_reported(&mut self, now: Now, id: &str, sent: &Sent, ok: bool) {
        let reports = &mut self.reports;
        // The device may be gone by now, and one of the same name be there.
        if reports.flying.get(id) != Some(sent) {
            return;
        }
        reports.flying.remove(id);
        let rest = reports.resting.remove(id);
        let Some(entry) = self.devices.get_mut(id) else { return };
        if ok {
            entry.device.change(|device| match &sent.says {
                Says::Twins(stamps) => device.confirm(stamps),
                Says::State(state, seen) => {
                    let same = device.state == *state && device.last_online == *seen;
                    device.state_untold &= !same;
                }
            });
        } else if reports.linked {
            let pause = rest.map_or(REST.0, |(_, pause)| (pause * 2).min(REST.1));
            reports.resting.insert(id.into(), (now.at + pause, pause));
            return;
        }
        reports.tell(id);
    }

    /// Sends reports while there is room.
    pub(super) fn report(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.reports.wake(now.at);
        while let Some(id) = self.reports.next() {
            let base = self.base(now);
            let telling = match self.devices.get_mut(&id) {
                Some(Entry { ready: ready @ Some(_), .. }) => ready.take().map(|it| *it),
                Some(Entry { storing: Storing::Done, device, .. }) => {
                    Telling::of(&device.open(), base)
                }
                // Its turn comes when it is stored.
                Some(_) => continue,
                None => None,
            };
            let Some(Telling(says, content)) = telling else {
                self.reports.resting.remove(&id);
                continue;
            };
            self.reports.number += 1;
            let sent = Sent { number: self.reports.number, says };
            self.reports.flying.insert(id.clone(), sent.clone());
            out.push(Effect::Report(id, sent, content));
        }
    }
}
