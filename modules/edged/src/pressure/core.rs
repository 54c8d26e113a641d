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
mod tests {
    use proptest::prelude::*;

    use super::super::threshold::{Reading, Signal};
    use super::*;
    use crate::config::Kept;

    fn threshold(signal: Signal, value: u64, grace: i64, reclaim: u64) -> Threshold {
        let reclaim = (reclaim > 0).then_some(Kept::Bytes(reclaim));
        Threshold { signal, value: Kept::Bytes(value), grace, reclaim }
    }

    fn readings(memory: u64, disk: u64) -> Readings {
        let of = |available| Reading { available, capacity: 1000 };
        [(Signal::Memory, of(memory)), (Signal::NodeFs, of(disk))].into()
    }

    #[test]
    fn memory_comes_first_and_what_cannot_be_read_is_no_reason() {
        let all = [threshold(Signal::NodeFs, 10, 0, 0), threshold(Signal::Memory, 10, 0, 0)];
        let mut past = Past::default();
        let act = past.look(&all, 1000, &readings(5, 5), 0);
        let signals: Vec<_> = act.iter().map(|it| it.signal).collect();
        assert_eq!(signals, [Signal::Memory, Signal::NodeFs]);
        assert_eq!(past.look(&all, 1000, &Readings::new(), 1), []);
    }

    #[test]
    fn what_is_to_be_reclaimed_is_beyond_the_threshold() {
        let all = [threshold(Signal::Memory, 10, 0, 5)];
        let mut past = Past::default();
        assert_eq!(past.look(&all, 1000, &readings(12, 0), 0), []);
        assert_eq!(past.look(&all, 1000, &readings(9, 0), 1), all);
        assert_eq!(past.look(&all, 1000, &readings(12, 0), 2), all);
        assert_eq!(past.look(&all, 1000, &readings(15, 0), 3), []);
        assert_eq!(past.look(&all, 1000, &readings(12, 0), 4), []);
    }

    #[test]
    fn the_next_life_goes_on_where_this_one_ended() {
        let all = [threshold(Signal::Memory, 10, 500, 0)];
        let mut past = Past::default();
        assert_eq!(past.look(&all, 1000, &readings(5, 0), 0), []);
        let text = serde_json::to_string(&past).unwrap();
        let mut next: Past = serde_json::from_str(&text).unwrap();
        assert_eq!(next, past);
        assert_eq!(next.look(&all, 1000, &readings(5, 0), 499), []);
        assert_eq!(next.look(&all, 1000, &readings(5, 0), 500), all);
        // And one whose clock was set back begins anew, and ends no pressure early.
        assert_eq!(next.look(&all, 1000, &readings(5, 0), -9000), []);
        assert!(next.pressures().contains(&Pressure::Memory));
    }

    /// Available memory at each look, and the milliseconds until the next.
    fn looks() -> impl Strategy<Value = Vec<(u64, i64)>> {
        proptest::collection::vec((0_u64..30, 1_i64..400), 1..40)
    }

    proptest! {
        #[test]
        fn a_soft_threshold_acts_when_it_was_met_for_its_grace_and_a_hard_one_at_once(looks in looks()) {
            let (hard, soft) = (threshold(Signal::Memory, 10, 0, 0), threshold(Signal::Memory, 20, 500, 0));
            let (mut past, mut now, mut met_since) = (Past::default(), 0, None);
            for (available, pause) in looks {
                let act = past.look(&[hard, soft], 1000, &readings(available, 0), now);
                prop_assert_eq!(act.contains(&hard), available < 10);
                met_since = if available < 20 { met_since.or(Some(now)) } else { None };
                prop_assert_eq!(act.contains(&soft), met_since.is_some_and(|since| now - since >= 500));
                now += pause;
            }
        }

        #[test]
        fn a_pressure_stays_for_its_transition_and_no_longer(looks in looks()) {
            let all = [threshold(Signal::Memory, 10, 0, 0)];
            let (mut past, mut now, mut last) = (Past::default(), 0, None);
            for (available, pause) in looks {
                past.look(&all, 1000, &readings(available, 0), now);
                if available < 10 {
                    last = Some(now);
                }
                let expected = last.is_some_and(|last| now - last < 1000);
                prop_assert_eq!(past.pressures().contains(&Pressure::Memory), expected);
                now += pause;
            }
        }
    }
}
