//! How often each probe was made, and what it came to: kubelet's counters.

use std::collections::BTreeMap;

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

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) container: String,
    pub(crate) purpose: Purpose,
    pub(crate) result: Result,
}

/// The counters of all pods that there are; cheap to copy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(watch::Sender<BTreeMap<Key, u64>>);

impl Tally {
    /// Counts a try.
    pub(crate) fn note(&self, about: &About, container: &str, purpose: Purpose, result: Result) {
        let (namespace, pod) = (about.namespace.clone(), about.name.clone());
        let (uid, container) = (about.uid.clone(), container.to_owned());
        let key = Key { uid, namespace, pod, container, purpose, result };
        self.0.send_modify(|counts| *counts.entry(key).or_default() += 1);
    }

    /// Forgets a pod.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.send_if_modified(|counts| {
            counts.retain(|key, _| key.uid != uid);
            false
        });
    }

    /// Returns all counters.
    pub(crate) fn all(&self) -> BTreeMap<Key, u64> {
        self.0.borrow().clone()
    }
}
