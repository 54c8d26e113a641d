//! The project's own commands: what continuous integration runs, the demonstration, and the
//! entrances to the benches and the fault runs, which live in the `tests` crate.

mod budget;
mod ci;
mod demo;
mod dist;
mod install;
mod screen;
mod workspace;

use std::fmt;
use std::process::ExitCode;

use anyhow::{Result, bail};

use screen::Screen;
use workspace::Workspace;

const HELP: &str = "\
cargo xtask: the project's own commands

  cargo xtask demo [--stay]
      Starts a cloud, a private containerd and a node in temporary folders, runs a pod through
      them, breaks the node's modules one after another and shows that neither the others nor
      the pod notice. With --stay the node then runs on until Ctrl-C.
  cargo xtask ci [--install] [STEP...]
      Runs everything that must hold before a change goes in, or only the steps named. Stops at
      the first failure. Debian packages that are missing are installed as root with --install,
      or where CI=true. Without a step: all of them, in this order:
      install, fmt, clippy, build, test, quic, doc, deny, fuzz, units, budgets, packages, chaos
  cargo xtask bench [ARGUMENT...]
      Measures round trips, throughput, recovery, memory, the cloud link, the store and pods.
  cargo xtask chaos [--seconds N] [--seed S] [--pods N | --devices | --whole]
      Kills modules at random under load; fails if a message is lost. With --pods it kills edged
      every second while so many pods come and go; fails if one is restarted or something leaks.
      With --devices it kills what devices and MQTT pass through, mosquitto and a mapper among it,
      while the cloud comes and goes; fails if something acknowledged does not reach the cloud.
      With --whole it is everything, on a node whose pods, devices, objects and streams are in use:
      modules, supervisor, container runtime, disk and cloud; fails if a promise does not hold.
  cargo xtask dist [--bin-dir DIR] [--out DIR] [--revision N] [--check]
      Makes a deb, an rpm and a bill of materials of the shipped programs in target/dist. With
      --bin-dir of the programs in a folder, which are not built then. With --check they are made
      twice, looked at by lintian and rpmlint, and tried in a minimal Debian with a minicloud that
      is beside the programs.

Exit code: 0 done, 1 failed, 2 usage.";

/// A command line that means nothing.
#[derive(Debug)]
pub struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Runs the command that the arguments name.
#[must_use]
pub fn main(arguments: &[String]) -> ExitCode {
    let screen = Screen::of_terminal();
    match dispatch(&screen, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.error(&format!("{error:#}"));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn dispatch(screen: &Screen, arguments: &[String]) -> Result<()> {
    let [command, rest @ ..] = arguments else {
        bail!(Usage(format!("no command\n\n{HELP}")));
    };
    let help = |argument: &String| matches!(argument.as_str(), "-h" | "--help");
    if help(command) || command == "help" {
        screen.line(HELP);
        return Ok(());
    }
    let workspace = Workspace::find(screen);
    match command.as_str() {
        // The programs of these two explain their own arguments.
        "bench" | "chaos" => workspace.run_tests_program(command, rest),
        "ci" | "demo" | "dist" if rest.iter().any(help) => {
            screen.line(HELP);
            Ok(())
        }
        "ci" => ci::run(&workspace, rest),
        "demo" => demo::run(&workspace, rest),
        "dist" => dist::run(&workspace, rest),
        other => {
            let known = "ci, demo, dist, bench or chaos";
            bail!(Usage(format!("unknown command '{other}', expected {known}")))
        }
    }
}
