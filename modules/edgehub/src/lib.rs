//! The cloud link.

mod activity;
mod certs;
mod config;
mod core;
mod http;
mod tcp;
mod tls;
mod transport;
mod trouble;
mod ws;

use module_runtime::Context;

/// Runs the module until the supervisor asks it to drain.
///
/// # Errors
/// When the lifeline or a peer's socket breaks in a way that no redial heals.
pub async fn run(context: Context) -> anyhow::Result<()> {
    module_runtime::serve_unsupported(context).await
}
