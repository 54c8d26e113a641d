//! How the node is, in the conditions and events that `kubectl describe node` shows: kubelet's, and
//! one of our own for the agent's modules, whose deaths nobody would notice otherwise.

use std::collections::BTreeMap;

use ipc_proto::Module;
use ipc_proto::control::ModuleState;
use ipc_proto::lifeline::Standing;
use serde_json::{Value, json};

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

/// An event of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happening {
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The conditions, and what was told of them.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    /// Whether each holds, and since when.
    last: BTreeMap<String, (bool, i64)>,
    /// The restarts and the state of each module that were told.
    modules: BTreeMap<Module, (u32, ModuleState)>,
}

impl Conditions {
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
        fleet: &[Standing],
        now: i64,
    ) -> (Vec<Condition>, Vec<Happening>) {
        let mut happenings = Vec::new();
        let mut conditions = Vec::new();
        let ready = if trouble.is_empty() {
            ("EdgeReady", "edge is posting ready status".to_owned(), "NodeReady")
        } else {
            ("KubeletNotReady", trouble.to_owned(), "NodeNotReady")
        };
        let enough = |what: &str| format!("kubelet has {what}");
        for (kind, holds, reason, message, event) in [
            (
                "MemoryPressure",
                false,
                "KubeletHasSufficientMemory",
                enough("sufficient memory available"),
                "NodeHasSufficientMemory",
            ),
            (
                "DiskPressure",
                false,
                "KubeletHasNoDiskPressure",
                enough("no disk pressure"),
                "NodeHasNoDiskPressure",
            ),
            (
                "PIDPressure",
                false,
                "KubeletHasSufficientPID",
                enough("sufficient PID available"),
                "NodeHasSufficientPID",
            ),
            ("Ready", trouble.is_empty(), ready.0, ready.1, ready.2),
        ] {
            let (since, changed) = self.since(kind, holds, now);
            if changed {
                let message = format!("Node status is now: {event}");
                happenings.push(Happening { warning: false, reason: event, message });
            }
            conditions.push(Condition { kind, holds, reason, message, since });
        }
        if !fleet.is_empty() {
            happenings.extend(self.ends(fleet, now));
            let (reason, message) = modules(fleet, now);
            let holds = reason == ALL_RUN;
            let since = self.since(MODULES, holds, now).0;
            conditions.push(Condition { kind: MODULES, holds, reason, message, since });
        }
        (conditions, happenings)
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
    fn ends(&mut self, fleet: &[Standing], now: i64) -> Vec<Happening> {
        let first = self.modules.is_empty();
        let mut happenings = Vec::new();
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
                happenings.push(Happening { warning: true, reason, message });
            }
            let was_held = before.is_some_and(|(_, before)| before == ModuleState::Held);
            if *state == ModuleState::Held && !was_held {
                let message = format!("{module} of edgecore keeps dying and is held back");
                happenings.push(Happening { warning: true, reason: "ModuleHeld", message });
            }
        }
        happenings
    }
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
mod tests {
    use super::*;

    fn standing(
        module: Module,
        state: ModuleState,
        restarts: u32,
        end: Option<(&str, i64)>,
    ) -> Standing {
        let last_end = end.map(|(why, at)| (why.into(), at));
        Standing { module, state, restarts, last_end }
    }

    fn reasons(happenings: &[Happening]) -> Vec<&'static str> {
        happenings.iter().map(|it| it.reason).collect()
    }

    fn modules(conditions: &[Condition]) -> (bool, &'static str, i64) {
        let found = conditions.iter().find(|it| it.kind == MODULES).unwrap();
        (found.holds, found.reason, found.since)
    }

    #[test]
    fn a_module_that_dies_shows_in_an_event_and_for_a_while_in_the_condition() {
        let mut it = Conditions::default();
        let mesh = |restarts, end| standing(Module::Edgemesh, ModuleState::Running, restarts, end);
        let (conditions, happenings) = it.look("", &[mesh(3, Some(("exit 1", 0)))], 400_000);
        assert_eq!(modules(&conditions), (true, ALL_RUN, 400_000));
        let usual = ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"];
        assert_eq!(reasons(&happenings), [&usual[..], &["NodeReady"]].concat());
        let died = [mesh(4, Some(("signal 9", 500_000)))];
        let (conditions, happenings) = it.look("", &died, 500_007);
        assert_eq!(modules(&conditions), (false, "ModuleDied", 500_007));
        assert_eq!(happenings[0].message, "edgemesh of edgecore ended: signal 9; restarts: 4");
        assert_eq!(it.look("", &died, 500_008).1, []);
        let (conditions, _) = it.look("", &died, 500_000 + RECENT);
        assert_eq!(modules(&conditions), (true, ALL_RUN, 500_000 + RECENT));
    }

    #[test]
    fn hanging_held_and_stopped_are_told_apart() {
        let mut it = Conditions::default();
        let bus = |state, restarts, end| [standing(Module::Eventbus, state, restarts, end)];
        drop(it.look("", &bus(ModuleState::Running, 0, None), 0));
        let (conditions, happenings) =
            it.look("", &bus(ModuleState::Backoff, 0, Some(("hang", 5))), 6);
        assert_eq!(reasons(&happenings), ["ModuleHung"]);
        assert_eq!(modules(&conditions).1, "ModuleHung");
        let (conditions, happenings) =
            it.look("", &bus(ModuleState::Held, 9, Some(("exit 1", 7))), RECENT * 2);
        assert_eq!(reasons(&happenings), ["ModuleDied", "ModuleHeld"]);
        assert_eq!(modules(&conditions).1, "ModuleHeld");
        let (conditions, happenings) =
            it.look("", &bus(ModuleState::Stopped, 10, Some((REQUESTED, 7))), RECENT * 2);
        assert_eq!(reasons(&happenings), [""; 0]);
        assert!(modules(&conditions).0);
    }

    #[test]
    fn edged_tells_of_its_own_end_in_its_next_life() {
        let own = [standing(Module::Edged, ModuleState::Running, 1, Some(("signal 11", 1000)))];
        let (_, happenings) = Conditions::default().look("", &own, 1500);
        assert!(reasons(&happenings).contains(&"ModuleDied"));
        let (_, happenings) = Conditions::default().look("", &own, 1000 + OWN_END);
        assert!(!reasons(&happenings).contains(&"ModuleDied"));
    }

    #[test]
    fn a_new_process_goes_on_from_what_the_cloud_knows() {
        let mut it = Conditions::default();
        it.learn(&json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:09Z"},
            {"type": "DiskPressure", "status": "True", "lastTransitionTime": "1970-01-01T00:00:01Z"},
            {"type": 7},
        ]}}));
        let (conditions, happenings) = it.look("", &[], 20_000);
        let since = |kind| conditions.iter().find(|it| it.kind == kind).map(|it| it.since);
        assert_eq!((since("Ready"), since("DiskPressure")), (Some(9000), Some(20_000)));
        assert!(reasons(&happenings).contains(&"NodeHasNoDiskPressure"));
        assert!(!reasons(&happenings).contains(&"NodeReady"));
        let (conditions, happenings) = it.look("no runtime", &[], 30_000);
        assert_eq!(reasons(&happenings), ["NodeNotReady"]);
        assert_eq!(conditions.last().map(|it| (it.holds, it.since)), Some((false, 30_000)));
    }
}
