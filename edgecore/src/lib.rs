//! One file for all of the agent's processes, because processes that run one file share its text in
//! memory (`docs/adr/0001-one-binary.md`). Which process it is to be is said by the name that it was
//! started under, or by its first argument.

mod arguments;
mod config;
mod metrics;
mod survey;
pub mod trial;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use arguments::{Command, UsageError};
use ipc_proto::Module;
use metamanager::store::Trouble;

/// The exit code for a command line that makes no sense.
const USAGE: u8 = 2;

/// Runs the process that the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    let words: Vec<OsString> = words.collect();
    let name = Path::new(&program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let first = words.first().and_then(|word| word.to_str()).unwrap_or_default();
    if let Ok(module) = name.parse().or_else(|_| first.parse()) {
        return run_module(module);
    }
    match arguments::parse(words) {
        Ok((command, remarks)) => {
            for remark in remarks {
                say(&remark);
            }
            run(command)
        }
        Err(error) => {
            let UsageError(text) = error;
            say(&format!("edgecore: {text}; see 'edgecore --help'"));
            ExitCode::from(USAGE)
        }
    }
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Supervise(options) => supervisor::run(options),
        Command::Convert { config, supervisor_config, forget_token } => {
            config::convert(&config, &supervisor_config, forget_token)
        }
        Command::Edit { config, set } => print_text(config::edited(&config, &set)),
        Command::Effective { config } => {
            print_line(config::effective(&config).map(|it| it.to_string().into_bytes()))
        }
        Command::CheckCloud { config } => print_line(check_cloud(&config).map(|()| Vec::new())),
        Command::Devices { config } => {
            print_rows(&config, ["rows", "objects"], metamanager::store::read_devices)
        }
        Command::Services { config } => {
            let names = ["services", "slices", "endpoints", "rules"];
            print_rows(&config, names, metamanager::store::read_services)
        }
        Command::Resolve { server, domain, namespace, name } => {
            let found = edgemesh::resolve(server, &domain, &namespace, &name);
            print_line(found.map(String::into_bytes))
        }
        Command::Trace { config, asked } => {
            let stored = read_parts(&config, metamanager::store::read_services);
            let traced = stored
                .and_then(|stored| edgemesh::trace(stored.each_ref().map(|it| &**it), &asked));
            print_line(traced.map(String::into_bytes))
        }
        Command::Unmesh => print_line(edgemesh::remove().map(|()| Vec::new())),
        Command::Metrics { runtime_dir } => match metrics::run(&runtime_dir) {
            Ok(printed) if printed.is_empty() => ExitCode::SUCCESS,
            printed => print_line(printed),
        },
        Command::Survey { what, config } => print_line(survey::of(what, &config)),
        Command::Print(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
    }
}

/// Prints parts of the node's database as one JSON object; the agent may run or not.
fn print_rows<const PARTS: usize, Part: AsRef<[u8]>>(
    config: &Path,
    names: [&str; PARTS],
    read: fn(&Path) -> Result<[Part; PARTS], Trouble>,
) -> ExitCode {
    print_line(read_parts(config, read).map(|parts| {
        let mut line = Vec::new();
        for (index, (name, part)) in names.into_iter().zip(&parts).enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            line.extend_from_slice(format!("{before}\"{name}\":").as_bytes());
            line.extend_from_slice(part.as_ref());
        }
        line.push(b'}');
        line
    }))
}

/// Reads parts of the node's database.
fn read_parts<Parts>(
    config: &Path,
    read: fn(&Path) -> Result<Parts, Trouble>,
) -> Result<Parts, String> {
    config::database(config).and_then(|path| {
        read(&path).map_err(|trouble| format!("cannot read {}: {trouble}", path.display()))
    })
}

/// Looks whether the cloud that the file names is the one that its token is of.
fn check_cloud(config: &Path) -> Result<(), String> {
    edgehub::check_cloud(config::section(config, Module::Edgehub)?)
}

/// Prints what was found as a line, or says why there is nothing.
fn print_line(found: Result<Vec<u8>, String>) -> ExitCode {
    print_text(found.map(|mut line| {
        line.push(b'\n');
        line
    }))
}

/// Prints what was found, or says why there is nothing.
fn print_text(found: Result<Vec<u8>, String>) -> ExitCode {
    let printed = found.and_then(|line| {
        let printed = std::io::stdout().write_all(&line);
        printed.map_err(|error| format!("cannot print: {error}"))
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            say(&reason);
            ExitCode::FAILURE
        }
    }
}

/// Runs one module. Each is an ordinary function of its own crate.
fn run_module(module: Module) -> ExitCode {
    match module {
        Module::Metamanager => module_runtime::main(module, metamanager::run),
        Module::Devicetwin => module_runtime::main(module, devicetwin::run),
        Module::Edgehub => module_runtime::main(module, edgehub::run),
        Module::Edged => module_runtime::main(module, edged::run),
        Module::Eventbus => module_runtime::main(module, eventbus::run),
        Module::Servicebus => module_runtime::main(module, servicebus::run),
        Module::Taskmanager => module_runtime::main(module, taskmanager::run),
        Module::Metaserver => module_runtime::main(module, metaserver::run),
        Module::Edgestream => module_runtime::main(module, edgestream::run),
        Module::Edgemesh => module_runtime::main(module, edgemesh::run),
    }
}

/// Says a line on standard error, if anybody listens.
fn say(line: &str) {
    let _unheard = writeln!(std::io::stderr(), "{line}");
}
