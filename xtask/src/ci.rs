//! Everything that must hold before a change goes in, in the order in which it is cheapest to fail.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;
use crate::{Usage, budget, dist, install};

/// What a step has to say in the summary beside its time; mostly nothing.
pub(crate) type Note = Option<String>;

/// A step: its name on the command line, what it checks, and how.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace) -> Result<Note>,
}

const STEPS: [Step; 13] = [
    Step { name: "install", about: "programs that the steps need", run: install::all },
    Step { name: "fmt", about: "one style", run: fmt },
    Step { name: "clippy", about: "lints, every warning an error", run: clippy },
    Step { name: "build", about: "the programs that are shipped", run: build },
    Step { name: "test", about: "behaviours and faults, on the shipped programs", run: test },
    Step { name: "quic", about: "the cloud link over QUIC, which is not shipped", run: quic },
    Step { name: "doc", about: "documentation, every warning an error", run: doc },
    Step {
        name: "deny",
        about: "dependencies: versions, licences, sources, advisories",
        run: deny,
    },
    Step { name: "fuzz", about: "every decoder against mutated seeds", run: fuzz },
    Step { name: "units", about: "systemd's own opinion of the units", run: units },
    Step { name: "budgets", about: "sizes of the shipped programs", run: budgets },
    Step { name: "packages", about: "deb and rpm: made, checked, tried", run: packages },
    Step { name: "chaos", about: "modules killed at random under load", run: chaos },
];

/// How often the fuzz step mutates for each decoder: some thirty seconds on two cores.
const FUZZ_ROUNDS: u32 = 10_000;

/// The fault run of the chaos step; its seed is fixed so that a failure can be run again.
const CHAOS: [&str; 4] = ["--seconds", "20", "--seed", "1"];

/// The same among pods.
const CHAOS_PODS: [&str; 6] = ["--seconds", "40", "--seed", "1", "--pods", "20"];

/// Runs the steps that the arguments name, or all.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let (options, names): (Vec<_>, Vec<_>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with('-'));
    let steps = choose(&names)?;
    match options[..] {
        [] => {}
        ["--install"] => install::packages(workspace)?,
        [option, ..] => bail!(Usage(format!("unknown option '{option}', expected --install"))),
    }
    let mut summary = Vec::new();
    for step in steps {
        workspace.screen.heading(&format!("{}: {}", step.name, step.about));
        let begin = Instant::now();
        let outcome = (step.run)(workspace);
        summary.push(line(workspace, step.name, begin.elapsed(), &outcome));
        if let Err(error) = outcome {
            summarise(workspace, &summary);
            return Err(error).with_context(|| {
                format!("step '{0}' failed (again: cargo xtask ci {0})", step.name)
            });
        }
    }
    summarise(workspace, &summary);
    Ok(())
}

fn choose(names: &[&str]) -> Result<Vec<&'static Step>> {
    for name in names {
        if !STEPS.iter().any(|step| step.name == *name) {
            let all = STEPS.map(|step| step.name).join(", ");
            bail!(Usage(format!("unknown step '{name}', expected some of {all}")));
        }
    }
    Ok(STEPS.iter().filter(|step| names.is_empty() || names.contains(&step.name)).collect())
}

fn line(workspace: &Workspace, name: &str, took: Duration, outcome: &Result<Note>) -> String {
    let screen = workspace.screen;
    let (word, note) = match outcome {
        Ok(note) => (screen.good("ok    "), note.as_deref().unwrap_or_default()),
        Err(_) => (screen.bad("FAILED"), ""),
    };
    format!("  {word} {name:<8} {:>6.1} s  {note}", took.as_secs_f64()).trim_end().to_owned()
}

fn summarise(workspace: &Workspace, summary: &[String]) {
    workspace.screen.heading("summary");
    for line in summary {
        workspace.screen.line(line);
    }
}

fn fmt(workspace: &Workspace) -> Result<Note> {
    workspace.run(&mut workspace.cargo("fmt --all --check"))?;
    Ok(None)
}

fn clippy(workspace: &Workspace) -> Result<Note> {
    workspace.run(&mut workspace.cargo("clippy --workspace --all-targets -- -D warnings"))?;
    Ok(None)
}

fn build(workspace: &Workspace) -> Result<Note> {
    workspace.build_shipped()?;
    Ok(None)
}

