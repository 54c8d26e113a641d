//! Log files that are written, cut and broken.

use std::fs::{self, OpenOptions};

use tempfile::{TempDir, tempdir};

use super::*;

fn runtime_dir() -> TempDir {
    let folder = tempdir().unwrap();
    fs::create_dir(log_folder(folder.path())).unwrap();
    folder
}

fn append(log: &Log, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(&log.path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Does what the supervisor does to a file that is too long.
fn cut(log: &Log) {
    fs::copy(&log.path, &log.copy).unwrap();
    OpenOptions::new().write(true).truncate(true).open(&log.path).unwrap();
}

#[test]
fn the_last_lines_reach_back_over_the_cut() {
    let folder = runtime_dir();
    let mut log = Log::open(folder.path(), Module::Edged);
    append(&log, "1\n2\n3");
    cut(&log);
    append(&log, "+\n4\n");
    assert_eq!(log.last_lines(3).unwrap(), ["2", "3+", "4"]);
    assert_eq!(tail(folder.path(), Module::Edged, 0).unwrap(), [""; 0]);
}

#[test]
fn nothing_is_lost_when_the_file_is_cut_while_it_is_followed() {
    let folder = runtime_dir();
    let mut log = Log::open(folder.path(), Module::Edged);
    append(&log, "0\n1\n");
    assert_eq!(log.last_lines(1).unwrap(), ["1"]);
    append(&log, "2\nha");
    cut(&log);
    append(&log, "lf\n");
    assert_eq!(log.new_lines().unwrap(), ["2", "half"]);
    append(&log, "3\n");
    assert_eq!(log.new_lines().unwrap(), ["3"]);
    assert_eq!(log.new_lines().unwrap(), [""; 0]);
}

#[test]
fn a_module_that_never_ran_has_no_log() {
    let folder = runtime_dir();
    let mut log = Log::open(folder.path(), Module::Edged);
    assert_eq!(log.new_lines().unwrap(), [""; 0]);
    let failure = log.last_lines(1).map_err(|error| cannot_read(&log.path, &error)).unwrap_err();
    let text = Failure::from(failure).to_string();
    assert!(text.starts_with("no log /") && text.contains("edged.log: "), "{text}");
}

#[test]
fn bytes_that_are_no_text_do_not_end_it() {
    let folder = runtime_dir();
    let mut log = Log::open(folder.path(), Module::Edged);
    fs::write(&log.path, b"a\xffb\n").unwrap();
    assert_eq!(log.last_lines(1).unwrap(), ["a\u{fffd}b"]);
}

#[test]
fn journalctl_gets_explicit_arguments() {
    let arguments = LogsArguments {
        module: "edged".into(),
        follow: true,
        lines: 5,
        file: false,
        output: cli::Output { format: Format::Json },
    };
    let command = journalctl(Module::Edged, &arguments);
    let arguments: Vec<_> = command.get_args().collect();
    assert_eq!(
        arguments,
        ["--no-pager", "--lines=5", "--follow", "--output=json", "SYSLOG_IDENTIFIER=edged"]
    );
}
