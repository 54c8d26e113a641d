//! The state of the agent as people read it: one screen that tells what is wrong.

use std::fmt::Write as _;

use ipc_proto::ModuleState;
use ipc_proto::control::AgentState;

use crate::clock::{Span, Timestamp};
use crate::report::{Cloud, ExitReport, LinkState, ModuleReport, Report};
use crate::screen::{Paint, Style, harmless};
use crate::table::{self, Cell, counted, size};

const HEADINGS: [&str; 9] =
    ["NAME", "STATE", "PID", "UPTIME", "RESTARTS", "LAST EXIT", "MEMORY", "CPU", "QUEUE"];

/// Returns the overview: node, cloud, modules, what the host does not allow, and why a module does
/// not run.
pub(crate) fn overview(report: &Report, now: Timestamp, style: Style) -> String {
    let mut text = heading(report, now, style);
    text.push('\n');
    let rows: Vec<_> = report.modules.iter().map(|module| row(module, now)).collect();
    text.push_str(&table::render(HEADINGS, &rows, style));
    text.push_str(&notes(report, now, style));
    text
}

/// Returns what the host does not allow, and why a module does not run.
pub(crate) fn notes(report: &Report, now: Timestamp, style: Style) -> String {
    let mut text = String::new();
    if !report.not_in_force.is_empty() {
        line(&mut text, format_args!("\n{}", style.paint(Paint::Strong, "Not in force:")));
        for sentence in &report.not_in_force {
            line(&mut text, format_args!("  {}", harmless(sentence)));
        }
    }
    for module in &report.modules {
        if let Some(trouble) = trouble(module, now) {
            let name = style.paint(Paint::Bad, module.name.name());
            line(&mut text, format_args!("\n{name} {trouble}"));
            if let Some(last) =
                module.last_exit.iter().flat_map(|exit| exit.last_lines.last()).next()
            {
                line(&mut text, format_args!("  | {}", harmless(last)));
            }
        }
    }
    text
}

/// Returns all that is known of one module; `log` is the end of its log.
pub(crate) fn details(
    module: &ModuleReport,
    log: &[String],
    now: Timestamp,
    style: Style,
) -> String {
    let mut text = String::new();
    let state = style.paint(paint(module.state), word(module.state));
    line(&mut text, format_args!("{} {state}", style.paint(Paint::Strong, module.name.name())));
    let mut field = |name: &str, value: String| {
        line(&mut text, format_args!("{name:>12}: {}", harmless(&value)));
    };
    field("since", format!("{} ({} ago)", module.since, now.since(module.since)));
    if let Some(pid) = module.pid {
        field("process", pid.to_string());
    }
    field("restarts", module.restarts.to_string());
    if let Some(next) = module.next_start {
        field("next start", format!("{next} ({})", due(next, now)));
    }
    if module.pid.is_some() {
        let bound = module.memory_max.map(|bound| format!(" of {}", size(bound)));
        field("memory", memory(module.pss_bytes) + &bound.unwrap_or_default());
        field("cpu", module.cpu_seconds.map_or_else(unknown, processor_time));
    }
    let queue = module.queue;
    field("queue", format!("{} waiting, {} unsettled", queue.waiting, queue.unsettled));
    if let Some(cgroup) = &module.cgroup {
        field("cgroup", cgroup.clone());
    }
    if let Some(told) = &module.report {
        field("report", told.to_string());
    }
    if let Some(exit) = &module.last_exit {
        let ago = now.since(exit.at);
        field(
            "last exit",
            format!("{} of process {} at {} ({ago} ago)", exit.reason, exit.pid, exit.at),
        );
        quote(&mut text, &exit.last_lines);
    }
    if !log.is_empty() {
        line(&mut text, format_args!("{:>12}:", "log"));
        quote(&mut text, log);
    }
    text
}

/// Returns a line for the node and one for the cloud link.
pub(crate) fn heading(report: &Report, now: Timestamp, style: Style) -> String {
    let state = match report.state {
        AgentState::Running => style.paint(Paint::Good, "running"),
        AgentState::Degraded => style.paint(Paint::Bad, "degraded"),
        AgentState::Stopping => style.paint(Paint::Fair, "stopping"),
    };
    let mut text = String::new();
    let mut node = format!(
        "{} {}, {state} for {}, edgecore {}",
        style.paint(Paint::Strong, "Node: "),
        harmless(&report.node),
        Span::of(report.uptime_seconds),
        harmless(&report.version)
    );
    if let Some(bytes) = report.pss_bytes {
        let processes = report.modules.iter().filter(|module| module.pid.is_some()).count() + 1;
        let processes = counted(processes as u64, "process", "processes");
        node.push_str(&format!(", {} in {processes}", size(bytes)));
    }
    line(&mut text, format_args!("{node}"));
    let title = style.paint(Paint::Strong, "Cloud:");
    line(&mut text, format_args!("{title} {}", cloud(&report.cloud, now, style)));
    if report.faults {
        let warning = style.paint(Paint::Fair, "may be injected (supervisor.yaml)");
        line(&mut text, format_args!("{} {warning}", style.paint(Paint::Strong, "Faults:")));
    }
    text
}

