//! The arguments: what can be typed, and the help for it.
//!
//! Module names are taken as texts here and parsed by [`modules`], so that all unknown names are
//! reported at once and in the words that configuration errors use too.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{NonEmptyStringValueParser, PossibleValue, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipc_proto::lifeline::Fault;
use ipc_proto::module::UnknownModule;
use ipc_proto::{Module, ModuleSet};

use crate::failure::Failure;

/// The word that stands for every module that the configuration wants.
const ALL: &str = "all";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage, such as an unknown module
  3  the supervisor cannot be reached
'exec' exits with the code of the command that it ran.";

/// Show and steer the edge agent's processes.
///
/// edgecore runs as one supervisor and one process for each module. This command shows them, acts
/// on one of them without touching the others, and lets you watch the messages between them.
#[derive(Debug, Parser)]
#[command(name = "edgectl", version, after_help = EXIT_CODES)]
#[command(infer_subcommands = false, disable_help_subcommand = false)]
pub(crate) struct Cli {
    /// Folder of the running agent's sockets and logs.
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/edgecore")]
    #[arg(display_order = 100)]
    pub(crate) runtime_dir: PathBuf,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the state of the agent, or details of single modules
    ///
    /// Without a module: one line for the node, one for the cloud link and one for each module;
    /// then what the host does not allow, and why a module does not run. QUEUE is the number of
    /// messages that wait to be sent and of those sent and not yet settled by their receiver.
    ///
    /// With modules: all that is known of them, with how they ended last and the end of their logs.
    Status(StatusArguments),

    /// Start modules that were stopped; a module that runs stays as it is
    ///
    /// Also starts a module at once that waits for its next try. Waits until the modules run, and
    /// says nothing when they do.
    Start(OrderArguments),

    /// Stop modules and keep them stopped
    ///
    /// They stay stopped until 'edgectl start' or the next start of the agent. The other modules
    /// keep what they have for a stopped one, up to the bound of their queues. Containers go on.
    Stop(OrderArguments),

    /// Stop modules and start them again at once
    ///
    /// The other modules keep running. Messages that were not settled are sent again. Waits until
    /// the modules run again, and says nothing when they do.
    Restart(OrderArguments),

    /// Read the configuration again and run the installed program file, without ending a module
    ///
    /// The supervisor replaces itself in place, as after an upgrade. Modules keep running with what
    /// they were started with until they are restarted, for example with 'edgectl restart all'.
    /// Waits until the supervisor answers again, and says nothing when it does.
    Reload(Waiting),

    /// Show what a module logged
    ///
    /// Where journald runs, modules log there and 'journalctl' is run to show it. Elsewhere the
    /// module's file in the runtime folder is read, of which the last 256 to 512 KiB are kept.
    Logs(LogsArguments),

    /// Watch the messages between modules, live
    ///
    /// One line for each message that is sent, and one when its receiver has settled it: time
    /// (UTC), sender and receiver, operation, resource, size, and what happened. Contents are
    /// never shown. Costs nothing while nobody looks; when you read too slowly records are dropped
    /// and counted, messages never wait. Ends with Ctrl-C.
    Tap(TapArguments),

    /// Show the pods of this node, also while the cloud is away
    ///
    /// The columns are those of 'kubectl get pods'. With -o json the whole answer of the node's own
    /// API, whose statuses are those that the cloud is told.
    Pods(PodsArguments),

    /// Show what a container of this node wrote, also while the cloud is away
    ///
    /// As 'kubectl logs'. What the container wrote is passed on as it is.
    LogsPod(PodLogsArguments),

    /// Run a command in a container of this node, also while the cloud is away
    ///
    /// As 'kubectl exec'. The exit code is that of the command.
    Exec(ExecArguments),

    /// Show how each module is locked in
    ///
    /// User, capabilities, seccomp, Landlock and limits as each module found them in force in its
    /// own process, and what was asked for and could not be had on this host.
    Sandbox(Output),

