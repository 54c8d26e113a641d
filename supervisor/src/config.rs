//! The supervisor's configuration: checked values, as the converter of the shipped binary prints
//! them in one line of JSON.
//!
//! The operator's YAML files are read by that converter alone, in a process of its own that ends
//! when it has printed; so the process that nobody restarts links no YAML and keeps nothing of it.

use std::net::SocketAddr;

use ipc_proto::lifeline::{LogLevel, QueueBounds};
use ipc_proto::{Module, ModuleSet};
use serde::{Deserialize, Serialize};

use crate::child::{Millis, Policy};

/// The greatest configuration of one module in bytes, so that the lifeline's first record holds it.
pub const MAX_MODULE_CONFIG: usize = 64 * 1024;

/// All that the supervisor is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The node's name.
    pub node: Box<str>,
    /// Whether faults may be put into modules.
    pub faults: bool,
    /// Milliseconds between two beats of a module.
    pub beat_interval: u32,
    /// How long the supervisor waits: for readiness, beats, ends, and between two starts.
    pub policy: Policy,
    /// Where metrics are served beside their Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// One for each module, by [`Module::index`].
    pub modules: [ModuleConfig; Module::COUNT],
    /// What the converter found not to be in force, one sentence each.
    pub not_in_force: Vec<String>,
}

/// What the supervisor is told of one module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModuleConfig {
    /// Whether it runs on this node.
    pub enabled: bool,
    /// The user and group to run as where the supervisor is root; none means root.
    pub user: Option<(u32, u32)>,
    /// Bound on its memory in bytes: over it the process is killed.
    pub memory_max: Option<u64>,
    /// Mark in bytes over which the kernel slows the process down and takes memory back.
    pub memory_high: Option<u64>,
    /// Its share of the processors beside the others, from 1 to 10,000; the kernel's default is 100.
    pub cpu_weight: Option<u32>,
    /// Bound on its processes and threads.
    pub pids_max: Option<u32>,
    /// Bound on its open files.
    pub open_files: Option<u64>,
    /// Whether its system calls are filtered.
    pub seccomp: bool,
    /// Whether its view of the file system is restricted.
    pub landlock: bool,
    /// Folders that it may write in when that view is restricted.
    pub writable: Vec<Box<str>>,
    /// Folders of others that it may read then, beside those of every module.
    pub readable: Vec<Box<str>>,
    /// Which of its log lines are written.
    pub log_level: LogLevel,
    /// Bounds of its queue to each peer.
    pub queue: QueueBounds,
    /// Its own configuration, a JSON object of at most [`MAX_MODULE_CONFIG`] bytes.
    pub config: Box<str>,
}

/// A configuration that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No JSON of this shape.
    #[error("malformed configuration")]
    Malformed(#[source] serde_json::Error),
    /// A value out of range.
    #[error("configuration: {name} is {value}, expected {expected}")]
    OutOfRange {
        /// Which value.
        name: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        expected: &'static str,
    },
}

impl Config {
    /// Takes a configuration as it was printed.
    ///
    /// # Errors
    /// [`ConfigError`] when it is malformed or holds a value that would stall the supervisor.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(json).map_err(ConfigError::Malformed)?;
        config.check()?;
        Ok(config)
    }

    /// Refuses what would make modules be killed without a cause, or started without a pause.
    fn check(&self) -> Result<(), ConfigError> {
        let Policy { patience, ready_timeout, stop_timeout, restart } = self.policy;
        let interval = Millis::from(self.beat_interval);
        let too_small = [
            ("beat interval", interval, 1, "at least 1 ms"),
            ("beat patience", patience, interval.saturating_mul(2), "at least two beat intervals"),
            ("ready time-out", ready_timeout, 1, "at least 1 ms"),
            ("stop time-out", stop_timeout, 1, "at least 1 ms"),
            ("first restart pause", restart.initial, 1, "at least 1 ms"),
            ("longest restart pause", restart.ceiling, restart.initial, "at least the first pause"),
        ];
        for (name, value, least, expected) in too_small {
            if value < least {
                return Err(ConfigError::OutOfRange { name, value, expected });
            }
        }
        let longest = self.modules.iter().map(|module| module.config.len()).max().unwrap_or(0);
        if longest > MAX_MODULE_CONFIG {
            let expected = "at most 65,536 bytes";
            let value = longest as u64;
            return Err(ConfigError::OutOfRange {
                name: "a module's configuration",
                value,
                expected,
            });
        }
        Ok(())
    }

    /// Returns the configuration of one module.
    #[must_use]
    pub fn of(&self, module: Module) -> &ModuleConfig {
        &self.modules[module.index()]
    }

    /// Returns the modules that run on this node.
    #[must_use]
    pub fn enabled(&self) -> ModuleSet {
        Module::ALL.into_iter().filter(|module| self.of(*module).enabled).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests;
