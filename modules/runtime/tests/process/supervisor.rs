//! The supervisor's end of a module's process.

use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ipc_proto::lifeline::{
    Confine, LogLevel, MAX_RECORD, QueueBounds, Start, ToModule, ToSupervisor, decode, encode,
};
use ipc_proto::{Instance, Module, ModuleSet};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recv, send, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

/// A child that beats this often is silent when it does not within ten times as long.
const BEAT_MS: u32 = 20;

/// Returns a start record that asks for no confinement.
pub(crate) fn start(module: Module) -> Start {
    Start {
        module,
        instance: Instance(1),
        node: "edge1".into(),
        runtime_dir: "/nonexistent".into(),
        config: "[]".into(),
        enabled: ModuleSet::EMPTY,
        users: [0; Module::COUNT],
        beat_interval_ms: BEAT_MS,
        faults: true,
        log_level: LogLevel::Info,
        confine: Confine { keep_root: true, ..Confine::default() },
        queue: QueueBounds::default(),
    }
}

/// A module's process; it dies with this.
pub(crate) struct Child {
    process: std::process::Child,
    lifeline: Option<OwnedFd>,
    _folder: TempDir,
}

impl Child {
    pub(crate) fn spawn(module: Module, mut start: Start) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let listener = UnixListener::bind(folder.path().join("listener.sock"))?;
        // A module whose tests write somewhere is told where by its configuration.
        start.config = serde_json::to_string(&start.confine.writable)?.into();
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let process = Command::new(std::env::current_exe()?)
            .arg(module.name())
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let packet = encode(&ToModule::Start(Box::new(start)))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut attached = SendAncillaryBuffer::new(&mut space);
        let descriptors = [listener.as_fd()];
        ensure!(attached.push(SendAncillaryMessage::ScmRights(&descriptors)), "no room");
        sendmsg(&ours, &[IoSlice::new(&packet)], &mut attached, SendFlags::NOSIGNAL)?;
        Ok(Self { process, lifeline: Some(ours), _folder: folder })
    }

    /// Starts a module and waits until it is ready.
    pub(crate) fn ready(start: Start) -> Result<Self> {
        let mut child = Self::spawn(start.module, start)?;
        match child.receive()? {
            ToSupervisor::Ready(_) => Ok(child),
            record @ (ToSupervisor::Beat(_)
            | ToSupervisor::Report(_)
            | ToSupervisor::Traffic(_)) => {
                bail!("{record:?} comes first, expected ready")
            }
        }
    }

    fn lifeline(&self) -> Result<&OwnedFd> {
        self.lifeline.as_ref().context("the lifeline is closed")
    }

    pub(crate) fn send(&mut self, record: &ToModule) -> Result<()> {
        send(self.lifeline()?, &encode(record)?, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Reads one record; nothing at the end.
    fn read(&self) -> Result<Option<ToSupervisor>> {
        ensure!(readable(self.lifeline()?, LIMIT)?, "no record in time");
        let mut packet = vec![0; MAX_RECORD];
        let (bytes, _) = recv(self.lifeline()?, &mut packet[..], RecvFlags::empty())?;
        Ok((bytes > 0).then(|| decode(&packet[..bytes])).transpose()?)
    }

    pub(crate) fn receive(&mut self) -> Result<ToSupervisor> {
        self.read()?.with_context(|| "the module closed its lifeline")
    }

    pub(crate) fn beat(&mut self) -> Result<()> {
        while !matches!(self.receive()?, ToSupervisor::Beat(_)) {}
        Ok(())
    }

    /// Waits until no beat comes for ten times as long as beats take.
    pub(crate) fn falls_silent(&mut self) -> Result<()> {
        let silence = Duration::from_millis(u64::from(BEAT_MS) * 10);
        while readable(self.lifeline()?, silence)? {
            self.receive()?;
        }
        ensure!(self.process.try_wait()?.is_none(), "it died");
        Ok(())
    }

    pub(crate) fn closes_its_lifeline(&mut self) -> Result<()> {
        while self.read()?.is_some() {}
        ensure!(self.process.try_wait()?.is_none(), "it died");
        Ok(())
    }

    pub(crate) fn close_lifeline(&mut self) {
        self.lifeline = None;
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.process), signal)?)
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let pidfd = pidfd_open(Pid::from_child(&self.process), PidfdFlags::empty())?;
        ensure!(readable(&pidfd, LIMIT)?, "it does not end in time");
        Ok(self.process.wait()?)
    }

    pub(crate) fn exits_with(&mut self, code: i32) -> Result<()> {
        let status = self.wait()?;
        ensure!(status.code() == Some(code), "{status}, expected exit {code}: {}", self.stderr()?);
        Ok(())
    }

    pub(crate) fn dies_of(&mut self, signal: Signal) -> Result<()> {
        let status = self.wait()?;
        ensure!(status.signal() == Some(signal.as_raw()), "{status}, expected {signal:?}");
        Ok(())
    }

    /// Returns what the module wrote; to be asked once, when it has ended.
    pub(crate) fn stderr(&mut self) -> Result<String> {
        let mut text = String::new();
        if let Some(mut stderr) = self.process.stderr.take() {
            stderr.read_to_string(&mut text)?;
        }
        Ok(text)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to do.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn readable(descriptor: &impl AsFd, limit: Duration) -> Result<bool> {
    let limit = Timespec::try_from(limit)?;
    let mut descriptors = [PollFd::new(descriptor, PollFlags::IN)];
    Ok(poll(&mut descriptors, Some(&limit))? > 0)
}
