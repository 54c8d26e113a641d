//! Packages for Debian and for the distributions that use rpm, made of the shipped programs.
//!
//! Both hold the same tree of files and are made by the distributions' own programs, which take all
//! times from `SOURCE_DATE_EPOCH`: the same programs make the same packages, byte by byte.

mod check;
mod deb;
mod parts;
mod rpm;
mod tree;
mod trial;

pub(crate) use check::check;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::Usage;
use crate::workspace::Workspace;

/// What the packages are made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The folder of the shipped programs.
    pub(crate) programs: PathBuf,
    /// Where the packages go.
    pub(crate) folder: PathBuf,
    /// Which packaging of this version it is.
    pub(crate) revision: u32,
}

/// The packages.
#[derive(Debug)]
pub(crate) struct Packages {
    pub(crate) deb: PathBuf,
    pub(crate) rpm: PathBuf,
}

/// Makes the packages as the arguments say; builds the programs unless a folder of them is named.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let (check_too, arguments): (Vec<_>, Vec<_>) =
        arguments.iter().cloned().partition(|word| word == "--check");
    let (plan, built) = plan(workspace, &arguments)?;
    if !built {
        workspace.build_shipped()?;
    }
    if !check_too.is_empty() {
        check(workspace, &plan.programs)?;
    }
    let Packages { deb, rpm } = make(workspace, &plan)?;
    for package in [deb, rpm] {
        workspace.screen.line(&workspace.screen.good(&package.display().to_string()));
    }
    Ok(())
}

/// Reads the arguments; tells also whether the programs are built already.
fn plan(workspace: &Workspace, arguments: &[String]) -> Result<(Plan, bool)> {
    let mut plan =
        Plan { programs: workspace.release(), folder: workspace.target.join("dist"), revision: 1 };
    let mut built = false;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value =
            || words.next().ok_or_else(|| Usage(format!("{word} needs a value"))).cloned();
        match word.as_str() {
            "--bin-dir" => {
                plan.programs = std::path::absolute(value()?)?;
                built = true;
            }
            "--out" => plan.folder = std::path::absolute(value()?)?,
            "--revision" => {
                let text = value()?;
                plan.revision = text
                    .parse()
                    .map_err(|_| Usage(format!("revision '{text}', expected a whole number")))?;
            }
            other => {
                let known = "--bin-dir, --out, --revision or --check";
                bail!(Usage(format!("unknown argument '{other}', expected {known}")));
            }
        }
    }
    Ok((plan, built))
}

/// Makes the packages of a plan.
pub(crate) fn make(workspace: &Workspace, plan: &Plan) -> Result<Packages> {
    let epoch = epoch(workspace)?;
    let stage = tempfile::tempdir().context("cannot make a folder for the packages' files")?;
    fs::create_dir_all(&plan.folder)?;
    let parts = parts::shipped(workspace)?;
    let bill = plan.folder.join(format!("edgecore_{}.cdx.json", version()));
    fs::write(&bill, parts::bill(&parts, epoch)?)?;
    let files = tree::files(workspace, &plan.programs, &parts)?;
    let job = Job { workspace, plan, epoch, stage: stage.path() };
    let deb = deb::make(&job, &files)?;
    let rpm = rpm::make(&job, &files)?;
    Ok(Packages { deb, rpm })
}

/// What both makers need to know.
struct Job<'a> {
    workspace: &'a Workspace,
    plan: &'a Plan,
    /// The time of everything in the packages, in seconds of Unix.
    epoch: u64,
    stage: &'a Path,
}

impl Job<'_> {
    /// Prepares a program whose output depends on nothing but its input.
    fn program(&self, program: &str, arguments: &str) -> Command {
        let mut command = self.workspace.program(program, arguments);
        command.env("SOURCE_DATE_EPOCH", self.epoch.to_string());
        command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        command
    }
}

/// Returns the version of what is shipped.
const fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Returns the time that the packages bear: `SOURCE_DATE_EPOCH`, else the last commit's.
fn epoch(workspace: &Workspace) -> Result<u64> {
    let text = match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => output(&mut workspace.program("git", "log -1 --format=%ct"))
            .context("no time for the packages; set SOURCE_DATE_EPOCH")?,
    };
    text.trim().parse().with_context(|| {
        format!("SOURCE_DATE_EPOCH is '{}', expected seconds since 1970", text.trim())
    })
}

/// Runs a program and returns what it printed.
fn output(command: &mut Command) -> Result<String> {
    let shown = crate::workspace::command_line(command);
    let output = command.output().with_context(|| format!("cannot run '{shown}'"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("'{shown}' ended with {}: {}", output.status, said.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("'{shown}' printed no text"))
}

/// Writes a file that the template makes with these words in place of `@NAME@`.
fn filled(template: &Path, words: &[(&str, &str)]) -> Result<String> {
    let text = fs::read_to_string(template)
        .with_context(|| format!("cannot read {}", template.display()))?;
    let fill =
        |text: String, (name, value): &(&str, &str)| text.replace(&format!("@{name}@"), value);
    Ok(words.iter().fold(text, fill))
}

#[cfg(test)]
mod tests;
