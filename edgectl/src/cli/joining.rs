//! The arguments of what makes a machine a node, and of what looks at how it is one.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Format, Output};

#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// KubeEdge's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/kubeedge/config/edgecore.yaml")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct JoinArguments {
    /// The cloud: where CloudCore takes nodes, 10000 unless a port is named.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) cloud: String,

    /// The token that 'keadm gettoken' prints in the cloud. Other users can see it while this runs.
    #[arg(long, value_name = "TOKEN", required_unless_present = "token_file")]
    pub(crate) token: Option<String>,

    /// A file with the token, or - for the standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,

    /// Where CloudCore issues certificates.
    #[arg(long, value_name = "PORT", default_value = "10002")]
    pub(crate) cert_port: u16,

    /// The node's name; this host's unless given.
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,

    /// A label of the node; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,

    /// The container runtime.
    #[arg(long, value_name = "SOCKET", default_value = "unix:///run/containerd/containerd.sock")]
    pub(crate) runtime_endpoint: String,

    /// How control groups of pods are made; as the container runtime does it.
    #[arg(long, value_name = "DRIVER", default_value = "cgroupfs",
          value_parser = ["cgroupfs", "systemd"])]
    pub(crate) cgroup_driver: String,

    /// Any other key of edgecore.yaml, such as modules.edgeStream.enable=true.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,

    /// Do not ask the cloud whether the token is its own before anything is written.
    #[arg(long)]
    pub(crate) no_check: bool,

    /// Write the configuration and start nothing.
    #[arg(long)]
    pub(crate) no_start: bool,

    /// How long to wait until the cloud hears the node.
    #[arg(long, value_name = "SECONDS", default_value = "60", conflicts_with = "no_start",
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) timeout: u16,

    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct ResetArguments {
    /// Do not ask.
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

/// What both ways between the agents take.
#[derive(Debug, Args)]
pub(crate) struct CourseArguments {
    /// The folder of the journal and of the copies.
    #[arg(long, value_name = "DIR", default_value = "/etc/kubeedge/backup/takeover")]
    pub(crate) backup: PathBuf,

    /// How long an agent may take until it works.
    #[arg(long, value_name = "SECONDS", default_value = "120",
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) timeout: u16,
}

#[derive(Debug, Args)]
pub(crate) struct TakeoverArguments {
    /// Look whether the node can be taken over, and change nothing.
    #[arg(long)]
    pub(crate) check: bool,

    /// Who starts and stops the agent: systemd, or an init script that ends the agent and starts it
    /// when it is called with 'restart'. Unless given, systemd where it runs, else
    /// /etc/init.d/edgecore.
    #[arg(long, value_name = "systemd|SCRIPT")]
    pub(crate) service: Option<String>,

    /// What an init script starts; of systemd this command asks.
    #[arg(long, value_name = "FILE", default_value = "/usr/local/bin/edgecore")]
    pub(crate) program: PathBuf,

    /// What KubeEdge's configuration has no room for; may be missing.
    #[arg(long, value_name = "FILE", default_value = "/etc/kubeedge/config/supervisor.yaml")]
    pub(crate) supervisor_config: PathBuf,

    #[command(flatten)]
    pub(crate) course: CourseArguments,

    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct BundleArguments {
    /// The archive; unless given, edgecore-bundle-TIME.tar.gz in this folder.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// What KubeEdge's configuration has no room for; may be missing.
    #[arg(long, value_name = "FILE", default_value = "/etc/kubeedge/config/supervisor.yaml")]
    pub(crate) supervisor_config: PathBuf,

    /// The folder of a takeover's journal.
    #[arg(long, value_name = "DIR", default_value = "/etc/kubeedge/backup/takeover")]
    pub(crate) backup: PathBuf,

    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say all that is wrong with edgecore.yaml and supervisor.yaml
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// What KubeEdge's configuration has no room for; may be missing.
        #[arg(long, value_name = "FILE", default_value = "/etc/kubeedge/config/supervisor.yaml")]
        supervisor_config: PathBuf,
    },
    /// Print edgecore.yaml
    Show {
        #[command(flatten)]
        file: ConfigFile,
        /// With every default that the file leaves out.
        #[arg(long)]
        effective: bool,
    },
    /// Print the keys of edgecore.yaml that are not KubeEdge's defaults
    DiffDefaults {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    #[command(flatten)]
    pub(crate) file: ConfigFile,

    #[command(flatten)]
    pub(crate) output: Output,
}

impl DoctorArguments {
    /// Tells whether programs read it.
    pub(crate) fn json(&self) -> bool {
        self.output.format == Format::Json
    }
}
