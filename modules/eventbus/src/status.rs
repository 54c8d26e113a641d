//! What the operator sees of this module.

use serde::Serialize;
use tracing::{info, warn};

use crate::config::Config;
use crate::core::{BROKER, CLOUD, Core, Counts, QueueId, TWIN};
use crate::journal::Journal;
use crate::mqtt::Reason;

/// The module's part of the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<ExternalReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    internal: Option<InternalReport>,
    waiting: Waiting,
    counts: CountsReport,
    journal_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalReport {
    state: &'static str,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    connects: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct InternalReport {
    state: &'static str,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    clients: usize,
    sessions: usize,
    retained: usize,
}

/// Messages that wait on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    cloud: Load,
    twin: Load,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<Load>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Load {
    messages: usize,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct CountsReport {
    received: u64,
    dropped: u64,
    overflowed: u64,
    expired: u64,
    refused: u64,
    violations: u64,
}

impl From<Counts> for CountsReport {
    fn from(counts: Counts) -> Self {
        let Counts { received, dropped, overflowed, expired, refused, violations } = counts;
        Self { received, dropped, overflowed, expired, refused, violations }
    }
}

/// The state of the internal broker's door.
#[derive(Clone, Debug)]
pub(crate) struct Internal(Option<(String, Result<(), String>)>);

impl Internal {
    pub(crate) fn of(config: &Config) -> Self {
        let address = config.internal.as_ref().map(|(host, port)| format!("{host}:{port}"));
        Self(address.map(|address| (address, Err("it starts".to_owned()))))
    }

    pub(crate) fn listens(&mut self, now: Result<(), String>) {
        let Some((address, before)) = &mut self.0 else { return };
        match &now {
            Ok(()) => info!("the MQTT broker listens on {address}"),
            Err(why) if before.as_ref() != Err(why) => warn!("{why}"),
            Err(_) => {}
        }
        *before = now;
    }
}

/// The state of the way to the external broker.
#[derive(Clone, Debug)]
pub(crate) struct External(Option<ExternalReport>);

impl External {
    pub(crate) fn of(config: &Config) -> Self {
        Self(config.external.as_ref().map(|external| ExternalReport {
            state: "connecting",
            address: format!("{}:{}", external.host, external.port),
            reason: None,
            connects: 0,
        }))
    }

    /// Notes that the broker took the node's subscriptions.
    fn subscribed(&mut self) {
        let Some(report) = self.0.as_mut().filter(|report| report.state != "connected") else {
            return;
        };
        info!("connected with the MQTT broker {}", report.address);
        report.state = "connected";
        report.reason = None;
        report.connects += 1;
    }

    pub(crate) fn down(&mut self, why: String) {
        let Some(report) = &mut self.0 else { return };
        if report.reason.as_ref() != Some(&why) {
            warn!("{why}");
        }
        report.state = "connecting";
        report.reason = Some(why);
    }

    /// Notes that the connection ended, and why, where that is known.
    pub(crate) fn lost(&mut self, reason: Option<Reason>) {
        let why = match reason {
            Some(Reason::BUSY) => "the broker took nothing for 10 s",
            Some(Reason::KEEP_ALIVE) => "the broker was silent for 30 s",
            Some(Reason::MALFORMED) => "the broker sent what is not an MQTT packet",
            Some(_) | None => "the connection was lost",
        };
        self.down(why.to_owned());
    }

    /// Takes the broker's answer to subscriptions.
    pub(crate) fn answered(&mut self, reasons: &[Reason]) {
        let count = reasons.iter().filter(|reason| reason.is_failure()).count();
        let Some(report) = self.0.as_mut().filter(|_| count > 0) else {
            return self.subscribed();
        };
        let why = format!("the broker refuses {count} of this node's subscriptions");
        warn!("{why}");
        report.reason = Some(why);
    }
}

impl Report {
    pub(crate) fn of(
        core: &Core,
        journal: &Journal,
        external: &External,
        internal: &Internal,
    ) -> Self {
        let load = |queue: QueueId| {
            let (messages, bytes) = core.load(queue);
            Load { messages, bytes }
        };
        let (clients, sessions, retained) = core.census();
        Self {
            external: external.0.clone(),
            internal: internal.0.as_ref().map(|(address, state)| InternalReport {
                state: if state.is_ok() { "listening" } else { "starting" },
                address: address.clone(),
                reason: state.clone().err(),
                clients,
                sessions,
                retained,
            }),
            waiting: Waiting {
                cloud: load(CLOUD),
                twin: load(TWIN),
                broker: external.0.as_ref().map(|_| load(BROKER)),
            },
            counts: core.counts().into(),
            journal_bytes: journal.size(),
            trouble: journal.trouble().map(str::to_owned),
        }
    }
}
