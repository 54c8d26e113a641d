//! Which containers and sandboxes that ended are to be removed beyond what each pod sees to itself: of
//! pods that are over, when there are too many or the disk is short. Pure.

use std::collections::HashSet;

use crate::cri::words as w;
use crate::pod::names;

/// How many containers that ended are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Of each container of a pod; below 0 all. The newest always is: its log and its end are read.
    pub(crate) each: i64,
    /// Of all pods together; below 0 all.
    pub(crate) all: i64,
    /// Milliseconds that one is kept at least.
    pub(crate) least_age: i64,
}

impl Default for Kept {
    fn default() -> Self {
        Self { each: 1, all: -1, least_age: 0 }
    }
}

impl Kept {
    /// Tells whether one that ended is kept, when so many newer ones of its name ended, too.
    pub(crate) fn keeps(&self, newer: usize, age: i64) -> bool {
        let newer = i64::try_from(newer).unwrap_or(i64::MAX);
        self.each < 0 || newer < self.each.max(1) || age < self.least_age
    }
}

/// What is to go: containers first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waste {
    pub(crate) containers: Vec<String>,
    pub(crate) sandboxes: Vec<String>,
}

/// Chooses what of pods that are over goes so that no more than `most` containers that ended are left:
/// the oldest. Of other pods nothing goes: they would begin anew. `now` is in Unix milliseconds.
pub(crate) fn choose(
    containers: &[w::Container],
    sandboxes: &[w::PodSandbox],
    over: &HashSet<String>,
    most: usize,
    kept: &Kept,
    now: i64,
) -> Waste {
    let ended = |it: &&w::Container| it.state() == w::ContainerState::Exited;
    let ended: Vec<_> = containers.iter().filter(ended).collect();
    let excess = ended.len().saturating_sub(most);
    let is_over = |uid: Option<&String>| uid.is_some_and(|uid| over.contains(uid));
    let may_go = |it: &&w::Container| {
        let age = now.saturating_sub(it.created_at / 1_000_000);
        is_over(it.labels.get(names::POD_UID)) && age >= kept.least_age
    };
    let mut going: Vec<_> = ended.into_iter().filter(may_go).collect();
    going.sort_by_key(|it| it.created_at);
    going.truncate(excess);
    let containers_gone: HashSet<_> = going.iter().map(|it| it.id.as_str()).collect();
    let is_empty = |sandbox: &w::PodSandbox| {
        let mut own = containers.iter().filter(|it| it.pod_sandbox_id == sandbox.id);
        own.all(|it| containers_gone.contains(it.id.as_str()))
    };
    let sandboxes = sandboxes.iter().filter(|sandbox| {
        excess > 0
            && sandbox.state() == w::PodSandboxState::NotReady
            && is_over(sandbox.labels.get(names::POD_UID))
            && is_empty(sandbox)
    });
    Waste {
        sandboxes: sandboxes.map(|it| it.id.clone()).collect(),
        containers: going.into_iter().map(|it| it.id.clone()).collect(),
    }
}

#[cfg(test)]
mod tests;
