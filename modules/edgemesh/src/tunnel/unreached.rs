//! Nodes to whose endpoints no stream could be opened of late, and why, for `edgectl`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::node::NodeId;

/// How many are remembered at most.
const MOST: usize = 16;

/// How long one is remembered.
const LATELY: Duration = Duration::from_secs(300);

/// How much is said of each, in characters.
const MOST_SAID: usize = 200;

/// A node, and what the last attempt came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Failure {
    name: String,
    reason: String,
    #[serde(skip)]
    at: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Unreached(BTreeMap<NodeId, Failure>);

impl Unreached {
    /// Takes what an attempt came to, whose error is nothing where a stream stands. Returns whether
    /// that is news. `name` says what the node is called.
    pub(super) fn note(
        &mut self,
        node: NodeId,
        error: Option<String>,
        name: impl FnOnce() -> String,
        now: Instant,
    ) -> bool {
        let Some(error) = error else { return self.0.remove(&node).is_some() };
        // what the other side says is part of it
        let reason: String = error.chars().filter(|c| !c.is_control()).take(MOST_SAID).collect();
        if let Some(known) = self.0.get_mut(&node) {
            let is_news = known.reason != reason;
            (known.reason, known.at) = (reason, now);
            return is_news;
        }
        let has_room = self.0.len() < MOST;
        if has_room {
            self.0.insert(node, Failure { name: name(), reason, at: now });
        }
        has_room
    }

    /// Forgets what was long ago.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.0.retain(|_, failure| now.saturating_duration_since(failure.at) < LATELY);
    }

    /// Returns all.
    pub(super) fn all(&self) -> Vec<Failure> {
        self.0.values().cloned().collect()
    }
}
