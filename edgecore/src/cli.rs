//! The supervisor's command line. It is KubeEdge's, so that the units and scripts of a node keep
//! working: what only Go's logger understood is accepted and has no effect.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config;
use supervisor::Options;

/// The exit code after a command line or configuration that cannot be taken.
const USAGE: u8 = 2;

const HELP: &str = "\
The agent of a KubeEdge edge node: a supervisor and one process per module.

Usage: edgecore [OPTIONS]

Options:
  --config FILE             KubeEdge's configuration [/etc/kubeedge/config/edgecore.yaml]
  --supervisor-config FILE  limits, restarts and confinement, may be missing
                            [/etc/kubeedge/config/supervisor.yaml]
  --runtime-dir DIR         sockets, logs and evidence [/run/edgecore]
  --defaultconfig           print a configuration with every default, and exit
  --minconfig               print a configuration with what a node must say, and exit
  --version                 print the version, and exit
  --help                    print this, and exit

The flags of Go's logger (-v, --logtostderr, ...) are accepted and have no effect.
`edgectl status` shows what runs. SIGTERM stops all modules and no container; SIGHUP reloads.
";

/// Flags of Go's logger (klog) that take no value of their own unless written with `=`.
const LOGGER_SWITCHES: [&str; 6] = [
    "logtostderr",
    "alsologtostderr",
    "one_output",
    "skip_headers",
    "skip_log_headers",
    "add_dir_header",
];

/// Flags of Go's logger that take a value.
const LOGGER_VALUES: [&str; 9] = [
    "v",
    "vmodule",
    "log_dir",
    "log_file",
    "log_file_max_size",
    "stderrthreshold",
    "log_backtrace_at",
    "log-flush-frequency",
    "logging-format",
];

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Run(Paths),
    DefaultConfig,
    MinConfig,
    Version { raw: bool },
    Help,
}

/// The files and folders that a command line names.
#[derive(Debug, PartialEq, Eq)]
struct Paths {
    config: PathBuf,
    supervisor_config: PathBuf,
    runtime_dir: PathBuf,
    resume: bool,
    /// Flags of Go's logger that were given.
    ignored: Vec<String>,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            config: "/etc/kubeedge/config/edgecore.yaml".into(),
            supervisor_config: "/etc/kubeedge/config/supervisor.yaml".into(),
            runtime_dir: "/run/edgecore".into(),
            resume: false,
            ignored: Vec::new(),
        }
    }
}

/// Runs the supervisor, or prints what is asked for.
pub(crate) fn supervise(arguments: &[OsString]) -> ExitCode {
    match parse(arguments) {
        Ok(Command::Run(paths)) => run(paths),
        Ok(Command::DefaultConfig) => print(&config::template::full()),
        Ok(Command::MinConfig) => print(&config::template::minimal()),
        Ok(Command::Version { raw }) => print(&version(raw)),
        Ok(Command::Help) => print(HELP),
        Err(reason) => refuse(&reason),
    }
}

/// Prints the supervisor's configuration, made of the operator's files.
pub(crate) fn convert(arguments: &[OsString]) -> ExitCode {
    let paths = match parse(arguments) {
        Ok(Command::Run(paths)) => paths,
        Ok(other) => return refuse(&format!("{other:?} is not for the converter")),
        Err(reason) => return refuse(&reason),
    };
    let converted = config::convert(&paths.config, &paths.supervisor_config);
    for warning in &converted.warnings {
        complain(&format!("warning: {warning}"));
    }
    match converted.outcome {
        Ok(config) => print(&config),
        Err(errors) => {
            errors.iter().for_each(|error| complain(error));
            ExitCode::from(USAGE)
        }
    }
}

fn run(paths: Paths) -> ExitCode {
    if !paths.ignored.is_empty() && !paths.resume {
        complain(&format!(
            "{} has no effect, see logLevel in supervisor.yaml",
            paths.ignored.join(" ")
        ));
    }
    let runtime_dir = match std::path::absolute(&paths.runtime_dir) {
        Ok(path) => path,
        Err(error) => return refuse(&format!("--runtime-dir is unusable: {error}")),
    };
    supervisor::run(Options {
        config: paths.config,
        supervisor_config: paths.supervisor_config,
        runtime_dir,
        resume: paths.resume,
    })
}

