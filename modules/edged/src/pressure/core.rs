//! When the node is short of something, and when it has to act: thresholds, what was read and the
//! time go in. Pure; the rules are kubelet's.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::threshold::{Pressure, Readings, Resource, Threshold};

/// What the node is short of.
pub(crate) type Pressures = BTreeSet<Pressure>;

/// How far apart two times may be to count as one, in milliseconds.
const LITTLE: i64 = 60_000;

/// What has to be remembered from one look to the next, also by the next life of this process.
/// Times are Unix milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Past {
    /// Since when each threshold is met, by its key.
    since: BTreeMap<String, i64>,
    /// When each pressure was seen last.
    seen: BTreeMap<Pressure, i64>,
    /// Thresholds that were acted on and stay met until enough is reclaimed, by their keys.
    unresolved: BTreeSet<String>,
}

impl Past {
    /// Takes what was read; returns the thresholds that have to be acted on, the most urgent first.
    /// `transition` is for how long a pressure stays after it was seen last, in milliseconds.
    pub(crate) fn look(
        &mut self,
        thresholds: &[Threshold],
        transition: i64,
        readings: &Readings,
        now: i64,
    ) -> Vec<Threshold> {
        let unresolved =
            |it: &Threshold| self.unresolved.contains(&it.key()) && it.is_met(readings, true);
        let met = thresholds.iter().filter(|it| it.is_met(readings, false) || unresolved(it));
        let met: Vec<Threshold> = met.copied().collect();
        let mut before = std::mem::take(&mut self.since);
        for threshold in &met {
            let key = threshold.key();
            // A clock that was set back must not hold anything up.
            let since = before.remove(&key).filter(|since| *since <= now);
            self.since.insert(key, since.unwrap_or(now));
            self.seen.insert(threshold.signal.pressure(), now);
        }
        self.seen.retain(|_, at| (0..transition.max(1)).contains(&now.saturating_sub(*at)));
        let ripe =
            |it: &Threshold| self.since.get(&it.key()).is_some_and(|since| now - since >= it.grace);
        let mut act: Vec<Threshold> = met.into_iter().filter(ripe).collect();
        self.unresolved = act.iter().map(Threshold::key).collect();
        act.sort_by_key(|it| it.signal.resource() != Resource::Memory);
        act
    }

    /// Returns what the node is short of, or was until lately.
    pub(crate) fn pressures(&self) -> Pressures {
        self.seen.keys().copied().collect()
    }

    /// Tells whether the other differs in more than a little in when something was seen last.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        let is_near = |(one, other): (&i64, &i64)| (one - other).abs() < LITTLE;
        self.since != other.since
            || self.unresolved != other.unresolved
            || !self.seen.keys().eq(other.seen.keys())
            || !self.seen.values().zip(other.seen.values()).all(is_near)
    }
}

#[cfg(test)]
mod tests;
