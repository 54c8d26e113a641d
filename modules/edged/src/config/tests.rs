//! Tests of the configuration.

use super::*;

fn check(text: &str) -> anyhow::Result<Config> {
    serde_json::from_str::<Sections>(text)?.check()
}

#[test]
fn an_empty_section_has_kubeedges_defaults() -> anyhow::Result<()> {
    let config = check("{}")?;
    assert_eq!(config.socket, PathBuf::from("/run/containerd/containerd.sock"));
    assert_eq!(config.root, PathBuf::from("/var/lib/kubelet"));
    assert_eq!(check(r#"{"edged":{"tailoredKubeletConfig":null,"nodeIP":""}}"#)?, config);
    Ok(())
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let text = r#"{"edged":{"rootDirectory":"x","nodeIP":"here","tailoredKubeletConfig":
        {"containerRuntimeEndpoint":"tcp://y","cgroupDriver":"none","evictionHard":{"nodefs.available":"101%"}}}}"#;
    let said = check(text).unwrap_err().to_string();
    for word in ["'x'", "'here'", "tcp://y", "'none'", "101%"] {
        assert!(said.contains(word), "{word} is missing in: {said}");
    }
    assert_eq!(said.lines().count(), 5);
}

#[test]
fn pods_find_the_api_where_it_asks_who_they_are() -> anyhow::Result<()> {
    let at = |gate: bool, server: &str| {
        let text = format!(
            r#"{{"metaManager":{{"metaServer":{{"enable":true,"dummyServer":"{server}"}}}},
            "featureGates":{{"requireAuthorization":{gate}}}}}"#
        );
        check(&text).map(|config| config.api)
    };
    assert_eq!(at(true, "169.254.30.10:10550")?, Some(("169.254.30.10".to_owned(), 10_550)));
    assert_eq!(at(false, "169.254.30.10:10550")?, None);
    assert!(at(true, "here").unwrap_err().to_string().contains("'here'"));
    Ok(())
}

#[test]
fn a_node_has_an_address_of_each_family_at_the_most() -> anyhow::Result<()> {
    let of = |text: &str| check(&format!(r#"{{"edged":{{"nodeIP":"{text}"}}}}"#));
    let both: [IpAddr; 2] = ["2001:db8::7".parse()?, "192.0.2.7".parse()?];
    assert_eq!(of("2001:db8::7, 192.0.2.7")?.addresses, both);
    assert_eq!(of("192.0.2.7")?.addresses, both[1..]);
    for bad in ["192.0.2.7,192.0.2.8", "192.0.2.7,", "192.0.2.7,2001:db8::7,2001:db8::8"] {
        assert!(of(bad).unwrap_err().to_string().contains(bad));
    }
    Ok(())
}

#[test]
fn what_is_kept_is_a_share_or_a_number() {
    assert_eq!(Kept::parse("12.5%").map(|kept| kept.amount(1000)), Some(125));
    assert_eq!(Kept::parse("1Ki").map(|kept| kept.amount(2000)), Some(1024));
    assert_eq!(Kept::parse("x%"), None);
}
