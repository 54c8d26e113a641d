//! Signals to the supervisor, made readable: a flag for each kind, and one socket that wakes the
//! poll. Signals of one kind that come together count once.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level::pipe};

/// What signals ask for.
#[derive(Debug)]
pub(crate) struct Signals {
    wake: UnixStream,
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    reap: Arc<AtomicBool>,
}

/// What signals asked for since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// SIGTERM or SIGINT: stop all modules in order and end.
    pub(crate) stop: bool,
    /// SIGHUP: reload.
    pub(crate) reload: bool,
    /// SIGCHLD: some child ended.
    pub(crate) reap: bool,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub(crate) fn listen() -> io::Result<Self> {
        let (wake, bell) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let signals =
            Self { wake, stop: Arc::default(), reload: Arc::default(), reap: Arc::default() };
        for (signal, flag) in [
            (SIGTERM, &signals.stop),
            (SIGINT, &signals.stop),
            (SIGHUP, &signals.reload),
            (SIGCHLD, &signals.reap),
        ] {
            // The flag first: when the bell rings it must be up.
            flag::register(signal, Arc::clone(flag))?;
            pipe::register(signal, bell.try_clone()?)?;
        }
        Ok(signals)
    }

    /// Returns what was asked for, and forgets it.
    pub(crate) fn take(&mut self) -> Asked {
        let mut rings = [0; 64];
        while self.wake.read(&mut rings).is_ok_and(|count| count == rings.len()) {}
        Asked {
            stop: self.stop.swap(false, Ordering::SeqCst),
            reload: self.reload.swap(false, Ordering::SeqCst),
            reap: self.reap.swap(false, Ordering::SeqCst),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
