//! Logs: to the journal where there is one, else to standard error, which the supervisor keeps.
//!
//! Each place in the code may write ten lines in a row and one a second after that: whoever can
//! trigger a line can not fill the disk. The next line from that place says how many were left
//! out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ipc_proto::Module;
use ipc_proto::lifeline::LogLevel;
use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as Values};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{self, LookupSpan};

use crate::clock;

const JOURNAL: &str = "/run/systemd/journal/socket";

/// Lines that one place may write in a row.
const BURST: u32 = 10;

/// How long it takes until one more line may be written.
const REFILL: Duration = Duration::from_secs(1);

/// Begins to write log lines of this process.
pub(crate) fn start(module: Module, level: LogLevel) -> anyhow::Result<()> {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let lines = Lines(level);
    let journal = match Path::new(JOURNAL).exists() {
        true => tracing_journald::layer().ok(),
        false => None,
    };
    match journal {
        Some(journal) => {
            // The name that `edgectl logs` asks the journal for.
            let journal = journal.with_syslog_identifier(module.name().to_owned());
            tracing::subscriber::set_global_default(lines.with(Limited(journal)))
        }
        None => {
            let stderr = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(io::stderr)
                .log_internal_errors(false);
            tracing::subscriber::set_global_default(lines.with(Limited(stderr)))
        }
    }
    .context("logs were started twice")
}

/// What the layer lies on: the events up to a level. Spans are not kept, since no line shows them;
/// the library's own subscriber touches 32 KiB of each process for them.
struct Lines(LevelFilter);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Values<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl<'a> LookupSpan<'a> for Lines {
    type Data = registry::Data<'a>;

    fn span_data(&'a self, _: &Id) -> Option<Self::Data> {
        None
    }
}

/// A layer that writes what [`Bucket`] lets through.
struct Limited<L>(L);

thread_local! {
    static BUCKETS: RefCell<HashMap<Identifier, Bucket>> = RefCell::new(HashMap::new());
}

impl<S, L> Layer<S> for Limited<L>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    L: Layer<S>,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let now = clock::now();
        let left_out = BUCKETS.with_borrow_mut(|buckets| {
            let bucket = buckets.entry(event.metadata().callsite());
            bucket.or_insert_with(|| Bucket::full(now)).take(now)
        });
        let Some(left_out) = left_out else { return };
        if left_out > 0 {
            let place = event.metadata();
            let (file, line) = (place.file().unwrap_or("?"), place.line().unwrap_or(0));
            tracing::warn!(left_out, "lines like the next were left out ({file}:{line})");
        }
        self.0.on_event(event, context);
    }
}

/// How many lines one place may still write.
#[derive(Debug)]
struct Bucket {
    lines: u32,
    filled: Instant,
    left_out: u64,
}

impl Bucket {
    const fn full(now: Instant) -> Self {
        Self { lines: BURST, filled: now, left_out: 0 }
    }

    /// Takes a line: nothing when there is none, else how many were left out before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.filled).as_secs() / REFILL.as_secs();
        if passed > 0 {
            let refill = u32::try_from(passed).unwrap_or(BURST);
            self.lines = self.lines.saturating_add(refill).min(BURST);
            self.filled = now;
        }
        if self.lines == 0 {
            self.left_out += 1;
            return None;
        }
        self.lines -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_writes_ten_lines_then_one_a_second_and_counts_the_rest() {
        let start = clock::now();
        let mut bucket = Bucket::full(start);
        for _ in 0..BURST {
            assert_eq!(bucket.take(start), Some(0));
        }
        assert_eq!(bucket.take(start), None);
        assert_eq!(bucket.take(start), None);
        assert_eq!(bucket.take(start + REFILL), Some(2));
        assert_eq!(bucket.take(start + REFILL), None);
        let later = start + 100 * REFILL;
        assert_eq!(bucket.take(later), Some(1));
        assert_eq!(bucket.lines, BURST - 1);
    }
}
