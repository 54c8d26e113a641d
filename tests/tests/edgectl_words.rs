//! What can be typed after `edgectl`: all of it stands in the reference with a test, and the options that
//! no other test types are typed here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::hostile::{Hostile, message};
use edgecore_tests::rig::operator::{Said, edgectl};
use edgecore_tests::rig::{Rig, SOON, Setup, binaries, process, wait_for, wait_until};
use ipc_proto::{Content, Group, Module, ModuleState, Operation, Resource, Route, Source};
use rustix::process::Signal;

/// The reference.
const REFERENCE: &str = "docs/commands.md";

/// Options of every command, which the reference tells of once.
const EVERYWHERE: [&str; 3] = ["--help", "--runtime-dir", "--version"];

/// Commands, and the options that each has.
type Words = BTreeMap<String, BTreeSet<String>>;

/// Asks a command and those below it for what they take.
fn ask(words: &[&str], found: &mut Words) -> Result<()> {
    let output = Command::new(binaries::program("edgectl")?).args(words).arg("--help").output()?;
    let help = Said::of(output)?.out;
    let section = help.split("\n\n").find_map(|part| part.strip_prefix("Commands:\n"));
    let names = section.unwrap_or_default().lines().filter(|line| !line.starts_with("   "));
    let names: Vec<_> = names.filter_map(|line| line.split_whitespace().next()).collect();
    for name in names.iter().filter(|name| **name != "help") {
        ask(&[words, &[*name]].concat(), found)?;
    }
    if names.is_empty() {
        let options = help.lines().filter_map(|line| {
            let line = line.trim_start();
            let long = line.split(' ').take(2).find(|word| word.starts_with("--"))?;
            line.starts_with('-').then(|| long.trim_end_matches(',').to_owned())
        });
        let options = options.filter(|option| !EVERYWHERE.contains(&option.as_str()));
        found.insert(words.join(" "), options.collect());
    }
    Ok(())
}

/// Reads the reference's table.
fn reference() -> Result<Words> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no repository")?;
    let text = fs::read_to_string(root.join(REFERENCE))?;
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let mut columns = line.split(" | ");
        let name = columns.next()?.trim_start_matches("| ").trim_matches('`').to_owned();
        let options = columns.next()?.split_whitespace().map(|word| word.trim_matches('`'));
        let options = options.filter(|word| word.starts_with("--")).map(str::to_owned);
        Some((name, options.collect()))
    };
    Ok(rows.filter_map(row).collect())
}

#[test]
fn the_reference_names_every_command_and_option() -> Result<()> {
    let mut found = Words::new();
    ask(&[], &mut found)?;
    ensure!(found.len() > 30, "the help names too few commands: {found:?}");
    let reference = reference()?;
    for (command, options) in &found {
        let told = reference.get(command).with_context(|| format!("no '{command}'"))?;
        ensure!(told == options, "'{command}' takes {options:?}, {REFERENCE} says {told:?}");
    }
    ensure!(reference.len() == found.len(), "{REFERENCE} names more commands than there are");
    Ok(())
}

#[test]
fn an_order_is_waited_for_as_long_as_one_says() -> Result<()> {
    // a frozen module takes no order to end; its supervisor waits a minute before it kills
    let rig = Setup::new()?.with(serde_json::json!({"stopTimeout": "60s"})).start()?;
    let old = rig.pid_of(Module::Eventbus)?;
    process::signal(old, Signal::STOP)?;
    let said = rig.edgectl(&["stop", "eventbus", "--timeout", "1"])?;
    ensure!(said.code == 1 && said.err.contains("not stopped within 1 s"), "{said:?}");
    process::signal(old, Signal::CONT)?;
    let state = |aim: ModuleState| {
        rig.wait("the module is so", |status| status.modules[Module::Eventbus.index()].state == aim)
    };
    state(ModuleState::Stopped)?;
    assert_eq!(rig.edgectl(&["start", "eventbus", "--no-wait"])?, Said::done());
    state(ModuleState::Running)?;
    let old = rig.pid_of(Module::Eventbus)?;
    assert_eq!(rig.edgectl(&["restart", "eventbus", "--timeout", "60"])?, Said::done());
    assert_ne!(rig.pid_of(Module::Eventbus)?, old);
    assert_eq!(rig.edgectl(&["stop", "eventbus", "--no-wait"])?, Said::done());
    state(ModuleState::Stopped).map(drop)
}

#[test]
fn a_reload_that_does_not_come_is_said() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let config = rig.setup().folder.path().join("supervisor.yaml");
    let before = fs::read(&config)?;
    fs::write(&config, "colour: green\n")?;
    let said = rig.edgectl(&["reload", "--timeout", "2"])?;
    ensure!(said.code == 1, "a configuration that is wrong was taken: {said:?}");
    fs::write(&config, before)?;
    assert_eq!(rig.edgectl(&["reload", "--timeout", "60"])?, Said::done());
    assert_eq!(rig.status()?.reloads, 1);
    Ok(())
}

#[test]
fn a_tap_shows_what_it_is_asked_for_and_ends() -> Result<()> {
    let rig = Setup::new()?.with_seat(Module::Metaserver).start()?;
    let mut tap = rig.edgectl_live(&["tap", "--resource", "meta", "--count", "1", "-o", "json"])?;
    let mut peer = Hostile::welcomed(&rig, Module::Metaserver, Module::Edged)?;
    let mut echo = |resource: Resource| {
        let (group, operation) = (Group::Diagnostic, Operation::Echo);
        let route = Route { source: Source::None, group, operation, resource };
        drop(peer.ask(&message(route, Content::text("x"))));
    };
    // edged passes the one on to metamanager, and answers the other itself
    let line = wait_for("it is shown", SOON, || {
        echo(Resource::None);
        echo(Resource::Text("metamanager".into()));
        tap.look(|_| true)
    })?;
    ensure!(line.contains(r#""resource":"metamanager""#), "{line}");
    let child = &mut tap.child;
    wait_until("the tap ends", SOON, || child.try_wait().is_ok_and(|ended| ended.is_some()))?;
    ensure!(tap.look(|_| true).is_none(), "more than one: {:?}", tap.seen());
    Ok(())
}

#[test]
fn lists_can_be_read_by_programs() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let logs = rig.edgectl(&["logs", "edged", "--file", "--lines", "5", "-o", "json"])?;
    ensure!(logs.code == 0, "{logs:?}");
    for line in logs.out.lines() {
        serde_json::from_str::<serde_json::Value>(line).context(line.to_owned())?;
    }
    let sandbox = rig.edgectl(&["sandbox", "-o", "json"])?.json()?;
    assert_eq!(sandbox["modules"].as_array().map(Vec::len), Some(Module::COUNT));
    Ok(())
}

#[test]
fn both_files_are_checked() -> Result<()> {
    let setup = Setup::new()?;
    drop(setup.command()?);
    let folder = setup.folder.path();
    let check = |rig: Option<&Rig>| {
        let runtime = rig.map_or_else(|| setup.runtime_dir(), Rig::runtime_dir);
        let mut command = edgectl(&runtime, &["config", "check"])?;
        command.arg("--config").arg(folder.join("edgecore.yaml"));
        command.arg("--supervisor-config").arg(folder.join("supervisor.yaml"));
        Said::of(command.output()?)
    };
    let said = check(None)?;
    ensure!(said.code == 0, "{said:?}");
    fs::write(folder.join("supervisor.yaml"), "colour: green\n")?;
    let said = check(None)?;
    ensure!(said.code == 1 && said.err.contains("colour"), "{said:?}");
    Ok(())
}
