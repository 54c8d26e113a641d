//! What is to be done next, given how far the journal says that it has come and what the machine
//! shows. Pure.
//!
//! Which agent runs is decided by two places alone, each changed by one rename: the program that the
//! service starts, and the unit file that hides ours. Whatever stands in them, the service starts
//! exactly one agent; so at every instant, and after a boot at any instant, the node has one. The
//! change from one running agent to the other is one order to whoever keeps services.

use serde::{Deserialize, Serialize};

/// One of the two agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Agent {
    /// KubeEdge's own edgecore.
    Kubeedge,
    /// This one.
    Ours,
}

impl Agent {
    /// Returns the one that this one is not.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Kubeedge => Self::Ours,
            Self::Ours => Self::Kubeedge,
        }
    }

    /// Returns what people call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kubeedge => "KubeEdge's own edgecore",
            Self::Ours => "this edgecore",
        }
    }
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Course {
    /// The agent that the node is to have.
    pub(crate) wanted: Agent,
    /// Copies are made, and files given to those who will need them.
    pub(crate) prepared: bool,
    /// The service was started anew since the last change of what it starts.
    pub(crate) restarted: bool,
    /// The node has the wanted agent, and it was seen to work.
    pub(crate) reached: bool,
    /// Why it was turned round, where it was.
    pub(crate) turned: Option<String>,
}

/// What the machine shows. Nothing where there is no file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Whose program stands where the service starts it.
    pub(crate) program: Option<Agent>,
    /// Whose unit the service is, where units are changed at all.
    pub(crate) unit: Option<Agent>,
}

/// A step. Each may be done again when it was done before, wholly or in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make copies and give files; nothing that runs notices.
    Prepare,
    /// Put this agent's program where the service starts it.
    Program(Agent),
    /// Let the service be this agent's unit.
    Unit(Agent),
    /// Have the service started anew.
    Restart,
    /// See whether the agent works.
    Verify,
}

impl Course {
    /// Begins a way to an agent. On the way back there is nothing to prepare.
    pub(crate) const fn to(wanted: Agent) -> Self {
        let prepared = matches!(wanted, Agent::Kubeedge);
        Self { wanted, prepared, restarted: false, reached: false, turned: None }
    }

    /// Returns the next step; nothing at the end.
    pub(crate) fn next(&self, seen: Seen) -> Option<Step> {
        if self.reached {
            return None;
        }
        if !self.prepared {
            return Some(Step::Prepare);
        }
        let wanted = self.wanted;
        if seen.program != Some(wanted) {
            return Some(Step::Program(wanted));
        }
        if seen.unit.is_some_and(|unit| unit != wanted) {
            return Some(Step::Unit(wanted));
        }
        Some(if self.restarted { Step::Verify } else { Step::Restart })
    }

    /// Notes that a step is done.
    pub(crate) const fn done(&mut self, step: Step) {
        match step {
            Step::Prepare => self.prepared = true,
            Step::Program(_) | Step::Unit(_) => {}
            Step::Restart => self.restarted = true,
            Step::Verify => self.reached = true,
        }
    }

    /// Notes that a step failed. The first time it is turned round; the second time there is nothing
    /// left that would be better. Tells whether there is a way to go on.
    pub(crate) fn failed(&mut self, step: Step, reason: &str) -> bool {
        if self.turned.is_some() {
            return false;
        }
        // As nothing was changed yet, the other agent was not even stopped.
        let untouched = step == Step::Prepare;
        *self = Self {
            turned: Some(reason.to_owned()),
            prepared: true,
            reached: untouched,
            restarted: untouched,
            wanted: self.wanted.other(),
        };
        true
    }
}

#[cfg(test)]
mod tests;
