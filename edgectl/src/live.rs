//! The live screen of `edgectl status -w`: what the overview says, with little graphs of the last
//! minutes, one letter a second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ipc_proto::Module;

use crate::clock::Timestamp;
use crate::overview::{heading, memory, notes, paint, unknown, word};
use crate::report::{LinkState, ModuleReport, Report};
use crate::screen::{Paint, Style};
use crate::table::{self, Cell};

const HEADINGS: [&str; 6] = ["NAME", "STATE", "RESTARTS", "MEMORY", "CPU", "QUEUE"];

/// Looks that are remembered: as many as the widest graph shows.
const LOOKS: usize = WIDEST + 1;

/// The bounds of a graph's width in letters.
const NARROWEST: usize = 5;
const WIDEST: usize = 40;

/// What stands in a row beside its four graphs, in letters.
const BESIDE: usize = 51;

/// Looks that follow each other faster than this count as one: a terminal that is resized is drawn
/// anew many times a second.
const APART: Duration = Duration::from_millis(500);

/// The letters of a graph, from nothing to the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letters(&'static [char]);

impl Letters {
    const BLOCKS: Self = Self(&['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']);
    const PLAIN: Self = Self(&['_', '.', ':', '-', '=', '+', '*', '#']);

    /// Chooses what the terminal can show, by the variables that say so.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let names = ["LC_ALL", "LC_CTYPE", "LANG"];
        let value = names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
        let value = value.unwrap_or_default().to_lowercase();
        let unicode = value.ends_with("utf-8") || value.ends_with("utf8");
        if unicode { Self::BLOCKS } else { Self::PLAIN }
    }

    /// Draws values, the latest at the right end; one that is not known is a gap. The graph begins
    /// at nothing and its top is the greatest value, `least` at least.
    fn graph(self, values: &[Option<f64>], width: usize, least: f64) -> String {
        let shown = &values[values.len().saturating_sub(width)..];
        let top = shown.iter().flatten().copied().fold(least, f64::max);
        let letter = |value: &Option<f64>| match value {
            Some(value) if top > 0.0 => self.letter(value / top),
            Some(_) => self.0[0],
            None => ' ',
        };
        let gap = std::iter::repeat_n(' ', width - shown.len());
        gap.chain(shown.iter().map(letter)).collect()
    }

    /// Returns the letter for a share from 0 to 1.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 0 to 7")]
    fn letter(self, share: f64) -> char {
        let last = self.0.len() - 1;
        let place = (share.clamp(0.0, 1.0) * 7.0).ceil() as usize;
        self.0[place.min(last)]
    }
}

/// What was seen so far.
#[derive(Debug)]
pub(crate) struct History {
    letters: Letters,
    looks: VecDeque<Look>,
}

/// One look.
#[derive(Debug)]
struct Look {
    at: Instant,
    link: LinkState,
    /// By [`Module::index`].
    modules: [Option<Point>; Module::COUNT],
}

#[derive(Clone, Copy, Debug)]
struct Point {
    restarts: u32,
    memory: Option<u64>,
    cpu: Option<f64>,
    queue: u32,
}

impl History {
    pub(crate) const fn new(letters: Letters) -> Self {
        Self { letters, looks: VecDeque::new() }
    }

    /// Takes note of what was seen.
    pub(crate) fn push(&mut self, report: &Report, at: Instant) {
        let mut modules = [None; Module::COUNT];
        for module in &report.modules {
            modules[module.name.index()] = Some(Point {
                restarts: module.restarts,
                memory: module.pss_bytes,
                cpu: module.cpu_seconds,
                queue: module.queue.waiting.saturating_add(module.queue.unsettled),
            });
        }
        // The one before is kept, so that a graph has something to tell differences from.
        if self.looks.len() > 1 && self.looks.back().is_some_and(|last| at < last.at + APART) {
            self.looks.pop_back();
        }
        self.looks.push_back(Look { at, link: report.cloud.state, modules });
        if self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
    }

    /// Returns a value of a module for each look.
    fn values(&self, module: Module, read: impl Fn(&Point) -> Option<f64>) -> Vec<Option<f64>> {
        let value = |look: &Look| look.modules[module.index()].as_ref().and_then(&read);
        self.looks.iter().map(value).collect()
    }

    /// Returns what a module's value grew by between looks, in a second.
    fn growth(&self, module: Module, read: impl Fn(&Point) -> Option<f64>) -> Vec<Option<f64>> {
        let values = self.values(module, read);
        let times = self.looks.iter().map(|look| look.at);
        let pairs = values.windows(2).zip(times.clone().zip(times.skip(1)));
        let grown = |(pair, (before, after)): (&[Option<f64>], (Instant, Instant))| {
            let seconds = after.saturating_duration_since(before).as_secs_f64().max(0.001);
            // A new process begins at nothing.
            Some(((pair[1]? - pair[0]?) / seconds).max(0.0))
        };
        pairs.map(grown).collect()
    }
}

/// Returns the screen for a terminal of so many columns.
pub(crate) fn screen(
    report: &Report,
    history: &History,
    columns: usize,
    now: Timestamp,
    style: Style,
) -> String {
    let width = (columns.saturating_sub(BESIDE) / 4).clamp(NARROWEST, WIDEST);
    let mut text = heading(report, now, style);
    let links: Vec<_> = history.looks.iter().map(|look| Some(height(look.link))).collect();
    let links = history.letters.graph(&links, (4 * width).min(WIDEST), 1.0);
    let meaning = style.paint(Paint::Faint, "the link: full when connected, half on the way");
    text.push_str(&format!("       {links}  {meaning}\n\n"));
    let rows: Vec<_> = report.modules.iter().map(|module| row(module, history, width)).collect();
    text.push_str(&table::render(HEADINGS, &rows, style));
    text.push_str(&notes(report, now, style));
    text
}

const fn height(link: LinkState) -> f64 {
    match link {
        LinkState::Connected => 1.0,
        LinkState::Connecting => 0.5,
        LinkState::Disconnected => 0.0,
    }
}

fn row(module: &ModuleReport, history: &History, width: usize) -> [Cell; 6] {
    let (name, letters) = (module.name, history.letters);
    let restarts = history.growth(name, |point| Some(f64::from(point.restarts)));
    let died = restarts.iter().rev().take(width).flatten().any(|grown| *grown > 0.0);
    let restarts = letters.graph(&restarts, width, 0.0);
    #[expect(clippy::cast_precision_loss, reason = "a graph has eight steps")]
    let used = history.values(name, |point| point.memory.map(|bytes| bytes as f64));
    let busy = history.growth(name, |point| point.cpu);
    let queue = history.values(name, |point| Some(f64::from(point.queue)));
    let runs = module.pid.is_some();
    let beside = |graph: String, value: String| {
        let value = if runs { value } else { String::from("-") };
        Cell::from(format!("{graph} {value}"))
    };
    let share =
        busy.last().copied().flatten().map_or_else(unknown, |it| format!("{:.1}%", it * 100.0));
    [
        name.name().into(),
        Cell::new(paint(module.state), word(module.state)),
        Cell::new(
            if died { Paint::Bad } else { Paint::Plain },
            format!("{restarts} {}", module.restarts),
        ),
        beside(letters.graph(&used, width, 0.0), memory(module.pss_bytes)),
        // What idles shows as nothing, not as its own noise.
        beside(letters.graph(&busy, width, 0.01), share),
        beside(
            letters.graph(&queue, width, 8.0),
            (module.queue.waiting.saturating_add(module.queue.unsettled)).to_string(),
        ),
    ]
}

#[cfg(test)]
mod tests;