/// The text that keadm and scripts look for.
fn version(raw: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    if raw { format!("v{version}\n") } else { format!("KubeEdge v{version}\n") }
}

/// Reads a command line; `--name value`, `--name=value` and, as Go has it, `-name` mean the same.
fn parse(arguments: &[OsString]) -> Result<Command, String> {
    let mut paths = Paths::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        let flag = text.strip_prefix("--").or_else(|| text.strip_prefix('-'));
        let Some(flag) = flag.filter(|flag| !flag.is_empty()) else {
            return Err(format!("unexpected argument '{text}', see --help"));
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (flag, None),
        };
        let mut take = |value: Option<OsString>| {
            value
                .or_else(|| rest.next().cloned())
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("--{name} without a value, see --help"))
        };
        match name {
            "config" => paths.config = take(value)?.into(),
            "supervisor-config" => paths.supervisor_config = take(value)?.into(),
            "runtime-dir" => paths.runtime_dir = take(value)?.into(),
            // Not for operators: an earlier image of this process left its modules.
            "resume" => paths.resume = true,
            "defaultconfig" => return Ok(Command::DefaultConfig),
            "minconfig" => return Ok(Command::MinConfig),
            "version" => return Ok(Command::Version { raw: value.is_some_and(|v| v == "raw") }),
            "help" | "h" => return Ok(Command::Help),
            name if LOGGER_SWITCHES.contains(&name) => paths.ignored.push(text.into_owned()),
            name if LOGGER_VALUES.contains(&name) => {
                let value = take(value)?;
                paths.ignored.push(format!("--{name}={}", value.to_string_lossy()));
            }
            _ => return Err(format!("unknown option '{text}', see --help")),
        }
    }
    Ok(Command::Run(paths))
}

fn refuse(reason: &str) -> ExitCode {
    complain(reason);
    ExitCode::from(USAGE)
}

/// Writes a line to standard error, which may be closed.
fn complain(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

/// Writes the answer to standard output.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    fn paths(line: &str) -> Paths {
        match parsed(line) {
            Ok(Command::Run(paths)) => paths,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn without_options_it_runs_on_kubeedges_files() {
        assert_eq!(paths(""), Paths::default());
    }

    #[test]
    fn options_take_their_values_in_every_usual_way() {
        for line in [
            "--config a --supervisor-config b --runtime-dir c",
            "--config=a --supervisor-config=b --runtime-dir=c",
            "-config a -supervisor-config=b -runtime-dir c",
        ] {
            let paths = paths(line);
            assert_eq!(paths.config, PathBuf::from("a"), "{line}");
            assert_eq!(paths.supervisor_config, PathBuf::from("b"), "{line}");
            assert_eq!(paths.runtime_dir, PathBuf::from("c"), "{line}");
        }
    }

    #[test]
    fn the_flags_of_gos_logger_are_accepted_and_remembered() {
        let paths = paths("-v 4 --logtostderr=false --log_file /x --config a");
        assert_eq!(paths.config, PathBuf::from("a"));
        assert_eq!(paths.ignored, ["--v=4", "--logtostderr=false", "--log_file=/x"]);
    }

    #[test]
    fn what_is_unknown_or_incomplete_is_named() {
        let refused = |line| parsed(line).unwrap_err();
        assert_eq!(refused("--frobnicate"), "unknown option '--frobnicate', see --help");
        assert_eq!(refused("edgedd"), "unexpected argument 'edgedd', see --help");
        assert_eq!(refused("--config"), "--config without a value, see --help");
        assert_eq!(refused("--runtime-dir="), "--runtime-dir without a value, see --help");
        assert_eq!(refused("-"), "unexpected argument '-', see --help");
    }

    #[test]
    fn the_version_is_printed_as_kubeedges_tools_read_it() {
        assert_eq!(parsed("--version"), Ok(Command::Version { raw: false }));
        assert_eq!(parsed("--version=raw"), Ok(Command::Version { raw: true }));
        assert!(version(false).starts_with("KubeEdge v"));
    }
}
