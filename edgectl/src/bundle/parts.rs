//! The parts of the archive. None of them reads a certificate's key, a token's file or the objects
//! of the database.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use ipc_proto::{Module, ModuleSet};
use serde::Serialize;
use serde_json::{Value, json};

use super::MAX_PART;
use super::redact::blanked;
use crate::cli::BundleArguments;
use crate::client::Client;
use crate::failure::Failure;
use crate::{configuration, doctor, program, service, status, tree};

/// How many of the unit's lines are taken from the journal.
const LINES: &str = "5000";

/// What tells of the host.
const OF_HOST: [&str; 10] = [
    "/etc/os-release",
    "/proc/version",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/pressure/cpu",
    "/proc/pressure/memory",
    "/proc/pressure/io",
    "/proc/mounts",
    "/sys/fs/cgroup/cgroup.controllers",
];

/// What tells of a control group.
const OF_GROUP: [&str; 7] = [
    "memory.current",
    "memory.peak",
    "memory.max",
    "memory.events",
    "memory.pressure",
    "pids.current",
    "cpu.stat",
];

/// Returns both files as trees, as they are in force: what is secret in them is secret everywhere.
pub(super) fn settings(arguments: &BundleArguments) -> Vec<Value> {
    let mut found = Vec::new();
    found.extend(crate::join::effective(&arguments.file.config));
    if let Ok(mut told) = in_force(arguments) {
        // What each module is told is a text that holds a tree.
        for module in told["modules"].as_array_mut().into_iter().flatten() {
            let own = module["config"].as_str().and_then(|text| serde_json::from_str(text).ok());
            found.extend::<Option<Value>>(own);
        }
        found.push(told);
    }
    found
}

/// Returns what the supervisor is told.
fn in_force(arguments: &BundleArguments) -> Result<Value, String> {
    let config = arguments.file.config.to_string_lossy();
    let supervisor = arguments.supervisor_config.to_string_lossy();
    let words = ["config", "--config", &config, "--supervisor-config", &supervisor];
    let text = program::ask(words)?;
    serde_json::from_slice(&text).map_err(|error| program::foreign(&error))
}

/// Gathers all parts, the most telling first: a name, and a text.
pub(super) fn gather(
    arguments: &BundleArguments,
    runtime_dir: &Path,
    client: &Client,
) -> Vec<(String, String)> {
    let config = &arguments.file.config;
    let status = status::report(client, ModuleSet::default());
    let groups = status.as_ref().map(|report| {
        let of = |module: &crate::report::ModuleReport| Some((module.name, module.cgroup.clone()?));
        report.modules.iter().filter_map(of).collect::<Vec<_>>()
    });
    let effective = configuration::both(config).map(|mut both| blanked(both["effective"].take()));
    let mut parts = vec![
        ("status.json".to_owned(), json(status.as_ref())),
        ("doctor.json".to_owned(), json::<_, Failure>(Ok(doctor::findings(config, client)))),
        ("versions.json".to_owned(), json::<_, Failure>(Ok(versions(client)))),
        ("edgecore.yaml".to_owned(), text(effective.map(|tree| tree::yaml(&tree)))),
        ("supervisor.json".to_owned(), json(in_force(arguments).map(modules_settings))),
        ("database.json".to_owned(), survey("tables", config)),
        ("containers.json".to_owned(), survey("containers", config)),
        ("groups.txt".to_owned(), groups_text(&groups.unwrap_or_default())),
        ("host.txt".to_owned(), files(&OF_HOST.map(PathBuf::from))),
    ];
    for module in Module::ALL {
        for ending in ["log", "log.1"] {
            let name = format!("{module}.{ending}");
            let path = runtime_dir.join("log").join(&name);
            if path.exists() {
                parts.push((format!("logs/{name}"), text(end_of_file(&path))));
            }
        }
    }
    if service::is_there() {
        parts.push(("logs/journal.txt".to_owned(), text(journal())));
    }
    let takeover = arguments.backup.join("journal.json");
    if takeover.exists() {
        parts.push(("takeover.json".to_owned(), text(end_of_file(&takeover))));
    }
    parts
}

/// What cannot be had says why.
fn text<E: std::fmt::Display>(found: Result<String, E>) -> String {
    found.unwrap_or_else(|error| format!("not there: {error}\n"))
}

fn json<T: Serialize, E: std::fmt::Display>(found: Result<T, E>) -> String {
    let printed = found
        .map_err(|error| error.to_string())
        .and_then(|value| serde_json::to_string_pretty(&value).map_err(|error| error.to_string()));
    text(printed)
}

/// Leaves of what the supervisor is told what the other file said: modules' own settings stand in
/// `edgecore.yaml`.
fn modules_settings(mut told: Value) -> Value {
    for (module, settings) in
        Module::ALL.iter().zip(told["modules"].as_array_mut().into_iter().flatten())
    {
        settings["config"] = Value::Null;
        settings["name"] = module.name().into();
    }
    blanked(told)
}

fn versions(client: &Client) -> Value {
    let running = client.status().ok().map(|status| status.version);
    let installed =
        program::ask(["--version"]).map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    json!({
        "edgectl": env!("CARGO_PKG_VERSION"), "running": running,
        "installed": installed.unwrap_or_else(|reason| reason),
        "program": program::place(),
    })
}

fn survey(what: &str, config: &Path) -> String {
    let config = config.to_string_lossy();
    let asked = program::ask(["survey", what, "--config", &config]).and_then(|text| {
        serde_json::from_slice::<Value>(&text).map_err(|error| program::foreign(&error))
    });
    json(asked)
}

fn groups_text(groups: &[(Module, String)]) -> String {
    let folder = |(module, group): &(Module, String)| {
        let folder = Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
        format!("# {module}\n{}", files(&OF_GROUP.map(|name| folder.join(name))))
    };
    groups.iter().map(folder).collect()
}

/// Puts small files one behind the other, each under its name.
fn files(paths: &[PathBuf]) -> String {
    let shown = |path: &PathBuf| format!("== {}\n{}\n", path.display(), text(end_of_file(path)));
    paths.iter().map(shown).collect()
}

/// Reads the end of a file.
fn end_of_file(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let most = u64::try_from(MAX_PART).unwrap_or(u64::MAX);
    let length = fs::metadata(path)?.len();
    // files of the kernel have no length
    if length > most {
        file.seek(SeekFrom::Start(length - most))?;
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn journal() -> std::io::Result<String> {
    let mut command = Command::new("journalctl");
    let output =
        command.args(["--no-pager", "--unit", service::UNIT, "--lines", LINES]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
