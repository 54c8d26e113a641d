//! The converter: the operator's YAML files in, the supervisor's configuration out.
//!
//! It runs as a short-lived process of its own, so that what YAML costs in memory is gone when the
//! agent works. Whatever is wrong in either file is found in one run and said line by line.

mod defaults;
mod edgecore_yaml;
mod edit;
mod mesh;
mod mesh_yaml;
mod reader;
mod reference;
mod spent_token;
mod supervisor_yaml;
pub(crate) mod trial;
mod users;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ipc_proto::Module;
use serde_json::Value;
use supervisor::config::{Config, ModuleConfig};

pub(crate) use defaults::{defaults_text, minimal_text};
use edgecore_yaml::Node;
use reader::{Findings, Reader};
use supervisor_yaml::{ModuleSettings, Settings};

/// The greatest configuration file in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The exit code for a configuration that cannot be taken.
const REFUSED: u8 = 2;

/// Reads both files, prints the supervisor's configuration as one line of JSON on standard output,
/// and warnings and errors on standard error. Returns 0, or 2 when there are errors. With
/// `forget_token` a token that has done its work is taken out of the first file.
pub(crate) fn convert(edgecore: &Path, supervisor: &Path, forget_token: bool) -> ExitCode {
    let mut findings = Findings::default();
    let config = read(edgecore, supervisor, forget_token, &mut findings);
    let mut lines = String::new();
    for warning in &findings.warnings {
        lines += &format!("warning: {warning}\n");
    }
    for error in &findings.errors {
        lines += &format!("error: {error}\n");
    }
    // Nobody may be listening; the exit code still tells.
    let _unheard = std::io::stderr().write_all(lines.as_bytes());
    let Some(config) = config.filter(|_| findings.errors.is_empty()) else {
        return ExitCode::from(REFUSED);
    };
    let mut line = serde_json::to_vec(&config).expect("a configuration has only text keys");
    line.push(b'\n');
    match std::io::stdout().write_all(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Reads both files; nothing when one of them cannot be read at all.
fn read(
    edgecore: &Path,
    supervisor: &Path,
    forget_token: bool,
    findings: &mut Findings,
) -> Option<Config> {
    let node_file = load(edgecore, findings);
    let settings_file = if supervisor.exists() {
        load(supervisor, findings)
    } else {
        Some(Value::Object(serde_json::Map::new()))
    };
    let node = node_file.map(|file| {
        edgecore_yaml::read(file, &mut Reader::new(&edgecore.display().to_string(), findings))
    });
    let settings = settings_file.map(|file| {
        supervisor_yaml::read(&file, &mut Reader::new(&supervisor.display().to_string(), findings))
    });
    let (mut node, settings) = (node?, settings?);
    if forget_token && findings.errors.is_empty() {
        node.forget_token(edgecore, findings);
    }
    let files = own_files(edgecore, supervisor);
    Some(assemble(&node, &settings, &files, findings))
}

/// Returns where the database is.
///
/// # Errors
/// With all that is wrong with the file.
pub(crate) fn database(edgecore: &Path) -> Result<PathBuf, String> {
    Ok(checked(edgecore)?.database().into())
}

/// Returns what the file comes to with KubeEdge's defaults, and the defaults beside it.
///
/// # Errors
/// With all that is wrong with the file.
pub(crate) fn effective(edgecore: &Path) -> Result<Value, String> {
    let node = checked(edgecore)?;
    Ok(serde_json::json!({ "effective": node.tree(), "defaults": defaults::tree() }))
}

/// Returns the file's text with keys set, each given as `KEY=VALUE`.
///
/// # Errors
/// When a key cannot be set, or the file cannot be read.
pub(crate) fn edited(edgecore: &Path, set: &[String]) -> Result<Vec<u8>, String> {
    let name = edgecore.display();
    let text = std::fs::read_to_string(edgecore);
    let text = text.map_err(|error| format!("cannot read {name}: {error}"))?;
    edit::edited(&text, set).map(String::into_bytes).map_err(|why| format!("{name}: {why}"))
}

/// Returns what the file tells a module.
///
/// # Errors
/// With all that is wrong with the file.
pub(crate) fn section(edgecore: &Path, module: Module) -> Result<Value, String> {
    Ok(checked(edgecore)?.section(module))
}

/// Reads KubeEdge's file alone.
fn checked(edgecore: &Path) -> Result<Node, String> {
    let mut findings = Findings::default();
    let node = load(edgecore, &mut findings).map(|file| {
        let name = edgecore.display().to_string();
        edgecore_yaml::read(file, &mut Reader::new(&name, &mut findings))
    });
    node.filter(|_| findings.errors.is_empty()).ok_or_else(|| findings.errors.join("; "))
}

/// Reads one YAML file as a tree.
fn load(path: &Path, findings: &mut Findings) -> Option<Value> {
    let name = path.display();
    let text = match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_FILE => {
            let size = metadata.len();
            findings.errors.push(format!("{name}: {size} bytes, expected at most {MAX_FILE}"));
            return None;
        }
        Ok(_) => std::fs::read_to_string(path),
        Err(error) => Err(error),
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            let advice = "'edgecore --minconfig' prints one to begin with";
            findings.errors.push(format!("cannot read {name}: {error}; {advice}"));
            return None;
        }
    };
    match reader::parse(&text) {
        Ok(tree) => Some(tree),
        Err(error) => {
            findings.errors.push(format!("{name}: {error}"));
            None
        }
    }
}

