//! How a process ended, and the reason that operators read.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// What the kernel says.
    pub status: Status,
    /// Whether it died of its memory bound.
    pub out_of_memory: bool,
}

/// What the kernel says of a process that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// Why a process is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// It was asked to.
    Requested,
    /// It became not ready, or missed its beats.
    Hang,
    /// Its lifeline was lost.
    LifelineLost,
}

/// Why a process ended; printed as in `ipc_proto::control::LastExit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A signal that was not the supervisor's.
    Signal(i32),
    /// By itself, with this code.
    Exit(i32),
    /// The supervisor killed it: not ready in time, or no beat.
    Hang,
    /// Its memory bound.
    OutOfMemory,
    /// It was asked to, by the operator or because the agent stops.
    Requested,
    /// It lived on without its lifeline.
    LifelineClosed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(number) => write!(f, "signal {number}"),
            Self::Exit(code) => write!(f, "exit {code}"),
            Self::Hang => f.write_str("hang"),
            Self::OutOfMemory => f.write_str("oom"),
            Self::Requested => f.write_str("requested"),
            Self::LifelineClosed => f.write_str("lifeline closed"),
        }
    }
}

impl Reason {
    /// The reason of a death that the supervisor had no part in.
    pub(super) const fn of(exit: Exit) -> Self {
        match exit {
            Exit { out_of_memory: true, .. } => Self::OutOfMemory,
            Exit { status: Status::Code(code), .. } => Self::Exit(code),
            Exit { status: Status::Signal(number), .. } => Self::Signal(number),
        }
    }

    /// The reason of a death that was under way; a crash on the way is told as what it is.
    pub(super) const fn after(cause: Cause, killed: bool, exit: Exit) -> Self {
        let code = match exit.status {
            Status::Code(code) => Some(code),
            Status::Signal(_) => None,
        };
        match cause {
            Cause::Hang => Self::Hang,
            Cause::Requested if killed || matches!(code, Some(0)) => Self::Requested,
            // Exit code 3 is how a module itself says that its lifeline closed.
            Cause::LifelineLost if killed || matches!(code, Some(3)) => Self::LifelineClosed,
            Cause::Requested | Cause::LifelineLost => Self::of(exit),
        }
    }
}