    /// Show devices: what is wanted of them, what they report, and their mappers
    ///
    /// Read from the node's database, so also without a cloud and while modules or the whole agent
    /// are down. What the mappers' state is only the running agent tells.
    #[command(subcommand)]
    Device(DeviceCommand),

    /// Break a module on purpose, to see that nothing else does
    ///
    /// Root only, and refused unless supervisor.yaml says 'faults: true'. Never enable this on a
    /// node that must not lose a module's service for a moment.
    Fault(FaultArguments),

    /// Print the version of this command and of the running agent
    Version(Output),

    /// Print a completion script for a shell
    ///
    /// For example: edgectl completions bash > /etc/bash_completion.d/edgectl
    Completions {
        /// The shell.
        shell: Shell,
    },

    /// Print the manual page, or that of one command
    ///
    /// For example: edgectl man status | man -l -
    Man {
        /// The command whose page is wanted.
        command: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs; fields are added at the end, never removed.
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    /// Bourne again shell.
    Bash,
    /// Z shell.
    Zsh,
    /// Friendly interactive shell.
    Fish,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Output {
    /// How to print.
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// Modules to show in detail; none means an overview of all.
    #[arg(value_name = "MODULE", value_parser = ModuleName { all: false })]
    pub(crate) modules: Vec<String>,

    /// Keep showing, once a second, until Ctrl-C.
    #[arg(short, long)]
    pub(crate) watch: bool,

    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct OrderArguments {
    /// Modules to act on, or 'all' for every one that the configuration wants.
    #[arg(required = true, value_name = "MODULE", value_parser = ModuleName { all: true })]
    pub(crate) modules: Vec<String>,

    /// Give the order and return at once.
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) no_wait: bool,

    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Waiting {
    /// How long to wait at most.
    #[arg(long, value_name = "SECONDS", default_value = "30",
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) timeout: u16,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// The module.
    #[arg(value_parser = ModuleName { all: false })]
    pub(crate) module: String,

    /// Keep showing what is logged, until Ctrl-C.
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// How many of the last lines to begin with.
    #[arg(short = 'n', long, value_name = "N", default_value = "100")]
    pub(crate) lines: u32,

    /// Read the module's file also where journald runs: its standard error, where a panic is told.
    #[arg(long)]
    pub(crate) file: bool,

    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct TapArguments {
    /// Only messages from or to this module.
    #[arg(long, value_parser = ModuleName { all: false })]
    pub(crate) module: Option<String>,

    /// Only messages whose resource has this text in it, such as 'default/pod/'.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) resource: Option<String>,

    /// End after this many records.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// One line for each device
    List(DeviceArguments),
    /// All that is known of one device: each property as it is wanted and as it was reported
    Get {
        /// The device; without a namespace it is one of 'default'.
        #[arg(value_name = "NAMESPACE/NAME", value_parser = NonEmptyStringValueParser::new())]
        device: String,
        #[command(flatten)]
        arguments: DeviceArguments,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DeviceArguments {
    /// KubeEdge's configuration, which says where the database is.
    #[arg(long, value_name = "FILE", default_value = "/etc/kubeedge/config/edgecore.yaml")]
    pub(crate) config: PathBuf,

    /// Keep showing, once a second, until Ctrl-C.
    #[arg(short, long)]
    pub(crate) watch: bool,

    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct PodsArguments {
    /// Only pods of this namespace.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,

    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct PodLogsArguments {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Keep showing what is written, until the container ends or Ctrl-C.
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// How many of the last lines to begin with; all without this.
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u64>,

    /// Only what was written since then, such as 90s, 5m, 2h or 1d.
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) since: Option<u64>,

    /// Of the container before it was started again.
    #[arg(short, long)]
    pub(crate) previous: bool,

    /// Begin each line with its time.
    #[arg(long)]
    pub(crate) timestamps: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArguments {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Pass standard input on.
    #[arg(short = 'i', long)]
    pub(crate) stdin: bool,

    /// Give the command a terminal, if standard input is one.
    #[arg(short, long)]
    pub(crate) tty: bool,

    /// The command and its arguments, behind '--'.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// A container of this node.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Namespace of the pod.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,

    /// The container; without this the pod's default or first one.
    #[arg(short, long, value_name = "CONTAINER")]
    pub(crate) container: Option<String>,

    /// The pod.
    pub(crate) pod: String,
}

/// Reads an age in whole seconds.
fn age(text: &str) -> Result<u64, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let read = units.into_iter().find_map(|(letter, seconds)| {
        let number = text.strip_suffix(letter)?.parse::<u64>().ok()?;
        number.checked_mul(seconds).filter(|seconds| *seconds > 0)
    });
    read.ok_or_else(|| "expected a number with s, m, h or d".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct FaultArguments {
    /// What to do to the module.
    #[arg(value_name = "FAULT", value_parser = FaultName)]
    pub(crate) fault: Fault,

    /// The module.
    #[arg(value_parser = ModuleName { all: false })]
    pub(crate) module: String,
}

/// Offers the module names to help and completion, and takes any text.
#[derive(Clone, Copy, Debug)]
struct ModuleName {
    all: bool,
}

impl TypedValueParser for ModuleName {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        clap::builder::StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = Module::ALL.map(Module::name);
        Some(Box::new(names.into_iter().chain(self.all.then_some(ALL)).map(PossibleValue::new)))
    }
}

/// The faults with their help.
#[derive(Clone, Copy, Debug)]
struct FaultName;

impl FaultName {
    const fn help(fault: Fault) -> &'static str {
        match fault {
            Fault::Kill => "End it with SIGKILL",
            Fault::Stop => "Freeze it with SIGSTOP; its missing beats give it away",
            Fault::Segv => "End it with SIGSEGV",
            Fault::Panic => "Break an invariant, which ends it with a message",
            Fault::Hang => "Stop its main loop from turning",
            Fault::SlowIpc => "Take 100 ms for every message, for ten seconds",
            Fault::Oom => "Take memory until there is none",
            Fault::DiskFull => "Let none of its files grow any more",
            Fault::CloseLifeline => "Close its end of the socket to the supervisor",
            Fault::CloseStdout => "Close its standard output and error",
        }
    }
}

impl TypedValueParser for FaultName {
    type Value = Fault;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Fault, clap::Error> {
        let names = clap::builder::PossibleValuesParser::new(Fault::ALL.map(Fault::name));
        let name = names.parse_ref(command, argument, value)?;
        let found = Fault::ALL.into_iter().find(|fault| fault.name() == name);
        Ok(found.expect("the parser lets only names of faults pass"))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let value = |fault: Fault| PossibleValue::new(fault.name()).help(Self::help(fault));
        Some(Box::new(Fault::ALL.into_iter().map(value)))
    }
}

/// Which modules an order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Every one that the configuration wants.
    All,
    /// These.
    These(ModuleSet),
}

/// Takes module names, each once and in dial order.
///
/// # Errors
/// [`Failure::Usage`] with every name that is unknown.
pub(crate) fn modules<'a>(
    names: impl IntoIterator<Item = &'a String>,
) -> Result<ModuleSet, Failure> {
    let mut unknown = Vec::new();
    let mut set = ModuleSet::EMPTY;
    for name in names {
        match name.parse() {
            Ok(module) => set = set.with(module),
            Err(UnknownModule(name)) if unknown.contains(&name) => {}
            Err(UnknownModule(name)) => unknown.push(name),
        }
    }
    if unknown.is_empty() {
        return Ok(set);
    }
    // The first one's text ends with the names that exist; the others join it within the quotes.
    Err(Failure::Usage(UnknownModule(unknown.join("', '")).to_string()))
}

/// Takes one module name.
///
/// # Errors
/// [`Failure::Usage`] when it is unknown.
pub(crate) fn module(name: &str) -> Result<Module, Failure> {
    name.parse().map_err(|unknown: UnknownModule| Failure::Usage(unknown.to_string()))
}

/// Takes module names among which `all` may stand.
///
/// # Errors
/// [`Failure::Usage`] with every name that is unknown.
pub(crate) fn choice(names: &[String]) -> Result<Choice, Failure> {
    let set = modules(names.iter().filter(|name| *name != ALL))?;
    Ok(if names.iter().any(|name| name == ALL) { Choice::All } else { Choice::These(set) })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_unknown_module_is_named_at_once() {
        let names = ["edgedd", "edged", "x", "edgedd"].map(String::from);
        let error = modules(&names).unwrap_err().to_string();
        assert!(
            error.starts_with("unknown module 'edgedd', 'x', expected one of metamanager, "),
            "{error}"
        );
    }

    #[test]
    fn modules_come_once_and_in_dial_order() {
        let names = ["edged", "metamanager", "edged"].map(String::from);
        let set: Vec<_> = modules(&names).unwrap().iter().collect();
        assert_eq!(set, [Module::Metamanager, Module::Edged]);
        assert_eq!(choice(&["edged", "all"].map(String::from)).unwrap(), Choice::All);
        assert!(choice(&["all", "x"].map(String::from)).is_err());
    }

    #[test]
    fn the_runtime_folder_may_stand_before_and_after_the_command() {
        for line in [
            ["edgectl", "--runtime-dir", "/x", "status", "-o", "json"],
            ["edgectl", "status", "-o", "json", "--runtime-dir", "/x"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.runtime_dir.to_str(), Some("/x"));
            let Command::Status(arguments) = cli.command else { panic!("{:?}", cli.command) };
            assert_eq!(arguments.output.format, Format::Json);
        }
    }

    #[test]
    fn the_runtime_folder_is_that_of_commands_of_commands_too() {
        let cli = Cli::try_parse_from("edgectl --runtime-dir /x device list".split(' ')).unwrap();
        assert_eq!(cli.runtime_dir.to_str(), Some("/x"));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for line in [
            "edgectl",
            "edgectl frobnicate",
            "edgectl restart",
            "edgectl fault melt edged",
            "edgectl fault kill",
            "edgectl stop edged --timeout 0",
            "edgectl stop edged --timeout 5 --no-wait",
            "edgectl logs edged -n -1",
            "edgectl tap --count 0",
            "edgectl status -o yaml",
            "edgectl completions csh",
            "edgectl logs-pod",
            "edgectl logs-pod p --since 5",
            "edgectl logs-pod p --since 0s",
            "edgectl exec p",
            "edgectl exec p true",
            "edgectl device",
            "edgectl device get",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn commands_for_containers_are_typed_as_for_kubectl() {
        let line = "edgectl exec -n ns -it web -c c -- sh -c 'exit 3' -n";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Exec(exec) = cli.command else { panic!("{:?}", cli.command) };
        assert_eq!((exec.place.namespace.as_str(), exec.place.pod.as_str()), ("ns", "web"));
        assert_eq!((exec.stdin, exec.tty, exec.command.len()), (true, true, 5));
        let line = "edgectl logs-pod web -fp --tail 0 --since 5m --timestamps";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::LogsPod(logs) = cli.command else { panic!("{:?}", cli.command) };
        assert_eq!((logs.tail, logs.since), (Some(0), Some(300)));
    }

    #[test]
    fn every_fault_can_be_typed() {
        for fault in Fault::ALL {
            let cli = Cli::try_parse_from(["edgectl", "fault", fault.name(), "edged"]).unwrap();
            let Command::Fault(arguments) = cli.command else { panic!("{:?}", cli.command) };
            assert_eq!(arguments.fault, fault);
        }
    }
}
