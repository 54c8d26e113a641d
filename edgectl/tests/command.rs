//! The command as it is typed: real process, real exit codes, a scripted supervisor.

#![expect(clippy::unwrap_used, reason = "a test fails where it does not find what it needs")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::{fs, io};

use ipc_proto::control::{Request, Response};
use ipc_proto::tap::{Filter, Happening, Record};
use ipc_proto::{Group, MessageId, Module, Operation, Source};
use tempfile::tempdir;

#[path = "../src/testing.rs"]
mod testing;
use testing::{Answer, TEN, status, supervisor};

fn edgectl(runtime_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgectl"));
    command.arg("--runtime-dir").arg(runtime_dir).args(arguments).env("NO_COLOR", "1");
    command
}

fn output(runtime_dir: &Path, arguments: &[&str]) -> Output {
    edgectl(runtime_dir, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn state() -> Answer {
    Answer::proper(&Response::Status(Box::new(status())))
}

fn showing(records: Vec<Record>, stays: bool) -> Answer {
    Answer { records, stays, ..Answer::proper(&Response::Done) }
}

fn record(at: i64) -> Record {
    Record {
        at,
        from: Module::Edgehub,
        to: Module::Metamanager,
        happening: Happening::Sent,
        id: MessageId::parse("m"),
        parent: None,
        source: Source::None,
        group: Group::Diagnostic,
        operation: Operation::Ping,
        resource: "".into(),
        bytes: 4,
        dropped: 2,
    }
}

#[test]
fn without_a_supervisor_every_command_says_how_to_start_it() {
    let folder = tempdir().unwrap();
    for line in [
        "status",
        "status -o json",
        "status -w",
        "start edged",
        "stop all",
        "restart edged",
        "reload",
        "tap",
        "sandbox",
        "fault kill edged",
        "version",
    ] {
        let arguments: Vec<_> = line.split(' ').collect();
        let output = output(folder.path(), &arguments);
        assert_eq!(output.status.code(), Some(3), "{line}");
        let message = text(&output.stderr);
        assert!(message.starts_with("edgectl: edgecore is not running (no socket /"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn unknown_modules_are_a_usage_error() {
    let folder = tempdir().unwrap();
    for line in ["status x", "stop x y", "logs x", "tap --module x", "fault kill x"] {
        let arguments: Vec<_> = line.split(' ').collect();
        let output = output(folder.path(), &arguments);
        assert_eq!(output.status.code(), Some(2), "{line}");
        let message = text(&output.stderr);
        assert!(message.starts_with("edgectl: unknown module 'x'"), "{message}");
    }
}

#[test]
fn help_is_no_failure_and_wrong_usage_is() {
    let folder = tempdir().unwrap();
    assert_eq!(output(folder.path(), &["--help"]).status.code(), Some(0));
    assert_eq!(output(folder.path(), &["help", "tap"]).status.code(), Some(0));
    assert_eq!(output(folder.path(), &["--version"]).status.code(), Some(0));
    assert_eq!(output(folder.path(), &["frobnicate"]).status.code(), Some(2));
}

#[test]
fn the_status_goes_to_people_and_to_programs() {
    let folder = tempdir().unwrap();
    let served = supervisor(folder.path(), [state(), state(), state()]);
    let people = output(folder.path(), &["status"]);
    assert!(text(&people.stdout).starts_with("Node:  edge1, degraded for 1m00s"));
    let programs = output(folder.path(), &["status", "-o", "json"]);
    let document: serde_json::Value = serde_json::from_slice(&programs.stdout).unwrap();
    assert_eq!(document["modules"][2]["state"], "held");
    let one = output(folder.path(), &["status", "-o", "json", "edged"]);
    let document: serde_json::Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!(document["modules"].as_array().unwrap().len(), 1);
    assert_eq!(document["modules"][0]["name"], "edged");
    served.join().unwrap();
}

#[test]
fn a_live_status_outlasts_the_supervisor_and_ends_at_ctrl_c() {
    let folder = tempdir().unwrap();
    let served = supervisor(folder.path(), [state()]);
    let mut child = piped(edgectl(folder.path(), &["status", "-w", "-o", "json"]));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: serde_json::Value = serde_json::from_str(&next(&mut lines)).unwrap();
    assert_eq!(first["node"], "edge1");
    served.join().unwrap();
    let second: serde_json::Value = serde_json::from_str(&next(&mut lines)).unwrap();
    assert!(second["error"].as_str().unwrap().starts_with("edgecore is not running"));
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = tempdir().unwrap();
    let served = supervisor(folder.path(), [state(), state()]);
    for arguments in [&["status"][..], &["status", "-w"]] {
        let mut child = piped(edgectl(folder.path(), arguments));
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let mut message = String::new();
        child.stderr.take().unwrap().read_to_string(&mut message).unwrap();
        assert_eq!(message, "");
    }
    served.join().unwrap();
}

#[test]
fn a_refusal_is_a_failure() {
    let folder = tempdir().unwrap();
    let reason = String::from("faults are off: set 'faults: true' in supervisor.yaml");
    let served = supervisor(folder.path(), [Answer::proper(&Response::Failed { reason })]);
    let output = output(folder.path(), &["fault", "slow-ipc", "edged"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "edgectl: faults are off: set 'faults: true' in supervisor.yaml\n";
    assert_eq!(text(&output.stderr), expected);
    served.join().unwrap();
}

#[test]
fn who_is_no_supervisor_counts_as_unreachable() {
    let folder = tempdir().unwrap();
    let says = b"SSH-2.0-OpenSSH_9.2\r\n".to_vec();
    let served = supervisor(folder.path(), [Answer { says, ..Answer::default() }]);
    let output = output(folder.path(), &["status"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).starts_with("edgectl: what listens on /"), "{output:?}");
    served.join().unwrap();
}

#[test]
fn the_tap_shows_as_many_records_as_wanted() {
    let folder = tempdir().unwrap();
    let records = [record(TEN * 1000), record(TEN * 1000 + 1), record(TEN * 1000 + 2)];
    let served = supervisor(folder.path(), [showing(records.into(), true)]);
    let arguments = ["tap", "--count", "2", "--module", "edgehub", "--resource", "pod"];
    let output = output(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lost = "(2 records dropped before this one)";
    let expected = format!(
        "10:00:00.000000 edgehub→metamanager     ping     - 4B sent {lost}\n\
         10:00:00.000001 edgehub→metamanager     ping     - 4B sent {lost}\n"
    );
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(text(&output.stderr), "edgectl: 2 records, 4 dropped\n");
    let filter = Filter { module: Some(Module::Edgehub), resource: Some("pod".into()) };
    assert_eq!(served.join().unwrap(), [Request::Tap { filter }]);
}

#[test]
fn a_tap_shows_all_that_came_before_the_supervisor_left() {
    let folder = tempdir().unwrap();
    let answer = showing(vec![record(0), record(1)], false);
    let served = supervisor(folder.path(), [answer]);
    let output = output(folder.path(), &["tap", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout).lines().count(), 2);
    let message = text(&output.stderr);
    assert!(message.ends_with("edgectl: edgecore ended the tap, which it does when it stops\n"));
    served.join().unwrap();
}

#[test]
fn a_tap_sums_up_at_ctrl_c() {
    let folder = tempdir().unwrap();
    let served = supervisor(folder.path(), [showing(vec![record(0)], true)]);
    let mut child = piped(edgectl(folder.path(), &["tap"]));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    next(&mut lines);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "edgectl: 1 record, 2 dropped\n");
    served.join().unwrap();
}

#[test]
fn a_log_is_followed_from_before_it_is_there() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("log")).unwrap();
    let log = folder.path().join("log/edged.log");
    let mut child = piped(edgectl(folder.path(), &["logs", "edged", "--file", "-f"]));
    fs::write(&log, "first\nsecond\n").unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!([next(&mut lines), next(&mut lines)], ["first", "second"]);
    let output = output(folder.path(), &["logs", "edged", "--file", "-n", "1", "-o", "json"]);
    let expected = "{\"MESSAGE\":\"second\",\"SYSLOG_IDENTIFIER\":\"edged\"}\n";
    assert_eq!(text(&output.stdout), expected);
    // The reader leaves while nothing is written.
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_log_that_is_not_there_is_a_failure() {
    let folder = tempdir().unwrap();
    let output = output(folder.path(), &["logs", "edged", "--file"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("edgectl: no log /"));
}

#[test]
fn both_versions_are_told() {
    let folder = tempdir().unwrap();
    let served = supervisor(folder.path(), [state()]);
    let output = output(folder.path(), &["version"]);
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(text(&output.stdout), format!("edgectl  {own}\nedgecore 0.1.0 (process 10)\n"));
    served.join().unwrap();
}

#[test]
fn completions_and_manual_are_printed() {
    let folder = tempdir().unwrap();
    for (arguments, expected) in [
        (&["completions", "bash"][..], "metaserver"),
        (&["completions", "zsh"], "metaserver"),
        (&["completions", "fish"], "edgectl"),
        (&["man"], ".TH edgectl 1"),
        (&["man", "tap"], ".TH edgectl-tap 1"),
    ] {
        let output = output(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains(expected), "{arguments:?}");
    }
    assert_eq!(output(folder.path(), &["man", "frobnicate"]).status.code(), Some(2));
}

fn piped(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn next(lines: &mut impl Iterator<Item = io::Result<String>>) -> String {
    lines.next().unwrap().unwrap()
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}