fn cloud(cloud: &Cloud, now: Timestamp, style: Style) -> String {
    let mut text = match cloud.state {
        LinkState::Connected => style.paint(Paint::Good, "connected"),
        LinkState::Connecting => style.paint(Paint::Fair, "connecting"),
        LinkState::Disconnected => style.paint(Paint::Bad, "disconnected"),
    }
    .into_owned();
    if let Some(endpoint) = &cloud.endpoint {
        let word = if cloud.state == LinkState::Disconnected { "from" } else { "to" };
        text.push_str(&format!(" {word} {}", harmless(endpoint)));
    }
    if let Some(since) = cloud.since {
        text.push_str(&format!(" for {}", now.since(since)));
    }
    if cloud.connects > 0 {
        text.push_str(&format!(", {}", counted(cloud.connects, "connect", "connects")));
    }
    if let Some(heartbeat) = cloud.last_heartbeat {
        text.push_str(&format!(", heartbeat {} ago", now.since(heartbeat)));
    }
    if let Some(expires) = cloud.certificate_expires {
        let word = if expires > now { "until" } else { "expired on" };
        text.push_str(&format!(", certificate {word} {}", expires.date()));
    }
    if let Some(reason) = &cloud.reason {
        text.push_str(&format!("\n       {}", style.paint(Paint::Bad, &harmless(reason))));
    }
    text
}

fn row(module: &ModuleReport, now: Timestamp) -> [Cell; 9] {
    let runs = module.pid.is_some();
    let queue = module.queue;
    [
        module.name.name().into(),
        Cell::new(paint(module.state), word(module.state)),
        Cell::maybe(module.pid),
        Cell::maybe(runs.then(|| now.since(module.since))),
        module.restarts.to_string().into(),
        Cell::maybe(module.last_exit.as_ref().map(|exit| ended(exit, now))),
        Cell::maybe(runs.then(|| memory(module.pss_bytes))),
        Cell::maybe(runs.then(|| module.cpu_seconds.map_or_else(unknown, processor_time))),
        format!("{}/{}", queue.waiting, queue.unsettled).into(),
    ]
}

/// Returns why a module that is wanted does not run, and what comes next.
fn trouble(module: &ModuleReport, now: Timestamp) -> Option<String> {
    let mut text = match module.state {
        ModuleState::Backoff => String::from("died"),
        ModuleState::Held => String::from("keeps dying and is held"),
        ModuleState::Running
        | ModuleState::Starting
        | ModuleState::Stopped
        | ModuleState::Disabled => return None,
    };
    if let Some(exit) = &module.last_exit {
        text.push_str(&format!(": {}", ended(exit, now)));
    }
    if let Some(next) = module.next_start {
        text.push_str(&format!(", next try {}", due(next, now)));
    }
    Some(text)
}

fn ended(exit: &ExitReport, now: Timestamp) -> String {
    format!("{}, {} ago", exit.reason, now.since(exit.at))
}

fn due(next: Timestamp, now: Timestamp) -> String {
    if next > now { format!("in {}", next.since(now)) } else { String::from("now") }
}

/// Returns the word for a state, the same as in JSON.
pub(crate) const fn word(state: ModuleState) -> &'static str {
    match state {
        ModuleState::Running => "running",
        ModuleState::Starting => "starting",
        ModuleState::Backoff => "backoff",
        ModuleState::Held => "held",
        ModuleState::Stopped => "stopped",
        ModuleState::Disabled => "disabled",
    }
}

/// Returns what a state means.
pub(crate) const fn paint(state: ModuleState) -> Paint {
    match state {
        ModuleState::Running => Paint::Good,
        ModuleState::Starting => Paint::Fair,
        ModuleState::Backoff | ModuleState::Held => Paint::Bad,
        ModuleState::Stopped | ModuleState::Disabled => Paint::Faint,
    }
}

pub(crate) fn memory(pss: Option<u64>) -> String {
    pss.map_or_else(unknown, size)
}

/// Returns what stands for a number that could not be read.
pub(crate) fn unknown() -> String {
    String::from("?")
}

fn processor_time(seconds: f64) -> String {
    if seconds < 60.0 { format!("{seconds:.2}s") } else { Span::of(seconds).to_string() }
}

fn quote(text: &mut String, lines: &[String]) {
    for quoted in lines {
        line(text, format_args!("    | {}", harmless(quoted)));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes what is written");
}

#[cfg(test)]
mod tests;
