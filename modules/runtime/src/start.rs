//! The life of a module's process, from its first instruction to its exit code.

use std::cell::Cell;
use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::PanicHookInfo;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use ipc_proto::Module;
use ipc_proto::lifeline::{Confinement, Start, ToModule, ToSupervisor};
use rustix::net::SocketType;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, error};

use crate::confine::confine;
use crate::context::{Context, Fate};
use crate::inbox::Inbox;
use crate::lifeline::{self, Lifeline};
use crate::peers::{Peers, Seat, WINDOW};
use crate::{fault, log};

/// It failed; the cause is in the log.
const FAILED: u8 = 1;

/// It was started by hand.
const USAGE: u8 = 2;

/// The supervisor is gone.
const ORPHANED: u8 = 3;

/// How long a module that ends may still wait for its peers to settle. They settle in a
/// millisecond; what ends with it keeps nobody waiting.
const FLUSH: Duration = Duration::from_secs(1);

/// Runs a module to its end and returns the process's exit code: 0 drained on request, 1 failed,
/// 2 started by hand, 3 the supervisor is gone.
///
/// Standard input has to be the lifeline that the supervisor made. Its first record says what the
/// process is to be; the process then confines itself, serves its socket, and calls `run`.
pub fn main<F>(module: Module, run: F) -> ExitCode
where
    F: AsyncFnOnce(Context) -> anyhow::Result<()> + 'static,
{
    std::panic::set_hook(Box::new(move |panic| report_panic(module, panic)));
    let Some(lifeline) = take_lifeline() else {
        complain(&format!("{module} is a part of edgecore: start edgecore, it starts {module}"));
        return ExitCode::from(USAGE);
    };
    match live(module, lifeline, run) {
        Ok(Fate::Drained) => ExitCode::SUCCESS,
        Ok(Fate::Orphaned) => ExitCode::from(ORPHANED),
        Ok(Fate::Running) => {
            fail(module, &anyhow::anyhow!("it ended without having been asked to"))
        }
        Err(error) => fail(module, &error),
    }
}

fn fail(module: Module, cause: &anyhow::Error) -> ExitCode {
    error!("{module} failed: {cause:#}");
    // The supervisor keeps the last lines of this file, wherever the log goes.
    complain(&format!("{module} failed: {cause:#}"));
    ExitCode::from(FAILED)
}

/// Writes a line to standard error, which may be closed.
fn complain(line: &str) {
    let _closed = writeln!(std::io::stderr(), "{line}");
}

/// Leaves one line on standard error for the operator and ends the process, also in a build that
/// unwinds: there a task of the runtime would die alone and leave half a module behind.
fn report_panic(module: Module, panic: &PanicHookInfo<'_>) -> ! {
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    match panic.location() {
        Some(location) => complain(&format!("{module} panicked at {location}: {message}")),
        None => complain(&format!("{module} panicked: {message}")),
    }
    std::process::abort()
}

/// Takes standard input, if it is a lifeline.
fn take_lifeline() -> Option<OwnedFd> {
    let lifeline = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
    let kind = rustix::net::sockopt::socket_type(&lifeline).ok()?;
    fault::no_input().ok()?;
    (kind == SocketType::SEQPACKET).then_some(lifeline)
}

/// Lives until the end that is asked for, or until something fails.
fn live<F>(module: Module, lifeline: OwnedFd, run: F) -> anyhow::Result<Fate>
where
    F: AsyncFnOnce(Context) -> anyhow::Result<()> + 'static,
{
    let parent = getppid();
    let name = CString::new(module.name()).context("a module's name has no zero byte")?;
    rustix::thread::set_name(&name).context("cannot set the name of the process")?;
    let Some((start, listener)) = wait_for_start(&lifeline)? else {
        return Ok(Fate::Orphaned);
    };
    ensure!(start.module == module, "started as {module}, but told to be {}", start.module);
    log::start(module, start.log_level)?;
    let confinement = confine(&start)?;
    // After the change of user, which clears it. The parent may have died before.
    set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot tie this process to its supervisor")?;
    if getppid() != parent {
        return Ok(Fate::Orphaned);
    }
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .context("cannot start the asynchronous runtime")?;
    runtime.block_on(async move {
        // The module runs as a task, so that it and its connections wake each other at no cost.
        let life = tokio::task::spawn_local(serve(start, listener, lifeline, confinement, run));
        life.await.context("the main task was cancelled")?
    })
}

/// Waits for the first record of the lifeline.
fn wait_for_start(lifeline: &OwnedFd) -> anyhow::Result<Option<(Start, OwnedFd)>> {
    match lifeline::receive(lifeline)? {
        None => Ok(None),
        Some((ToModule::Start(start), Some(listener))) => Ok(Some((*start, listener))),
        Some((ToModule::Start(_), None)) => bail!("the supervisor attached no listening socket"),
        Some((record, _)) => bail!("the supervisor said {record:?} first, expected start"),
    }
}

async fn serve<F>(
    start: Start,
    listener: OwnedFd,
    lifeline: OwnedFd,
    confinement: Confinement,
    run: F,
) -> anyhow::Result<Fate>
where
    F: AsyncFnOnce(Context) -> anyhow::Result<()>,
{
    let terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    // A write beyond the bound on files is then an error; without a handler it would kill. SIGPIPE
    // is ignored by Rust's own start-up.
    let _handled = signal(SignalKind::from_raw(nix::libc::SIGXFSZ));
    let lifeline = Lifeline::new(lifeline).context("cannot watch the lifeline")?;
    let seat = Seat {
        module: start.module,
        instance: start.instance,
        runtime_dir: (*start.runtime_dir).into(),
        users: start.users,
        enabled: start.enabled,
        queue: start.queue,
        window: WINDOW,
    };
    let (peers, inbox): (Peers, Inbox) =
        seat.take(Some(listener)).context("cannot serve the listening socket")?;
    lifeline.send(&ToSupervisor::Ready(confinement))?;
    debug!(node = &*start.node, "started");
    let fate = Rc::new(Cell::new(Fate::Running));
    let context = Context::new(start, peers.clone(), inbox, lifeline, terminate, Rc::clone(&fate))?;
    run(context).await?;
    if fate.get() == Fate::Drained {
        peers.flush(FLUSH).await;
    }
    Ok(fate.get())
}
