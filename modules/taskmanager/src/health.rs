//! Whether the agent is as well after a change as it was before.

use std::time::Duration;

use ipc_proto::control::{ModuleStatus, Status};
use ipc_proto::{Module, ModuleState};
use serde::{Deserialize, Serialize};

use crate::ask::Supervisor;

/// How often is looked; the supervisor tells nobody but edged of changes.
const LOOK: Duration = Duration::from_millis(500);

/// How it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Before {
    /// The modules that ran.
    running: Vec<Module>,
    /// Whether the container runtime was ready.
    runtime: bool,
}

fn module(status: &Status, module: Module) -> Option<&ModuleStatus> {
    status.modules.iter().find(|it| it.name == module)
}

fn word<'a>(status: &'a ModuleStatus, pointer: &str) -> &'a str {
    let report = status.report.as_ref();
    report.and_then(|report| report.pointer(pointer)?.as_str()).unwrap_or_default()
}

fn runtime_is_ready(status: &Status) -> bool {
    module(status, Module::Edged).is_some_and(|it| word(it, "/runtime/state") == "ready")
}

impl Before {
    /// Notes how it is.
    pub(crate) fn of(status: &Status) -> Self {
        let running = status.modules.iter().filter(|it| it.state == ModuleState::Running);
        let running = running.map(|it| it.name).collect();
        Self { running, runtime: runtime_is_ready(status) }
    }

    /// Returns the modules that ran.
    pub(crate) fn running(&self) -> &[Module] {
        &self.running
    }

    /// Returns the modules among them that have run since before `began` (Unix milliseconds).
    pub(crate) fn older(&self, status: &Status, began: i64) -> Vec<Module> {
        let is_older = |wanted: &Module| {
            let now = module(status, *wanted);
            now.is_some_and(|it| it.state == ModuleState::Running && it.since < began)
        };
        self.running.iter().copied().filter(is_older).collect()
    }

    /// Says what is not as well as before: the modules, the link to the cloud, the runtime.
    fn missing(&self, status: &Status, anew: &[Module], began: i64) -> Option<String> {
        if let Some(missing) = self.not_running(status, anew, began) {
            return Some(missing);
        }
        match module(status, Module::Edgehub) {
            Some(hub) if word(hub, "/state") == "connected" => {}
            Some(hub) => {
                let why = word(hub, "/reason");
                return Some(format!("there is no link to the cloud ({why})"));
            }
            None => return Some("there is no edgehub".to_owned()),
        }
        let lacks = self.runtime && !runtime_is_ready(status);
        lacks.then(|| "the container runtime is not ready".to_owned())
    }

    /// Says which module does not run. Those that were to start anew must run since `began` (Unix
    /// milliseconds); those that the configuration no longer wants need not.
    fn not_running(&self, status: &Status, anew: &[Module], began: i64) -> Option<String> {
        for wanted in &self.running {
            let Some(now) = module(status, *wanted) else { continue };
            let since = if anew.contains(wanted) { began } else { i64::MIN };
            match now.state {
                ModuleState::Disabled => {}
                ModuleState::Running if now.since >= since => {}
                ModuleState::Running => return Some(format!("{wanted} was not started anew")),
                ModuleState::Starting
                | ModuleState::Backoff
                | ModuleState::Held
                | ModuleState::Stopped => {
                    let end = now.last_exit.as_ref().map_or("", |exit| &exit.reason);
                    return Some(format!("{wanted} does not run ({end})"));
                }
            }
        }
        None
    }

    /// Waits until all is as well as before.
    ///
    /// # Errors
    /// What was not when the time was over.
    pub(crate) async fn is_again(
        &self,
        supervisor: &Supervisor,
        anew: &[Module],
        began: i64,
        patience: Duration,
    ) -> Result<(), String> {
        watch(supervisor, patience, |status| self.missing(status, anew, began)).await
    }

    /// Waits until all modules run again. A way back has done its work then: where the cloud is
    /// still away, that was not what was changed.
    ///
    /// # Errors
    /// What did not run when the time was over.
    pub(crate) async fn runs_again(
        &self,
        supervisor: &Supervisor,
        anew: &[Module],
        began: i64,
        patience: Duration,
    ) -> Result<(), String> {
        watch(supervisor, patience, |status| self.not_running(status, anew, began)).await
    }
}

/// Looks at the agent until nothing is missing.
async fn watch(
    supervisor: &Supervisor,
    patience: Duration,
    missing: impl Fn(&Status) -> Option<String>,
) -> Result<(), String> {
    let mut said = "the supervisor was not heard".to_owned();
    let watched = tokio::time::timeout(patience, async {
        loop {
            match supervisor.status().await {
                Ok(status) => match missing(&status) {
                    None => return,
                    Some(what) => said = what,
                },
                Err(why) => said = why,
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    let late = watched.await.is_err();
    if late { Err(format!("{said} after {} s", patience.as_secs())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(modules: &Value) -> Status {
        serde_json::from_value(json!({
            "node": "n", "version": "1", "state": "running", "uptimeSeconds": 1.0, "pid": 1,
            "reloads": 0, "notInForce": [], "faults": false, "modules": modules,
        }))
        .unwrap()
    }

    fn one(name: &str, state: &str, since: i64, report: &Value) -> Value {
        json!({
            "name": name, "state": state, "pid": 1, "since": since, "restarts": 0,
            "lastExit": null, "nextStart": null, "load": {"waiting": 0, "unsettled": 0},
            "report": report, "confinement": null, "cgroup": null, "memoryMax": null,
        })
    }

    #[test]
    fn well_is_who_runs_anew_with_a_link_and_a_runtime_that_was_there_before() {
        let ready = json!({"runtime": {"state": "ready"}});
        let hub = one("edgehub", "running", 5, &json!({"state": "connected"}));
        let before = Before::of(&status(&json!([hub, one("edged", "running", 5, &ready)])));
        let missing = |modules: Value| {
            before.missing(&status(&modules), &[Module::Edged], 10).unwrap_or_default()
        };
        let edged = |state: &str, since, report: &Value| one("edged", state, since, report);
        assert_eq!(missing(json!([hub, edged("running", 10, &ready)])), "");
        for (modules, what) in [
            (json!([hub, edged("running", 9, &ready)]), "edged was not started anew"),
            (json!([hub, edged("backoff", 11, &ready)]), "edged does not run"),
            (json!([hub, edged("running", 11, &Value::Null)]), "the container runtime"),
            (json!([edged("running", 11, &ready)]), "there is no edgehub"),
        ] {
            let said = missing(modules);
            assert!(said.contains(what), "{said}");
        }
        let cut = one("edgehub", "running", 5, &json!({"state": "disconnected", "reason": "gone"}));
        let said = missing(json!([cut, edged("running", 10, &ready)]));
        assert_eq!(said, "there is no link to the cloud (gone)");
        let now = status(&json!([hub, edged("running", 9, &ready)]));
        assert_eq!(before.older(&now, 9), [Module::Edgehub]);
    }
}
