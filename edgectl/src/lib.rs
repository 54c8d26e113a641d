//! `edgectl`: shows what the agent's processes do, and acts on one module.
//!
//! It talks to the supervisor over its control socket, one request and one answer per connection,
//! and reads the rest (memory, processor time, logs) from the machine itself, so that the
//! supervisor never waits for anybody on the operator's behalf.

mod bundle;
mod cli;
mod client;
mod clock;
mod configuration;
mod device;
mod doctor;
mod exec;
mod failure;
mod join;
mod live;
mod local_api;
mod logs;
mod mesh;
mod node;
mod order;
mod overview;
mod place;
mod pod_logs;
mod pods;
mod proc;
mod program;
mod report;
mod reset;
mod sandbox;
mod screen;
mod service;
mod status;
mod table;
mod takeover;
mod tap;
#[cfg(test)]
mod testing;
mod tree;
mod whole_file;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::cli::{Cli, Command, Format, Shell};
use crate::client::Client;
use crate::failure::Failure;
use crate::screen::Screen;

/// Runs the command with the process's arguments and standard streams.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 the supervisor cannot be reached; `exec` passes on that
/// of the command in the container.
#[must_use]
pub fn main() -> ExitCode {
    match run(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Failure> {
    let cli = Cli::try_parse_from(arguments).map_err(Failure::Arguments)?;
    let client = Client::new(&cli.runtime_dir);
    let mut screen = Screen::of_stdout();
    match cli.command {
        Command::Status(arguments) => {
            status::run(&arguments, &cli.runtime_dir, &client, &mut screen)
        }
        Command::Start(arguments) => order::start(&arguments, &client),
        Command::Stop(arguments) => order::stop(&arguments, &client),
        Command::Restart(arguments) => order::restart(&arguments, &client),
        Command::Reload(arguments) => order::reload(&arguments, &client),
        Command::Logs(arguments) => logs::run(&arguments, &cli.runtime_dir, &mut screen),
        Command::Tap(arguments) => tap::run(&arguments, &client, &mut screen),
        Command::Pods(arguments) => pods::run(&arguments, &client, &mut screen),
        Command::LogsPod(arguments) => pod_logs::run(&arguments, &client, &mut screen),
        Command::Exec(arguments) => exec::run(&arguments, &client, &mut screen),
        Command::RestartPod(arguments) => local_api::restart(&arguments, &client, &mut screen),
        Command::UnholdUpgrade(arguments) => local_api::unhold(&arguments, &client),
        Command::ConfirmUpgrade => local_api::confirm(&client),
        Command::Sandbox(arguments) => sandbox::run(&arguments, &client, &mut screen),
        Command::Device(command) => device::run(&command, &client, &mut screen),
        Command::Mesh(command) => mesh::run(&command, &client, &mut screen),
        Command::Join(arguments) => join::run(&arguments, &client, &mut screen),
        Command::Reset(arguments) => reset::run(&arguments, &client, &mut screen),
        Command::Takeover(arguments) => takeover::takeover(&arguments, &client, &mut screen),
        Command::Rollback(arguments) => takeover::rollback(&arguments, &client, &mut screen),
        Command::Config(command) => configuration::run(&command, &mut screen),
        Command::Doctor(arguments) => doctor::run(&arguments, &client, &mut screen),
        Command::Bundle(arguments) => {
            bundle::run(&arguments, &cli.runtime_dir, &client, &mut screen)
        }
        Command::Fault(arguments) => order::fault(&arguments, &client),
        Command::Version(arguments) => version(arguments.format, &client, &mut screen),
        Command::Completions { shell } => completions(shell, &mut screen),
        Command::Man { command } => manual(command.as_deref(), &mut screen),
    }
}

/// Prints both versions; that of the command also when the supervisor cannot be reached.
fn version(format: Format, client: &Client, screen: &mut Screen) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let running = client.status();
    match format {
        Format::Json => {
            let edgecore = running.as_ref().ok().map(|status| status.version.as_str());
            screen.json(&serde_json::json!({ "edgectl": own, "edgecore": edgecore }))?;
        }
        Format::Text => {
            writeln!(screen, "edgectl  {own}")?;
            if let Ok(status) = &running {
                writeln!(screen, "edgecore {} (process {})", status.version, status.pid)?;
            }
        }
    }
    running.map(drop)
}

fn completions(shell: Shell, screen: &mut Screen) -> Result<(), Failure> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // Into memory first: the generator takes a closed pipe for a bug and panics.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "edgectl", &mut script);
    Ok(screen.write_all(&script)?)
}

fn manual(command: Option<&str>, screen: &mut Screen) -> Result<(), Failure> {
    let mut root = Cli::command();
    root.build();
    let page = match command {
        None => root,
        Some(name) => {
            root.get_subcommands().find(|command| command.get_name() == name).cloned().ok_or_else(
                || Failure::Usage(format!("unknown command '{name}', see 'edgectl help'")),
            )?
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    Ok(screen.write_all(&text)?)
}
