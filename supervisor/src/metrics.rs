//! The doors at which metrics are asked for: a Unix socket, and a TCP port where the operator wants one.
//!
//! The supervisor reads no byte that comes through them. Who knocks wakes a process of its own, the
//! exporter, which gets the doors as descriptors 0 and 1, asks the supervisor as an operator does, and
//! ends when nobody has knocked for a while. Whatever is sent to the port can harm that process alone;
//! when it dies, the next knock makes another.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{
    PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use serde::{Deserialize, Serialize};

use crate::child::Millis;
use crate::process::{ALLOCATOR, raw};
use crate::reactor::Source;
use crate::{say, sockets};

/// How long nobody is let in after an exporter's end, so that one that dies of each knock costs little.
const REST: Millis = 1000;

/// Who may knock at the Unix socket: root, and the supervisor's group.
const MODE: u32 = 0o660;

/// The doors, and the process behind them.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    unix: Option<OwnedFd>,
    tcp: Option<(SocketAddr, OwnedFd)>,
    exporter: Option<OwnedFd>,
    rests_until: Millis,
}

/// Which doors a reload hands on.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Open {
    unix: bool,
    tcp: Option<SocketAddr>,
}

impl Metrics {
    /// Opens the doors that are wanted and closes others; returns a sentence for each that cannot be
    /// opened.
    pub(crate) fn configure(&mut self, unix: &Path, tcp: Option<SocketAddr>) -> Vec<String> {
        let mut closed = Vec::new();
        if self.unix.is_none() {
            match sockets::bind(unix, MODE) {
                Ok(door) => self.unix = Some(door),
                Err(error) => closed.push(format!("metrics are not served: {error}")),
            }
        }
        if self.tcp.as_ref().map(|(address, _)| *address) != tcp {
            self.tcp = None;
            if let Some(address) = tcp {
                match listen(address) {
                    Ok(door) => self.tcp = Some((address, door)),
                    Err(error) => {
                        closed.push(format!("metrics are not served on {address}: {error}"));
                    }
                }
            }
        }
        closed
    }

    /// Tells which doors are open.
    pub(crate) fn open(&self) -> Open {
        let tcp = self.tcp.as_ref().map(|(address, _)| *address);
        Open { unix: self.unix.is_some(), tcp }
    }

    /// Returns the doors that are open, in the order in which [`Metrics::adopt`] takes them.
    pub(crate) fn doors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let tcp = self.tcp.iter().map(|(_, door)| door);
        self.unix.iter().chain(tcp).map(AsFd::as_fd)
    }

    /// Takes over the doors of an earlier image of this process.
    ///
    /// # Errors
    /// When one is missing.
    pub(crate) fn adopt(
        open: Open,
        mut next: impl FnMut() -> io::Result<OwnedFd>,
    ) -> io::Result<Self> {
        let unix = if open.unix { Some(next()?) } else { None };
        let tcp = match open.tcp {
            Some(address) => Some((address, next()?)),
            None => None,
        };
        Ok(Self { unix, tcp, exporter: None, rests_until: 0 })
    }

    /// Returns what to poll for: the exporter's end while there is one, else a knock.
    pub(crate) fn interests(&self, now: Millis) -> Vec<(Source, BorrowedFd<'_>)> {
        match &self.exporter {
            Some(exporter) => vec![(Source::Exporter, exporter.as_fd())],
            None if now < self.rests_until => Vec::new(),
            None => self.doors().map(|door| (Source::Door, door)).collect(),
        }
    }

    /// Returns when the doors are looked at again after a rest.
    pub(crate) fn deadline(&self, now: Millis) -> Option<Millis> {
        (self.exporter.is_none() && now < self.rests_until).then_some(self.rests_until)
    }

    /// Makes an exporter for who knocks.
    pub(crate) fn serve(&mut self, now: Millis, runtime_dir: &Path) {
        if self.exporter.is_some() {
            return;
        }
        match self.spawn(runtime_dir) {
            Ok(exporter) => self.exporter = Some(exporter),
            Err(error) => {
                say::warn(format_args!("metrics cannot be served: {error}"));
                self.rests_until = now.saturating_add(REST);
            }
        }
    }

    fn spawn(&self, runtime_dir: &Path) -> io::Result<OwnedFd> {
        let door = |door: Option<&OwnedFd>| match door {
            Some(door) => door.try_clone().map(Stdio::from),
            None => Ok(Stdio::null()),
        };
        let child = Command::new("/proc/self/exe")
            .arg0("edgecore")
            .arg("metrics")
            .arg(runtime_dir)
            .current_dir("/")
            .process_group(0)
            .env_clear()
            .envs(ALLOCATOR)
            .stdin(door(self.unix.as_ref())?)
            .stdout(door(self.tcp.as_ref().map(|(_, door)| door))?)
            .spawn()?;
        Ok(pidfd_open(raw(child.id())?, PidfdFlags::empty())?)
    }

    /// Takes note that the exporter ended.
    pub(crate) fn ended(&mut self, now: Millis) {
        if let Some(exporter) = self.exporter.take() {
            let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            // Whoever reaps strangers may have been first.
            let _reaped = waitid(WaitId::PidFd(exporter.as_fd()), how);
            self.rests_until = now.saturating_add(REST);
        }
    }

    /// Ends the exporter.
    pub(crate) fn close(&self) {
        if let Some(exporter) = &self.exporter {
            pidfd_send_signal(exporter, Signal::KILL).ok();
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let door = TcpListener::bind(address)?;
    door.set_nonblocking(true)?;
    Ok(door.into())
}
