//! The arguments of `edgectl mesh`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum MeshCommand {
    /// One line for each service
    Services(MeshArguments),
    /// One line for each endpoint, of all services or of one
    Endpoints {
        /// The service; without a namespace it is one of 'default'.
        #[arg(value_name = "NAMESPACE/NAME", value_parser = NonEmptyStringValueParser::new())]
        service: Option<String>,
        #[command(flatten)]
        arguments: MeshArguments,
    },
    /// Ask for a name as a pod does
    Resolve {
        /// The name: short or whole, or an address.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
        /// The namespace of the pod that asks.
        #[arg(short, long, default_value = "default", value_parser = NonEmptyStringValueParser::new())]
        namespace: String,
        #[command(flatten)]
        output: Output,
    },
    /// Follow a connection to a service, step by step, and try it
    Trace {
        /// The name, short or whole, or an address, and the service's port where it is not the first.
        #[arg(value_name = "NAME[:PORT]", value_parser = NonEmptyStringValueParser::new())]
        name: String,
        /// The namespace of the pod that would connect.
        #[arg(short, long, default_value = "default", value_parser = NonEmptyStringValueParser::new())]
        namespace: String,
        #[command(flatten)]
        arguments: MeshArguments,
    },
    /// Remove what a mesh that was stopped left in the kernel: its packet filter's table, and its link
    Remove,
    /// How other networks are reached: relays, nodes, streams
    Tunnel(Output),
}

#[derive(Debug, Args)]
pub(crate) struct MeshArguments {
    /// KubeEdge's configuration, which says where the database is.
    #[arg(long, value_name = "FILE", default_value = "/etc/kubeedge/config/edgecore.yaml")]
    pub(crate) config: PathBuf,

    #[command(flatten)]
    pub(crate) output: Output,
}
