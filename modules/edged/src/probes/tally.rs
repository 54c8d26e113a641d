//! How often each probe was made, and what it came to: kubelet's counters.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use super::Purpose;
use super::action::Outcome;
use crate::notes::About;

/// What a try came to, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Result {
    Successful,
    Failed,
    Unknown,
}

impl Result {
    /// Returns its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Successful => "successful",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl From<&Outcome> for Result {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Well | Outcome::Odd(_) => Self::Successful,
            Outcome::Unwell(_) => Self::Failed,
            Outcome::Unknown(_) => Self::Unknown,
        }
    }
}

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) container: String,
    pub(crate) purpose: Purpose,
}

/// Seconds that a try may take to be counted in each part of the spread: Prometheus' own.
pub(crate) const BOUNDS: [f64; 11] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What the tries of a probe came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tries {
    pub(crate) results: BTreeMap<Result, u64>,
    /// How many did not fail and took no longer than each of [`BOUNDS`].
    pub(crate) within: [u64; BOUNDS.len()],
    /// How many did not fail, and the seconds that they took.
    pub(crate) timed: u64,
    pub(crate) seconds: f64,
}

impl Tries {
    /// Notes a try. As in kubelet, one that failed is not timed.
    fn note(&mut self, result: Result, took: Duration) {
        *self.results.entry(result).or_default() += 1;
        if result == Result::Failed {
            return;
        }
        let took = took.as_secs_f64();
        self.timed += 1;
        self.seconds += took;
        for (count, bound) in self.within.iter_mut().zip(BOUNDS) {
            *count += u64::from(took <= bound);
        }
    }
}

/// The counters of all pods that there are; cheap to copy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(watch::Sender<BTreeMap<Key, Tries>>);

impl Tally {
    /// Counts a try.
    pub(crate) fn note(
        &self,
        about: &About,
        container: &str,
        purpose: Purpose,
        (result, took): (Result, Duration),
    ) {
        let (namespace, pod) = (about.namespace.clone(), about.name.clone());
        let (uid, container) = (about.uid.clone(), container.to_owned());
        let key = Key { uid, namespace, pod, container, purpose };
        self.0.send_modify(|tries| tries.entry(key).or_default().note(result, took));
    }

    /// Forgets a pod.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.send_if_modified(|tries| {
            tries.retain(|key, _| key.uid != uid);
            false
        });
    }

    /// Returns all counters.
    pub(crate) fn all(&self) -> BTreeMap<Key, Tries> {
        self.0.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_timed_unless_they_fail() {
        let mut tries = Tries::default();
        tries.note(Result::Successful, Duration::from_millis(30));
        tries.note(Result::Unknown, Duration::from_secs(20));
        tries.note(Result::Failed, Duration::from_secs(1));
        assert_eq!((tries.timed, tries.seconds), (2, 20.03));
        assert_eq!(tries.within, [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(tries.results.into_values().collect::<Vec<_>>(), [1, 1, 1]);
    }
}
