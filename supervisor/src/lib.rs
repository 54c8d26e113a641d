//! The supervisor: starts edgecore's modules as processes of their own and keeps them running. It
//! routes nothing and waits for nobody; it is the one process that nobody restarts but systemd.
//!
//! What it decides stands in two state machines without IO, [`child`] (the life of one module) and
//! [`fleet`] (the order among modules). Around them is one poll in one thread, the reactor, which
//! turns what the kernel reports into events and carries out the effects.
//!
//! [`run`] is the whole of it. The configuration comes from the program that calls it, which is
//! started again as a short-lived child to read the operator's files.

pub mod child;
pub mod config;
pub mod fleet;

mod cgroup;
mod clock;
mod control;
mod converter;
mod evidence;
mod folder;
mod lifeline;
mod limits;
mod logfile;
mod metrics;
mod notify;
mod premises;
mod process;
mod reactor;
mod reload;
mod say;
mod signals;
mod sockets;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ipc_proto::Module;
use rustix::process::{geteuid, getpid, set_child_subreaper};

use crate::cgroup::Groups;
use crate::clock::Wall;
use crate::config::Config;
use crate::control::Control;
use crate::fleet::{Fleet, Input};
use crate::folder::Folder;
use crate::limits::Powers;
use crate::metrics::Metrics;
use crate::notify::Notify;
use crate::reactor::{Estate, Reactor};
use crate::signals::Signals;
use crate::sockets::Sockets;

/// The exit code after something that is not the operator's configuration.
const FAILED: u8 = 1;

/// The exit code after errors in the operator's configuration.
const USAGE: u8 = 2;

/// What the command line said.
#[derive(Clone, Debug)]
pub struct Options {
    /// KubeEdge's configuration file.
    pub config: PathBuf,
    /// Our own configuration file, which need not exist.
    pub supervisor_config: PathBuf,
    /// The runtime folder, an absolute path.
    pub runtime_dir: PathBuf,
    /// Whether an earlier image of this process left its modules to this one.
    pub resume: bool,
}

/// Why the supervisor did not come up, or did not go on.
#[derive(Debug)]
enum Failure {
    /// The configuration has errors, which have been told.
    Configuration,
    /// Anything else, in one line.
    Other(String),
}

/// Turns an error into the one line that the operator sees.
fn line(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

/// Starts the modules and keeps them running until SIGTERM or SIGINT. Returns the process's exit
/// code: 0 after an ordered stop, 1 when it failed, 2 when the configuration has errors.
#[must_use]
pub fn run(options: Options) -> ExitCode {
    let worked = if options.resume { resume(options) } else { start(options) };
    match worked.and_then(|reactor| reactor.run().map_err(line)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration) => ExitCode::from(USAGE),
        Err(Failure::Other(reason)) => {
            say::error(format_args!("{reason}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Comes up on a host where no module of ours lives.
fn start(options: Options) -> Result<Reactor, Failure> {
    reload::close_input().map_err(line)?;
    let program = program()?;
    let config = read_config(&program, &options)?;
    let (folder, lock) = Folder::take(&options.runtime_dir).map_err(line)?;
    let sockets = Sockets::bind(&folder).map_err(line)?;
    let now = clock::now();
    let host = Host::look(&config)?;
    let enabled = config.enabled();
    say::info(format_args!(
        "edgecore {} on node {} starts {} modules in {}",
        env!("CARGO_PKG_VERSION"),
        config.node,
        enabled.iter().count(),
        folder.path().display()
    ));
    let estate = Estate {
        folder,
        lock,
        sockets,
        fleet: Fleet::new(config.policy, enabled, now),
        processes: [const { None }; Module::COUNT],
        control: Control::default(),
        tap: None,
        metrics: Metrics::default(),
        exits: Default::default(),
        started: now,
        reloads: 0,
        trial: None,
    };
    let mut reactor = assemble(options, program, config, estate, host, &[]);
    reactor.input(Input::Start(enabled));
    Ok(reactor)
}

/// Goes on where an earlier image of this process left off.
fn resume(options: Options) -> Result<Reactor, Failure> {
    let inheritance = reload::take_over()
        .map_err(|error| line(format_args!("cannot take over the modules: {error}")))?;
    let (state, estate, asked) = reactor::adopt(&options.runtime_dir, inheritance)
        .map_err(|error| line(format_args!("cannot take over the modules: {error}")))?;
    let config = Config::parse(state.config.as_bytes()).map_err(|error| line(chain(&error)))?;
    let host = Host::look(&config)?;
    say::info(format_args!("edgecore {} goes on after a reload", env!("CARGO_PKG_VERSION")));
    // A program on trial is followed by the installed one.
    let program = match &estate.trial {
        Some(trial) => trial.installed.clone(),
        None => program()?,
    };
    let mut reactor = assemble(options, program, config, estate, host, &state.not_in_force);
    reactor.resume(&state.before, asked);
    if state.back {
        reactor.restart_all();
    }
    Ok(reactor)
}

/// Puts a supervisor together and says what is not in force here, but for what was `said` before.
fn assemble(
    options: Options,
    program: PathBuf,
    config: Config,
    estate: Estate,
    host: Host,
    said: &[String],
) -> Reactor {
    let mut reactor = Reactor {
        options,
        program,
        config,
        last_exits: evidence::load_all(&estate.folder),
        estate,
        signals: host.signals,
        notify: Notify::new(),
        groups: host.groups,
        powers: host.powers,
        not_in_force: Vec::new(),
        wall: Wall::new(),
        told: None,
    };
    let mut not_in_force = host.not_in_force;
    let Estate { folder, metrics, .. } = &mut reactor.estate;
    not_in_force.extend(metrics.configure(&folder.metrics(), reactor.config.metrics));
    reactor.take_stock(not_in_force, said);
    reactor.admit_diallers();
    reactor
}

/// What this host offers.
struct Host {
    signals: Signals,
    groups: Option<Groups>,
    powers: Powers,
    not_in_force: Vec<String>,
}

impl Host {
    /// Looks around and listens for signals.
    fn look(config: &Config) -> Result<Self, Failure> {
        // First of all, so that no child's end goes unheard.
        let signals = Signals::listen().map_err(line)?;
        set_child_subreaper(Some(getpid())).map_err(line)?;
        let found = Groups::find();
        let memory_groups = found.groups.as_ref().is_some_and(Groups::memory);
        let powers = Powers { uid: geteuid().as_raw(), memory_groups };
        let mut not_in_force = config.not_in_force.clone();
        not_in_force.extend(found.not_in_force);
        Ok(Self { signals, groups: found.groups, powers, not_in_force })
    }
}

/// Returns where this program is installed, so that a reload finds its successor there.
fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| line(format_args!("cannot find this program's file: {error}")))
}

fn read_config(program: &Path, options: &Options) -> Result<Config, Failure> {
    let converted = converter::run(program, options, converter::Purpose::Start)
        .map_err(|error| line(format_args!("cannot read the configuration: {error}")))?;
    for warning in &converted.warnings {
        say::warn(format_args!("{warning}"));
    }
    for error in &converted.errors {
        say::error(format_args!("{error}"));
    }
    let json = converted.config.ok_or(Failure::Configuration)?;
    Config::parse(&json).map_err(|error| line(chain(&error)))
}

/// Prints an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
