//! What is to be done about one pod: its specification and what there is go in, steps come out.
//! No IO, no clock. The rules are kubelet's.
//!
//! A plan holds the steps that can be taken now; after them the pod is looked at again. A plan
//! without steps says when to look at the latest.

mod ephemeral;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::backoff::{Backoff, CEILING};
use super::names;
use super::seen::{Contained, Sandbox, Seen, State};
use super::spec::{Container, Pod, RestartPolicy};
use super::why::Why;
use crate::gc::dead::Kept;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Stop a container.
    Stop {
        /// Which.
        id: String,
        /// Its name.
        name: String,
        /// Seconds that it may take.
        grace: i64,
        /// Why, for people.
        why: Why,
    },
    /// Stop a sandbox.
    StopSandbox(String),
    /// Make the volumes and a sandbox.
    MakeSandbox {
        /// How many there were before.
        attempt: u32,
    },
    /// Make and start a container in a sandbox.
    Start {
        /// The container's name.
        name: String,
        /// In which sandbox.
        sandbox: String,
        /// How often it was started before.
        restarts: u32,
    },
    /// Remove a container that ended.
    Remove(String),
    /// Remove a sandbox that ended and has no containers.
    RemoveSandbox(String),
}

/// How far a pod is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has something to run.
    #[default]
    Living,
    /// All that it had to run has ended of itself.
    Done,
    /// It was to end, and nothing of it runs.
    Ended,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// To be taken in this order; stops may be taken at once.
    pub(crate) steps: Vec<Step>,
    /// When to look again, if nothing happens before: Unix milliseconds.
    pub(crate) wake: Option<i64>,
    pub(crate) stage: Stage,
}

/// Why something waits that could not be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hold {
    /// Until when: Unix milliseconds.
    pub(crate) until: i64,
    /// In one word, as kubelet's.
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// How a running container is, as its probes found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) started: bool,
    pub(crate) ready: bool,
    /// Set when it has to be restarted.
    pub(crate) sick: Option<Sick>,
}

/// What was found out about a container that has to be restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sick {
    /// By which kind of probe.
    pub(crate) probe: &'static str,
    /// The probe's own grace period in seconds, if it has one.
    pub(crate) grace: Option<i64>,
}

/// What is remembered of a pod beside what can be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// The pauses of containers that ended, by name.
    pub(crate) pauses: BTreeMap<String, Backoff>,
    /// What could not be done: by container name, by container or sandbox id, and [`SANDBOX`].
    pub(crate) holds: BTreeMap<String, Hold>,
    /// By container id.
    pub(crate) health: BTreeMap<String, Health>,
    /// How many containers that ended are kept.
    pub(crate) kept: Kept,
}

/// The hold of a pod's volumes and sandbox.
pub(crate) const SANDBOX: &str = "";

/// Makes the plan for a pod. `end` is set when it is to end: the seconds that it may take.
pub(crate) fn plan(pod: &Pod, seen: &Seen, ledger: &Ledger, end: Option<i64>, now: i64) -> Plan {
    let mut planner = Planner { pod, seen, ledger, now, plan: Plan::default() };
    match end {
        Some(grace) => planner.end(grace),
        None => planner.live(),
    }
    planner.tidy();
    planner.plan
}

/// Tells whether a container whose newest instance this is has to run again.
pub(crate) fn is_due(pod: &Pod, container: &Container, latest: Option<&Contained>) -> bool {
    let Some(latest) = latest else { return true };
    if latest.state != State::Exited {
        return true;
    }
    let changed = latest.hash.is_some_and(|hash| hash != names::hash(container));
    changed
        || match pod.spec.restart_policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => latest.exit_code != 0,
            RestartPolicy::Never => false,
        }
}

struct Planner<'a> {
    pod: &'a Pod,
    seen: &'a Seen,
    ledger: &'a Ledger,
    now: i64,
    plan: Plan,
}

