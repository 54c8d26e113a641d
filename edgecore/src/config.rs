//! The converter: reads KubeEdge's `edgecore.yaml` and our `supervisor.yaml` and makes of both the
//! one configuration that the supervisor takes.
//!
//! It runs in a short-lived process of its own, so values may be trees here: nothing of them stays
//! in the memory of a process that lives on.

mod duration;
mod edgecore_yaml;
mod host;
mod quantity;
mod section;
mod supervisor_yaml;
pub(crate) mod template;
mod yaml;

use std::path::Path;

use ipc_proto::Module;
use serde_json::Value;
use supervisor::config::{Config, MAX_MODULE_CONFIG, ModuleConfig};

use edgecore_yaml::EdgecoreYaml;
use section::Errors;
use supervisor_yaml::SupervisorYaml;

/// The user whom modules without need of root run as, where the host has it.
const MODULE_USER: &str = "edgecore";

/// What became of the operator's files.
#[derive(Debug)]
pub(crate) struct Converted {
    /// The supervisor's configuration as one line of JSON, or all errors of both files.
    pub(crate) outcome: Result<String, Vec<String>>,
    /// What the operator should look at.
    pub(crate) warnings: Vec<String>,
}

/// Reads both files; the supervisor's need not exist.
#[must_use]
pub(crate) fn convert(edgecore: &Path, supervisor: &Path) -> Converted {
    let mut errors = Errors::new();
    let mut warnings = Vec::new();
    let file = yaml::read(edgecore).and_then(|document| {
        document.ok_or_else(|| {
            format!(
                "{} is missing, expected a configuration such as 'edgecore --minconfig' prints",
                edgecore.display()
            )
        })
    });
    let mut note = |error| {
        errors.push(error);
        Value::Null
    };
    let file = file.unwrap_or_else(&mut note);
    let own = yaml::read(supervisor).unwrap_or_else(|error| Some(note(error)));
    let defaults = yaml::parse(&template::full()).unwrap_or_else(note);
    let name = edgecore.display().to_string();
    let file = EdgecoreYaml::read(&name, defaults, file, &mut errors, &mut warnings);
    let name = supervisor.display().to_string();
    let own = SupervisorYaml::read(&name, own.unwrap_or(Value::Null), &mut errors);
    let config = merge(&file, &own, &mut errors);
    let outcome = match serde_json::to_string(&config) {
        Ok(json) if errors.is_empty() => Ok(json + "\n"),
        Ok(_) => Err(errors),
        Err(error) => Err(vec![error.to_string()]),
    };
    Converted { outcome, warnings }
}

fn merge(file: &EdgecoreYaml, own: &SupervisorYaml, errors: &mut Errors) -> Config {
    let user = own.user.or_else(|| host::user(MODULE_USER));
    let modules = Module::ALL.map(|module| {
        let limits = &own.modules[module.index()];
        let config = file.of(module).to_string();
        if config.len() > MAX_MODULE_CONFIG {
            errors.push(format!(
                "the configuration of {module} has {} bytes, expected at most {MAX_MODULE_CONFIG}",
                config.len()
            ));
        }
        let shared = if module.needs_root() { None } else { user };
        ModuleConfig {
            enabled: limits.enabled.unwrap_or_else(|| file.enables(module)),
            user: limits.user.or(shared).filter(|(uid, _)| *uid != 0),
            memory_max: limits.memory_max,
            memory_high: limits.memory_high,
            cpu_weight: limits.cpu_weight,
            pids_max: limits.pids_max,
            open_files: limits.open_files,
            seccomp: limits.seccomp,
            landlock: limits.landlock,
            writable: file.writable(module),
            log_level: limits.log_level,
            queue: limits.queue,
            config: config.into(),
        }
    });
    let mut not_in_force = Vec::new();
    if user.is_none() && rustix::process::geteuid().is_root() {
        not_in_force.push(format!(
            "there is no user '{MODULE_USER}' on this host: modules run as root, without its powers"
        ));
    }
    Config {
        node: file.node.as_str().into(),
        faults: own.faults,
        beat_interval: own.beat_interval,
        policy: own.policy,
        modules,
        not_in_force,
    }
}

#[cfg(test)]
mod tests;
