//! A pod's status as kubelet writes it, from what there is of the pod and what is known about what
//! could not be done. Pure.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::pod::plan::{Ledger, SANDBOX, Stage, paused_until};
use crate::pod::seen::{Contained, Seen, State};
use crate::pod::spec::{Container, Pod, RestartPolicy};

/// Writes a time in Unix milliseconds as the API does, in whole seconds.
pub(crate) fn rfc3339(millis: i64) -> String {
    OffsetDateTime::from_unix_timestamp(millis.div_euclid(1000))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

/// Reads a time of the API as Unix milliseconds.
pub(crate) fn millis(text: &str) -> Option<i64> {
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    i64::try_from(nanos / 1_000_000).ok()
}

/// The condition of a pod that waits for somebody on the node to let it go.
const HELD: &str = "HeldUpgrade";

/// Why a pod was ended by the node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// Seconds that the pod has to end, when they are not its own.
    pub(crate) grace: Option<i64>,
    /// Whether the pod is told to be the target of a disruption.
    pub(crate) disrupts: bool,
}

impl Verdict {
    /// Says why, without more.
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), ..Self::default() }
    }

    /// Says that it keeps a pod from running at all.
    pub(crate) fn rejects(self) -> Self {
        Self { message: format!("Pod was rejected: {}", self.message), ..self }
    }
}

/// What a status is made from.
#[derive(Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) pod: &'a Pod,
    /// The uid under which the cloud knows it: a static pod's is its mirror's.
    pub(crate) uid: &'a str,
    /// Whether it waits for somebody to let it go.
    pub(crate) held: bool,
    pub(crate) seen: &'a Seen,
    pub(crate) ledger: &'a Ledger,
    pub(crate) stage: Stage,
    /// Set when the node ended the pod.
    pub(crate) verdict: Option<&'a Verdict>,
    /// What the runtime calls itself.
    pub(crate) runtime: &'a str,
    pub(crate) host_ips: &'a [String],
    /// When the pod was first seen here: Unix milliseconds.
    pub(crate) start: i64,
    pub(crate) now: i64,
}

/// When each condition last changed, by type.
pub(crate) type Transitions = BTreeMap<String, (String, String)>;

