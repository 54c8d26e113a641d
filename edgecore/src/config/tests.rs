//! Both files together, as the converter's process reads them.

use std::path::PathBuf;

use super::*;

struct Files(tempfile::TempDir);

impl Files {
    fn new(edgecore: &str, supervisor: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("edgecore.yaml"), edgecore).unwrap();
        if let Some(text) = supervisor {
            std::fs::write(folder.path().join("supervisor.yaml"), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn convert(&self) -> Converted {
        convert(&self.path("edgecore.yaml"), &self.path("supervisor.yaml"))
    }
}

#[test]
fn the_supervisor_takes_what_the_converter_prints() {
    let files = Files::new(&template::minimal(), None);
    let converted = files.convert();
    assert_eq!(converted.warnings, Vec::<String>::new());
    let json = converted.outcome.unwrap();
    assert_eq!(json.lines().count(), 1);
    let config = Config::parse(json.as_bytes()).unwrap();
    assert!(config.of(Module::Edged).enabled && !config.of(Module::Edgemesh).enabled);
    let hub: Value = serde_json::from_str(&config.of(Module::Edgehub).config).unwrap();
    assert_eq!(hub["edgeHub"]["messageQPS"], 30);
    assert_eq!(hub["node"], *config.node);
}

#[test]
fn the_default_configuration_is_taken_without_a_warning() {
    let converted = Files::new(&template::full(), Some("")).convert();
    assert_eq!(converted.warnings, Vec::<String>::new());
    converted.outcome.unwrap();
}

#[test]
fn our_file_overrides_which_modules_run_and_who_runs_them() {
    let own =
        "modules: {edgemesh: {enabled: true}, edged: {enabled: false}, edgehub: {user: 65534}}";
    let json = Files::new("{}", Some(own)).convert().outcome.unwrap();
    let config = Config::parse(json.as_bytes()).unwrap();
    assert!(config.of(Module::Edgemesh).enabled && !config.of(Module::Edged).enabled);
    assert_eq!(config.of(Module::Edgehub).user.map(|(uid, _)| uid), Some(65_534));
    assert_eq!(config.of(Module::Edgemesh).user, None);
}

#[test]
fn errors_of_both_files_come_together_and_warnings_beside_them() {
    let files = Files::new("kind: CloudCore\nextra: 1\n", Some("faults: maybe\n"));
    let converted = files.convert();
    let (one, two) = (files.path("edgecore.yaml"), files.path("supervisor.yaml"));
    assert_eq!(
        converted.outcome,
        Err(vec![
            format!("{}: kind is \"CloudCore\", expected EdgeCore", one.display()),
            format!("{}: faults is \"maybe\", expected true or false", two.display()),
        ])
    );
    assert_eq!(converted.warnings, [format!("{}: extra is unknown and ignored", one.display())]);
}

#[test]
fn a_missing_or_broken_file_is_named() {
    let files = Files::new("a: [", Some("b: ]"));
    let errors = files.convert().outcome.unwrap_err();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("edgecore.yaml: ") && errors[1].contains("supervisor.yaml: "));
    std::fs::remove_file(files.path("edgecore.yaml")).unwrap();
    std::fs::remove_file(files.path("supervisor.yaml")).unwrap();
    let errors = files.convert().outcome.unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("edgecore.yaml is missing, expected a configuration"), "{errors:?}");
}

#[test]
fn a_modules_configuration_is_bounded() {
    let labels: String = (0..7000).map(|n| format!("      label{n}: value\n")).collect();
    let text = format!("modules:\n  edged:\n    nodeLabels:\n{labels}");
    let errors = Files::new(&text, None).convert().outcome.unwrap_err();
    assert!(errors[0].starts_with("the configuration of edged has "), "{errors:?}");
}
