//! What the configuration may say, and what it is refused for.

use super::*;

fn check(json: &str) -> anyhow::Result<Config> {
    serde_json::from_str::<Sections>(json)?.check()
}

#[test]
fn what_is_missing_takes_kubeedges_defaults() {
    let config = check(r#"{"stateFolder":"/s","node":"edge1"}"#).unwrap();
    assert_eq!(config.internal, None);
    let external = config.external.unwrap();
    assert_eq!((external.host.as_str(), external.port), ("127.0.0.1", 1883));
    assert_eq!((external.tls, external.user), (None, None));
    assert_eq!(external.client, "edgecore-edge1");
}

#[test]
fn the_mode_says_which_brokers_there_are() {
    for (mode, internal, external) in [(0, true, false), (1, true, true), (2, false, true)] {
        let json = format!(r#"{{"stateFolder":"/s","node":"n","eventBus":{{"mqttMode":{mode}}}}}"#);
        let config = check(&json).unwrap();
        assert_eq!(config.internal.is_some(), internal, "{mode}");
        assert_eq!(config.external.is_some(), external, "{mode}");
        assert_eq!(config.settings.external, external, "{mode}");
    }
}

#[test]
fn an_address_is_a_scheme_a_host_and_a_port() {
    let place = |host: &str, port, secure| Some(Place { host: host.into(), port, secure });
    assert_eq!(parse_address("tcp://127.0.0.1:1883"), place("127.0.0.1", 1883, false));
    assert_eq!(parse_address("ssl://[::1]:8883/"), place("::1", 8883, true));
    for url in ["127.0.0.1:1883", "ws://a:1", "tcp://:1", "tcp://a", "tcp://a:70000"] {
        assert_eq!(parse_address(url), None, "{url}");
    }
}

#[test]
fn tls_takes_the_authority_and_both_files_of_the_node_or_none() {
    let external = |url: &str, tls: &str| {
        let json = format!(
            r#"{{"stateFolder":"/s","node":"n",
                "eventBus":{{"mqttServerExternal":"{url}","eventBusTLS":{tls}}}}}"#
        );
        check(&json).map(|config| config.external.unwrap().tls)
    };
    let both = r#""tlsMqttCAFile":"/a","tlsMqttCertFile":"/c","tlsMqttPrivateKeyFile":"/k""#;
    let on = |more: &str| format!(r#"{{"enable":true,{more}}}"#);
    let identity = Identity { certificate: "/c".into(), key: "/k".into() };
    let full = Some(Files { ca: "/a".into(), identity: Some(identity) });
    assert_eq!(external("tcp://b:1", &on(both)).unwrap(), full);
    assert_eq!(external("ssl://b:1", &on(both)).unwrap(), full);
    let off = format!("{{{both}}}");
    assert_eq!(external("tcp://b:1", &off).unwrap(), None);
    let bare = Some(Files { ca: "/a".into(), identity: None });
    assert_eq!(external("ssl://b:1", &off).unwrap(), bare);
    assert_eq!(external("ssl://b:1", &on(r#""tlsMqttCAFile":"/a""#)).unwrap(), bare);
    let half = on(r#""tlsMqttCertFile":"/c""#);
    let error = external("ssl://b:1", &half).unwrap_err().to_string();
    assert!(error.contains("tlsMqttPrivateKeyFile is '', expected both files"), "{error}");
    assert!(error.contains("tlsMqttCAFile is '', expected the file"), "{error}");
}

#[test]
fn a_broker_for_everybody_stays_on_the_loopback() {
    let json = |users: &str| {
        format!(
            r#"{{"stateFolder":"/s","node":"n","mqttUsers":{users},
                "eventBus":{{"mqttMode":0,"mqttServerInternal":"tcp://0.0.0.0:1884"}}}}"#
        )
    };
    let error = check(&json("{}")).unwrap_err().to_string();
    assert!(error.contains("expected a loopback address"), "{error}");
    check(&json(r#"{"robot":{"password":"secret"}}"#)).unwrap();
    let bad = r##"{"robot":{"password":"secret","publish":["a/#/b"]}}"##;
    let error = check(&json(bad)).unwrap_err().to_string();
    assert!(error.contains("user 'robot' has 'a/#/b', expected a topic filter"), "{error}");
}
