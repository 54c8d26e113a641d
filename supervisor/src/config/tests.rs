//! The configuration as it comes from its checker.

use super::*;
use crate::child::Restart;

/// A configuration as the converter prints it when the operator set nothing.
pub(crate) fn config() -> Config {
    let module = ModuleConfig {
        enabled: true,
        user: None,
        memory_max: None,
        memory_high: None,
        cpu_weight: None,
        pids_max: None,
        open_files: None,
        seccomp: true,
        landlock: true,
        writable: Vec::new(),
        readable: Vec::new(),
        log_level: LogLevel::Info,
        queue: QueueBounds::default(),
        config: "{}".into(),
    };
    let restart = Restart { initial: 1000, ceiling: 30_000, stable_after: 60_000 };
    Config {
        node: "edge1".into(),
        faults: false,
        beat_interval: 3000,
        policy: Policy { patience: 10_000, ready_timeout: 10_000, stop_timeout: 10_000, restart },
        metrics: None,
        modules: Module::ALL.map(|_| module.clone()),
        not_in_force: Vec::new(),
    }
}

#[test]
fn a_configuration_comes_back_as_it_was() {
    let json = serde_json::to_vec(&config()).unwrap();
    assert_eq!(Config::parse(&json).unwrap(), config());
}

#[test]
fn values_that_would_stall_the_supervisor_are_refused() {
    let refused = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        Config::parse(&serde_json::to_vec(&config).unwrap()).unwrap_err().to_string()
    };
    assert_eq!(
        refused(|config| config.policy.patience = 3999),
        "configuration: beat patience is 3999, expected at least two beat intervals"
    );
    assert!(refused(|config| config.beat_interval = 0).contains("beat interval is 0"));
    assert!(refused(|config| config.policy.restart.initial = 0).contains("first restart pause"));
    assert!(refused(|config| config.policy.restart.ceiling = 999).contains("longest restart"));
    let long = refused(|config| config.modules[3].config = "x".repeat(65_537).into());
    assert!(long.ends_with("is 65537, expected at most 65,536 bytes"), "{long}");
}
