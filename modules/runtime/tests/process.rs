//! A module's whole process, seen by its supervisor: exit codes, beats, confinement, faults.
//!
//! This program is the supervisor of itself: given a module's name it is that module, which a test
//! under the usual harness cannot be, because confinement needs a process of one thread.

#[path = "process/child.rs"]
mod child;
#[path = "process/supervisor.rs"]
mod supervisor;

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use ipc_proto::Module;
use ipc_proto::lifeline::{Confine, Confinement, Fault, ToModule, ToSupervisor};
use rustix::process::Signal;

use supervisor::{Child, start};

/// Any user that is not root.
const USER: u32 = 12_345;

type Test = fn() -> Result<()>;

/// The tests, by name.
const TESTS: &[(&str, Test)] = &[
    ("started_by_hand_it_says_who_starts_it", started_by_hand),
    ("it_beats_and_drains_when_asked", beats_and_drains),
    ("a_sigterm_drains_it", sigterm_drains),
    ("it_ends_with_its_supervisor", ends_with_its_supervisor),
    ("another_modules_start_is_refused", wrong_module),
    ("a_panic_leaves_one_line", panic_line),
    ("a_hang_stops_the_beats", hang),
    ("a_lack_of_memory_leaves_the_allocators_words", out_of_memory),
    ("a_closed_lifeline_is_seen_at_the_other_end", closed_lifeline),
    ("it_lives_on_a_full_disk_and_with_closed_output", full_disk_and_closed_output),
    ("faults_that_are_not_enabled_are_not_obeyed", faults_are_off),
    ("what_it_is_locked_out_of_fails", confinement),
    ("root_without_powers_has_none", root_without_powers),
];

fn main() -> ExitCode {
    if let Some(module) = std::env::args().nth(1).and_then(|name| name.parse::<Module>().ok()) {
        return module_runtime::main(module, child::run);
    }
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut failed = false;
    for (name, test) in TESTS {
        if wanted.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let result = test();
        failed |= result.is_err();
        say(&match result {
            Ok(()) => format!("test {name} ... ok"),
            Err(error) => format!("test {name} ... FAILED\n{error:?}"),
        });
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[expect(clippy::print_stdout, reason = "the report of a test program")]
fn say(line: &str) {
    println!("{line}");
}

fn started_by_hand() -> Result<()> {
    let output = std::process::Command::new(std::env::current_exe()?)
        .arg("edged")
        .stdin(std::process::Stdio::null())
        .output()?;
    let text = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(2), "{:?}", output.status);
    ensure!(text == "edged is a part of edgecore: start edgecore, it starts edged\n", "{text:?}");
    Ok(())
}

fn beats_and_drains() -> Result<()> {
    let mut child = Child::ready(start(Module::Edged))?;
    for _ in 0..3 {
        child.beat()?;
    }
    child.send(&ToModule::Drain)?;
    child.exits_with(0)
}

fn sigterm_drains() -> Result<()> {
    let mut child = Child::ready(start(Module::Edged))?;
    child.beat()?;
    child.signal(Signal::TERM)?;
    child.exits_with(0)
}

fn ends_with_its_supervisor() -> Result<()> {
    let mut child = Child::ready(start(Module::Edged))?;
    child.close_lifeline();
    child.exits_with(3)
}

fn wrong_module() -> Result<()> {
    let mut child = Child::spawn(Module::Edgehub, start(Module::Edged))?;
    child.exits_with(1)?;
    let text = child.stderr()?;
    ensure!(text.contains("started as edgehub, but told to be edged"), "{text}");
    Ok(())
}

fn panic_line() -> Result<()> {
    let mut child = Child::ready(start(Module::Edged))?;
    child.send(&ToModule::Fault(Fault::Panic))?;
    child.dies_of(Signal::ABORT)?;
    let text = child.stderr()?;
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("panicked")).collect();
    ensure!(lines.len() == 1, "{text}");
    ensure!(lines[0].starts_with("edged panicked at ") && lines[0].ends_with(": panic on purpose"));
    Ok(())
}

