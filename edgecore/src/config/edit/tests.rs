//! What an operator finds in the file after keys were set.

use super::*;

const TEXT: &str = "# ours\napiVersion: edgecore.config.kubeedge.io/v1alpha2\nkind: EdgeCore\n\
    modules:\n  # the hub\n  edgehub:\n    heartbeat: 15 # seconds\n    websocket:\n      \
    server: a:1\n  edged:\n    hostnameOverride: edge1\n";

fn set(text: &str, pairs: &[&str]) -> Result<String, String> {
    edited(text, &pairs.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
}

#[test]
fn one_line_changes_and_all_else_stays() {
    let changed = set(TEXT, &["modules.edgeHub.heartbeat=20"]).unwrap();
    assert_eq!(changed, TEXT.replace("heartbeat: 15 #", "heartbeat: 20 #"));
    let server = set(TEXT, &["modules.edgeHub.websocket.server=b:2"]).unwrap();
    assert_eq!(server, TEXT.replace("server: a:1", "server: \"b:2\""));
    assert_eq!(set(TEXT, &["modules.edgeHub.heartbeat=15"]).unwrap(), TEXT);
}

#[test]
fn what_is_not_there_is_added_where_it_belongs() {
    let changed = set(TEXT, &["modules.edgeStream.enable=true", "modules.edgeHub.token=12"]);
    let tree = reader::parse(&changed.unwrap()).unwrap();
    assert_eq!(tree["modules"]["edgeStream"]["enable"], true);
    assert_eq!(tree["modules"]["edgehub"]["token"], "12", "it is a text by default");
    assert_eq!(tree["modules"]["edgehub"]["websocket"]["server"], "a:1");
    let json = r#"{"modules":{"edgeHub":{"heartbeat":15}}}"#;
    let changed = set(json, &["modules.edgeHub.heartbeat=16"]).unwrap();
    assert_eq!(changed, r#"{"modules":{"edgeHub":{"heartbeat":16}}}"#);
}

#[test]
fn hostile_values_are_values_and_hostile_keys_are_unknown() {
    for value in ["$(reboot)", "a\"; rm -rf /; \"", "x\n  edged: {}", "`id`", "| tee /etc/passwd"] {
        let changed = set(TEXT, &[&format!("modules.edgeHub.websocket.server={value}")]).unwrap();
        let tree = reader::parse(&changed).unwrap();
        assert_eq!(tree["modules"]["edgehub"]["websocket"]["server"], value);
        assert_eq!(tree["modules"]["edged"]["hostnameOverride"], "edge1");
    }
    for key in ["modules.nothing.enable", "modules.edgeHub.heartbeat: 1\nx", "$(id)", "", "a..b"] {
        assert!(set(TEXT, &[&format!("{key}=1")]).is_err(), "{key}");
    }
}

#[test]
fn a_table_in_braces_is_refused_with_its_line() {
    let of = |text: &str| set(text, &["modules.edgeHub.heartbeat=1"]).unwrap_err();
    let said = |line| {
        format!(
            "modules.edgeHub.heartbeat cannot be set: line {line} of the file is a table in braces, \
             expected a line for each key"
        )
    };
    assert_eq!(of("modules: {edgeHub: {heartbeat: 15}} # flow"), said(1));
    assert_eq!(of("# ours\nmodules:\n  edgeHub: {\n    heartbeat: 15 }\n"), said(3));
    assert_eq!(of("{modules: {edgeHub: {heartbeat: 15}}}"), said(1));
    // one beside it is no hindrance
    let beside = "modules:\n  edgeStream: {enable: true}\n  edgeHub:\n    heartbeat: 15\n";
    let changed = set(beside, &["modules.edgeHub.heartbeat=1"]).unwrap();
    assert_eq!(changed, beside.replace("15", "1"));
}
