//! What a module is given: its configuration, its peers, and one stream of events.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ipc_proto::lifeline::{MAX_REPORT, Standing, Start, ToModule, ToSupervisor, Traffic};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::clock::{self, Bell};
use crate::fault::{self, Halts, Lasting};
use crate::inbox::{Event, Inbox};
use crate::lifeline::{Lifeline, Received};
use crate::peers::Peers;
use crate::tap::Tap;

/// How long a message takes while the fault `slow-ipc` lasts.
const SLOWNESS: Duration = Duration::from_millis(100);

/// How long the fault `slow-ipc` lasts.
const SLOW_FOR: Duration = Duration::from_secs(10);

/// Why a module ends; told to `main`, which outlives the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is not to end.
    #[default]
    Running,
    /// It was asked to.
    Drained,
    /// The supervisor is gone.
    Orphaned,
}

/// What a module is given to do its work with.
#[derive(Debug)]
pub struct Context {
    start: Start,
    peers: Peers,
    inbox: Inbox,
    lifeline: Option<Lifeline>,
    terminate: Signal,
    beat: Bell,
    /// The report that the supervisor has not taken yet.
    report: Option<Box<[u8]>>,
    /// What the supervisor was told last of what has passed.
    traffic: Traffic,
    slow_until: Option<Instant>,
    /// How all modules are, in edged.
    fleet: watch::Sender<Vec<Standing>>,
    fate: Rc<Cell<Fate>>,
}

/// What woke the main loop, beside its peers.
enum Turn {
    Beat,
    Record(anyhow::Result<Option<Received>>),
    Terminate,
}

impl Context {
    pub(crate) fn new(
        start: Start,
        peers: Peers,
        inbox: Inbox,
        lifeline: Lifeline,
        terminate: Signal,
        fate: Rc<Cell<Fate>>,
    ) -> anyhow::Result<Self> {
        let interval = Duration::from_millis(u64::from(start.beat_interval_ms.max(1)));
        let beat = Bell::every(interval).context("cannot set the timer of the beat")?;
        let lifeline = Some(lifeline);
        Ok(Self {
            start,
            peers,
            inbox,
            lifeline,
            terminate,
            beat,
            report: None,
            traffic: Traffic::default(),
            slow_until: None,
            fleet: watch::Sender::default(),
            fate,
        })
    }

