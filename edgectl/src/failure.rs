//! How the command fails, and the exit code of each way.

use std::io;
use std::process::ExitCode;

/// Why the command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The arguments are none that the command knows; also how help is asked for.
    #[error(transparent)]
    Arguments(clap::Error),
    /// The arguments name something that does not exist.
    #[error("{0}")]
    Usage(String),
    /// It was tried, and it did not work.
    #[error("{0}")]
    Failed(String),
    /// The supervisor could not be asked.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// A command in a container did not end well; this is its exit code.
    #[error("command terminated with exit code {0}")]
    Command(u8),
    /// Who read the output has seen enough, as `head` does.
    #[error("the reader of the output is gone")]
    ReaderGone,
}

/// Why the supervisor could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    /// No socket, or nobody behind it.
    #[error(
        "edgecore is not running ({0}): start it with 'systemctl start edgecore' or run 'edgecore' in a terminal"
    )]
    NotRunning(String),
    /// The socket is not for this user.
    #[error("permission denied on {0}: run edgectl as root or as the user that edgecore runs as")]
    Denied(String),
    /// It takes too long.
    #[error("edgecore does not answer on {socket} within {seconds} s")]
    Silent {
        /// The control socket.
        socket: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Something listens that does not speak the protocol.
    #[error("what listens on {socket} is no edgecore of this version: {reason}")]
    Foreign {
        /// The control socket.
        socket: String,
        /// What gave it away.
        reason: String,
    },
    /// The operating system's own words.
    #[error("cannot ask edgecore on {socket}: {error}")]
    Broken {
        /// The control socket.
        socket: String,
        /// What it said.
        error: io::Error,
    },
}

impl From<io::Error> for Failure {
    /// Takes an error of writing the output; all others say what they were about.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::ReaderGone
        } else {
            Self::Failed(format!("cannot write the output: {error}"))
        }
    }
}

impl Failure {
    /// Says it on standard error and returns the exit code.
    #[expect(clippy::print_stderr, reason = "the one place where the command reports a failure")]
    pub(crate) fn tell(&self) -> ExitCode {
        match self {
            // Nothing can be done about a standard error that is closed.
            Self::Arguments(error) => drop(error.print()),
            Self::ReaderGone => {}
            Self::Usage(_) | Self::Failed(_) | Self::Unreachable(_) | Self::Command(_) => {
                eprintln!("edgectl: {self}");
            }
        }
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Failed(_) => 1,
            Self::Command(code) => *code,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            // Help and version are asked for, all else is wrong usage.
            Self::Arguments(error) => {
                if error.use_stderr() {
                    2
                } else {
                    0
                }
            }
        }
    }
}
