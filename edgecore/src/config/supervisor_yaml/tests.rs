//! Our own file: everything optional, nothing misspelt, all errors at once.

use serde_json::json;

use super::*;
use crate::config::yaml;

fn read(document: Value) -> (SupervisorYaml, Errors) {
    let mut errors = Errors::new();
    let file = SupervisorYaml::read("supervisor.yaml", document, &mut errors);
    (file, errors)
}

#[test]
fn nothing_is_the_defaults() {
    let (file, errors) = read(Value::Null);
    assert_eq!(errors, Errors::new());
    assert_eq!((file.faults, file.beat_interval), (false, 2000));
    let restart = Restart { initial: 1000, ceiling: 30_000, stable_after: 60_000 };
    let ten = 10_000;
    let policy = Policy { patience: ten, ready_timeout: ten, stop_timeout: ten, restart };
    assert_eq!(file.policy, policy);
    let edgehub = &file.modules[Module::Edgehub.index()];
    assert_eq!((edgehub.enabled, edgehub.seccomp, edgehub.landlock), (None, true, true));
    assert_eq!(edgehub.queue, QueueBounds { messages: 1024, bytes: 4 << 20 });
}

#[test]
fn every_key_is_taken() {
    let text = "
logLevel: warn
faults: true
user: root
beat: { interval: 100ms, patience: 1s }
readyTimeout: 3s
stopTimeout: 4s
restart: { initial: 10ms, ceiling: 1m, stableAfter: 1h }
queue: { messages: 10, bytes: 64Ki }
modules:
  edged:
    enabled: true
    user: 0
    memoryMax: 64Mi
    memoryHigh: 48Mi
    cpuWeight: 100
    pidsMax: 64
    openFiles: 1024
    seccomp: false
    landlock: true
    logLevel: debug
    queue: { messages: 20 }
";
    let (file, errors) = read(yaml::parse(text).unwrap());
    assert_eq!(errors, Errors::new());
    assert_eq!((file.faults, file.user, file.beat_interval), (true, Some((0, 0)), 100));
    let restart = Restart { initial: 10, ceiling: 60_000, stable_after: 3_600_000 };
    let policy = Policy { patience: 1000, ready_timeout: 3000, stop_timeout: 4000, restart };
    assert_eq!(file.policy, policy);
    let edged = ModuleYaml {
        enabled: Some(true),
        user: Some((0, 0)),
        memory_max: Some(64 << 20),
        memory_high: Some(48 << 20),
        cpu_weight: Some(100),
        pids_max: Some(64),
        open_files: Some(1024),
        seccomp: false,
        landlock: true,
        log_level: LogLevel::Debug,
        queue: QueueBounds { messages: 20, bytes: 65_536 },
    };
    assert_eq!(file.modules[Module::Edged.index()], edged);
    let other = &file.modules[Module::Edgehub.index()];
    assert_eq!(other.log_level, LogLevel::Warn);
    assert_eq!(other.queue, QueueBounds { messages: 10, bytes: 65_536 });
}

#[test]
fn all_errors_are_told_at_once_with_path_value_and_expectation() {
    let (_, errors) = read(json!({
        "logLevel": "loud",
        "fautls": true,
        "user": "no such user",
        "beat": {"interval": "-2s", "patience": "3s"},
        "readyTimeout": "0s",
        "stopTimeout": 5,
        "restart": {"initial": "10s", "ceiling": "1s"},
        "queue": [],
        "modules": {
            "edgedd": {},
            "edged": {"memoryMax": "-1Mi", "cpuWeight": 0, "pidsMax": -3, "openFiles": 15, "seccomp": "yes"},
            "edgehub": {"memoryMax": "2Mi", "memoryHigh": "4Mi", "queue": {"bytes": "1K"}},
        },
    }));
    let names = Module::ALL.map(Module::name).join(", ");
    let expected = [
        "logLevel is \"loud\", expected one of error, warn, info, debug, trace".to_owned(),
        "user is \"no such user\", expected the name or number of a user of this host".to_owned(),
        "beat.interval is \"-2s\", expected a duration such as 500ms, 2s, 1m or 1h".to_owned(),
        "beat.patience is 3000 ms, expected at least two intervals, 4000 ms".to_owned(),
        "readyTimeout is \"0s\", expected a duration such as 500ms, 2s, 1m or 1h".to_owned(),
        "stopTimeout is 5, expected a duration such as 500ms, 2s, 1m or 1h".to_owned(),
        "restart.ceiling is 1000 ms, expected at least restart.initial, 10000 ms".to_owned(),
        "queue is [], expected a mapping of keys to values".to_owned(),
        "modules.edgehub.memoryHigh is 4194304, expected at most memoryMax, 2097152".to_owned(),
        "modules.edgehub.queue.bytes is \"1K\", expected a quantity from 4Ki to 1Gi".to_owned(),
        "modules.edged.memoryMax is \"-1Mi\", expected a quantity of at least 1Mi".to_owned(),
        "modules.edged.cpuWeight is 0, expected a number from 1 to 10,000".to_owned(),
        "modules.edged.pidsMax is -3, expected a number from 1 to 1,000,000".to_owned(),
        "modules.edged.openFiles is 15, expected a number from 16 to 1,000,000".to_owned(),
        "modules.edged.seccomp is \"yes\", expected true or false".to_owned(),
        format!("modules.edgedd is unknown, expected one of {names}"),
        "fautls is unknown, expected one of logLevel, faults, user, beat, readyTimeout, \
         stopTimeout, restart, queue, modules"
            .to_owned(),
    ];
    assert_eq!(errors, expected.map(|error| format!("supervisor.yaml: {error}")));
}