fn hang() -> Result<()> {
    let mut child = Child::ready(start(Module::Edged))?;
    child.send(&ToModule::Fault(Fault::Hang))?;
    child.falls_silent()
}

fn out_of_memory() -> Result<()> {
    let mut record = start(Module::Edged);
    record.confine.address_space = Some(256 << 20);
    let mut child = Child::ready(record)?;
    child.send(&ToModule::Fault(Fault::Oom))?;
    child.dies_of(Signal::ABORT)?;
    let text = child.stderr()?;
    ensure!(text.contains("memory allocation of ") && text.contains(" bytes failed"), "{text}");
    Ok(())
}

fn closed_lifeline() -> Result<()> {
    let mut child = Child::ready(start(Module::Edged))?;
    child.send(&ToModule::Fault(Fault::CloseLifeline))?;
    child.closes_its_lifeline()
}

fn full_disk_and_closed_output() -> Result<()> {
    let mut child = Child::ready(start(Module::Edged))?;
    for fault in [Fault::DiskFull, Fault::CloseStdout] {
        child.send(&ToModule::Fault(fault))?;
        for _ in 0..3 {
            child.beat()?;
        }
    }
    child.send(&ToModule::Drain)?;
    child.exits_with(0)
}

fn faults_are_off() -> Result<()> {
    let mut record = start(Module::Edged);
    record.faults = false;
    let mut child = Child::ready(record)?;
    child.send(&ToModule::Fault(Fault::Panic))?;
    child.send(&ToModule::Drain)?;
    child.exits_with(0)
}

/// Starts an edgehub that is locked in, and returns what it said and what it found.
fn probe(confine: Confine) -> Result<(Confinement, child::Findings)> {
    let mut record = start(Module::Edgehub);
    record.confine = confine;
    let mut child = Child::spawn(Module::Edgehub, record)?;
    let ToSupervisor::Ready(confinement) = child.receive()? else {
        anyhow::bail!("the first record is not ready")
    };
    let findings = loop {
        if let ToSupervisor::Report(report) = child.receive()? {
            break serde_json::from_slice(&report)?;
        }
    };
    child.send(&ToModule::Drain)?;
    child.exits_with(0)?;
    Ok((confinement, findings))
}

fn confinement() -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    let folder = tempfile::tempdir()?;
    rustix::fs::chmod(folder.path(), 0o777.into())?;
    let writable = folder.path().to_str().context("a path of letters")?;
    let (said, found) = probe(Confine {
        user: root.then_some((USER, USER)),
        seccomp: true,
        landlock: true,
        writable: vec![writable.into()],
        open_files: Some(200),
        ..Confine::default()
    })?;
    ensure!(said.seccomp && said.no_new_privileges, "{said:?}");
    ensure!(said.capabilities == 0 && said.open_files == Some(200), "{said:?}");
    ensure!(!root || said.uid == USER, "{said:?}");
    ensure!(!found.runs_programs && !found.changes_root, "{found:?}");
    if said.landlock_abi == 0 {
        let reason = said.not_in_force.iter().any(|line| line.starts_with("Landlock"));
        ensure!(reason, "no sentence says why: {said:?}");
    } else {
        ensure!(!found.reads_root, "{found:?}");
    }
    ensure!(found.writes.contains(&writable.to_owned()), "{found:?}");
    Ok(())
}

fn root_without_powers() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        say("  (skipped: it needs root)");
        return Ok(());
    }
    let (said, found) = probe(Confine::default())?;
    ensure!(said.uid == 0 && said.capabilities == 0, "{said:?}");
    ensure!(!said.seccomp && said.landlock_abi == 0, "{said:?}");
    ensure!(found.bounding == 0, "{found:?}");
    let (said, _) = probe(Confine { keep_root: true, ..Confine::default() })?;
    ensure!(said.capabilities != 0, "{said:?}");
    Ok(())
}
