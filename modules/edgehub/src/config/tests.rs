//! Every field that can be wrong, and what KubeEdge's files look like.

use serde_json::{Value, json};

use super::*;

/// The section as KubeEdge writes it.
fn section() -> Value {
    json!({
        "node": "edge1",
        "tokenFile": "/etc/kubeedge/bootstrap-edgecore.conf",
        "edgeHub": {
            "enable": true, "heartbeat": 15, "messageQPS": 30, "messageBurst": 60,
            "projectID": "e632aba927ea4ac2b575ec1603d56f10",
            "tlsCaFile": "/etc/kubeedge/ca/rootCA.crt",
            "tlsCertFile": "/etc/kubeedge/certs/server.crt",
            "tlsPrivateKeyFile": "/etc/kubeedge/certs/server.key",
            "websocket": {"enable": true, "handshakeTimeout": 30, "readDeadline": 15,
                          "writeDeadline": 15, "server": "10.0.0.1:10000"},
            "quic": {"enable": false, "server": "10.0.0.1:10001"},
            "httpServer": "https://10.0.0.1:10002",
            "token": "", "rotateCertificates": true
        }
    })
}

fn config(change: impl FnOnce(&mut Value)) -> Result<Config, Invalid> {
    let mut section = section();
    change(&mut section);
    serde_json::from_value::<Raw>(section).expect("the shape is right").try_into()
}

#[test]
fn kubeedges_own_section_is_taken() {
    let config = config(|_| ()).expect("it is right");
    assert_eq!(config.hub, Endpoint { host: "10.0.0.1".into(), port: 10000 });
    assert_eq!(config.service.to_string(), "10.0.0.1:10002");
    assert_eq!((config.rate, config.token), ((30, 60), None));
}

#[test]
fn zero_means_the_default() {
    let zero = config(|section| {
        section["edgeHub"]["messageQPS"] = json!(0);
        section["edgeHub"]["heartbeat"] = json!(0);
        section["edgeHub"]["websocket"]["readDeadline"] = json!(0);
    });
    assert_eq!(zero, config(|_| ()));
}

#[test]
fn quic_is_understood_and_brings_its_address() {
    let config = config(|section| {
        section["edgeHub"]["websocket"] = json!({"enable": false, "server": "192.168.1.9:10000"});
        section["edgeHub"]["quic"] = json!({"enable": true, "server": "[2001:db8::1]:10001"});
    })
    .expect("it is right");
    assert_eq!(config.quic.expect("asked for").to_string(), "[2001:db8::1]:10001");
    assert_eq!(config.hub.to_string(), "[2001:db8::1]:10000");
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let error = config(|section| {
        section["node"] = json!("a/b");
        section["edgeHub"]["projectID"] = json!("../x");
        section["edgeHub"]["heartbeat"] = json!(-1);
        section["edgeHub"]["messageBurst"] = json!(-1);
        section["edgeHub"]["tlsCaFile"] = json!("ca.crt");
        section["edgeHub"]["httpServer"] = json!("http://10.0.0.1:10002");
        section["edgeHub"]["websocket"]["server"] = json!("10.0.0.1");
    })
    .expect_err("it is wrong")
    .to_string();
    for part in [
        "node is \"a/b\"",
        "edgeHub.projectID is \"../x\"",
        "edgeHub.heartbeat is -1",
        "edgeHub.messageBurst is -1",
        "edgeHub.tlsCaFile is \"ca.crt\", expected the absolute path of a file",
        "edgeHub.httpServer is \"\", expected https://host:port",
        "edgeHub.websocket.server is \"10.0.0.1\", expected host:port",
    ] {
        assert!(error.contains(part), "'{part}' is not in '{error}'");
    }
}

#[test]
fn addresses_are_told_from_rubbish() {
    for good in ["a:1", "cloud.example.com:10000", "10.0.0.1:65535", "[::1]:10000"] {
        assert_eq!(Endpoint::parse(good).expect(good).to_string(), good);
    }
    for bad in
        ["", "a", ":1", "a:", "a:0", "a:65536", "::1:1", "[::1]", "a b:1", "a/b:1", "a:1\r\n"]
    {
        assert_eq!(Endpoint::parse(bad), None, "{bad}");
    }
}
