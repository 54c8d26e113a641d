//! `edgectl status`: asks the supervisor and the machine, and shows it once or again and again.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use ipc_proto::ModuleSet;
use serde::Serialize;

use crate::cli::{self, Format, StatusArguments};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::failure::Failure;
use crate::live::{self, History, Letters};
use crate::logs;
use crate::overview;
use crate::proc;
use crate::report::{self, Report};
use crate::screen::{self, Screen, Style, View, Wake};

/// How long the reading of `/proc` may take, so that the whole answers within 100 ms.
const MEASURING: Duration = Duration::from_millis(60);

/// How many lines of a module's log are part of its details, as in `systemctl status`.
const LOG_LINES: usize = 10;

/// The pause between two pictures of a live view.
const REFRESH: Duration = Duration::from_secs(1);

/// Shows the state once, or until nobody looks any more.
pub(crate) fn run(
    arguments: &StatusArguments,
    runtime_dir: &Path,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let wanted = cli::modules(&arguments.modules)?;
    let format = arguments.output.format;
    let text = |report: &Report, style| text(report, wanted, runtime_dir, style);
    let first = report(client, wanted)?;
    if arguments.watch {
        let next = || report(client, wanted);
        if !screen.is_terminal() || !wanted.is_empty() {
            return watch(first, next, text, format, screen);
        }
        let mut history = History::new(Letters::of(|name| std::env::var(name).ok()));
        let graphs = |report: &Report, style| {
            history.push(report, Instant::now());
            live::screen(report, &history, screen::columns(), Timestamp::now(), style)
        };
        return watch(first, next, graphs, format, screen);
    }
    match format {
        Format::Json => screen.json(&first),
        Format::Text => Ok(screen.write_all(text(&first, screen.style()).as_bytes())?),
    }
}

/// Once it has begun, a live view outlasts the supervisor: that is when it is looked at most.
pub(crate) fn watch<T: Serialize>(
    first: T,
    next: impl Fn() -> Result<T, Failure>,
    mut text: impl FnMut(&T, Style) -> String,
    format: Format,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let view = View::begin()?;
    if screen.is_terminal() && format == Format::Text {
        screen.take_over()?;
    }
    let mut answer: Result<T, Failure> = Ok(first);
    loop {
        match (&answer, format) {
            (Ok(report), Format::Json) => screen.json_line(report)?,
            (Err(failure), Format::Json) => {
                screen.json_line(&serde_json::json!({ "error": failure.to_string() }))?;
            }
            (Ok(report), Format::Text) => draw(screen, &text(report, screen.style()))?,
            (Err(failure), Format::Text) => draw(screen, &format!("{failure}\n"))?,
        }
        if view.wait(&[], Some(REFRESH))? == Wake::Ended {
            return Ok(());
        }
        answer = next();
    }
}

fn draw(screen: &mut Screen, text: &str) -> Result<(), Failure> {
    if screen.is_terminal() { screen.redraw(text) } else { Ok(writeln!(screen, "{text}")?) }
}

/// Asks for the state of the agent; where modules are named only those are in it.
pub(crate) fn report(client: &Client, wanted: ModuleSet) -> Result<Report, Failure> {
    let status = client.status()?;
    let usage = proc::usage(Path::new("/proc"), report::pids(&status), MEASURING);
    let mut report = Report::new(status, &usage);
    if !wanted.is_empty() {
        report.modules.retain(|module| wanted.contains(module.name));
    }
    Ok(report)
}

fn text(report: &Report, wanted: ModuleSet, runtime_dir: &Path, style: Style) -> String {
    let now = Timestamp::now();
    if wanted.is_empty() {
        return overview::overview(report, now, style);
    }
    let details = report.modules.iter().map(|module| {
        // A log that cannot be read leaves the rest worth showing.
        let log = logs::tail(runtime_dir, module.name, LOG_LINES).unwrap_or_default();
        overview::details(module, &log, now, style)
    });
    details.collect::<Vec<_>>().join("\n")
}
