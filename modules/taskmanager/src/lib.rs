//! Node jobs: upgrades this node, changes its configuration and pulls images beforehand.
//!
//! What is to be done when is decided by [`core`]; this file brings it orders and outcomes, and has
//! its effects carried out: records kept in the store, reports told to the cloud, steps done.

mod act;
mod ask;
mod config;
mod core;
mod files;
mod health;
mod host;
mod job;
mod record;
mod spec;
mod tell;
pub mod trial;

use std::collections::VecDeque;
use std::path::Path;

use ipc_proto::{Group, Message, Module, Operation, Resource};
use module_runtime::{Context, Delivery, Event as Arrival, Halts, Peers, unix_millis};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;
use tracing::{info, warn};

use act::Hands;
use ask::Supervisor;
use config::Sections;
use core::{Core, Effect, Event};
use job::{Action, Api, Name};

/// Records and reports that may be on their way: more than all jobs together have.
const WAITING: usize = 1024;

/// Runs the module until it is asked to drain.
///
/// # Errors
/// When the configuration is wrong.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let sections: Sections = context.config()?;
    let (events, mut happened) = mpsc::channel(WAITING);
    let (records, to_keep) = mpsc::channel(WAITING);
    let (reports, to_tell) = mpsc::channel(WAITING);
    let (peers, node) = (context.peers(), context.node().to_owned());
    tokio::spawn(record::keep(peers.clone(), node.clone(), to_keep, events.clone()));
    tokio::spawn(tell::tell(peers.clone(), to_tell, events.clone()));
    let (runtime_dir, halts) = (context.runtime_dir().into(), context.halts());
    let core = Core::default();
    let mut desk =
        Desk { core, node, peers, sections, runtime_dir, halts, events, records, reports };
    // Orders wait until it is known which jobs there are.
    let (mut early, mut unsettled, mut known) = (Vec::new(), VecDeque::new(), false);
    let mut said = Report::default();
    context.report(&said)?;
    loop {
        tokio::select! {
            arrival = context.next() => match arrival {
                Arrival::Message(delivery) if known => unsettled.extend(desk.take(delivery)),
                Arrival::Message(delivery) => early.push(delivery),
                Arrival::PeerUp(_) | Arrival::PeerDown(_) => {}
                Arrival::Drain => return Ok(()),
            },
            Some(news) = happened.recv() => match news {
                News::Event(event) => desk.on(event),
                News::AllFound => {
                    known = true;
                    unsettled.extend(early.drain(..).filter_map(|delivery| desk.take(delivery)));
                }
            },
        }
        // An order counts as taken when the store has it.
        let (kept, rest) =
            unsettled.drain(..).partition::<VecDeque<_>, _>(|(name, _)| desk.core.is_kept(name));
        unsettled = rest;
        kept.into_iter().for_each(|(_, delivery): (Name, Delivery)| delivery.settle());
        let report = Report::of(&desk.core);
        if report != said {
            context.report(&report)?;
            said = report;
        }
    }
}

/// What the tasks tell the main loop.
#[derive(Debug)]
pub(crate) enum News {
    /// Something for the core.
    Event(Event),
    /// All records of earlier lives were told.
    AllFound,
}

/// Where orders come in and effects go out.
struct Desk {
    core: Core,
    node: String,
    peers: Peers,
    sections: Sections,
    runtime_dir: Box<Path>,
    halts: Halts,
    events: mpsc::Sender<News>,
    records: mpsc::Sender<record::Record>,
    reports: mpsc::Sender<tell::Said>,
}

/// The part of an older order that says which step it asks for.
#[derive(Deserialize)]
struct Step<'a> {
    #[serde(rename = "State", default)]
    state: &'a str,
}

impl Desk {
    /// Takes a message. What is an order comes back, to be settled when it is kept.
    fn take(&mut self, delivery: Delivery) -> Option<(Name, Delivery)> {
        let route = &delivery.message.route;
        match (&route.operation, &route.resource) {
            (Operation::Connect, Resource::Connection) => delivery.settle(),
            (Operation::WaitingConfirmation, Resource::Task(_))
                if delivery.from == Module::Metaserver =>
            {
                self.confirm(delivery);
            }
            (_, Resource::Task(task)) if route.group == Group::Taskmanager => {
                match self.order(task, &delivery.message) {
                    Ok(name) => return Some((name, delivery)),
                    Err(why) => {
                        // There is nobody whom it could be told: reports are about jobs.
                        warn!("passed over {why}");
                        delivery.settle();
                    }
                }
            }
            _ => delivery.unsupported(),
        }
        None
    }