fn test(workspace: &Workspace) -> Result<Note> {
    let mut command = workspace.cargo("test --workspace --no-fail-fast");
    workspace.run(command.env("EDGECORE_BIN_DIR", workspace.release()))?;
    Ok(None)
}

/// The shipped program is built without QUIC, so that this has a program of its own.
fn quic(workspace: &Workspace) -> Result<Note> {
    workspace.run(&mut workspace.cargo("test --package edgehub --features quic quic"))?;
    let test = "test --package edgecore-tests --features quic --test quic";
    workspace.run(&mut workspace.cargo(test))?;
    Ok(None)
}

fn doc(workspace: &Workspace) -> Result<Note> {
    let mut command = workspace.cargo("doc --workspace --no-deps --document-private-items");
    // Private items are documented too, so a link to one leads somewhere.
    let flags = "-D warnings -A rustdoc::private_intra_doc_links";
    workspace.run(command.env("RUSTDOCFLAGS", flags))?;
    Ok(None)
}

/// The advisories live in a git repository outside. Where it cannot be reached they are not
/// checked, and the summary says so: a missing network is no fault of the change.
fn deny(workspace: &Workspace) -> Result<Note> {
    let deny = install::cargo_deny(workspace)?;
    let run = |arguments: &str| workspace.run(&mut workspace.program(&deny, arguments));
    run("check bans licenses sources")?;
    // A network that swallows packets must not hold up the rest.
    let mut fetch = workspace.program("timeout", "120");
    fetch.arg(&deny).args(["fetch", "db"]);
    if workspace.run(&mut fetch).is_err() {
        let note = "advisory database not reachable: ADVISORIES NOT CHECKED";
        workspace.screen.line(&workspace.screen.bad(note));
        return Ok(Some(note.to_owned()));
    }
    run("--offline check advisories")?;
    Ok(None)
}

/// Runs the bodies of the fuzz targets on this toolchain; `fuzz/README.md` tells how to run them
/// under libFuzzer.
fn fuzz(workspace: &Workspace) -> Result<Note> {
    for package in
        ["ipc-proto", "eventbus", "edgestream", "edgemesh", "devicetwin", "edgecore-tests"]
    {
        let mut command = workspace.cargo(&format!("test --package {package} --test decoders"));
        workspace.run(command.env("PROPTEST_CASES", FUZZ_ROUNDS.to_string()))?;
    }
    Ok(None)
}

/// systemd refuses a unit whose program does not exist, so a copy that names the program just
/// built is looked at.
fn units(workspace: &Workspace) -> Result<Note> {
    if !install::exists("systemd-analyze") {
        return Ok(Some("systemd-analyze is not installed: NOT CHECKED".to_owned()));
    }
    let unit = "edgecore.service";
    let text = std::fs::read_to_string(workspace.root.join("systemd").join(unit))?;
    let programs = format!("{}/", workspace.release().display());
    let copy = workspace.target.join(unit);
    std::fs::write(&copy, text.replace("/usr/local/bin/", &programs))?;
    let mut verify = workspace.program("systemd-analyze", "verify --man=no --recursive-errors=one");
    workspace.run(verify.arg(copy))?;
    Ok(None)
}

fn budgets(workspace: &Workspace) -> Result<Note> {
    budget::check(&workspace.release()).map(Some)
}

fn packages(workspace: &Workspace) -> Result<Note> {
    workspace.run(&mut workspace.cargo("build --release --package minicloud"))?;
    dist::check(workspace, &workspace.release()).map(Some)
}

fn chaos(workspace: &Workspace) -> Result<Note> {
    workspace.run_tests_program("chaos", &CHAOS.map(str::to_owned))?;
    workspace.run_tests_program("chaos", &CHAOS_PODS.map(str::to_owned))?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_step_in_order() {
        assert!(crate::HELP.contains(&STEPS.map(|step| step.name).join(", ")));
    }

    #[test]
    fn steps_run_in_their_own_order_whatever_the_command_line_says() {
        let chosen = choose(&["deny", "fmt"]).unwrap();
        assert_eq!(chosen.iter().map(|step| step.name).collect::<Vec<_>>(), ["fmt", "deny"]);
    }

    #[test]
    fn an_unknown_step_is_answered_with_the_steps_that_exist() {
        let error = choose(&["lint"]).err().unwrap();
        assert!(error.is::<Usage>());
        assert!(error.to_string().starts_with("unknown step 'lint', expected some of install,"));
    }
}
