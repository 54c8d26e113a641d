//! The jobs of this node: which there are, which step each is at, what the cloud has still to be
//! told. Orders and outcomes go in, what is to be done comes out; no IO, no clock.
//!
//! A step begins, and a report goes out, only after the job's record is in the store. A job that
//! died with its process is found there, begins its step again and tells again what may not have
//! arrived; so steps are made to be repeated, and the cloud can hear a report twice, never out of
//! order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::job::{Action, Api, Kind, Name, Report};
use crate::spec::Spec;

/// Jobs at a time; others are refused.
const MAX_JOBS: usize = 16;

/// Jobs that are known at a time, refused ones of which the cloud has not heard yet among them.
const MAX_KNOWN: usize = 64;

/// The key of a record that holds our own part; the rest is the order as it came, where the Go
/// edgecore would read it.
const OWN_KEY: &str = "edgecoreJob";

/// The key of a record that holds the job's name: the store gives records without their keys.
pub(crate) const NAME_KEY: &str = "edgecoreName";

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// Its step is to be done.
    Working,
    /// Somebody on the node has to agree.
    Waiting,
    /// There is nothing more to do than to tell it.
    Over,
}

/// What is kept of a job beside its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Progress {
    action: Action,
    /// The step that the cloud has ordered last.
    #[serde(default)]
    ordered: Option<Action>,
    stage: Stage,
    #[serde(default)]
    reports: Vec<Report>,
    /// Of these the cloud has heard.
    #[serde(default)]
    told: usize,
    /// Whether the node goes on by itself to the end, also in the older API: somebody on it agreed,
    /// or what was ordered needs a step before it.
    #[serde(default)]
    goes_on: bool,
    /// What earlier steps leave to later ones.
    #[serde(default)]
    notes: Value,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Job {
    /// The order as it came.
    json: String,
    progress: Progress,
    /// Counts the versions of the record in this life of the process.
    serial: u64,
    /// Whether the store has the latest version.
    kept: bool,
    /// Whether its step has begun in this life of the process.
    runs: bool,
    /// Of the reports so many were handed out in this life of the process.
    sent: usize,
}

/// What became of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Why it failed; none when it did not.
    pub(crate) failure: Option<String>,
    /// What the API tells beside.
    pub(crate) extend: String,
    /// What is left to later steps; none leaves what there is.
    pub(crate) notes: Option<Value>,
}

/// What happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The cloud orders a step.
    Ordered { name: Name, action: Action, json: String },
    /// The store has this record of an earlier life.
    Found { name: Name, json: String },
    /// The store has this version of a record.
    Kept(Name, u64),
    /// A step has ended.
    Done(Name, Action, Outcome),
    /// The cloud has heard of so many of a job's reports.
    Told(Name, usize),
    /// Somebody on the node agrees to the upgrade that waits.
    Confirmed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Have the store keep this version of a record, or forget it.
    Keep(Name, u64, Option<String>),
    /// Do a step.
    Run { name: Name, action: Action, spec: Spec, notes: Value },
    /// Tell the cloud; it is the report of this number, from 1.
    Tell(Name, Report, usize),
    /// Answer who agreed.
    Answer(Result<(), String>),
}

/// How many jobs came to an end in this life of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ended {
    /// Every step was done.
    done: u64,
    /// A step failed, or the order was refused.
    failed: u64,
}

/// The jobs.
#[derive(Debug, Default)]
pub(crate) struct Core {
    jobs: BTreeMap<Name, Job>,
    serial: u64,
    ended: Ended,
}

impl Core {
    /// Takes what happened at `time` (RFC 3339), and says what is to be done.
    pub(crate) fn on(&mut self, event: Event, time: &str) -> Vec<Effect> {
        let mut out = Vec::new();
        match event {
            Event::Ordered { name, action, json } => {
                self.order(&name, action, json, time, &mut out);
            }
            Event::Found { name, json } => self.find(&name, &json, &mut out),
            Event::Kept(name, serial) => self.kept(&name, serial, &mut out),
            Event::Done(name, action, outcome) => self.done(&name, action, outcome, time, &mut out),
            Event::Told(name, count) => self.told(&name, count, &mut out),
            Event::Confirmed => {
                let answer = self.confirm(time, &mut out);
                out.push(Effect::Answer(answer));
            }
        }
        out
    }

