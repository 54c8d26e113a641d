//! Our own `supervisor.yaml`: every key optional, every unknown key an error, since the file is ours
//! and a misspelt limit is a limit that is not there.

use ipc_proto::Module;
use ipc_proto::lifeline::{LogLevel, QueueBounds};
use serde_json::Value;
use supervisor::child::{Policy, Restart};

use crate::config::duration::{self, Duration};
use crate::config::host;
use crate::config::quantity::Quantity;
use crate::config::section::{Errors, Section};

const BOOLEAN: &str = "true or false";
const LEVEL: &str = "one of error, warn, info, debug, trace";
const USER: &str = "the name or number of a user of this host";

/// The file, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SupervisorYaml {
    /// Whether faults may be put into modules.
    pub(crate) faults: bool,
    /// Who runs modules that need no root, where the file says so: user and group.
    pub(crate) user: Option<(u32, u32)>,
    /// Milliseconds between two beats.
    pub(crate) beat_interval: u32,
    /// How long the supervisor waits.
    pub(crate) policy: Policy,
    /// By [`Module::index`].
    pub(crate) modules: [ModuleYaml; Module::COUNT],
}

/// What the file says of one module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleYaml {
    /// Whether it runs, where the file says so.
    pub(crate) enabled: Option<bool>,
    /// Who runs it, where the file says so: user and group.
    pub(crate) user: Option<(u32, u32)>,
    /// In bytes.
    pub(crate) memory_max: Option<u64>,
    /// In bytes.
    pub(crate) memory_high: Option<u64>,
    /// From 1 to 10,000.
    pub(crate) cpu_weight: Option<u32>,
    /// Processes and threads.
    pub(crate) pids_max: Option<u32>,
    /// Descriptors.
    pub(crate) open_files: Option<u64>,
    /// Whether system calls are filtered.
    pub(crate) seccomp: bool,
    /// Whether files are fenced.
    pub(crate) landlock: bool,
    /// Its log lines.
    pub(crate) log_level: LogLevel,
    /// Its queue to each peer.
    pub(crate) queue: QueueBounds,
}

impl SupervisorYaml {
    /// Reads a document. `name` is the file's.
    pub(crate) fn read(name: &str, document: Value, errors: &mut Errors) -> Self {
        let mut file = Section::of(name, document, errors);
        let log_level = file.take("logLevel", LEVEL, level).unwrap_or_default();
        let faults = file.take("faults", BOOLEAN, Value::as_bool).unwrap_or(false);
        let user = file.take("user", USER, user);
        let beat = beat(file.section("beat"));
        let ready_timeout = span(&mut file, "readyTimeout", 10_000);
        let stop_timeout = span(&mut file, "stopTimeout", 10_000);
        let restart = restart(file.section("restart"));
        let queue = queue(file.section("queue"), QueueBounds::default());
        let mut all = file.section("modules");
        let modules = Module::ALL
            .map(|module| self::module(all.section(module.name()), module, log_level, queue));
        all.finish();
        file.finish();
        let policy = Policy { patience: beat.1, ready_timeout, stop_timeout, restart };
        Self { faults, user, beat_interval: beat.0, policy, modules }
    }
}

/// Reads `beat`: interval and patience in milliseconds.
fn beat(mut section: Section<'_>) -> (u32, u64) {
    let interval = span(&mut section, "interval", 2000);
    let patience = span(&mut section, "patience", 10_000);
    if patience < interval.saturating_mul(2) {
        let expected = format!("at least two intervals, {} ms", interval.saturating_mul(2));
        section.wrong("patience", &format!("{patience} ms"), &expected);
    }
    let Ok(interval) = u32::try_from(interval) else {
        section.wrong("interval", &format!("{interval} ms"), "at most a month");
        section.finish();
        return (2000, 10_000);
    };
    section.finish();
    (interval, patience)
}

fn restart(mut section: Section<'_>) -> Restart {
    let initial = span(&mut section, "initial", 1000);
    let ceiling = span(&mut section, "ceiling", 30_000);
    let stable_after = span(&mut section, "stableAfter", 60_000);
    if ceiling < initial {
        let expected = format!("at least restart.initial, {initial} ms");
        section.wrong("ceiling", &format!("{ceiling} ms"), &expected);
    }
    section.finish();
    Restart { initial, ceiling, stable_after }
}

fn queue(mut section: Section<'_>, default: QueueBounds) -> QueueBounds {
    let messages = section
        .take("messages", "a number from 1 to 1,000,000", |value| number(value, 1, 1_000_000));
    let bytes = section.take("bytes", "a quantity from 4Ki to 1Gi", |value| {
        let bytes = quantity(value).filter(|bytes| (4096..=1 << 30).contains(bytes))?;
        u32::try_from(bytes).ok()
    });
    section.finish();
    QueueBounds {
        messages: messages.unwrap_or(default.messages),
        bytes: bytes.unwrap_or(default.bytes),
    }
}

fn module(
    mut section: Section<'_>,
    module: Module,
    log_level: LogLevel,
    queue: QueueBounds,
) -> ModuleYaml {
    let least = "a quantity of at least 1Mi";
    let memory = |value: &Value| quantity(value).filter(|bytes| *bytes >= 1 << 20);
    let memory_max = section.take("memoryMax", least, memory);
    let memory_high = section.take("memoryHigh", least, memory);
    if let Some((high, max)) = memory_high.zip(memory_max)
        && high > max
    {
        section.wrong("memoryHigh", &high.to_string(), &format!("at most memoryMax, {max}"));
    }
    let weight = "a number from 1 to 10,000";
    let most = "a number from 1 to 1,000,000";
    let files = "a number from 16 to 1,000,000";
    let read = ModuleYaml {
        enabled: section.take("enabled", BOOLEAN, Value::as_bool),
        user: section.take("user", USER, user),
        memory_max,
        memory_high,
        cpu_weight: section.take("cpuWeight", weight, |value| number(value, 1, 10_000)),
        pids_max: section.take("pidsMax", most, |value| number(value, 1, 1_000_000)),
        open_files: section
            .take("openFiles", files, |value| number(value, 16, 1_000_000))
            .map(u64::from),
        seccomp: section.take("seccomp", BOOLEAN, Value::as_bool).unwrap_or(true),
        // A process that is fenced cannot mount, and edged mounts volumes.
        landlock: section
            .take("landlock", BOOLEAN, Value::as_bool)
            .unwrap_or(module != Module::Edged),
        log_level: section.take("logLevel", LEVEL, level).unwrap_or(log_level),
        queue: self::queue(section.section("queue"), queue),
    };
    section.finish();
    read
}

/// Takes a duration of at least a millisecond.
fn span(section: &mut Section<'_>, key: &'static str, default: u64) -> u64 {
    let read = |value: &Value| value.as_str()?.parse().ok().filter(|span| *span > Duration(0));
    section.take(key, duration::EXPECTED, read).map_or(default, |Duration(span)| span)
}

fn quantity(value: &Value) -> Option<u64> {
    let Quantity(bytes) = match value {
        Value::String(text) => text.parse().ok()?,
        Value::Number(number) => number.to_string().parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(bytes)
}

fn number(value: &Value, least: u32, most: u32) -> Option<u32> {
    let number = u32::try_from(value.as_u64()?).ok()?;
    (least..=most).contains(&number).then_some(number)
}

fn level(value: &Value) -> Option<LogLevel> {
    serde_json::from_value(value.clone()).ok()
}

fn user(value: &Value) -> Option<(u32, u32)> {
    match value {
        Value::String(name) => host::user(name),
        Value::Number(number) => host::user(&number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
