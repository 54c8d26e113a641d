//! How the node is, in the conditions and events that `kubectl describe node` shows: kubelet's, and
//! one of our own for the agent's modules, whose deaths nobody would notice otherwise.

use std::collections::BTreeMap;

use ipc_proto::lifeline::Standing;
use ipc_proto::{Module, ModuleState};
use serde_json::{Value, json};

use crate::notes::{About, Note};
use crate::pressure::Pressures;
use crate::pressure::threshold::Pressure;
use crate::status::{millis, rfc3339};

/// A death shows in the condition for so long after the module is back, in milliseconds.
const RECENT: i64 = 300_000;

/// An end of edged's own counts as news in its next life for so long, in milliseconds.
const OWN_END: i64 = 60_000;

/// The condition of the agent's modules.
const MODULES: &str = "EdgecoreModules";

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) kind: &'static str,
    pub(crate) holds: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// Since when it holds, or does not: Unix milliseconds.
    pub(crate) since: i64,
}

impl Condition {
    /// Returns it as the API has it; `now` is the heartbeat.
    pub(crate) fn to_json(&self, now: i64) -> Value {
        json!({
            "type": self.kind,
            "status": if self.holds { "True" } else { "False" },
            "reason": self.reason,
            "message": self.message,
            "lastHeartbeatTime": rfc3339(now),
            "lastTransitionTime": rfc3339(self.since),
        })
    }
}

/// The conditions, and what was told of them.
#[derive(Debug)]
pub(crate) struct Conditions {
    /// The node.
    about: About,
    /// Whether each holds, and since when.
    last: BTreeMap<String, (bool, i64)>,
    /// The restarts and the state of each module that were told.
    modules: BTreeMap<Module, (u32, ModuleState)>,
}

impl Conditions {
    /// Begins for a node of which nothing was told yet.
    pub(crate) fn new(node: &str) -> Self {
        Self { about: About::node(node), last: BTreeMap::new(), modules: BTreeMap::new() }
    }

    fn note(&self, warning: bool, reason: &'static str, message: String) -> Note {
        Note { about: self.about.clone(), warning, reason, message }
    }

    /// Takes over since when the conditions hold that the cloud knows of.
    pub(crate) fn learn(&mut self, node: &Value) {
        for condition in node["status"]["conditions"].as_array().into_iter().flatten() {
            let text = |key: &str| condition[key].as_str();
            let since = text("lastTransitionTime").and_then(millis);
            if let (Some(kind), Some(status), Some(since)) = (text("type"), text("status"), since) {
                self.last.entry(kind.to_owned()).or_insert((status == "True", since));
            }
        }
    }

    /// Looks at everything; returns the conditions, and what happened since the last look.
    pub(crate) fn look(
        &mut self,
        trouble: &str,
        pressures: &Pressures,
        fleet: &[Standing],
        now: i64,
    ) -> (Vec<Condition>, Vec<Note>) {
        let mut notes = Vec::new();
        let mut conditions = Vec::new();
        let ready = if trouble.is_empty() {
            ("EdgeReady", "edge is posting ready status".to_owned(), "NodeReady")
        } else {
            ("KubeletNotReady", trouble.to_owned(), "NodeNotReady")
        };
        let short = |of: Pressure| pressure(of, pressures.contains(&of));
        for (kind, holds, reason, message, event) in [
            short(Pressure::Memory),
            short(Pressure::Disk),
            short(Pressure::Pid),
            ("Ready", trouble.is_empty(), ready.0, ready.1, ready.2),
        ] {
            let (since, changed) = self.since(kind, holds, now);
            if changed {
                let message = format!("Node status is now: {event}");
                notes.push(self.note(false, event, message));
            }
            conditions.push(Condition { kind, holds, reason, message, since });
        }
        if !fleet.is_empty() {
            notes.extend(self.ends(fleet, now));
            let (reason, message) = modules(fleet, now);
            let holds = reason == ALL_RUN;
            let since = self.since(MODULES, holds, now).0;
            conditions.push(Condition { kind: MODULES, holds, reason, message, since });
        }
        (conditions, notes)
    }

    /// Returns since when a condition is as it is, and whether that is new.
    fn since(&mut self, kind: &str, holds: bool, now: i64) -> (i64, bool) {
        match self.last.get(kind) {
            Some((held, since)) if *held == holds => (*since, false),
            Some(_) | None => {
                self.last.insert(kind.to_owned(), (holds, now));
                (now, true)
            }
        }
    }

