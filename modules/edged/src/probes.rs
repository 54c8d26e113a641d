//! Probes: whether a container lives, is ready, has started. Each runs in a task of its own, which
//! tells the pod's worker when its verdict changes.

pub(crate) mod action;
mod http;
mod tally;
pub(crate) mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::debug;

use action::Outcome;
pub(crate) use tally::{BOUNDS, Tally};

use crate::cri::Runtime;
use crate::notes::{About, Notes};
use crate::pod::spec::{Container, Probe};

/// What is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    Startup,
    Liveness,
    Readiness,
}

impl Purpose {
    /// Returns its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }
}

/// A verdict that is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Of which container.
    pub(crate) id: String,
    pub(crate) purpose: Purpose,
    pub(crate) well: bool,
    /// What the last try said, for people.
    pub(crate) said: String,
}

/// How many tries in a row say the same, and what they say. Pure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    last: bool,
    run: u32,
    given: Option<bool>,
}

impl Verdict {
    /// Notes a try; returns the verdict if it is new.
    pub(crate) fn note(&mut self, probe: &Probe, well: bool) -> Option<bool> {
        self.run = if self.run > 0 && self.last == well { self.run.saturating_add(1) } else { 1 };
        self.last = well;
        let needed = if well { probe.success_threshold } else { probe.failure_threshold };
        let needed = needed.unwrap_or(if well { 1 } else { 3 }).max(1);
        if self.run < needed || self.given == Some(well) {
            return None;
        }
        self.given = Some(well);
        Some(well)
    }
}

/// The probes of one pod.
#[derive(Debug)]
pub(crate) struct Probes {
    runtime: Runtime,
    tasks: BTreeMap<(String, Purpose), AbortHandle>,
    findings: mpsc::Sender<Finding>,
    notes: Notes,
    tally: Tally,
    uid: String,
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.tally.forget(&self.uid);
        self.tasks.values().for_each(AbortHandle::abort);
    }
}

impl Probes {
    /// Makes it for the pod of a uid; what is found goes into `findings`, what each try said into the
    /// notes, and how many there were into the tally.
    pub(crate) fn new(
        runtime: Runtime,
        uid: &str,
        findings: mpsc::Sender<Finding>,
        notes: Notes,
        tally: Tally,
    ) -> Self {
        Self { runtime, tasks: BTreeMap::new(), findings, notes, tally, uid: uid.to_owned() }
    }

    /// Probes a running container from now on, unless it is probed so already. `place` is
    /// the pod's address and what notes are about, `age` is how long it has run.
    pub(crate) fn begin(
        &mut self,
        purpose: Purpose,
        container: &Arc<Container>,
        id: &str,
        place: (&str, &About),
        age: Duration,
    ) {
        let (ip, about) = place;
        let key = (id.to_owned(), purpose);
        let probe = match purpose {
            Purpose::Startup => &container.startup_probe,
            Purpose::Liveness => &container.liveness_probe,
            Purpose::Readiness => &container.readiness_probe,
        };
        let Some(probe) = probe.clone().filter(|_| !self.tasks.contains_key(&key)) else { return };
        let delay = Duration::from_secs(probe.initial_delay_seconds.into()).saturating_sub(age);
        let watch = Watch {
            runtime: self.runtime.clone(),
            container: Arc::clone(container),
            probe,
            purpose,
            id: id.to_owned(),
            ip: ip.to_owned(),
            findings: self.findings.clone(),
            notes: self.notes.clone(),
            tally: self.tally.clone(),
            about: about.clone(),
        };
        let task = tokio::spawn(watch.run(delay));
        self.tasks.insert(key, task.abort_handle());
    }

    /// Ends the probes of all containers but those that `keep` wants.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str, Purpose) -> bool) {
        self.tasks.retain(|(id, purpose), task| {
            let kept = keep(id, *purpose);
            if !kept {
                task.abort();
            }
            kept
        });
    }
}

struct Watch {
    runtime: Runtime,
    container: Arc<Container>,
    probe: Probe,
    purpose: Purpose,
    id: String,
    ip: String,
    findings: mpsc::Sender<Finding>,
    notes: Notes,
    tally: Tally,
    about: About,
}

impl Watch {
    fn note(&self, reason: &'static str, said: &str) {
        let message = format!("{:?} {said}", self.purpose);
        self.notes.warning(self.about.clone(), reason, message);
    }

    async fn run(self, delay: Duration) {
        let seconds = |value: Option<u32>, default: u32| {
            Duration::from_secs(value.filter(|value| *value > 0).unwrap_or(default).into())
        };
        let period = seconds(self.probe.period_seconds, 10);
        let timeout = seconds(self.probe.timeout_seconds, 1);
        let begin = Instant::now() + delay;
        let mut ticks = tokio::time::interval_at(begin, period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut verdict = Verdict::default();
        loop {
            ticks.tick().await;
            let handler = &self.probe.handler;
            let place = action::Place {
                runtime: &self.runtime,
                container: &self.container,
                id: &self.id,
                ip: &self.ip,
            };
            let begin = Instant::now();
            let outcome = action::probe(handler, &place, timeout).await;
            let tried = (tally::Result::from(&outcome), begin.elapsed());
            self.tally.note(&self.about, &self.container.name, self.purpose, tried);
            let (well, said) = match outcome {
                Outcome::Well => (true, String::new()),
                Outcome::Odd(said) => {
                    self.note("ProbeWarning", &format!("probe warning: {said}"));
                    (true, said)
                }
                Outcome::Unwell(said) => {
                    self.note("Unhealthy", &format!("probe failed: {said}"));
                    (false, said)
                }
                // Nothing was found out; the container is as it was.
                Outcome::Unknown(said) => {
                    debug!(container = %self.id, purpose = ?self.purpose, "no probe: {said}");
                    let what = "probe errored and resulted in unknown state";
                    self.note("Unhealthy", &format!("{what}: {said}"));
                    continue;
                }
            };
            if let Some(well) = verdict.note(&self.probe, well) {
                let (id, purpose) = (self.id.clone(), self.purpose);
                if self.findings.send(Finding { id, purpose, well, said }).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_runs_and_a_verdict_is_given_once() {
        let probe =
            Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut verdict = Verdict::default();
        let tries = [true, false, true, true, true, false, false, true, false, false, false, false];
        let given: Vec<_> = tries.iter().map(|well| verdict.note(&probe, *well)).collect();
        let mut expected = vec![None; tries.len()];
        expected[3] = Some(true);
        expected[10] = Some(false);
        assert_eq!(given, expected);
    }
}
