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
    assert!(
        set("modules: {edgeHub: {heartbeat: 15}} # flow", &["modules.edgeHub.heartbeat=1"])
            .is_err()
    );
}
