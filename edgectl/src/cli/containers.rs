//! The arguments of the commands for pods and their containers, as kubectl has them.

use clap::{Args, Subcommand};

use super::Output;

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

#[derive(Debug, Args)]
pub(crate) struct RestartPodArguments {
    /// Namespace of the pods.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,

    /// The pods.
    #[arg(required = true, value_name = "POD")]
    pub(crate) pods: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UnholdArguments {
    #[command(subcommand)]
    pub(crate) what: UnholdWhat,
}

/// What is let go.
#[derive(Debug, Subcommand)]
pub(crate) enum UnholdWhat {
    /// One pod.
    Pod {
        /// Namespace of the pod.
        #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
        namespace: String,

        /// The pod.
        pod: String,
    },
    /// All pods of this node that are held back.
    Node,
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
