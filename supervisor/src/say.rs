//! The supervisor's log: one line for each fact, on standard error.
//!
//! Where the journal reads standard error, a line begins with its syslog level, as the journal wants
//! it; elsewhere with the level's name. Nothing is buffered and nothing can fail: a log that is gone
//! must not end the process that keeps all others alive.

use std::fmt;
use std::io::Write;

/// A human must act.
pub(crate) fn error(text: fmt::Arguments<'_>) {
    line(3, "error", text);
}

/// The agent coped.
pub(crate) fn warn(text: fmt::Arguments<'_>) {
    line(4, "warn ", text);
}

/// Lifecycle.
pub(crate) fn info(text: fmt::Arguments<'_>) {
    line(6, "info ", text);
}

fn line(level: u8, name: &str, text: fmt::Arguments<'_>) {
    let line = if std::env::var_os("JOURNAL_STREAM").is_some() {
        format!("<{level}>supervisor: {text}\n")
    } else {
        format!("{name} supervisor: {text}\n")
    };
    std::io::stderr().write_all(line.as_bytes()).ok();
}
