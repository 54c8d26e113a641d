//! Configuration that cannot be taken: every error at once, one line each, with the thing, the
//! value and what was expected.

use std::fs;

use anyhow::Result;
use edgecore_tests::rig::Setup;
use edgecore_tests::rig::operator::Said;
use serde_json::{Value, json};

/// Starts on a configuration that is to be refused, and returns the lines that say why.
fn refused(setup: &Setup) -> Result<Vec<String>> {
    let said = Said::of(setup.command()?.output()?)?;
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{}", said.err);
    Ok(said.err.lines().map(ToOwned::to_owned).collect())
}

/// Checks that exactly one line has all of these words.
fn assert_one(lines: &[String], words: &[&str]) {
    let has = |line: &&String| words.iter().all(|word| line.contains(word));
    assert_eq!(lines.iter().filter(has).count(), 1, "{words:?} in {lines:#?}");
}

fn assert_refused(patch: Value, words: &[&str]) -> Result<()> {
    assert_one(&refused(&Setup::new()?.with(patch))?, words);
    Ok(())
}

#[test]
fn all_errors_are_told_at_once() -> Result<()> {
    let lines = refused(&Setup::new()?.with(json!({
        "logLevel": "loud",
        "faults": "maybe",
        "beat": {"interval": "never"},
        "restart": {"initial": "-1s"},
        "queue": {"messages": 0},
        "colour": "red",
        "modules": {
            "edgedd": {"enabled": true},
            "edged": {"memoryMax": -5, "cpuWeight": 10_001},
            "eventbus": {"openFiles": "many"},
        },
    })))?;
    assert_one(&lines, &["logLevel", "loud"]);
    assert_one(&lines, &["faults", "maybe"]);
    assert_one(&lines, &["beat.interval", "never"]);
    assert_one(&lines, &["restart.initial", "-1s"]);
    assert_one(&lines, &["queue.messages", "0"]);
    assert_one(&lines, &["colour"]);
    assert_one(&lines, &["edgedd", "metamanager"]);
    assert_one(&lines, &["modules.edged.memoryMax", "-5"]);
    assert_one(&lines, &["modules.edged.cpuWeight", "10001"]);
    assert_one(&lines, &["modules.eventbus.openFiles", "many"]);
    Ok(())
}

#[test]
fn an_unknown_module_is_answered_with_those_that_exist() -> Result<()> {
    assert_refused(json!({"modules": {"edgedd": {}}}), &["edgedd", "metamanager", "edgemesh"])
}

#[test]
fn values_that_contradict_each_other_are_refused() -> Result<()> {
    let beat = json!({"beat": {"interval": "5s", "patience": "4s"}});
    assert_refused(beat, &["beat.patience", "4s"])?;
    let restart = json!({"restart": {"initial": "10s", "ceiling": "1s"}});
    assert_refused(restart, &["restart.ceiling", "1s"])
}

#[test]
fn a_user_that_does_not_exist_is_refused() -> Result<()> {
    assert_refused(json!({"user": "nobody-of-this-name"}), &["user", "nobody-of-this-name"])
}

#[test]
fn errors_of_both_files_are_told_together() -> Result<()> {
    let mut setup = Setup::new()?.with(json!({"logLevel": "loud"}));
    setup.edgecore["modules"]["edged"]["enable"] = json!("perhaps");
    let lines = refused(&setup)?;
    assert_one(&lines, &["logLevel", "loud"]);
    assert_one(&lines, &["modules.edged.enable", "perhaps"]);
    Ok(())
}

#[test]
fn a_file_that_is_no_yaml_is_told_with_its_place() -> Result<()> {
    let setup = Setup::new()?;
    let mut command = setup.command()?;
    let file = setup.folder.path().join("supervisor.yaml");
    fs::write(&file, "modules:\n  edged: [unclosed\n")?;
    let said = Said::of(command.output()?)?;
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains(&file.display().to_string()), "{}", said.err);
    Ok(())
}

#[test]
fn a_configuration_file_that_is_not_there_is_named() -> Result<()> {
    let setup = Setup::new()?;
    let mut command = setup.command()?;
    let file = setup.folder.path().join("edgecore.yaml");
    fs::remove_file(&file)?;
    let said = Said::of(command.output()?)?;
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains(&file.display().to_string()), "{}", said.err);
    Ok(())
}

#[test]
fn a_wrong_argument_is_wrong_usage() -> Result<()> {
    let mut setup = Setup::new()?;
    setup.arguments.push("--frobnicate".into());
    let lines = refused(&setup)?;
    assert_one(&lines, &["--frobnicate"]);
    Ok(())
}