    /// Tells whether all that is known of a job is in the store, or nothing is to be.
    pub(crate) fn is_kept(&self, name: &Name) -> bool {
        self.jobs.get(name).is_none_or(|job| job.kept)
    }

    /// Returns the jobs and their steps, for the operator.
    pub(crate) fn standing(&self) -> impl Iterator<Item = (&Name, Action, bool)> {
        self.jobs
            .iter()
            .filter(|(_, job)| job.progress.stage != Stage::Over)
            .map(|(name, job)| (name, job.progress.action, job.progress.stage == Stage::Waiting))
    }

    /// Returns how many jobs came to an end.
    pub(crate) const fn ended(&self) -> Ended {
        self.ended
    }

    /// Returns how many reports the cloud has not heard yet.
    pub(crate) fn unheard(&self) -> usize {
        let of = |job: &Job| job.progress.reports.len().saturating_sub(job.progress.told);
        self.jobs.values().map(of).sum()
    }

    fn order(
        &mut self,
        name: &Name,
        action: Action,
        json: String,
        time: &str,
        out: &mut Vec<Effect>,
    ) {
        let known = self.jobs.get(name).map(|job| job.progress.stage);
        match known {
            // It comes twice, or the cloud has lost the thread; the job goes on.
            Some(Stage::Working) => return,
            Some(Stage::Waiting) if action == Action::BackUp => {
                if let Err(why) = self.go_on(name, time, out) {
                    self.fail(name, action, why, time, out);
                }
                return;
            }
            Some(Stage::Waiting) => return,
            None if self.jobs.len() >= MAX_KNOWN => return,
            Some(Stage::Over) | None => {}
        }
        let refusal = self.refusal(name, action, &json);
        if name.kind == Kind::Upgrade && refusal.is_none() {
            self.give_up_waiting(name, time, out);
        }
        let before = self.jobs.remove(name);
        let (reports, told, sent) = before
            .map_or((Vec::new(), 0, 0), |job| (job.progress.reports, job.progress.told, job.sent));
        // The notes of the back-up that the older API ordered may be forgotten.
        let first = match (name.api, action) {
            (Api::V1alpha1, Action::Upgrade) => Action::BackUp,
            (_, action) => action,
        };
        let progress = Progress {
            action,
            ordered: Some(action),
            stage: Stage::Working,
            reports,
            told,
            goes_on: first != action,
            notes: Value::Null,
        };
        let job = Job { json, progress, serial: 0, kept: false, runs: false, sent };
        self.jobs.insert(name.clone(), job);
        match refusal {
            Some(why) => self.fail(name, action, why, time, out),
            None => self.begin(name, first, time, out),
        }
    }

    /// Says why an order is not taken, if it is not.
    fn refusal(&self, name: &Name, action: Action, json: &str) -> Option<String> {
        if !action.is_of(name.kind) {
            return Some(format!("a {name} has no step {action:?}"));
        }
        if let Err(why) = Spec::read(name, action, json) {
            return Some(why);
        }
        if let Some((other, ..)) = self.changing(name) {
            return Some(format!("{other} changes this node at the moment"));
        }
        let busy = self.standing().filter(|(other, ..)| *other != name).count();
        (busy >= MAX_JOBS).then(|| format!("this node has {busy} jobs already"))
    }

    /// Returns another job that changes the agent, if this one would too.
    fn changing(&self, name: &Name) -> Option<(&Name, Action, bool)> {
        self.standing().find(|(other, _, waits)| {
            name.kind.is_exclusive() && other.kind.is_exclusive() && *other != name && !waits
        })
    }

