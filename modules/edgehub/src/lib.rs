//! The cloud link: the one connection of this node to its CloudCore.
//!
//! It does not dial yet: it reports where it would, and answers its peers that it supports nothing.

pub mod config;

use module_runtime::Context;
use serde::Serialize;

use config::Config;

/// What the operator sees of the link.
#[derive(Serialize)]
struct Report<'a> {
    state: &'static str,
    endpoint: &'a str,
}

/// Runs the module until it is asked to drain.
///
/// # Errors
/// When the configuration names no cloud.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let config = Config::read(&context)?;
    context.report(&Report { state: "disconnected", endpoint: &config.endpoint })?;
    module_runtime::serve_unsupported(context).await
}
