//! The cloud link.

mod core;

use module_runtime::Context;

/// Runs the module until the supervisor asks it to drain.
///
/// # Errors
/// When the lifeline or a peer's socket breaks in a way that no redial heals.
pub async fn run(context: Context) -> anyhow::Result<()> {
    module_runtime::serve_unsupported(context).await
}
