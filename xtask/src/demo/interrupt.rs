//! Ctrl-C as a value: every pause of the demonstration ends at once when it comes.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

/// The user wants the demonstration to end.
#[derive(Debug)]
pub(super) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// The signals that ask this process to end, which make a socket readable.
#[derive(Debug)]
pub(super) struct Interrupt(UnixStream);

impl Interrupt {
    /// From now on these signals no longer end this process.
    pub(super) fn listen() -> Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let end = theirs.try_clone().context("cannot clone a socket")?;
            signal_hook::low_level::pipe::register(signal.as_raw(), end)
                .with_context(|| format!("cannot catch signal {}", signal.as_raw()))?;
        }
        Ok(Self(ours))
    }

    /// Waits for a time.
    ///
    /// # Errors
    /// [`Interrupted`] when a signal came, also before this call.
    pub(super) fn pause(&self, time: Duration) -> Result<()> {
        self.poll(Some(&Timespec::try_from(time)?))
    }

    /// Waits for a signal.
    ///
    /// # Errors
    /// Always: [`Interrupted`] when it came.
    pub(super) fn wait(&self) -> Result<()> {
        self.poll(None)
    }

    fn poll(&self, time: Option<&Timespec>) -> Result<()> {
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], time) {
            Ok(0) => Ok(()),
            // a signal that arrives meanwhile cuts the call short, and then is in the socket
            Ok(_) | Err(Errno::INTR) => bail!(Interrupted),
            Err(error) => Err(error).context("cannot wait for signals"),
        }
    }
}
