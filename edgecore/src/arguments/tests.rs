//! What can be typed, and what is refused.

use super::*;

fn parsed(line: &str) -> Result<(Command, Vec<String>), UsageError> {
    parse(line.split_whitespace().map(OsString::from).collect())
}

fn options(line: &str) -> (Options, Vec<String>) {
    match parsed(line) {
        Ok((Command::Supervise(options), remarks)) => (options, remarks),
        other => panic!("expected to supervise, got {other:?}"),
    }
}

#[test]
fn without_arguments_it_runs_on_kubeedges_files() {
    let (options, remarks) = options("");
    assert_eq!(options.config, Path::new(CONFIG));
    assert_eq!(options.supervisor_config, Path::new(SUPERVISOR_CONFIG));
    assert_eq!(options.runtime_dir, Path::new(RUNTIME_DIR));
    assert!(!options.resume);
    assert!(remarks.is_empty());
}

#[test]
fn values_may_stand_behind_a_space_or_an_equals_sign() {
    let (options, _) = options("--config /a --supervisor-config=/b --runtime-dir /c");
    assert_eq!(options.config, Path::new("/a"));
    assert_eq!(options.supervisor_config, Path::new("/b"));
    assert_eq!(options.runtime_dir, Path::new("/c"));
}

#[test]
fn the_flags_of_gos_logger_are_passed_over_with_a_word() {
    let (_, remarks) = options("--logtostderr=true -v 4 --config /a");
    assert_eq!(remarks.len(), 2);
    assert!(remarks[1].starts_with("--v is passed over"), "{}", remarks[1]);
}

#[test]
fn devices_need_one_file_alone() {
    let Ok((Command::Devices { config }, _)) = parsed("devices --config /a") else {
        panic!("expected devices");
    };
    assert_eq!(config, Path::new("/a"));
    assert!(parsed("devices --runtime-dir /r").is_err());
}

#[test]
fn what_edgectl_asks_of_the_mesh_is_understood() {
    let Ok((Command::Services { config }, _)) = parsed("mesh services --config /a") else {
        panic!("expected services");
    };
    assert_eq!(config, Path::new("/a"));
    let asked = parsed("mesh resolve 127.0.0.1:53 cluster.local shop web");
    let Ok((Command::Resolve { server, name, .. }, _)) = asked else { panic!("expected a name") };
    assert_eq!((server.port(), name.as_str()), (53, "web"));
    assert!(parsed("mesh resolve 127.0.0.1 cluster.local shop web").is_err());
    assert!(matches!(parsed("mesh remove"), Ok((Command::Unmesh, _))));
    assert!(parsed("mesh").is_err());
}

#[test]
fn nonsense_is_refused_by_name() {
    let reason = |line: &str| parsed(line).unwrap_err().0;
    assert_eq!(reason("--frobnicate"), "unknown option --frobnicate");
    assert_eq!(reason("--config"), "--config needs a value");
    assert_eq!(reason("edgehubb"), "unexpected argument 'edgehubb'");
    assert_eq!(reason("--"), "unexpected argument '--'");
}
