//! What `edgectl status` shows of the link.

use std::time::{Duration, Instant};

use module_runtime::Context;
use serde::Serialize;

use crate::dialler::{Phase, Standing};

/// The state of the link in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// The cloud serves this node.
    Connected,
    /// A link is being made, or stands and is not served yet.
    Connecting,
    /// There is none.
    Disconnected,
}

/// The report, in the words that scripts rely on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) state: State,
    pub(crate) endpoint: String,
    /// Since when the cloud serves this node, or does not; RFC 3339.
    pub(crate) since: String,
    pub(crate) connects: u64,
    pub(crate) last_heartbeat: Option<String>,
    pub(crate) certificate_expires: Option<String>,
    /// Why there is no link, in one sentence with the way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Messages that wait to go up.
    pub(crate) waiting: usize,
    /// Messages that went up and are not confirmed.
    pub(crate) unconfirmed: usize,
    /// Messages of the cloud that modules have in work.
    pub(crate) in_work: usize,
    /// Messages of the cloud that no module takes, since the process started.
    pub(crate) unsupported: u64,
    /// Messages of the cloud that their modules refused, since the process started.
    pub(crate) refused: u64,
}

impl State {
    /// Puts what the dialler and the core know together.
    pub(crate) fn of(standing: &Standing, served: bool) -> Self {
        match standing.phase {
            Phase::Linked if served => Self::Connected,
            Phase::Linked | Phase::Dialling => Self::Connecting,
            Phase::Waiting => Self::Disconnected,
        }
    }
}

/// Counts change with every message; the operator is shown them no more often than this.
const COUNTS: Duration = Duration::from_secs(1);

/// What the operator was shown last.
#[derive(Debug, Default)]
pub(crate) struct Display {
    shown: Option<(Report, Instant)>,
    /// Whether it was shown that the cloud serves this node.
    pub(crate) served: bool,
}

impl Display {
    /// Tells whether it may be looked again what has changed.
    pub(crate) fn is_old(&self) -> bool {
        self.shown.as_ref().is_none_or(|(_, at)| at.elapsed() >= COUNTS)
    }

    /// Shows a report, unless it is as the one before.
    ///
    /// # Errors
    /// When it does not fit into a record of the lifeline.
    pub(crate) fn show(&mut self, context: &mut Context, report: Report) -> anyhow::Result<()> {
        self.served = report.state == State::Connected;
        if self.shown.as_ref().is_none_or(|(shown, _)| *shown != report) {
            context.report(&report)?;
        }
        self.shown = Some((report, Instant::now()));
        Ok(())
    }
}
