//! What an operator sees of the converter: which files are taken, and what is said of the others.

use std::path::PathBuf;

use ipc_proto::Module;
use ipc_proto::lifeline::LogLevel;
use supervisor::config::Config;

use super::reader::Findings;

pub(super) const NODE: &str = "apiVersion: edgecore.config.kubeedge.io/v1alpha2\nkind: EdgeCore\n\
                    modules: {edged: {hostnameOverride: edge1}}\n";

/// Converts two texts.
pub(super) fn convert(edgecore: &str, supervisor: &str) -> (Option<Config>, Findings) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (edgecore, supervisor) = (write("edgecore.yaml", edgecore), write("s.yaml", supervisor));
    let mut findings = Findings::default();
    let mut config = super::read(&edgecore, &supervisor, false, &mut findings);
    let prefix = format!("{}/", folder.path().display());
    // The folder is another each time, and the module whose files these are is told of it.
    for module in config.iter_mut().flat_map(|config| &mut config.modules) {
        module.config = module.config.replace(&prefix, "").into();
        module.writable.retain(|it| **it != *folder.path().to_string_lossy());
    }
    for line in findings.errors.iter_mut().chain(&mut findings.warnings) {
        *line = line.replace(&prefix, "");
    }
    (config, findings)
}

fn errors(edgecore: &str, supervisor: &str) -> Vec<String> {
    convert(edgecore, supervisor).1.errors
}

#[test]
fn the_shortest_file_has_kubeedges_defaults() {
    let (config, findings) = convert(NODE, "");
    assert_eq!(findings.errors, [""; 0]);
    let config = config.unwrap();
    assert_eq!(&*config.node, "edge1");
    assert!(!config.faults);
    let enabled: Vec<_> = config.enabled().iter().collect();
    let usual =
        [Module::Metamanager, Module::Devicetwin, Module::Edgehub, Module::Edged, Module::Eventbus];
    assert_eq!(enabled, usual);
    let hub: serde_json::Value = serde_json::from_str(&config.of(Module::Edgehub).config).unwrap();
    assert_eq!(hub["edgeHub"]["heartbeat"], 15);
    assert_eq!(hub["node"], "edge1");
    let written = serde_json::to_vec(&config).unwrap();
    assert_eq!(Config::parse(&written).unwrap(), config);
}

#[test]
fn keys_and_truths_are_read_as_kubeedge_reads_them() {
    let text = "apiVersion: edgecore.config.kubeedge.io/v1alpha2\nkind: EdgeCore\n\
                Modules:\n  edged: {hostnameoverride: edge1, Enable: no}\n  \
                eventbus: {enable: On}\n  servicebus: {ENABLE: yes}\n";
    let (config, findings) = convert(text, "");
    assert_eq!((findings.errors, findings.warnings), (Vec::new(), Vec::new()));
    let config = config.unwrap();
    assert_eq!(&*config.node, "edge1");
    let enabled = config.enabled();
    assert!(!enabled.contains(Module::Edged));
    assert!(enabled.contains(Module::Eventbus) && enabled.contains(Module::Servicebus));
    let wrong = text.replace("On", "perhaps");
    assert_eq!(
        errors(&wrong, ""),
        [r#"edgecore.yaml: Modules.eventbus.enable is "perhaps", expected true or false"#]
    );
}

#[test]
fn both_printed_templates_can_be_read_back() {
    for text in [super::defaults_text(), super::minimal_text()] {
        let (config, findings) = convert(&text, "");
        assert_eq!(findings.errors, [""; 0]);
        assert_eq!(findings.warnings, [""; 0]);
        assert!(config.is_some());
    }
}

#[test]
fn supervisor_yaml_says_the_last_word() {
    let text = "faults: true\nlogLevel: warn\nbeat: {interval: 100ms, patience: 1s}\n\
                restart: {stableAfter: 50ms}\n\
                modules:\n  edgemesh: {enabled: true, memoryMax: 16Mi}\n  \
                edged: {enabled: false}\n  eventbus: {logLevel: debug, queue: {messages: 7}}\n";
    let (config, findings) = convert(NODE, text);
    assert_eq!(findings.errors, [""; 0]);
    let config = config.unwrap();
    assert!(config.faults);
    assert_eq!(config.beat_interval, 100);
    assert_eq!(config.policy.patience, 1000);
    assert_eq!(config.policy.restart.stable_after, 50);
    assert!(config.of(Module::Edgemesh).enabled);
    assert_eq!(config.of(Module::Edgemesh).memory_max, Some(16 << 20));
    assert!(!config.of(Module::Edged).enabled);
    assert_eq!(config.of(Module::Edged).log_level, LogLevel::Warn);
    assert_eq!(config.of(Module::Eventbus).log_level, LogLevel::Debug);
    assert_eq!(config.of(Module::Eventbus).queue.messages, 7);
}

#[test]
fn every_error_of_both_files_is_found_in_one_run() {
    let node = "apiVersion: edgecore.config.kubeedge.io/v1\nkind: EdgeCore\nmodules:\n  \
                edged: {hostnameOverride: Edge_1, enable: 3}\n  edgeHub: {heartbeat: 0}\n";
    let supervisor = "faults: maybe\nuser: no-such-user-here\nbeat: {interval: soon}\n\
                      modules:\n  edgedd: {enabled: true}\n  edged:\n    memoryMax: -1\n    \
                      cpuWeight: 0\n    logLevel: loud\n    frobnicate: 1\n  edgehub: 7\n";
    let found = errors(node, supervisor).join("\n");
    let names = Module::ALL.map(Module::name).join(", ");
    for expected in [
        "edgecore.yaml: apiVersion is \"edgecore.config.kubeedge.io/v1\", expected \
         \"edgecore.config.kubeedge.io/v1alpha2\"",
        "edgecore.yaml: modules.edged.enable is 3, expected true or false",
        "edgecore.yaml: modules.edged.hostnameOverride is \"Edge_1\", expected a DNS subdomain",
        "edgecore.yaml: modules.edgeHub.heartbeat is 0, expected a whole number from 1 to 86400",
        "s.yaml: faults is \"maybe\", expected true or false",
        "s.yaml: beat.interval is \"soon\", expected a duration such as 500ms, 2s or 1m",
        &format!("s.yaml: modules.edgedd is unknown, expected one of {names}"),
        "s.yaml: modules.edged.memoryMax is -1, expected a quantity such as 64Mi",
        "s.yaml: modules.edged.cpuWeight is 0, expected a whole number from 1 to 10000",
        "s.yaml: modules.edged.logLevel is \"loud\", expected one of error, warn, info",
        "s.yaml: modules.edged.frobnicate is unknown, expected one of enabled, user",
        "s.yaml: modules.edgehub is 7, expected a table",
    ] {
        assert!(found.contains(expected), "missing: {expected}\nfound:\n{found}");
    }
}

#[test]
fn an_unknown_key_of_kubeedges_file_is_a_warning() {
    let node = NODE.replace("edge1}", "edge1, newThing: 1}");
    let (config, findings) = convert(&node, "");
    assert!(config.is_some());
    let expected = "edgecore.yaml: modules.edged.newThing is unknown and passed over";
    assert_eq!(findings.warnings, [expected]);
}

#[test]
fn what_is_no_yaml_is_said_in_one_line() {
    let found = errors("a: [", "just words");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("edgecore.yaml: not valid YAML: "), "{found:?}");
    assert_eq!(found[1], "s.yaml: the whole is \"just words\", expected a table");
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        text += &format!("a{level}: &a{level} [{below}]\n");
    }
    assert!(errors(NODE, &text)[0].starts_with("s.yaml: not valid YAML: "));
}

