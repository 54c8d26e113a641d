//! The lifeline: the socket pair between the supervisor and one module.
//!
//! It is a `SOCK_SEQPACKET` pair, one record a packet; the module finds its end on descriptor 0.
//! The first record is [`ToModule::Start`] and carries the module's listening socket as an attached
//! descriptor. The end of either side means that the other is gone: a module then ends itself, the
//! supervisor kills and restarts.
//!
//! Beats are sent by the module's main loop and by nothing else, so a beat shows that it turns.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::Instance;
use crate::module::ModuleState;
use crate::module::{Module, ModuleSet};
use crate::tap::Filter;

/// The version of the lifeline's records; the first byte of each.
pub const VERSION: u8 = 1;

/// The greatest record in bytes; well under the kernel's default socket buffer of 212,992.
pub const MAX_RECORD: usize = 96 * 1024;

/// The greatest [`ToSupervisor::Report`] in bytes.
pub const MAX_REPORT: usize = 8 * 1024;

/// What the supervisor tells a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToModule {
    /// All that a module needs to begin; its listening socket is attached.
    Start(Box<Start>),
    /// Finish what you hold and end.
    Drain,
    /// Do this to yourself; sent only where faults are enabled.
    Fault(Fault),
    /// Write a record of each message that passes the filter to the attached socket, in place of
    /// any socket attached before.
    Tap(Filter),
    /// Nobody looks any more.
    TapEnd,
    /// How all modules are, whenever that changed; sent to edged, which shows it to the cluster.
    Fleet(Vec<Standing>),
}

/// How a module is, as far as the cluster is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Which.
    pub module: Module,
    /// In one word.
    pub state: ModuleState,
    /// Starts after the first one.
    pub restarts: u32,
    /// The reason of its last end, as in [`LastExit::reason`](crate::control::LastExit::reason), and when that was: Unix time in
    /// milliseconds.
    pub last_end: Option<(Box<str>, i64)>,
}

/// What a module tells the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSupervisor {
    /// The module is confined and serves its socket.
    Ready(Confinement),
    /// The main loop turns.
    Beat(Load),
    /// A JSON object that `edgectl status` shows; the latest one counts. At most [`MAX_REPORT`].
    Report(Box<[u8]>),
    /// What has passed so far; sent before a beat, when it has changed.
    Traffic(Traffic),
}

/// How much a module holds, over all its peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Messages that were not yet written to a peer.
    pub waiting: u32,
    /// Messages that were written and not yet settled.
    pub unsettled: u32,
}

/// What has passed between a module's process and all its peers since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Messages and answers written to peers; those written again after a reconnect count again.
    pub sent: u64,
    /// Messages and answers taken from peers; repetitions do not count.
    pub received: u64,
    /// Bytes of the messages that wait or are not settled.
    pub queued_bytes: u64,
    /// Peers that are connected.
    pub peers: u32,
    /// Connections with peers that came to stand.
    pub connections: u64,
}

/// All that a module needs to begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Which module the process is to be.
    pub module: Module,
    /// This life of the process.
    pub instance: Instance,
    /// The node's name.
    pub node: Box<str>,
    /// The folder of the listening sockets.
    pub runtime_dir: Box<str>,
    /// The module's own configuration as JSON.
    pub config: Box<str>,
    /// The modules that run on this node; the others are not dialled.
    pub enabled: ModuleSet,
    /// The user id of each module's process, by [`Module::index`]; who says hello as a module must
    /// have its user id.
    pub users: [u32; Module::COUNT],
    /// Milliseconds between two beats, at least 1.
    pub beat_interval_ms: u32,
    /// Whether [`ToModule::Fault`] is obeyed.
    pub faults: bool,
    /// Which log lines are written.
    pub log_level: LogLevel,
    /// Where the process is to be locked in before it does anything.
    pub confine: Confine,
    /// Bounds of the queue to each peer.
    pub queue: QueueBounds,
}

/// Which log lines are written: this level and those above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// A human must act.
    Error,
    /// The agent coped.
    Warn,
    /// Lifecycle.
    #[default]
    Info,
    /// Each message.
    Debug,
    /// Everything.
    Trace,
}

/// Bounds of the queue from a module to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueBounds {
    /// Messages that may wait or be unsettled.
    pub messages: u32,
    /// Bytes that they may take.
    pub bytes: u32,
}

impl Default for QueueBounds {
    /// 1,024 messages as in KubeEdge (WIRE.md §1.6), and 4 MiB.
    fn default() -> Self {
        Self { messages: 1024, bytes: 4 * 1024 * 1024 }
    }
}

