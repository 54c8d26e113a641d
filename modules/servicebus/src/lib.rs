//! HTTP: carries calls between the cloud's router and services on this node.
//!
//! It has no work of its own yet: it answers its peers that it supports nothing.

use module_runtime::Context;

/// Runs the module until it is asked to drain.
///
/// # Errors
/// None so far.
pub async fn run(context: Context) -> anyhow::Result<()> {
    module_runtime::serve_unsupported(context).await
}
