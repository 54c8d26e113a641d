//! The workspace that is worked on: its folders, and running programs in it.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::screen::Screen;

/// The programs that are shipped; their packages have the same names.
pub(crate) const SHIPPED: [&str; 2] = ["edgecore", "edgectl"];

/// The workspace's folders, and the screen that its commands are shown on.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) screen: Screen,
}

impl Workspace {
    /// Finds the workspace that this program was built in.
    pub(crate) fn find(screen: &Screen) -> Self {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = own.parent().unwrap_or(own).to_owned();
        let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        Self { target: root.join(target), root, screen: *screen }
    }

    /// Returns the folder of the shipped programs.
    pub(crate) fn release(&self) -> PathBuf {
        self.target.join("release")
    }

    /// Prepares a program to run in the workspace's root.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>, arguments: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).args(arguments.split_whitespace());
        command
    }

    /// Prepares cargo, with the toolchain that runs this command.
    pub(crate) fn cargo(&self, arguments: &str) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = self.program(cargo, arguments);
        if !self.screen.colour() {
            command.env("CARGO_TERM_COLOR", "never").env("CARGO_TERM_PROGRESS_WHEN", "never");
        }
        command
    }

    /// Shows a program's command line and runs it to its end.
    pub(crate) fn run(&self, command: &mut Command) -> Result<()> {
        let line = command_line(command);
        self.screen.command(&line);
        let status = command.status().with_context(|| format!("cannot run '{line}'"))?;
        if !status.success() {
            bail!("'{line}' ended with {status}");
        }
        Ok(())
    }

    /// Builds the programs that are shipped, the way they are shipped.
    pub(crate) fn build_shipped(&self) -> Result<()> {
        let packages = SHIPPED.map(|package| format!("--package {package}")).join(" ");
        self.run(&mut self.cargo(&format!("build --release {packages}")))
    }

    /// Builds the shipped programs and runs a program of the `tests` crate against them.
    pub(crate) fn run_tests_program(&self, program: &str, arguments: &[String]) -> Result<()> {
        self.build_shipped()?;
        let cargo = format!("run --release --quiet --package edgecore-tests --bin {program} --");
        let mut command = self.cargo(&cargo);
        command.args(arguments).env("EDGECORE_BIN_DIR", self.release());
        self.run(&mut command)
    }
}

/// Writes a command as one would type it, without the settings that only change its colours.
pub(crate) fn command_line(command: &Command) -> String {
    let shown = |text: &OsStr| {
        let text = text.to_string_lossy();
        if text.contains(' ') { format!("'{text}'") } else { text.into_owned() }
    };
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    let settings = command.get_envs().filter_map(|(name, value)| {
        let name = name.to_string_lossy();
        let value = value.filter(|_| !name.starts_with("CARGO_TERM_"))?;
        Some(format!("{name}={}", shown(value)))
    });
    let words = command.get_args().map(shown);
    settings.chain([shown(program)]).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        command.env("CARGO_TERM_COLOR", "never");
        assert_eq!(command_line(&command), "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }
}
