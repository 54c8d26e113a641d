//! Messages on their way while modules die: who sends, who receives, and who keeps the books.
//!
//! ```text
//! sender (product's own Peers) ─► module ─► … ─► module ─► scribe (a receiver written anew)
//!       │ settled                                            │ arrived
//!       └───────────────────► ledger ◄───────────────────────┘
//! ```
//!
//! The sender takes metaserver's place and the scribe eventbus's. Each stream is a path from the
//! one to the other, its messages are numbered echoes; an echo is settled only when it has come to
//! the end of its path and back. The scribe shares no code with the product but the words
//! themselves, so that a fault of the product is not in its own judge.
//!
//! All of it lives in one thread, so the ledger has one owner.

mod ledger;
mod scribe;
mod sender;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ipc_proto::{Instance, Module};
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::rig::hostile::Hostile;
use crate::rig::{Rig, Setup, wait_until};
use ledger::Ledger;

pub use ledger::Tally;

/// The place that messages are sent from.
pub const SENDER: Module = Module::Metaserver;

/// The place that messages end at.
pub const SCRIBE: Module = Module::Eventbus;

/// The ways from [`SENDER`] to [`SCRIBE`], each through other modules; all eight are on one.
pub const PATHS: [&[Module]; 7] = [
    &[Module::Metamanager],
    &[Module::Edgehub],
    &[Module::Metamanager, Module::Devicetwin],
    &[Module::Edged, Module::Metamanager],
    &[Module::Taskmanager, Module::Edgehub, Module::Devicetwin],
    &[Module::Edged, Module::Edgestream, Module::Edgehub],
    &[
        Module::Edgehub,
        Module::Servicebus,
        Module::Metamanager,
        Module::Edgemesh,
        Module::Metamanager,
    ],
];

/// How fast a stream goes.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As fast as there is room.
    Full,
    /// This many messages, then this pause, and again.
    Bursts(u64, Duration),
}

/// How many messages each stream is to send in all.
type Target = u64;

/// Traffic under way; it ends when dropped.
#[derive(Debug)]
pub struct Traffic {
    target: watch::Sender<Target>,
    tally: watch::Receiver<Tally>,
    runtime_dir: PathBuf,
    instances: [(Module, Instance); 2],
}

/// Leaves the places free that traffic takes.
#[must_use]
pub fn with_places(setup: Setup) -> Setup {
    setup.with_seat(SENDER).with_seat(SCRIBE)
}

/// What the thread of the traffic is given.
struct Plan {
    runtime_dir: PathBuf,
    pace: Pace,
    queue: u32,
    instances: [(Module, Instance); 2],
    target: watch::Receiver<Target>,
    tally: watch::Sender<Tally>,
}

impl Traffic {
    /// Takes both places of a rig made by [`with_places`]; nothing is sent yet. The sender holds
    /// at most `queue` messages for one module.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start(rig: &Rig, pace: Pace, queue: u32) -> Result<Self> {
        let runtime_dir = rig.runtime_dir();
        let instances = [SENDER, SCRIBE].map(|module| (module, module_runtime::instance()));
        let (target, targets) = watch::channel(0);
        let (tallies, tally) = watch::channel(Tally::default());
        let plan = Plan {
            runtime_dir: runtime_dir.clone(),
            pace,
            queue,
            instances,
            target: targets,
            tally: tallies,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("traffic".into());
        thread.spawn(move || LocalSet::new().block_on(&runtime, run(plan)))?;
        Ok(Self { target, tally, runtime_dir, instances })
    }

    /// Lets every stream send so many messages more.
    pub fn send(&self, count: u64) {
        self.target.send_modify(|target| *target = target.saturating_add(count));
    }

    /// Lets no stream send any more; what was handed over goes on.
    pub fn stop(&self) {
        self.target.send_replace(0);
    }

    /// Returns the books as they stand.
    #[must_use]
    pub fn tally(&self) -> Tally {
        *self.tally.borrow()
    }

    /// Waits until every stream has sent what it was to send in all, and all was settled.
    ///
    /// # Errors
    /// When that takes longer than `limit`.
    pub fn wait_until_settled(&self, each: u64, limit: Duration) -> Result<Tally> {
        let total = each * PATHS.len() as u64;
        let all = |tally: Tally| tally.sent >= total && tally.settled == tally.sent;
        wait_until("everything sent is settled", limit, || all(self.tally()))
            .with_context(|| format!("{:?}", self.tally()))?;
        Ok(self.tally())
    }

    /// Cuts a connection of the sender or the scribe: who dials in its name takes its place, and
    /// hangs up. To the module it is the same process on another connection.
    ///
    /// # Errors
    /// When the place has no connection to that module.
    pub fn cut(&self, place: Module, to: Module) -> Result<()> {
        let Some((_, instance)) = self.instances.iter().find(|(module, _)| *module == place) else {
            bail!("{place} is no place of the traffic");
        };
        Hostile::dial_in(&self.runtime_dir, to)?.say_hello_as(place, to, *instance)
    }

    /// Returns every connection of the traffic: the place and the module.
    pub fn connections() -> impl Iterator<Item = (Module, Module)> {
        let of = |place: Module| place.dials().iter().map(move |&to| (place, to));
        of(SENDER).chain(of(SCRIBE))
    }
}

/// Checks that nothing was lost, out of order, or took effect twice.
///
/// # Errors
/// With the books, when something was.
pub fn check(tally: &Tally) -> Result<()> {
    let Tally { lost, out_of_order, double, refused, .. } = tally;
    ensure!([lost, out_of_order, double, refused].iter().all(|count| **count == 0), "{tally:?}");
    Ok(())
}

/// Starts everything inside the thread, and goes on until the [`Traffic`] is dropped.
async fn run(plan: Plan) {
    let Plan { runtime_dir, pace, queue, instances: [sender, scribe], mut target, tally } = plan;
    let ledger = Rc::new(RefCell::new(Ledger::new(PATHS.len(), queue, tally)));
    for &module in SCRIBE.dials() {
        let (dir, ledger) = (runtime_dir.clone(), Rc::clone(&ledger));
        tokio::task::spawn_local(scribe::run(dir, module, scribe.1, ledger));
    }
    let sender = sender::run(runtime_dir, sender.1, queue, pace, target.clone(), ledger);
    tokio::task::spawn_local(sender);
    while target.changed().await.is_ok() {}
}
