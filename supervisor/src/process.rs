//! One module's process as the supervisor holds it: made here, signalled and reaped through its
//! pidfd, talked to over its lifeline.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use ipc_proto::Module;
use ipc_proto::lifeline::{Confinement, Load, Traffic};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitStatus, kill_process, kill_process_group,
    pidfd_open, pidfd_send_signal, waitid,
};

use crate::child::Status;
use crate::lifeline::Lifeline;
use crate::logfile;

/// The folders in which programs are looked for; no module runs a shell.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How the C library's allocator is to give memory back: one arena for all threads, and bounds that
/// stand. Left alone they grow with the largest buffer ever freed, and a list of all pods would stay.
pub(crate) const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
];

/// A living process, or one whose death was not seen yet.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its process id.
    pub(crate) pid: u32,
    /// The same as a descriptor, which becomes readable when the process ends.
    pub(crate) handle: OwnedFd,
    /// The supervisor's end of its lifeline; none once that was lost.
    pub(crate) lifeline: Option<Lifeline>,
    /// The size of its log when it was made.
    pub(crate) log_from: u64,
    /// What it is confined to, as it said when it became ready.
    pub(crate) confinement: Option<Confinement>,
    /// What it holds, as of its latest beat.
    pub(crate) load: Load,
    /// What has passed between it and its peers, as of one of its latest beats.
    pub(crate) traffic: Traffic,
    /// Its latest report, as it came: nobody parses it until an operator asks.
    pub(crate) report: Option<Box<[u8]>>,
}

impl Process {
    /// Makes the process: this program's own file under the module's name, in a process group of its
    /// own, with the lifeline as descriptor 0 and the log as 1 and 2. Everything else that must
    /// happen before the module's work, the process does itself.
    ///
    /// # Errors
    /// When the host is out of processes, descriptors or memory, or the log cannot be opened.
    pub(crate) fn spawn(module: Module, log: &Path) -> io::Result<Self> {
        let output = logfile::open(log)?;
        let log_from = output.metadata()?.len();
        let (lifeline, theirs) = Lifeline::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg0(module.name())
            .current_dir("/")
            .process_group(0)
            .env_clear()
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .envs(ALLOCATOR)
            .stdin(theirs)
            .stdout(output.try_clone()?)
            .stderr(Stdio::from(output))
            .spawn()?;
        Self::hold(child.id(), Some(lifeline), log_from)
    }

    /// Takes hold of a child process that was made here or by an earlier image of this process.
    ///
    /// # Errors
    /// When there is no such child, or no descriptor left; the child is then killed.
    pub(crate) fn hold(pid: u32, lifeline: Option<Lifeline>, log_from: u64) -> io::Result<Self> {
        let id = raw(pid)?;
        let handle = pidfd_open(id, PidfdFlags::empty()).inspect_err(|_| {
            kill_process(id, Signal::KILL).ok();
        })?;
        Ok(Self {
            pid,
            handle,
            lifeline,
            log_from,
            confinement: None,
            load: Load::default(),
            traffic: Traffic::default(),
            report: None,
        })
    }

    /// Sends a signal. A process that is dead already is no error.
    pub(crate) fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.handle, signal).ok();
    }

    /// Returns how the process ended, if it did, and reaps it. Before that its process group is
    /// killed, while the dead process still holds the group's number.
    ///
    /// # Errors
    /// When the process is no child of ours, which would be a bug.
    pub(crate) fn reap(&self) -> Result<Option<Status>, Errno> {
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let Some(ended) = waitid(WaitId::PidFd(self.handle.as_fd()), peek | WaitIdOptions::NOWAIT)?
        else {
            return Ok(None);
        };
        self.kill_group();
        waitid(WaitId::PidFd(self.handle.as_fd()), peek)?;
        let code = ended.exit_status().map(Status::Code);
        let signal = ended.terminating_signal().map(Status::Signal);
        // The kernel says one of the two; the rest is for completeness.
        Ok(code.or(signal).or(Some(Status::Code(-1))))
    }

    /// Kills what the process left behind in its group.
    pub(crate) fn kill_group(&self) {
        if let Ok(id) = raw(self.pid) {
            kill_process_group(id, Signal::KILL).ok();
        }
    }
}

/// Reads the status of a process that was reaped by number.
pub(crate) fn status_of(status: WaitStatus) -> Status {
    let code = status.exit_status().map(Status::Code);
    code.or(status.terminating_signal().map(Status::Signal)).unwrap_or(Status::Code(-1))
}

pub(crate) fn raw(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| Errno::SRCH.into())
}
