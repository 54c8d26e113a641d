//! KubeEdge's file: what keeps its default, what is refused, what is warned about.

use serde_json::json;

use super::*;
use crate::config::{template, yaml};

fn read(file: Value) -> (EdgecoreYaml, Errors, Vec<String>) {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let defaults = yaml::parse(&template::full()).unwrap();
    let file = EdgecoreYaml::read("edgecore.yaml", defaults, file, &mut errors, &mut warnings);
    (file, errors, warnings)
}

#[test]
fn an_empty_file_is_kubeedges_defaults() {
    let (file, errors, warnings) = read(Value::Null);
    assert_eq!((errors, warnings), (vec![], vec![]));
    let enabled: Vec<_> = Module::ALL.into_iter().filter(|module| file.enables(*module)).collect();
    use Module::{Devicetwin, Edged, Edgehub, Eventbus, Metamanager};
    assert_eq!(enabled, [Metamanager, Devicetwin, Edgehub, Edged, Eventbus]);
}

#[test]
fn a_module_is_handed_its_own_sections_with_defaults_filled_in() {
    let (file, errors, _) = read(json!({"modules": {
        "edged": {"hostnameOverride": "edge1"},
        "edgeHub": {"heartbeat": 7, "websocket": {"server": "10.0.0.1:10000"}},
    }}));
    assert_eq!(errors, Errors::new());
    let hub = file.of(Module::Edgehub);
    assert_eq!(hub["node"], "edge1");
    assert_eq!(hub["edgeHub"]["heartbeat"], 7);
    assert_eq!(
        hub["edgeHub"]["websocket"],
        json!({
            "enable": true, "handshakeTimeout": 30, "readDeadline": 15, "writeDeadline": 15,
            "server": "10.0.0.1:10000",
        })
    );
    assert_eq!(hub["edgeHub"]["tlsCaFile"], "/etc/kubeedge/ca/rootCA.crt");
    assert_eq!(hub.get("edged"), None);
    let store = file.of(Module::Metamanager);
    assert_eq!(store["database"]["dataSource"], "/var/lib/kubeedge/edgecore.db");
    assert_eq!(store["metaManager"]["remoteQueryTimeout"], 60);
    for module in Module::ALL {
        let config = file.of(module);
        let sections = config.as_object().unwrap();
        assert!(sections.values().all(|section| !section.is_null()), "{module}: {config}");
    }
}

#[test]
fn unknown_keys_are_warned_about_with_their_path_and_ignored() {
    let (_, errors, warnings) =
        read(json!({"modules": {"edgeHub": {"hartbeat": 3}, "edgeMesh": {}}}));
    assert_eq!(errors, Errors::new());
    assert_eq!(
        warnings,
        [
            "edgecore.yaml: modules.edgeHub.hartbeat is unknown and ignored",
            "edgecore.yaml: modules.edgeMesh is unknown and ignored",
        ]
    );
}

#[test]
fn keys_of_kubernetes_and_of_the_operator_pass_to_their_reader() {
    let (file, errors, warnings) = read(json!({
        "featureGates": {"requireAuthorization": true},
        "modules": {"edged": {
            "nodeLabels": {"zone": "a"},
            "tailoredKubeletConfig": {"clusterDNS": ["10.96.0.10"], "evictionHard": {"pid.available": "5%"}},
        }},
    }));
    assert_eq!((errors, warnings), (vec![], vec![]));
    let edged = &file.of(Module::Edged)["edged"];
    assert_eq!(edged["nodeLabels"]["zone"], "a");
    assert_eq!(edged["tailoredKubeletConfig"]["clusterDNS"][0], "10.96.0.10");
    assert_eq!(edged["tailoredKubeletConfig"]["evictionHard"]["memory.available"], "100Mi");
    assert_eq!(file.of(Module::Metaserver)["featureGates"]["requireAuthorization"], true);
}

#[test]
fn keys_match_without_regard_to_case_and_null_keeps_the_default_as_in_go() {
    let (file, errors, warnings) =
        read(json!({"modules": {"edgehub": {"Heartbeat": 9, "token": null}, "eventBus": null}}));
    assert_eq!((errors, warnings), (vec![], vec![]));
    assert_eq!(file.of(Module::Edgehub)["edgeHub"]["heartbeat"], 9);
    assert_eq!(file.of(Module::Edgehub)["edgeHub"]["token"], "");
    assert!(file.enables(Module::Eventbus));
}

#[test]
fn the_booleans_of_old_yaml_are_booleans() {
    let (file, errors, _) =
        read(json!({"modules": {"serviceBus": {"enable": "yes"}, "eventBus": {"enable": "off"}}}));
    assert_eq!(errors, Errors::new());
    assert!(file.enables(Module::Servicebus) && !file.enables(Module::Eventbus));
}

#[test]
fn all_errors_are_told_at_once_with_path_value_and_expectation() {
    let (_, errors, _) = read(json!({
        "apiVersion": "edgecore.config.kubeedge.io/v1alpha1",
        "database": [],
        "modules": {
            "edged": {"hostnameOverride": "Edge_1", "maxContainerCount": -5},
            "edgeHub": {"heartbeat": -1, "messageQPS": "fast", "token": 12, "quic": {"enable": true}},
            "eventBus": {"enable": 1, "mqttMode": 1.5},
        },
    }));
    let expected = [
        "database is [], expected a mapping of keys to values",
        "modules.edgeHub.heartbeat is -1, expected a whole number, 0 or more",
        "modules.edgeHub.messageQPS is \"fast\", expected a number",
        "modules.edgeHub.token is 12, expected a text, in quotes if it looks like something else",
        "modules.eventBus.enable is 1, expected true or false",
        "modules.eventBus.mqttMode is 1.5, expected a whole number, 0 or more",
        "apiVersion is \"edgecore.config.kubeedge.io/v1alpha1\", expected edgecore.config.kubeedge.io/v1alpha2",
        "modules.edged.hostnameOverride is \"Edge_1\", expected a DNS subdomain: lower-case letters, digits, '-' and '.'",
        "modules.edgeHub.websocket.enable and quic.enable are both true, expected one of them to be true",
    ];
    assert_eq!(errors, expected.map(|error| format!("edgecore.yaml: {error}")));
}

#[test]
fn modules_write_where_the_configuration_puts_their_files() {
    let (file, _, _) = read(json!({
        "database": {"dataSource": "/data/db/edgecore.db"},
        "modules": {"edgeHub": {"tlsCaFile": "/k/ca/ca.crt", "tlsCertFile": "/k/c/s.crt", "tlsPrivateKeyFile": "/k/c/s.key"}},
    }));
    assert_eq!(file.writable(Module::Metamanager), [Box::from("/data/db")]);
    assert_eq!(file.writable(Module::Edgehub), [Box::from("/k/c"), Box::from("/k/ca")]);
    assert_eq!(file.writable(Module::Eventbus), []);
}