    fn order(&mut self, task: &str, message: &Message) -> Result<Name, String> {
        let name = Name::parse(task, &self.node)?;
        let json: &RawValue = message.content.decode().map_err(|error| error.to_string())?;
        let word = match name.api {
            Api::V1alpha2 => message.route.operation.as_str(),
            Api::V1alpha1 => {
                let step: Step<'_> = message.content.decode().map_err(|error| error.to_string())?;
                step.state
            }
        };
        let action = Action::parse(name.api, word)
            .ok_or_else(|| format!("an unknown step {} of {name}", job::shown(word)))?;
        info!("{name} is ordered: {action:?}");
        self.on(Event::Ordered { name: name.clone(), action, json: json.get().to_owned() });
        Ok(name)
    }

    /// Answers who agrees to an upgrade.
    fn confirm(&mut self, delivery: Delivery) {
        let mut asker = Some(delivery);
        for effect in self.core.on(Event::Confirmed, &now()) {
            let Effect::Answer(answer) = effect else {
                self.carry_out(effect);
                continue;
            };
            let Some(delivery) = asker.take() else { continue };
            let answered = match answer {
                Ok(()) => delivery.respond(ipc_proto::Content::text("OK")),
                Err(why) => delivery.respond_error(&why),
            };
            if let Err(error) = answered {
                warn!("who agreed to an upgrade is not answered: {error}");
            }
        }
    }

    fn on(&mut self, event: Event) {
        for effect in self.core.on(event, &now()) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&self, effect: Effect) {
        let handed = match effect {
            Effect::Keep(name, serial, json) => {
                self.records.try_send(record::Record { name, serial, json }).is_ok()
            }
            Effect::Tell(name, report, number) => {
                self.reports.try_send(tell::Said { name, report, number }).is_ok()
            }
            Effect::Run { name, action, spec, notes } => {
                self.run(name, action, spec, notes);
                true
            }
            Effect::Answer(_) => true,
        };
        assert!(handed, "jobs are bounded, and so is what they have to say");
    }

    /// Has a step done in a task of its own.
    fn run(&self, name: Name, action: Action, spec: spec::Spec, notes: serde_json::Value) {
        let hands = self.sections.places(&self.runtime_dir).map(|places| Hands {
            peers: self.peers.clone(),
            supervisor: Supervisor::new(&places.runtime_dir),
            places,
            halts: self.halts.clone(),
        });
        let (events, halts) = (self.events.clone(), self.halts.clone());
        tokio::spawn(async move {
            info!("{name}: {action:?} begins");
            halts.at(&format!("{action:?} begins"));
            let outcome = match hands {
                Ok(hands) => hands.run(action, &spec, &notes).await,
                Err(error) => {
                    core::Outcome { failure: Some(format!("{error:#}")), ..Default::default() }
                }
            };
            match &outcome.failure {
                None => info!("{name}: {action:?} is done"),
                Some(why) => warn!("{name}: {action:?} failed: {why}"),
            }
            halts.at(&format!("{action:?} ends"));
            let done = News::Event(Event::Done(name, action, outcome));
            // The main loop ends with the process only.
            let _ending = events.send(done).await;
        });
    }
}

/// Returns the time as the API writes it, in whole seconds.
fn now() -> String {
    OffsetDateTime::from_unix_timestamp(unix_millis().div_euclid(1000))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

/// What `edgectl status` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Report {
    jobs: Vec<Standing>,
    ended: core::Ended,
    /// Reports that the cloud has not heard yet.
    unheard: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Standing {
    job: String,
    step: Action,
    waits_for_confirmation: bool,
}

impl Report {
    fn of(core: &Core) -> Self {
        let jobs = core.standing().map(|(name, step, waits_for_confirmation)| Standing {
            job: name.to_string(),
            step,
            waits_for_confirmation,
        });
        Self { jobs: jobs.collect(), ended: core.ended(), unheard: core.unheard() }
    }
}