/// The confinement that a module is asked to put on before it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confine {
    /// The user and group to become.
    pub user: Option<(u32, u32)>,
    /// Whether to keep the powers of root.
    pub keep_root: bool,
    /// Whether to install the module's seccomp filter.
    pub seccomp: bool,
    /// Whether to install the module's Landlock rules.
    pub landlock: bool,
    /// Folders that Landlock lets the module write in.
    pub writable: Vec<Box<str>>,
    /// Folders of others that Landlock lets the module read, beside those of every module.
    pub readable: Vec<Box<str>>,
    /// The greatest address space in bytes (`RLIMIT_AS`), where no control group bounds memory.
    pub address_space: Option<u64>,
    /// The greatest number of open files (`RLIMIT_NOFILE`).
    pub open_files: Option<u64>,
}

/// The confinement that is in force, as the module itself found it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Confinement {
    /// The user id of the process.
    pub uid: u32,
    /// Capabilities that the process has kept, as a bit mask.
    pub capabilities: u64,
    /// Whether it can never gain privileges.
    pub no_new_privileges: bool,
    /// Whether a seccomp filter is installed.
    pub seccomp: bool,
    /// The Landlock ABI in force; 0 where none is.
    pub landlock_abi: u8,
    /// `RLIMIT_AS` in bytes, where set.
    pub address_space: Option<u64>,
    /// `RLIMIT_NOFILE`.
    pub open_files: Option<u64>,
    /// What was asked for and could not be had, one sentence each.
    pub not_in_force: Vec<Box<str>>,
}

/// A fault that can be put into a module on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP: the process freezes, and is found by its missing beats.
    Stop,
    /// SIGSEGV.
    Segv,
    /// A broken invariant.
    Panic,
    /// The main loop stops turning.
    Hang,
    /// Every message takes 100 ms for ten seconds.
    SlowIpc,
    /// Memory is taken until there is none.
    Oom,
    /// No file can grow any more.
    DiskFull,
    /// The module's end of the lifeline is closed.
    CloseLifeline,
    /// Standard output and error are closed.
    CloseStdout,
    /// What the confinement forbids is tried, and the module's log says what came of it.
    BreakOut,
}

impl Fault {
    /// All faults, in the order of the operator's help.
    pub const ALL: [Self; 11] = [
        Self::Kill,
        Self::Stop,
        Self::Segv,
        Self::Panic,
        Self::Hang,
        Self::SlowIpc,
        Self::Oom,
        Self::DiskFull,
        Self::CloseLifeline,
        Self::CloseStdout,
        Self::BreakOut,
    ];

    /// Returns the operator's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Segv => "segv",
            Self::Panic => "panic",
            Self::Hang => "hang",
            Self::SlowIpc => "slow-ipc",
            Self::Oom => "oom",
            Self::DiskFull => "disk-full",
            Self::CloseLifeline => "close-lifeline",
            Self::CloseStdout => "close-stdout",
            Self::BreakOut => "break-out",
        }
    }
}

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Nothing in it.
    #[error("empty lifeline record")]
    Empty,
    /// Another version.
    #[error("lifeline record of version {0}, expected {VERSION}")]
    Version(u8),
    /// Over the bound.
    #[error("lifeline record of {0} bytes, expected at most {MAX_RECORD}")]
    TooLong(usize),
    /// Not what the version says.
    #[error("malformed lifeline record")]
    Malformed,
}

/// Encodes a record.
///
/// # Errors
/// [`RecordError::TooLong`].
pub fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, RecordError> {
    let packet = postcard::to_extend(record, vec![VERSION]).map_err(|_| RecordError::Malformed)?;
    if packet.len() > MAX_RECORD { Err(RecordError::TooLong(packet.len())) } else { Ok(packet) }
}

/// Decodes a record: [`ToModule`] on the module's side, [`ToSupervisor`] on the supervisor's.
///
/// # Errors
/// [`RecordError`] when it is none of this version.
pub fn decode<T: DeserializeOwned>(packet: &[u8]) -> Result<T, RecordError> {
    if packet.len() > MAX_RECORD {
        return Err(RecordError::TooLong(packet.len()));
    }
    let Some((&version, body)) = packet.split_first() else { return Err(RecordError::Empty) };
    if version != VERSION {
        return Err(RecordError::Version(version));
    }
    match postcard::take_from_bytes(body) {
        Ok((record, [])) => Ok(record),
        Ok(_) | Err(_) => Err(RecordError::Malformed),
    }
}
