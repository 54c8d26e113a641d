//! What can be typed, and what cannot.

use clap::CommandFactory as _;
use ipc_proto::Module;

use super::*;

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_unknown_module_is_named_at_once() {
    let names = ["edgedd", "edged", "x", "edgedd"].map(String::from);
    let error = modules(&names).unwrap_err().to_string();
    assert!(
        error.starts_with("unknown module 'edgedd', 'x', expected one of metamanager, "),
        "{error}"
    );
}

#[test]
fn modules_come_once_and_in_dial_order() {
    let names = ["edged", "metamanager", "edged"].map(String::from);
    let set: Vec<_> = modules(&names).unwrap().iter().collect();
    assert_eq!(set, [Module::Metamanager, Module::Edged]);
    assert_eq!(choice(&["edged", "all"].map(String::from)).unwrap(), Choice::All);
    assert!(choice(&["all", "x"].map(String::from)).is_err());
}

#[test]
fn the_runtime_folder_may_stand_before_and_after_the_command() {
    for line in [
        ["edgectl", "--runtime-dir", "/x", "status", "-o", "json"],
        ["edgectl", "status", "-o", "json", "--runtime-dir", "/x"],
    ] {
        let cli = Cli::try_parse_from(line).unwrap();
        assert_eq!(cli.runtime_dir.to_str(), Some("/x"));
        let Command::Status(arguments) = cli.command else { panic!("{:?}", cli.command) };
        assert_eq!(arguments.output.format, Format::Json);
    }
}

#[test]
fn the_runtime_folder_is_that_of_commands_of_commands_too() {
    let cli = Cli::try_parse_from("edgectl --runtime-dir /x device list".split(' ')).unwrap();
    assert_eq!(cli.runtime_dir.to_str(), Some("/x"));
}

#[test]
fn wrong_arguments_are_refused() {
    for line in [
        "edgectl",
        "edgectl frobnicate",
        "edgectl restart",
        "edgectl fault melt edged",
        "edgectl fault kill",
        "edgectl stop edged --timeout 0",
        "edgectl stop edged --timeout 5 --no-wait",
        "edgectl logs edged -n -1",
        "edgectl tap --count 0",
        "edgectl status -o yaml",
        "edgectl completions csh",
        "edgectl logs-pod",
        "edgectl logs-pod p --since 5",
        "edgectl logs-pod p --since 0s",
        "edgectl exec p",
        "edgectl exec p true",
        "edgectl device",
        "edgectl device get",
    ] {
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn commands_for_containers_are_typed_as_for_kubectl() {
    let line = "edgectl exec -n ns -it web -c c -- sh -c 'exit 3' -n";
    let cli = Cli::try_parse_from(line.split(' ')).unwrap();
    let Command::Exec(exec) = cli.command else { panic!("{:?}", cli.command) };
    assert_eq!((exec.place.namespace.as_str(), exec.place.pod.as_str()), ("ns", "web"));
    assert_eq!((exec.stdin, exec.tty, exec.command.len()), (true, true, 5));
    let line = "edgectl logs-pod web -fp --tail 0 --since 5m --timestamps";
    let cli = Cli::try_parse_from(line.split(' ')).unwrap();
    let Command::LogsPod(logs) = cli.command else { panic!("{:?}", cli.command) };
    assert_eq!((logs.tail, logs.since), (Some(0), Some(300)));
}

#[test]
fn every_fault_can_be_typed() {
    for fault in Fault::ALL {
        let cli = Cli::try_parse_from(["edgectl", "fault", fault.name(), "edged"]).unwrap();
        let Command::Fault(arguments) = cli.command else { panic!("{:?}", cli.command) };
        assert_eq!(arguments.fault, fault);
    }
}

/// Returns what documents say is typed: lines of blocks, and quoted commands, of which some only name
/// the command.
fn typed(text: &str) -> Vec<(String, bool)> {
    let lines = text.lines().filter(|line| line.starts_with("edgectl "));
    let lines = lines.map(|line| (line, true));
    let quoted = text.split('`').filter(|words| words.starts_with("edgectl "));
    let quoted = quoted.filter(|words| !words.contains('\n')).map(|words| (words, false));
    let whole = lines.chain(quoted).flat_map(|(words, whole)| {
        let words = words.split(" # ").next().unwrap_or_default();
        let words = words.split(" | ").next().unwrap_or_default();
        words.split(" && ").map(move |words| (words.to_owned(), whole))
    });
    whole.collect()
}

/// Takes a word of a document for one that can be typed.
fn word(word: &str) -> String {
    let plain = word.replace(['[', ']', '"'], "").replace("...", "");
    let first = plain.split('|').next().unwrap_or_default();
    match first {
        "MODULE" | "NAME" => "edged".to_owned(),
        "LINES" => "5".to_owned(),
        "COMMAND" => "status".to_owned(),
        other => other.to_owned(),
    }
}

#[test]
fn what_the_documents_say_can_be_typed() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let names = ["operations", "troubleshooting", "observability", "configuration"];
    let texts = names.map(|name| format!("docs/{name}.md"));
    let mut count = 0;
    for name in texts.iter().map(String::as_str).chain(["README.md"]) {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        for (line, whole) in typed(&text) {
            count += 1;
            let Err(error) = Cli::try_parse_from(line.split_whitespace().map(word)) else {
                continue;
            };
            use clap::error::ErrorKind::{
                DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, MissingRequiredArgument,
                MissingSubcommand,
            };
            let named = matches!(
                error.kind(),
                DisplayHelp
                    | DisplayHelpOnMissingArgumentOrSubcommand
                    | MissingRequiredArgument
                    | MissingSubcommand
            );
            assert!(named && !whole, "{name}: {line}\n{error}");
        }
    }
    assert!(count > 60, "{count} commands were found");
}