#[test]
fn a_patience_shorter_than_two_beats_is_refused() {
    let found = errors(NODE, "beat: {interval: 10s, patience: 5s}\n");
    assert!(found[0].contains("beat.patience is \"5s\""), "{found:?}");
}

#[test]
fn a_missing_file_is_answered_with_the_way_to_get_one() {
    let mut findings = Findings::default();
    let nowhere = PathBuf::from("/nonexistent/edgecore.yaml");
    assert!(super::read(&nowhere, &nowhere, false, &mut findings).is_none());
    assert!(findings.errors[0].contains("cannot read /nonexistent/edgecore.yaml"));
    assert!(findings.errors[0].contains("edgecore --minconfig"));
}

#[test]
fn mqtt_users_are_eventbuss_alone_and_passwords_are_not_repeated() {
    let users = "{robot: {password: secret, publish: [a/#]}}";
    let (config, findings) =
        convert(NODE, &format!("modules: {{eventbus: {{mqttUsers: {users}}}}}"));
    assert_eq!(findings.errors, [""; 0]);
    let config = config.unwrap();
    assert!(config.of(Module::Eventbus).config.contains("secret"));
    assert!(!config.of(Module::Devicetwin).config.contains("secret"));
    let found = errors(
        NODE,
        "modules:\n  edged: {mqttUsers: {}}\n  eventbus:\n    mqttUsers:\n      a: {password: 7321}\n      \
         b: {password: x, publish: all}\n      c: {pass: x}\n",
    )
    .join("\n");
    for expected in [
        "modules.edged.mqttUsers is unknown",
        "mqttUsers.a.password is missing, expected a text",
        "mqttUsers.b.publish is \"all\", expected a list of topic filters",
        "mqttUsers.c.pass is unknown, expected one of password, publish, subscribe",
    ] {
        assert!(found.contains(expected), "missing: {expected}\nfound:\n{found}");
    }
    assert!(!found.contains("7321"), "{found}");
}

fn told(config: &Config, module: Module) -> serde_json::Value {
    serde_json::from_str(&config.of(module).config).unwrap()
}