    /// Returns what became of modules since the last look. At the first one nothing is news but an
    /// end of edged itself, which nobody else tells.
    fn ends(&mut self, fleet: &[Standing], now: i64) -> Vec<Note> {
        let first = self.modules.is_empty();
        let mut notes = Vec::new();
        for standing in fleet {
            let Standing { module, state, restarts, last_end } = standing;
            let before = self.modules.insert(*module, (*restarts, *state));
            let restarted = before.is_some_and(|(before, _)| *restarts > before);
            let down = |state| matches!(state, ModuleState::Backoff | ModuleState::Held);
            let fell = before.is_some_and(|(_, before)| down(*state) && !down(before));
            let own = *module == Module::Edged
                && last_end.as_ref().is_some_and(|(_, at)| now - at < OWN_END);
            if let Some((why, _)) = last_end
                && why.as_ref() != REQUESTED
                && (restarted || fell || (first && own))
            {
                let reason = if why.as_ref() == "hang" { "ModuleHung" } else { "ModuleDied" };
                let message = format!("{module} of edgecore ended: {why}; restarts: {restarts}");
                notes.push(self.note(true, reason, message));
            }
            let was_held = before.is_some_and(|(_, before)| before == ModuleState::Held);
            if *state == ModuleState::Held && !was_held {
                let message = format!("{module} of edgecore keeps dying and is held back");
                notes.push(self.note(true, "ModuleHeld", message));
            }
        }
        notes
    }
}

/// Returns the condition of a node that is short of something, or is not: its name, whether it holds,
/// the reason, the message, and the event of its beginning.
fn pressure(of: Pressure, holds: bool) -> (&'static str, bool, &'static str, String, &'static str) {
    let (reason, message, event) = match (of, holds) {
        (Pressure::Memory, true) => (
            "KubeletHasInsufficientMemory",
            "insufficient memory available",
            "NodeHasInsufficientMemory",
        ),
        (Pressure::Memory, false) => {
            ("KubeletHasSufficientMemory", "sufficient memory available", "NodeHasSufficientMemory")
        }
        (Pressure::Disk, true) => {
            ("KubeletHasDiskPressure", "disk pressure", "NodeHasDiskPressure")
        }
        (Pressure::Disk, false) => {
            ("KubeletHasNoDiskPressure", "no disk pressure", "NodeHasNoDiskPressure")
        }
        (Pressure::Pid, true) => {
            ("KubeletHasInsufficientPID", "insufficient PID available", "NodeHasInsufficientPID")
        }
        (Pressure::Pid, false) => {
            ("KubeletHasSufficientPID", "sufficient PID available", "NodeHasSufficientPID")
        }
    };
    (of.name(), holds, reason, format!("kubelet has {message}"), event)
}

/// The reason of an end that somebody asked for.
const REQUESTED: &str = "requested";

/// The reason of the modules' condition when all is well.
const ALL_RUN: &str = "ModulesRun";

/// Returns reason and message of the modules' condition: the worst reason, and all that is wrong.
fn modules(fleet: &[Standing], now: i64) -> (&'static str, String) {
    let mut worst = ALL_RUN;
    let mut sentences = Vec::new();
    for Standing { module, state, restarts, last_end } in fleet {
        let end = last_end.as_ref().filter(|(why, _)| why.as_ref() != REQUESTED);
        let recent = end.filter(|(_, at)| now - at < RECENT);
        let reason = match (state, &recent) {
            (ModuleState::Held, _) => "ModuleHeld",
            (
                ModuleState::Backoff | ModuleState::Starting | ModuleState::Running,
                Some((why, _)),
            ) => {
                if why.as_ref() == "hang" {
                    "ModuleHung"
                } else {
                    "ModuleDied"
                }
            }
            (ModuleState::Backoff, None) => "ModuleDied",
            (
                ModuleState::Starting
                | ModuleState::Running
                | ModuleState::Stopped
                | ModuleState::Disabled,
                _,
            ) => continue,
        };
        let why = end.map_or("unknown", |(why, _)| why.as_ref());
        let at = end.map_or_else(String::new, |(_, at)| format!(" at {}", rfc3339(*at)));
        let word = format!("{state:?}").to_lowercase();
        sentences.push(format!("{module} ended: {why}{at}, is {word}, restarts: {restarts}"));
        if worst == ALL_RUN || reason == "ModuleHeld" {
            worst = reason;
        }
    }
    if sentences.is_empty() {
        return (ALL_RUN, "all modules run".to_owned());
    }
    (worst, sentences.join("; "))
}

#[cfg(test)]
mod tests;
