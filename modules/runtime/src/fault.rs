//! Faults on purpose: what the supervisor and the peers must survive, done to this process.

use std::alloc::Layout;
use std::fs::File;
use std::os::fd::OwnedFd;

use ipc_proto::lifeline::Fault;
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};
use tokio::signal::unix::SignalKind;
use tracing::error;

/// Memory taken at most, where nothing else sets a bound: enough to show, not enough to take the
/// node down.
const ENOUGH: usize = 1 << 30;

/// Memory taken at once.
const GULP: usize = 1 << 24;

/// A fault that the main loop carries on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    SlowIpc,
    NoLifeline,
}

/// Does it.
#[expect(clippy::panic, reason = "a panic is the fault that was asked for")]
pub(crate) fn inject(fault: Fault) -> Option<Lasting> {
    match fault {
        Fault::SlowIpc => return Some(Lasting::SlowIpc),
        Fault::CloseLifeline => return Some(Lasting::NoLifeline),
        Fault::Kill => signal(Signal::KILL),
        Fault::Stop => signal(Signal::STOP),
        Fault::Segv => {
            // The first only takes away the handler that tells stack overflows from other faults.
            signal(Signal::SEGV);
            signal(Signal::SEGV);
        }
        Fault::Panic => panic!("panic on purpose"),
        Fault::Hang => loop {
            std::thread::park();
        },
        Fault::Oom => take_memory(),
        Fault::DiskFull => told(fill_disk()),
        Fault::CloseStdout => told(close_output()),
    }
    None
}

fn signal(signal: Signal) {
    told(kill_process(getpid(), signal).map_err(Into::into));
}

fn told(result: std::io::Result<()>) {
    if let Err(error) = result {
        error!("cannot put the fault in: {error}");
    }
}

/// Takes memory and touches it, until the allocator or the kernel ends the process.
fn take_memory() -> ! {
    let mut taken = Vec::new();
    for _ in 0..ENOUGH / GULP {
        taken.push(vec![1_u8; GULP]);
        std::hint::black_box(&taken);
    }
    // Nothing has set a bound: end as the allocator does at one.
    std::alloc::handle_alloc_error(Layout::new::<[u8; GULP]>())
}

/// Lets no file of this process grow any more. Each write then fails as on a full disk; without a
/// handler for it the kernel would end the process instead.
fn fill_disk() -> std::io::Result<()> {
    let too_large = SignalKind::from_raw(Signal::XFSZ.as_raw());
    // The handler stays when nobody listens.
    drop(tokio::signal::unix::signal(too_large)?);
    let nothing = Rlimit { current: Some(0), maximum: None };
    Ok(setrlimit(Resource::Fsize, nothing)?)
}

/// Puts pipes that nobody reads in the place of standard output and error: each write fails, and
/// their numbers do not go to the next file that is opened.
fn close_output() -> std::io::Result<()> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let writer = OwnedFd::from(writer);
    rustix::stdio::dup2_stdout(&writer)?;
    rustix::stdio::dup2_stderr(&writer)?;
    Ok(())
}

/// Puts the null device in the place of standard input.
pub(crate) fn no_input() -> std::io::Result<()> {
    let null = File::open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdin(&null)?)
}
