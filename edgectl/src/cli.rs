//! The arguments: what can be typed, and the help for it.

mod containers;
mod joining;
mod mesh;
mod names;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipc_proto::lifeline::Fault;

pub(crate) use containers::{
    ExecArguments, Place, PodLogsArguments, PodsArguments, RestartPodArguments, UnholdArguments,
    UnholdWhat,
};
pub(crate) use joining::{
    BundleArguments, ConfigCommand, CourseArguments, DoctorArguments, JoinArguments,
    ResetArguments, TakeoverArguments,
};
pub(crate) use mesh::MeshCommand;
pub(crate) use names::{Choice, choice, module, modules};
use names::{FaultName, ModuleName};

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
    /// The other modules keep running. Messages that were not settled are sent again. 'all' leaves
    /// those that somebody stopped. Waits until the modules run again, and says nothing when they do.
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

    /// Stop the containers of pods of this node, so that their restart policy starts them again
    ///
    /// As 'keadm ctl restart pod', through the node's local API.
    RestartPod(RestartPodArguments),

    /// Let go of pods whose upgrade is held back by an annotation
    ///
    /// As 'keadm ctl unhold-upgrade', through the node's local API.
    UnholdUpgrade(UnholdArguments),

    /// Let an upgrade of this node go on that waits for a word from it
    ///
    /// As 'keadm ctl confirm', through the node's local API.
    ConfirmUpgrade,

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

    /// Show services and where they are served, and resolve their names
    ///
    /// Services and endpoints are read from the node's database, so also without a cloud and while
    /// the agent is down. A name is asked for as a pod asks, which needs the running mesh, and so does
    /// the way to other networks.
    #[command(subcommand)]
    Mesh(MeshCommand),

    /// Make this machine a node of a cloud
    ///
    /// As 'keadm join'. Writes edgecore.yaml once the cloud has shown that the token is its own, starts
    /// the agent where systemd runs, and waits until the cloud hears it. Stopped in between, it has
    /// either done nothing or can be run again.
    Join(JoinArguments),

    /// Make this node no node: remove its certificates, its database and its configuration
    ///
    /// Asks before it does. supervisor.yaml and containers stay.
    Reset(ResetArguments),

    /// Take a node over from KubeEdge's own edgecore, without its containers noticing
    ///
    /// Looks whether the node can be taken over, makes copies, exchanges the program that the
    /// service starts, and waits until this agent works and every container has run on; else it
    /// puts everything back. Interrupted, it can be run again, or 'edgectl rollback' goes back.
    Takeover(TakeoverArguments),

    /// Give a node back to KubeEdge's own edgecore that was taken over
    Rollback(CourseArguments),

    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),

    /// Look at all that a node needs, and say what to do about what is wrong
    ///
    /// Also before the node has joined, and while the agent is down. Fails when something is wrong;
    /// a warning is no failure.
    Doctor(DoctorArguments),

    /// Collect what somebody who helps from afar wants to see, without anything secret in it
    ///
    /// One archive (tar.gz) with the status, the doctor's findings, the configuration, the logs,
    /// versions, what the database's tables are, and figures of processes, control groups and the
    /// host. Tokens, passwords, keys and the database's objects are not in it.
    Bundle(BundleArguments),

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

    /// Keep showing, once a second, until Ctrl-C; an overview at a terminal has graphs.
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
    /// Keep showing all devices, or all that is known of one, once a second, until Ctrl-C
    Watch {
        /// The device; without a namespace it is one of 'default'.
        #[arg(value_name = "NAMESPACE/NAME", value_parser = NonEmptyStringValueParser::new())]
        device: Option<String>,
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
pub(crate) struct FaultArguments {
    /// What to do to the module.
    #[arg(value_name = "FAULT", value_parser = FaultName)]
    pub(crate) fault: Fault,

    /// The module.
    #[arg(value_parser = ModuleName { all: false })]
    pub(crate) module: String,
}
