//! What can be wrong with a database, in the words that an operator needs.

use rusqlite::ErrorCode;

/// Why the database cannot be written, or not even read.
///
/// None of them ends the process: what waits to be committed stays unsettled with its sender, and
/// is tried again until it can be committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Another process holds it.
    #[error(
        "the database is locked by another process: stop whatever else has it open (an edgecore \
         that still runs, a keadm backup, a sqlite3 shell)"
    )]
    Locked,
    /// It cannot be written.
    #[error("the database cannot be written: {0}; check the mount and the file's owner and mode")]
    ReadOnly(String),
    /// No room is left.
    #[error("the disk is full: {0}; free some room on the database's disk")]
    Full(String),
    /// A later program has changed it.
    #[error(
        "the database has schema version {found}, this program knows versions up to {known}: \
         install the newer edgecore again, or move the database away to begin with an empty one"
    )]
    Newer {
        /// The file's version.
        found: i64,
        /// This program's version.
        known: i64,
    },
    /// It is no database, or one with broken pages.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// It cannot be opened.
    #[error("the database cannot be opened: {0}; check its folder")]
    Closed(String),
    /// Anything else.
    #[error("the database fails: {0}")]
    Failing(String),
}

impl Trouble {
    /// Returns the one word for scripts.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::ReadOnly(_) => "read-only",
            Self::Full(_) => "full",
            Self::Newer { .. } => "newer",
            Self::Damaged(_) => "damaged",
            Self::Closed(_) => "closed",
            Self::Failing(_) => "failing",
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly(text),
            Some(ErrorCode::DiskFull) => Self::Full(text),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(text),
            Some(ErrorCode::CannotOpen) => Self::Closed(text),
            Some(_) | None => Self::Failing(text),
        }
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        let text = error.to_string();
        #[expect(clippy::wildcard_enum_match_arm, reason = "the standard library's list is open")]
        match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::Full(text),
            Kind::ReadOnlyFilesystem | Kind::PermissionDenied => Self::ReadOnly(text),
            _ => Self::Closed(text),
        }
    }
}