    /// Ends the upgrades that wait for somebody to agree: there is a newer one.
    fn give_up_waiting(&mut self, newer: &Name, time: &str, out: &mut Vec<Effect>) {
        let waiting: Vec<Name> = self
            .standing()
            .filter(|(name, _, waits)| *waits && *name != newer)
            .map(|(name, ..)| name.clone())
            .collect();
        for name in waiting {
            let why = format!("{newer} was ordered before anybody agreed");
            self.fail(&name, Action::WaitingConfirmation, why, time, out);
        }
    }

    /// Lets an upgrade that waits go on.
    fn go_on(&mut self, name: &Name, time: &str, out: &mut Vec<Effect>) -> Result<(), String> {
        if let Some((other, ..)) = self.changing(name) {
            return Err(format!("{other} changes this node at the moment"));
        }
        let Some(job) = self.jobs.get_mut(name) else { return Ok(()) };
        job.progress.goes_on = true;
        let next = Action::WaitingConfirmation.next(name, true, true).unwrap_or(Action::BackUp);
        self.begin(name, next, time, out);
        Ok(())
    }

    fn confirm(&mut self, time: &str, out: &mut Vec<Effect>) -> Result<(), String> {
        let waiting = self.standing().find(|(.., waits)| *waits).map(|(name, ..)| name.clone());
        match waiting {
            Some(name) => self.go_on(&name, time, out),
            None => Err("no upgrade waits to be confirmed".to_owned()),
        }
    }

    fn find(&mut self, name: &Name, json: &str, out: &mut Vec<Effect>) {
        let Ok(mut order) = serde_json::from_str::<Map<String, Value>>(json) else { return };
        order.remove(NAME_KEY);
        let own = order.remove(OWN_KEY).and_then(|own| serde_json::from_value(own).ok());
        // What the Go edgecore keeps here has nothing of ours, and is left to it.
        let Some(progress): Option<Progress> = own else { return };
        if self.jobs.contains_key(name) || self.jobs.len() >= MAX_KNOWN {
            return;
        }
        let sent = progress.told;
        let json = Value::Object(order).to_string();
        let job = Job { json, progress, serial: 0, kept: true, runs: false, sent };
        self.jobs.insert(name.clone(), job);
        self.act(name, out);
    }

    /// Begins a step, or what stands for one.
    fn begin(&mut self, name: &Name, action: Action, time: &str, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        job.runs = false;
        job.progress.action = action;
        job.progress.stage = Stage::Working;
        let asks = match Spec::read(name, action, &job.json) {
            Ok(Spec::Upgrade(upgrade)) => upgrade.confirm && !job.progress.goes_on,
            Ok(Spec::Prepull(_) | Spec::Config(_) | Spec::Look(_)) | Err(_) => false,
        };
        let of_old = name.api == Api::V1alpha1 && action == Action::Init;
        match (action, asks) {
            (Action::WaitingConfirmation, false) => {
                job.report(Action::WaitingConfirmation, Outcome::default(), time);
                return self.begin(name, Action::BackUp, time, out);
            }
            (_, true) if of_old || action == Action::WaitingConfirmation => {
                job.progress.action = Action::WaitingConfirmation;
                job.progress.stage = Stage::Waiting;
                job.report(Action::WaitingConfirmation, Outcome::default(), time);
            }
            _ => {}
        }
        self.keep(name, out);
    }

    /// Ends a job with a failure.
    fn fail(
        &mut self,
        name: &Name,
        action: Action,
        why: String,
        time: &str,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        job.report(action, Outcome { failure: Some(why), ..Outcome::default() }, time);
        self.end(name, out);
    }

    /// Notes that there is nothing more to do for a job than to tell it.
    fn end(&mut self, name: &Name, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        job.progress.stage = Stage::Over;
        // one that was put back has failed, although that step did not
        match job.progress.reports.iter().any(|report| report.failure.is_some()) {
            true => self.ended.failed += 1,
            false => self.ended.done += 1,
        }
        self.keep(name, out);
    }