    /// Parses the module's configuration.
    ///
    /// # Errors
    /// When it does not have the wanted shape; the text names the key.
    pub fn config<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_str(&self.start.config)
            .with_context(|| format!("cannot read the configuration of {}", self.start.module))
    }

    /// Returns the node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.start.node
    }

    /// Returns the folder of the sockets, the supervisor's among them.
    #[must_use]
    pub fn runtime_dir(&self) -> &std::path::Path {
        std::path::Path::new(&*self.start.runtime_dir)
    }

    /// Returns what freezes this module at points of its work, where faults are enabled.
    #[must_use]
    pub fn halts(&self) -> Halts {
        Halts::of(&self.start)
    }

    /// Returns the handle on the peers, for tasks of the module's own.
    #[must_use]
    pub fn peers(&self) -> Peers {
        self.peers.clone()
    }

    /// Returns how all modules are, as the supervisor tells edged whenever that changes; empty
    /// before the first word, and in other modules.
    #[must_use]
    pub fn fleet(&self) -> watch::Receiver<Vec<Standing>> {
        self.fleet.subscribe()
    }

    /// Shows the operator what the module says of itself, in place of what it said before. The
    /// value has to be a JSON object.
    ///
    /// # Errors
    /// When it cannot be written as JSON or takes more than [`MAX_REPORT`] bytes.
    pub fn report(&mut self, report: &impl Serialize) -> anyhow::Result<()> {
        let json = serde_json::to_vec(report).context("cannot write the report as JSON")?;
        let length = json.len();
        anyhow::ensure!(
            length <= MAX_REPORT,
            "report of {length} bytes, expected at most {MAX_REPORT}"
        );
        self.report = Some(json.into());
        self.send_report();
        Ok(())
    }

    /// Waits for the next event. Here the module beats: one that does not come back here for as
    /// long as the supervisor's patience is killed as hanging. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Event {
        loop {
            self.be_slow().await;
            if let Some(event) = self.inbox.next_ready() {
                return event;
            }
            let turn = tokio::select! {
                biased;
                () = self.beat.ring() => Turn::Beat,
                record = receive(self.lifeline.as_ref()) => Turn::Record(record),
                Some(()) = self.terminate.recv() => Turn::Terminate,
                event = self.inbox.next() => return event,
            };
            let drain = match turn {
                Turn::Beat => self.send_beat(),
                Turn::Record(Ok(Some(record))) => self.on_record(record),
                Turn::Record(Ok(None)) => self.end(Fate::Orphaned),
                Turn::Record(Err(error)) => {
                    warn!("{error:#}");
                    self.end(Fate::Orphaned)
                }
                Turn::Terminate => self.end(Fate::Drained),
            };
            if drain {
                return Event::Drain;
            }
        }
    }

    /// Ends the module; tells whether it has to be told.
    fn end(&mut self, fate: Fate) -> bool {
        if fate == Fate::Orphaned {
            self.lifeline = None;
        }
        self.fate.replace(fate) == Fate::Running
    }

    fn send_beat(&mut self) -> bool {
        self.send_report();
        self.send_traffic();
        let beat = ToSupervisor::Beat(self.peers.load());
        match self.lifeline.as_ref().map(|lifeline| lifeline.send(&beat)) {
            Some(Err(error)) => {
                warn!("{error:#}");
                self.end(Fate::Orphaned)
            }
            // A supervisor too busy to take this beat gets the next.
            Some(Ok(_)) | None => false,
        }
    }

    /// Hands the report over. What does not get through is tried again with the next beat.
    fn send_report(&mut self) {
        let (Some(lifeline), Some(report)) = (&self.lifeline, self.report.take()) else { return };
        let record = ToSupervisor::Report(report);
        if !lifeline.send(&record).unwrap_or(false)
            && let ToSupervisor::Report(report) = record
        {
            self.report = Some(report);
        }
    }

    /// Tells what has passed, if that is news. A lifeline that has ended is noticed by the beat.
    fn send_traffic(&mut self) {
        let traffic = self.peers.traffic();
        let Some(lifeline) = self.lifeline.as_ref().filter(|_| traffic != self.traffic) else {
            return;
        };
        if lifeline.send(&ToSupervisor::Traffic(traffic)).unwrap_or(false) {
            self.traffic = traffic;
        }
    }

    fn on_record(&mut self, (record, descriptor): Received) -> bool {
        match (record, descriptor) {
            (ToModule::Drain, _) => return self.end(Fate::Drained),
            (ToModule::Fault(fault), _) if self.start.faults => self.suffer(fault),
            (ToModule::Fault(fault), _) => {
                warn!(fault = fault.name(), "a fault was sent, but faults are not enabled");
            }
            (ToModule::Tap(filter), Some(socket)) => {
                self.peers.tap(Some(&Arc::new(Tap::new(socket, filter))));
            }
            (ToModule::Tap(_), None) => warn!("a tap came without its socket"),
            (ToModule::TapEnd, _) => self.peers.tap(None),
            (ToModule::Fleet(standings), _) => drop(self.fleet.send_replace(standings)),
            (ToModule::Start(_), _) => warn!("the supervisor said start twice"),
        }
        false
    }

    fn suffer(&mut self, fault: ipc_proto::lifeline::Fault) {
        info!(fault = fault.name(), "putting a fault into this process, as asked");
        match fault::inject(fault, std::path::Path::new(&*self.start.runtime_dir)) {
            None => {}
            Some(Lasting::SlowIpc) => self.slow_until = Some(clock::now() + SLOW_FOR),
            Some(Lasting::NoLifeline) => self.lifeline = None,
        }
    }

    /// Takes its time over each message while that fault lasts.
    async fn be_slow(&mut self) {
        let Some(until) = self.slow_until else { return };
        if clock::now() < until {
            tokio::time::sleep(SLOWNESS).await;
        } else {
            self.slow_until = None;
        }
    }
}

/// Waits for the supervisor; for ever when the lifeline is closed.
async fn receive(lifeline: Option<&Lifeline>) -> anyhow::Result<Option<Received>> {
    match lifeline {
        Some(lifeline) => lifeline.receive().await,
        None => std::future::pending().await,
    }
}

/// Serves as a module that has no use for any message yet: requests are answered with an error
/// that says so, notices are settled, until the supervisor asks to drain.
///
/// # Errors
/// None so far; the type is that of every module's main function.
pub async fn serve_unsupported(mut context: Context) -> anyhow::Result<()> {
    loop {
        match context.next().await {
            Event::Message(delivery) => delivery.unsupported(),
            Event::PeerUp(peer) => tracing::debug!(%peer, "peer is up"),
            Event::PeerDown(peer) => tracing::debug!(%peer, "peer is down"),
            Event::Drain => return Ok(()),
        }
    }
}