impl Planner<'_> {
    /// Looks again at `until`, or before.
    fn wake(&mut self, until: i64) {
        self.plan.wake = Some(self.plan.wake.map_or(until, |wake| wake.min(until)));
    }

    /// Tells whether something is held; then it wakes when the hold ends.
    fn is_held(&mut self, what: &str) -> bool {
        match self.ledger.holds.get(what) {
            Some(hold) if is_ahead(hold.until, CEILING, self.now) => {
                self.wake(hold.until);
                true
            }
            Some(_) | None => false,
        }
    }

    fn stop(&mut self, container: &Contained, grace: i64, why: Why) {
        if !self.is_held(&container.id) {
            let (id, name) = (container.id.clone(), container.name.clone());
            self.plan.steps.push(Step::Stop { id, name, grace, why });
        }
    }

    fn stop_sandbox(&mut self, sandbox: &Sandbox) {
        if !self.is_held(&sandbox.id) {
            self.plan.steps.push(Step::StopSandbox(sandbox.id.clone()));
        }
    }

    fn grace(&self) -> i64 {
        self.pod.spec.termination_grace_period_seconds.unwrap_or(names::DEFAULT_GRACE)
    }

    /// Stops everything: first the ordinary containers, then the sidecars from the last to the
    /// first, then the sandboxes. Tells whether nothing is left to stop.
    fn stop_all(&mut self, grace: i64, why: Why) -> bool {
        let seen = self.seen;
        let alive = || seen.containers.iter().filter(|container| container.is_alive());
        let rank = |container: &Contained| {
            let of = self.pod.spec.init_containers.iter();
            of.filter(|init| init.is_sidecar()).position(|init| init.name == container.name)
        };
        // Whatever is no sidecar ranks highest.
        let highest = alive().map(|container| rank(container).unwrap_or(usize::MAX)).max();
        if let Some(highest) = highest {
            let turn = |container: &&Contained| rank(container).unwrap_or(usize::MAX) == highest;
            let now: Vec<_> = alive().filter(turn).collect();
            for container in now {
                self.stop(container, grace, why);
            }
            return false;
        }
        let mut nothing = true;
        for sandbox in seen.sandboxes.iter().filter(|sandbox| sandbox.ready) {
            self.stop_sandbox(sandbox);
            nothing = false;
        }
        nothing
    }

    fn end(&mut self, grace: i64) {
        if self.stop_all(grace, Why::PodEnds) {
            self.plan.stage = Stage::Ended;
        }
    }

    fn live(&mut self) {
        let Some(sandbox) = self.seen.usable(self.pod.spec.host_network) else {
            self.without_sandbox();
            return;
        };
        let sandbox = sandbox.clone();
        if self.drop_others(&sandbox) {
            return;
        }
        self.start_ephemeral(&sandbox);
        match self.prepare(&sandbox) {
            Progress::Blocked => {}
            Progress::Failed => self.done(),
            Progress::Through => self.run(&sandbox),
        }
    }

    /// Goes on where there is no sandbox to use: what is left is stopped, and a new one is made if
    /// something has to run in it.
    fn without_sandbox(&mut self) {
        if !self.stop_all(self.grace(), Why::NoSandbox) {
            return;
        }
        let ran = !self.seen.containers.is_empty() && !self.seen.sandboxes.is_empty();
        let spec = &self.pod.spec;
        let over = match spec.restart_policy {
            RestartPolicy::Never => ran,
            RestartPolicy::Always | RestartPolicy::OnFailure => {
                let mut all = spec.containers.iter();
                ran && all.all(|container| {
                    !is_due(self.pod, container, self.seen.latest(&container.name))
                })
            }
        };
        if over {
            self.plan.stage = Stage::Done;
        } else if !self.is_held(SANDBOX) {
            let newest = self.seen.sandboxes.first();
            let attempt = newest.map_or(0, |sandbox| sandbox.attempt.saturating_add(1));
            self.plan.steps.push(Step::MakeSandbox { attempt });
        }
    }

    /// Stops all that lives outside the sandbox in use, or beside a newer container of its name, or
    /// that the pod does not have; tells whether there is such.
    fn drop_others(&mut self, sandbox: &Sandbox) -> bool {
        let (seen, spec, grace) = (self.seen, &self.pod.spec, self.grace());
        let mut found = false;
        for (at, container) in seen.containers.iter().enumerate() {
            let newer = &seen.containers[..at];
            let is_double = || newer.iter().any(|it| it.name == container.name);
            let is_foreign = || spec.container(&container.name).is_none();
            let why = match container {
                it if !it.is_alive() => continue,
                it if it.sandbox != sandbox.id => Why::OldSandbox,
                _ if is_double() => Why::Double,
                _ if is_foreign() => Why::Foreign,
                _ => continue,
            };
            self.stop(container, grace, why);
            found = true;
        }
        for other in seen.sandboxes.iter().filter(|other| other.ready && other.id != sandbox.id) {
            self.stop_sandbox(other);
            found = true;
        }
        found
    }

    /// Brings the init containers on, one after the other.
    fn prepare(&mut self, sandbox: &Sandbox) -> Progress {
        let (pod, seen) = (self.pod, self.seen);
        let of_main = |container: &Contained| {
            container.sandbox == sandbox.id
                && pod.spec.containers.iter().any(|main| main.name == container.name)
        };
        let through = seen.containers.iter().any(of_main);
        for container in &pod.spec.init_containers {
            let latest = seen.latest_in(&sandbox.id, &container.name);
            let progress = if container.is_sidecar() {
                self.keep_sidecar(container, latest, sandbox)
            } else if through {
                Progress::Through
            } else {
                self.bring_on(container, latest, sandbox)
            };
            match progress {
                Progress::Through => {}
                Progress::Blocked if through => {}
                Progress::Blocked | Progress::Failed => return progress,
            }
        }
        Progress::Through
    }

    fn bring_on(
        &mut self,
        container: &Container,
        latest: Option<&Contained>,
        sandbox: &Sandbox,
    ) -> Progress {
        match latest {
            Some(Contained { state: State::Running, .. }) => {}
            Some(Contained { state: State::Exited, exit_code: 0, .. }) => return Progress::Through,
            Some(Contained { state: State::Exited, .. })
                if self.pod.spec.restart_policy == RestartPolicy::Never =>
            {
                return Progress::Failed;
            }
            Some(unknown @ Contained { state: State::Unknown, .. }) => {
                self.stop(unknown, self.grace(), Why::Lost);
            }
            Some(_) | None => self.start(container, sandbox),
        }
        Progress::Blocked
    }

    fn keep_sidecar(
        &mut self,
        container: &Container,
        latest: Option<&Contained>,
        sandbox: &Sandbox,
    ) -> Progress {
        let running = latest.filter(|latest| latest.is_alive());
        if let Some(running) = running {
            let sick = self.stop_if_wrong(container, running);
            let started = self.ledger.health.get(&running.id).is_some_and(|health| health.started);
            return if started && !sick { Progress::Through } else { Progress::Blocked };
        }
        // It serves the containers; when they are done it is not needed any more.
        if !self.is_over() {
            self.start(container, sandbox);
        }
        Progress::Blocked
    }

    /// Tells whether no ordinary container has to run any more.
    fn is_over(&self) -> bool {
        let mut all = self.pod.spec.containers.iter();
        all.all(|container| !is_due(self.pod, container, self.seen.latest(&container.name)))
    }

    /// Stops a running container that cannot stay; tells whether it cannot.
    fn stop_if_wrong(&mut self, container: &Container, running: &Contained) -> bool {
        let grace = self.grace();
        let sick = self.ledger.health.get(&running.id).and_then(|health| health.sick);
        if running.state == State::Unknown {
            self.stop(running, grace, Why::Lost);
        } else if running.hash.is_some_and(|hash| hash != names::hash(container)) {
            self.stop(running, grace, Why::Changed);
        } else if let Some(Sick { probe, grace: own }) = sick {
            self.stop(running, own.unwrap_or(grace), Why::Sick(probe));
        } else {
            return false;
        }
        true
    }

    /// Starts a container if its pause is over. One that was made and never started, because its
    /// maker died between the two, goes first: what it was told may be out of date, and counting it
    /// would tell of a restart that never was.
    fn start(&mut self, container: &Container, sandbox: &Sandbox) {
        let name = &container.name;
        if self.is_held(name) {
            return;
        }
        let latest = self.seen.latest(name);
        if let Some(never) = latest.filter(|latest| latest.state == State::Created) {
            if !self.is_held(&never.id) {
                self.plan.steps.push(Step::Remove(never.id.clone()));
            }
            return;
        }
        if let Some(until) = self.paused_until(name) {
            self.wake(until);
            return;
        }
        let restarts = match latest {
            Some(latest) => latest.restarts.saturating_add(1),
            // The runtime forgot those that ran: the count goes on where it was reported.
            None => {
                let ran = self.pod.status.ran(&container.name);
                ran.map_or(0, |ran| ran.restart_count.saturating_add(1))
            }
        };
        let (name, sandbox) = (name.clone(), sandbox.id.clone());
        self.plan.steps.push(Step::Start { name, sandbox, restarts });
    }

    fn paused_until(&self, name: &str) -> Option<i64> {
        paused_until(self.seen, self.ledger, name, self.now)
    }

    /// Keeps the ordinary containers running that have to.
    fn run(&mut self, sandbox: &Sandbox) {
        let (pod, seen) = (self.pod, self.seen);
        let mut all_done = true;
        for container in &pod.spec.containers {
            let latest = seen.latest(&container.name);
            match latest.filter(|latest| latest.is_alive()) {
                Some(running) => {
                    self.stop_if_wrong(container, running);
                    all_done = false;
                }
                None if is_due(pod, container, latest) => {
                    self.start(container, sandbox);
                    all_done = false;
                }
                None => {}
            }
        }
        if all_done {
            self.done();
        }
    }

    /// Ends a pod that has nothing to run any more.
    fn done(&mut self) {
        self.plan.steps.clear();
        if self.stop_all(self.grace(), Why::PodDone) {
            self.plan.stage = Stage::Done;
        }
    }

    /// Removes what ended and will not be asked about: of each name the newest that ended stays, or as
    /// many as the node keeps, so that its log and its end can be read; of the sandboxes the newest stays, and those that have
    /// containers.
    fn tidy(&mut self) {
        let seen = self.seen;
        let mut gone = Vec::new();
        for (at, container) in seen.containers.iter().enumerate() {
            let is_newer = |it: &&Contained| it.name == container.name && it.state == State::Exited;
            let newer = seen.containers[..at].iter().filter(is_newer).count();
            let age = self.now.saturating_sub(container.finished);
            let over = matches!(container.state, State::Exited);
            let spare = over && newer > 0 && !self.ledger.kept.keeps(newer, age);
            let never = container.state == State::Created
                && seen.containers[..at].iter().any(|newer| newer.name == container.name);
            if (spare || never) && !self.is_held(&container.id) {
                gone.push(Step::Remove(container.id.clone()));
            }
        }
        for sandbox in seen.sandboxes.iter().skip(1).filter(|sandbox| !sandbox.ready) {
            let empty = !seen.containers.iter().any(|container| container.sandbox == sandbox.id);
            if empty && !self.is_held(&sandbox.id) {
                gone.push(Step::RemoveSandbox(sandbox.id.clone()));
            }
        }
        self.plan.steps.append(&mut gone);
    }
}

/// Returns until when a container that ended is not started again, if that is not over.
pub(crate) fn paused_until(seen: &Seen, ledger: &Ledger, name: &str, now: i64) -> Option<i64> {
    let latest = seen.latest(name).filter(|latest| latest.state == State::Exited)?;
    let pause = ledger.pauses.get(name)?;
    let until = pause.until(latest.finished);
    is_ahead(until, pause.pause, now).then_some(until)
}

/// Tells whether a time that was at most so far away when it was noted is still to come.
pub(crate) const fn is_ahead(until: i64, most: i64, now: i64) -> bool {
    until > now && until.saturating_sub(now) <= most
}

/// How far the init containers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// All that was before this is done.
    Through,
    /// Something has to happen first.
    Blocked,
    /// One failed that may not be repeated.
    Failed,
}