    fn done(
        &mut self,
        name: &Name,
        action: Action,
        mut outcome: Outcome,
        time: &str,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        let progress = &mut job.progress;
        if progress.stage != Stage::Working || progress.action != action || !job.runs {
            return;
        }
        if let Some(notes) = outcome.notes.take() {
            progress.notes = notes;
        }
        let worked = outcome.failure.is_none();
        let goes_on = progress.goes_on;
        let next = action.next(name, worked, goes_on);
        let is_old = name.api == Api::V1alpha1;
        // Of the older API the cloud takes a failure only for one of the step that it has ordered,
        // and knows nothing of those that the node takes by itself.
        let told = match progress.ordered {
            Some(ordered) if is_old && !worked && action != Action::RollBack => ordered,
            Some(_) | None => action,
        };
        if !(is_old && goes_on && next.is_some() && worked) {
            job.report(told, outcome, time);
        }
        match next {
            Some(next) => self.begin(name, next, time, out),
            None => self.end(name, out),
        }
    }

    fn keep(&mut self, name: &Name, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        self.serial += 1;
        (job.serial, job.kept) = (self.serial, false);
        out.push(Effect::Keep(name.clone(), job.serial, Some(job.record(name))));
    }

    fn kept(&mut self, name: &Name, serial: u64, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name).filter(|job| job.serial == serial) else { return };
        job.kept = true;
        self.act(name, out);
    }

    /// Does what may be done now that the store has the job as it is.
    fn act(&mut self, name: &Name, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        for (index, report) in job.progress.reports.iter().enumerate().skip(job.sent) {
            out.push(Effect::Tell(name.clone(), report.clone(), index + 1));
        }
        job.sent = job.progress.reports.len();
        let untold = self.has_untold();
        let Some(job) = self.jobs.get_mut(name) else { return };
        let Progress { action, stage, notes, .. } = &job.progress;
        // What starts edgehub anew would have it tell the cloud again what is on its way.
        let waits = untold && matches!(action, Action::Upgrade | Action::Update);
        if *stage == Stage::Working && !job.runs && !waits {
            job.runs = true;
            let (name, action, notes) = (name.clone(), *action, notes.clone());
            match Spec::read(&name, action, &job.json) {
                Ok(spec) => out.push(Effect::Run { name, action, spec, notes }),
                // It was read when it came, by a version that read it otherwise.
                Err(_) => job.progress.stage = Stage::Over,
            }
        }
        self.forget(name, out);
    }

    fn told(&mut self, name: &Name, count: usize, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        job.progress.told = job.progress.told.max(count);
        self.forget(name, out);
        let ready = |job: &Job| job.kept && !job.runs && job.progress.stage == Stage::Working;
        let waiting = self.jobs.iter().find(|(_, job)| ready(job)).map(|(name, _)| name.clone());
        if let Some(name) = waiting.filter(|_| !self.has_untold()) {
            // So that what this process knows to be told is known to the next one.
            self.keep(&name, out);
        }
    }

    /// Tells whether reports are on their way to the cloud.
    fn has_untold(&self) -> bool {
        self.jobs.values().any(|job| job.progress.told < job.sent)
    }

    /// Forgets a job that is over and of which the cloud has heard everything.
    fn forget(&mut self, name: &Name, out: &mut Vec<Effect>) {
        let is_done = self.jobs.get(name).is_some_and(|job| {
            let Progress { stage, told, reports, .. } = &job.progress;
            job.kept && *stage == Stage::Over && *told >= reports.len()
        });
        if is_done {
            self.jobs.remove(name);
            self.serial += 1;
            out.push(Effect::Keep(name.clone(), self.serial, None));
        }
    }
}

impl Job {
    fn report(&mut self, action: Action, outcome: Outcome, time: &str) {
        let Outcome { failure, extend, notes: _ } = outcome;
        self.progress.reports.push(Report { action, failure, extend, time: time.to_owned() });
    }

    /// Returns what the store keeps: the order, and our own part in it.
    fn record(&self, name: &Name) -> String {
        let mut order: Map<String, Value> = serde_json::from_str(&self.json).unwrap_or_default();
        let own = serde_json::to_value(&self.progress).unwrap_or_default();
        order.insert(OWN_KEY.to_owned(), own);
        order.insert(NAME_KEY.to_owned(), Value::from(&*name.job));
        Value::Object(order).to_string()
    }
}

#[cfg(test)]
mod tests;