#[test]
fn the_mesh_brings_its_names_to_pods_and_metaserver_to_learn_of_services() {
    let (config, findings) = convert(NODE, "modules: {edgemesh: {enabled: true}}");
    assert_eq!(findings.errors, [""; 0]);
    let config = config.unwrap();
    assert!(config.enabled().contains(Module::Metaserver));
    let mesh = told(&config, Module::Edgemesh);
    assert_eq!(
        (&mesh["dns"]["listen"], &mesh["clusterDomain"]),
        (&"169.254.96.16:53".into(), &"cluster.local".into())
    );
    let servers = &told(&config, Module::Edged)["edged"]["tailoredKubeletConfig"]["clusterDNS"];
    assert_eq!(*servers, serde_json::json!(["169.254.96.16"]));
    let api = told(&config, Module::Metaserver);
    assert_eq!((&api["serves"], &api["mesh"]), (&false.into(), &true.into()));

    // What the operator says stands.
    let node = NODE.replace(
        "{hostnameOverride: edge1}",
        "{hostnameOverride: edge1, tailoredKubeletConfig: {clusterDNS: [10.96.0.10]}}",
    );
    let own = "modules: {metaserver: {enabled: false}, edgemesh: {enabled: true, dns: \
               {listen: \"[fd00::53]:5353\", upstreams: [192.0.2.1, \"[fd00::1]:54\"]}, \
               traffic: {preferSameNode: true}}}";
    let (config, findings) = convert(&node, own);
    assert_eq!(findings.errors, [""; 0]);
    let config = config.unwrap();
    assert!(!config.enabled().contains(Module::Metaserver));
    let dns = serde_json::json!(
        {"listen": "[fd00::53]:5353", "upstreams": ["192.0.2.1:53", "[fd00::1]:54"]});
    let mesh = told(&config, Module::Edgemesh);
    assert_eq!(mesh["dns"], dns);
    assert_eq!(mesh["traffic"], serde_json::json!({"preferSameNode": true}));
    let servers = &told(&config, Module::Edged)["edged"]["tailoredKubeletConfig"]["clusterDNS"];
    assert_eq!(*servers, serde_json::json!(["10.96.0.10"]));

    let found = errors(
        NODE,
        "modules: {edged: {dns: {}}, edgemesh: {dns: {listen: 10.0.0.1, upstreams: [], tls: 1}, \
         traffic: {enabled: 1, via: x}}}",
    )
    .join("\n");
    for expected in [
        "modules.edged.dns is unknown",
        "modules.edgemesh.dns.listen is \"10.0.0.1\", expected an address and a port",
        "modules.edgemesh.dns.upstreams is [], expected a list of addresses",
        "modules.edgemesh.dns.tls is unknown, expected one of listen, upstreams",
        "modules.edgemesh.traffic.enabled is 1, expected true or false",
        "modules.edgemesh.traffic.via is unknown, expected one of enabled, preferSameNode, zone",
    ] {
        assert!(found.contains(expected), "missing: {expected}\nfound:\n{found}");
    }
}

#[test]
fn the_mesh_s_tunnel_shows_the_node_s_certificate() {
    let own = "modules: {edgemesh: {enabled: true, tunnel: {enabled: true, relay: true, \
               listen: \"0.0.0.0:20006\", relays: [\"relay.example:20006\"], \
               direct: [10.0.0.0/8], standIns: 198.18.0.0/16, keepAlive: 2s}}}";
    let (config, findings) = convert(NODE, own);
    assert_eq!(findings.errors, [""; 0]);
    let config = config.unwrap();
    let expected = serde_json::json!({
        "enabled": true, "relay": true, "listen": "0.0.0.0:20006",
        "relays": ["relay.example:20006"], "direct": ["10.0.0.0/8"],
        "standIns": "198.18.0.0/16", "keepAlive": 2000,
        "ca": "/etc/kubeedge/ca/rootCA.crt", "certificate": "/etc/kubeedge/certs/server.crt",
        "key": "/etc/kubeedge/certs/server.key"});
    assert_eq!(told(&config, Module::Edgemesh)["tunnel"], expected);

    let of = |tunnel: &str| {
        let own = format!("modules: {{edgemesh: {{enabled: true, tunnel: {{{tunnel}}}}}}}");
        errors(NODE, &own).join("\n")
    };
    let place = "modules.edgemesh.tunnel";
    for (tunnel, expected) in [
        ("enabled: true", " has neither listen nor relays"),
        ("relay: true", ".listen is missing, expected an address and a port of a relay"),
        ("listen: 20006", ".listen is 20006, expected an address and a port"),
        ("relays: [relay]", ".relays is [\"relay\"], expected a list of at most 8 far ends"),
        ("relays: [a:1, b:1, c:1, d:1, e:1, f:1, g:1, h:1, i:1]", ".relays is [\"a:1\""),
        (
            "direct: [10.0.0.1/33]",
            ".direct is [\"10.0.0.1/33\"], expected a list of at most 32 networks",
        ),
        ("standIns: 10.0.0.0/25", ".standIns is \"10.0.0.0/25\", expected a network of IPv4"),
        ("keepAlive: 1ms", ".keepAlive is \"1ms\", expected a duration"),
        ("psk: x", ".psk is unknown, expected one of enabled, listen, relay, relays"),
    ] {
        let found = of(tunnel);
        assert!(found.contains(&format!("{place}{expected}")), "{tunnel}: {found}");
    }
}