/// Reads the transitions out of what was reported before.
pub(crate) fn transitions(pod: &Pod) -> Transitions {
    let conditions = pod.status.conditions.iter();
    let since = conditions.filter_map(|condition| {
        let time = condition.last_transition_time.clone()?;
        Some((condition.r#type.clone(), (condition.status.clone(), time)))
    });
    since.collect()
}

/// Makes the patch for the pod's status.
pub(crate) fn patch(situation: &Situation<'_>, transitions: &mut Transitions) -> Value {
    let Situation { pod, seen, .. } = situation;
    let phase = situation.phase();
    let mut status = Map::new();
    status.insert("phase".to_owned(), phase.into());
    // Why a pod failed stays known when who found it out does not live any more.
    let before = Some(&pod.status).filter(|last| last.phase == "Failed");
    let reason = situation.verdict.map(|verdict| verdict.reason);
    let reason = reason.or_else(|| before?.reason.as_deref());
    status.insert("reason".to_owned(), reason.into());
    let message = situation.verdict.map(|verdict| verdict.message.as_str());
    let message = message.or_else(|| before?.message.as_deref());
    status.insert("message".to_owned(), message.into());
    let conditions = situation.conditions(phase, transitions);
    let order: Vec<_> = conditions.iter().map(|one| json!({"type": one["type"]})).collect();
    status.insert("$setElementOrder/conditions".to_owned(), order.into());
    status.insert("conditions".to_owned(), conditions.into());
    let spec = &pod.spec;
    let mut list = |key: &str, containers: &[Container], init: bool| {
        if !containers.is_empty() {
            let states: Vec<_> =
                containers.iter().map(|it| situation.container(it, init)).collect();
            status.insert(key.to_owned(), states.into());
        }
    };
    list("initContainerStatuses", &spec.init_containers, true);
    list("containerStatuses", &spec.containers, false);
    list("ephemeralContainerStatuses", &spec.ephemeral_containers, false);
    status.insert("startTime".to_owned(), rfc3339(situation.start).into());
    let pod_ips = ips(pod, seen, situation.host_ips);
    for (one, all, ips, old) in [
        ("hostIP", "hostIPs", situation.host_ips, &pod.status.host_ips),
        ("podIP", "podIPs", &pod_ips, &pod.status.pod_ips),
    ] {
        let Some(first) = ips.first() else { continue };
        status.insert(one.to_owned(), first.as_str().into());
        let mut list: Vec<_> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        let old = old.iter().filter(|old| !ips.contains(&old.ip));
        list.extend(old.map(|old| json!({"ip": old.ip, "$patch": "delete"})));
        status.insert(all.to_owned(), list.into());
    }
    json!({"metadata": {"uid": situation.uid}, "status": status})
}

/// Returns a pod's addresses: at most one of each family, that of the node's first address first.
pub(crate) fn ips(pod: &Pod, seen: &Seen, host_ips: &[String]) -> Vec<String> {
    if pod.spec.host_network {
        return host_ips.to_vec();
    }
    let all = seen.sandboxes.iter().find(|it| !it.ips.is_empty()).map_or(&[][..], |it| &it.ips);
    let is_v6 = |ip: &&String| ip.contains(':');
    let first = host_ips.first().is_some_and(|ip| is_v6(&ip));
    let of = |v6: bool| all.iter().find(|ip| is_v6(ip) == v6).cloned();
    [of(first), of(!first)].into_iter().flatten().collect()
}

impl Situation<'_> {
    /// Tells whether an init container has done its part.
    fn is_initialised(&self, container: &Container) -> bool {
        let Some(latest) = self.seen.latest(&container.name) else { return false };
        if container.is_sidecar() {
            return latest.state == State::Running && self.health(latest).0;
        }
        latest.state == State::Exited && latest.exit_code == 0
    }

    /// Tells whether a running container is started and ready.
    fn health(&self, container: &Contained) -> (bool, bool) {
        let health = self.ledger.health.get(&container.id);
        let known = health.map_or((false, false), |health| (health.started, health.ready));
        if container.state == State::Running { known } else { (false, false) }
    }

    fn phase(&self) -> &'static str {
        let Self { pod, seen, stage, .. } = self;
        let spec = &pod.spec;
        if self.verdict.is_some() {
            return "Failed";
        }
        match pod.status.phase.as_str() {
            "Failed" => return "Failed",
            "Succeeded" => return "Succeeded",
            _ => {}
        }
        let latest = |container: &Container| seen.latest(&container.name);
        let exited =
            |container: &Container| latest(container).filter(|it| it.state == State::Exited);
        if *stage == Stage::Done || *stage == Stage::Ended {
            let well = |it: &Container| exited(it).is_some_and(|ended| ended.exit_code == 0);
            let sidecar_or_well = |it: &Container| it.is_sidecar() || well(it);
            let all = spec.containers.iter().all(well)
                && spec.init_containers.iter().all(sidecar_or_well);
            return if all { "Succeeded" } else { "Failed" };
        }
        let begun = spec.containers.iter().any(|it| {
            latest(it).is_some_and(|it| {
                matches!(it.state, State::Running | State::Exited | State::Unknown)
            })
        });
        let all_begun = spec
            .containers
            .iter()
            .all(|it| latest(it).is_some_and(|it| it.state != State::Created));
        if begun && (all_begun || pod.status.phase == "Running") { "Running" } else { "Pending" }
    }

    fn conditions(&self, phase: &str, transitions: &mut Transitions) -> Vec<Value> {
        let Self { pod, seen, .. } = self;
        let spec = &pod.spec;
        let over = phase == "Succeeded" || phase == "Failed";
        let names = |list: Vec<&str>| format!("[{}]", list.join(" "));
        let uninit: Vec<_> = spec
            .init_containers
            .iter()
            .filter(|container| !self.is_initialised(container))
            .map(|container| container.name.as_str())
            .collect();
        let main_begun = spec.containers.iter().any(|it| seen.latest(&it.name).is_some());
        let initialised = if uninit.is_empty() || main_begun || phase == "Succeeded" {
            (true, if phase == "Succeeded" { "PodCompleted" } else { "" }, String::new())
        } else {
            let message = format!("containers with incomplete status: {}", names(uninit));
            (false, "ContainersNotInitialized", message)
        };
        let unready: Vec<_> = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().filter(|init| init.is_sidecar()))
            .filter(|it| seen.latest(&it.name).is_none_or(|latest| !self.health(latest).1))
            .map(|container| container.name.as_str())
            .collect();
        let ready = match phase {
            "Succeeded" => (false, "PodCompleted", String::new()),
            "Failed" => (false, "PodFailed", String::new()),
            _ if unready.is_empty() => (true, "", String::new()),
            _ => {
                let message = format!("containers with unready status: {}", names(unready));
                (false, "ContainersNotReady", message)
            }
        };
        let usable = seen.usable(spec.host_network).is_some() && !over;
        let gated = if ready.0 { self.gates() } else { ready.clone() };
        let mut list = vec![
            ("PodReadyToStartContainers", (usable, "", String::new())),
            ("Initialized", initialised),
            ("Ready", gated),
            ("ContainersReady", ready),
            ("PodScheduled", (true, "", String::new())),
        ];
        list.extend(self.hold().map(|hold| (HELD, hold)));
        list.extend(self.disruption().map(|why| ("DisruptionTarget", why)));
        let now = rfc3339(self.now);
        list.into_iter()
            .map(|(kind, (holds, reason, message))| {
                let status = if holds { "True" } else { "False" };
                let fresh = (status.to_owned(), now.clone());
                let since = transitions.entry(kind.to_owned()).or_insert_with(|| fresh.clone());
                if since.0 != status {
                    *since = fresh;
                }
                let said = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
                json!({
                    "type": kind, "status": status, "lastProbeTime": null,
                    "lastTransitionTime": since.1, "reason": said(reason), "message": said(&message),
                })
            })
            .collect()
    }

    /// Tells whether the conditions hold that others have to set before the pod is ready.
    fn gates(&self) -> (bool, &'static str, String) {
        let unmet = self.pod.spec.readiness_gates.iter().filter_map(|gate| {
            let kind = &gate.condition_type;
            let condition = self.pod.status.conditions.iter().find(|it| it.r#type == *kind);
            match condition {
                Some(condition) if condition.status == "True" => None,
                Some(condition) => Some(format!(
                    "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                    condition.status
                )),
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{kind}\" does not exist."
                )),
            }
        });
        let unmet: Vec<_> = unmet.collect();
        if unmet.is_empty() {
            return (true, "", String::new());
        }
        (false, "ReadinessGatesNotReady", unmet.join(", "))
    }

    /// Tells that the node itself ended the pod because it was short of something.
    fn disruption(&self) -> Option<(bool, &'static str, String)> {
        let verdict = self.verdict.filter(|verdict| verdict.disrupts)?;
        Some((true, "TerminationByKubelet", verdict.message.clone()))
    }

    /// Tells of a hold, and of its end when it was told of before.
    fn hold(&self) -> Option<(bool, &'static str, String)> {
        let told = || self.pod.status.conditions.iter().any(|it| it.r#type == HELD);
        let message = "Upgrade is currently held due to edge-hold-upgrade annotation".to_owned();
        if self.held {
            Some((true, "HoldUpgradeEnabled", message))
        } else {
            told().then(|| (false, "HoldUpgradeReleased", String::new()))
        }
    }

    fn container(&self, container: &Container, init: bool) -> Value {
        let latest = self.seen.latest(&container.name);
        let guest = self.is_ephemeral(container);
        let is_past = init || guest || self.pod.status.is_over();
        if let (None, true, Some(forgotten)) = (latest, is_past, self.forgotten(container)) {
            return forgotten;
        }
        let (started, ready) = latest.map_or((false, false), |latest| self.health(latest));
        let ready = ready && !guest;
        let done = init
            && !container.is_sidecar()
            && latest.is_some_and(|it| it.state == State::Exited && it.exit_code == 0);
        let mut last = latest.and_then(|it| self.seen.ended_before(&container.name, &it.id));
        let state = match latest {
            Some(running) if running.state == State::Running => {
                json!({"running": {"startedAt": rfc3339(running.started)}})
            }
            Some(ended) if ended.state == State::Exited && !self.waits(container, ended) => {
                self.terminated(ended)
            }
            Some(ended) if ended.state == State::Exited => {
                last = Some(ended);
                self.waiting(container)
            }
            Some(_) | None => self.waiting(container),
        };
        let id =
            latest.map_or_else(String::new, |latest| format!("{}://{}", self.runtime, latest.id));
        let image = latest.map(|latest| latest.image.as_str()).filter(|image| !image.is_empty());
        json!({
            "name": container.name,
            "state": state,
            "lastState": last.map_or_else(|| json!({}), |last| self.terminated(last)),
            "ready": ready || done,
            "restartCount": latest.map_or(0, |latest| latest.restarts),
            "image": image.unwrap_or(&container.image),
            "imageID": latest.map_or("", |latest| &latest.image_ref),
            "containerID": if id.is_empty() { Value::Null } else { id.into() },
            "started": Some(started).filter(|_| !guest),
        })
    }

    fn is_ephemeral(&self, container: &Container) -> bool {
        self.pod.spec.ephemeral_containers.iter().any(|it| it.name == container.name)
    }

    /// Tells of a container that has done its work and that the runtime does not have any more: one
    /// of a pod that is over, or an init container or an ephemeral one, which a kubelet removes. Its end stays as it was
    /// reported.
    fn forgotten(&self, container: &Container) -> Option<Value> {
        let ran = self.pod.status.ran(&container.name)?;
        let terminated = ran.state.terminated.as_ref()?;
        Some(json!({
            "name": container.name,
            "state": {"terminated": terminated},
            "lastState": {},
            "ready": terminated["exitCode"] == 0,
            "restartCount": ran.restart_count,
            "image": container.image,
            "imageID": "",
            "containerID": ran.container_id,
            "started": false,
        }))
    }

    /// Tells whether a container that ended is to run again.
    fn waits(&self, container: &Container, ended: &Contained) -> bool {
        let over = self.stage != Stage::Living || self.pod.metadata.deletion_timestamp.is_some();
        if over || self.is_ephemeral(container) {
            return false;
        }
        let is_init = self.pod.spec.init_containers.iter().any(|init| init.name == container.name);
        let due = if container.is_sidecar() {
            true
        } else if is_init {
            ended.exit_code != 0 && self.pod.spec.restart_policy != RestartPolicy::Never
        } else {
            crate::pod::plan::is_due(self.pod, container, Some(ended))
        };
        due && self.reason(&container.name).is_some()
    }

    /// Returns why a container does not run yet, if something in particular keeps it.
    fn reason(&self, name: &str) -> Option<(String, String)> {
        let holds = &self.ledger.holds;
        if let Some(hold) = holds.get(name).filter(|hold| !hold.reason.is_empty()) {
            return Some((hold.reason.clone(), hold.message.clone()));
        }
        paused_until(self.seen, self.ledger, name, self.now)?;
        let pause = self.ledger.pauses.get(name).map_or(0, |pause| pause.pause / 1000);
        let length = match (pause / 60, pause % 60) {
            (0, seconds) => format!("{seconds}s"),
            (minutes, seconds) => format!("{minutes}m{seconds}s"),
        };
        let metadata = &self.pod.metadata;
        let (pod, namespace, uid) = (&metadata.name, &metadata.namespace, &metadata.uid);
        let message = format!(
            "back-off {length} restarting failed container={name} pod={pod}_{namespace}({uid})"
        );
        Some(("CrashLoopBackOff".to_owned(), message))
    }

    fn waiting(&self, container: &Container) -> Value {
        let own = self.reason(&container.name);
        let of_sandbox = || {
            let hold = self.ledger.holds.get(SANDBOX)?;
            Some(("ContainerCreating".to_owned(), hold.message.clone()))
        };
        if let Some((reason, message)) = own.or_else(of_sandbox) {
            return json!({"waiting": {"reason": reason, "message": message}});
        }
        let inits = &self.pod.spec.init_containers;
        let plain = inits.is_empty();
        json!({"waiting": {"reason": if plain { "ContainerCreating" } else { "PodInitializing" }}})
    }

    fn terminated(&self, ended: &Contained) -> Value {
        let reason = match (ended.reason.as_str(), ended.exit_code) {
            ("", 0) => "Completed",
            ("", _) => "Error",
            (reason, _) => reason,
        };
        let time = |millis: i64| if millis > 0 { rfc3339(millis).into() } else { Value::Null };
        let message = Some(ended.message.as_str()).filter(|message| !message.is_empty());
        json!({"terminated": {
            "exitCode": ended.exit_code,
            "reason": reason,
            "message": message,
            "startedAt": time(ended.started),
            "finishedAt": time(ended.finished),
            "containerID": format!("{}://{}", self.runtime, ended.id),
        }})
    }
}
