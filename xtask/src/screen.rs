//! What the user sees. Colours only on a terminal, and never where `NO_COLOR` or `CI` asks for
//! plain text.

use std::env;
use std::io::{IsTerminal, Write, stderr, stdout};

/// The terminal, or what stands in for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    colour: bool,
}

impl Screen {
    /// Looks at standard output and the environment.
    pub(crate) fn of_terminal() -> Self {
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        Self { colour: stdout().is_terminal() && !set("NO_COLOR") && !set("CI") }
    }

    /// Tells whether colours are wanted.
    pub(crate) const fn colour(self) -> bool {
        self.colour
    }

    /// Begins a part.
    pub(crate) fn heading(self, text: &str) {
        self.line(&format!("\n{}", self.paint("1;36", &format!("== {text}"))));
    }

    /// Writes a line. Where nobody reads any more, the work goes on: a node that was started must
    /// still be ended.
    pub(crate) fn line(self, text: &str) {
        writeln!(stdout(), "{text}").ok();
    }

    /// Writes the last word of a command that failed.
    pub(crate) fn error(self, text: &str) {
        writeln!(stderr(), "{} {text}", self.paint("1;31", "xtask:")).ok();
    }

    /// Shows a program's command line before it runs.
    pub(crate) fn command(self, line: &str) {
        self.line(&self.faint(&format!("$ {line}")));
    }

    /// Sets good news apart.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Sets bad news apart.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Puts a text in the background.
    pub(crate) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
