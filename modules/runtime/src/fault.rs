//! Faults on purpose: what the supervisor and the peers must survive, done to this process.

use std::alloc::Layout;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use ipc_proto::lifeline::{Fault, Start};
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};
use tokio::signal::unix::SignalKind;
use tracing::{error, info};

use crate::break_out;

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

/// The name of the file that says where to freeze, in the runtime folder.
const HALT: &str = "halt";

/// Points of a module's work at which it freezes where somebody wants to see what becomes of it
/// there. Where faults are not enabled nothing is looked at.
#[derive(Clone, Debug)]
pub struct Halts(Option<Box<Path>>);

impl Halts {
    pub(crate) fn of(start: &Start) -> Self {
        Self(start.faults.then(|| Path::new(&*start.runtime_dir).join(HALT).into()))
    }

    /// Freezes this process, as by SIGSTOP, when the file `halt` in the runtime folder has the name
    /// of this point.
    pub fn at(&self, point: &str) {
        let Some(file) = &self.0 else { return };
        if std::fs::read_to_string(file).is_ok_and(|wanted| wanted == point) {
            info!("freezing at '{point}', as asked");
            signal(Signal::STOP);
        }
    }
}

/// Does it.
#[expect(clippy::panic, reason = "a panic is the fault that was asked for")]
pub(crate) fn inject(fault: Fault, runtime_dir: &Path) -> Option<Lasting> {
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
        Fault::BreakOut => break_out::attempt(runtime_dir),
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