/// Returns what a module is told, with what the other file says to it alone.
fn told(node: &Node, settings: &Settings, files: &[PathBuf; 2], module: Module) -> Value {
    let mut section = node.section(module);
    if let Value::Object(section) = &mut section {
        section.extend(settings.modules[module.index()].own.clone());
        if module.owns_files() {
            let [config, supervisor] = files;
            let files = serde_json::json!({ "config": config, "supervisorConfig": supervisor });
            section.insert("files".to_owned(), files);
        }
    }
    mesh::adapt(node, settings, module, &mut section);
    section
}

/// Returns where both files are for modules, which work in another folder.
fn own_files(edgecore: &Path, supervisor: &Path) -> [PathBuf; 2] {
    [edgecore, supervisor].map(|file| std::path::absolute(file).unwrap_or_else(|_| file.into()))
}

/// Returns the folders that node jobs write in: that of the configuration, the one above where
/// KubeEdge's back-ups are beside it, and the program's.
fn own_folders([config, _]: &[PathBuf; 2]) -> Vec<Box<str>> {
    let folder = config.parent();
    let above = folder.filter(|it| it.ends_with("config")).and_then(Path::parent);
    let program = std::env::current_exe().ok();
    let folders = [above.or(folder), program.as_deref().and_then(Path::parent)];
    folders.into_iter().flatten().map(|it| it.to_string_lossy().into()).collect()
}

/// Puts both files together.
fn assemble(
    node: &Node,
    settings: &Settings,
    files: &[PathBuf; 2],
    findings: &mut Findings,
) -> Config {
    let root = rustix::process::geteuid().is_root();
    let users = users::resolve(settings, root, findings);
    let modules = Module::ALL.map(|module| {
        let own = &settings.modules[module.index()];
        let ModuleSettings { limits, seccomp, landlock, log_level, queue, .. } = own;
        ModuleConfig {
            enabled: mesh::runs(node, settings, module),
            user: users[module.index()],
            memory_max: limits.memory_max,
            memory_high: limits.memory_high,
            cpu_weight: limits.cpu_weight,
            pids_max: limits.pids_max,
            open_files: limits.open_files,
            seccomp: seccomp.unwrap_or(true),
            landlock: landlock.unwrap_or(true),
            writable: if module.owns_files() { own_folders(files) } else { node.writable(module) },
            readable: node.readable(module),
            log_level: log_level.unwrap_or(settings.log_level),
            queue: queue.unwrap_or(settings.queue),
            config: told(node, settings, files, module).to_string().into(),
        }
    });
    Config {
        node: node.name.as_str().into(),
        faults: settings.faults,
        beat_interval: settings.beat_interval,
        policy: settings.policy,
        metrics: settings.metrics,
        modules,
        not_in_force: std::mem::take(&mut findings.not_in_force),
    }
}
