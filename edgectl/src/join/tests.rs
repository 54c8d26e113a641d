//! What is taken for a cloud, a token and a setting, and what comes of it.

use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command};

fn arguments(line: &str) -> JoinArguments {
    let words = ["edgectl", "join"].into_iter().chain(line.split_whitespace());
    let command = Cli::try_parse_from(words).unwrap().command;
    let Command::Join(arguments) = command else { panic!("expected to join, got {command:?}") };
    arguments
}

fn good_token() -> String {
    format!("{}.eyJh.eyJl.c2_n-", "0a".repeat(32))
}

#[test]
fn a_cloud_is_a_host_with_or_without_a_port() {
    for (text, wanted) in [
        ("cloud.example", ("cloud.example", 10_000)),
        ("10.0.0.1:30000", ("10.0.0.1", 30_000)),
        ("[2001:db8::1]", ("[2001:db8::1]", 10_000)),
        ("[2001:db8::1]:7", ("[2001:db8::1]", 7)),
    ] {
        assert_eq!(host_and_port(text), Ok(wanted));
    }
    for text in ["", ":1", "a:", "a:0", "a:70000", "wss://a", "a/b", "2001:db8::1", "[a]:1", "a b"]
    {
        assert!(host_and_port(text).is_err(), "{text}");
    }
}

#[test]
fn a_token_has_four_parts_and_a_hash() {
    let good = good_token();
    assert!(is_token(&good));
    let short = good.replacen('0', "", 1);
    let cut = good.rsplit_once('.').unwrap().0;
    for text in
        ["", "abc", &short, cut, &format!("{good}."), &format!("{good}.x"), &format!("{good}\n")]
    {
        assert!(!is_token(text), "{text}");
    }
}

#[test]
fn a_token_may_come_from_a_file_and_is_trimmed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("{}\n", good_token())).unwrap();
    let arguments = arguments(&format!("--cloud a --token-file {}", file.path().display()));
    assert_eq!(token(&arguments).unwrap(), good_token());
}

#[test]
fn the_configuration_says_what_the_arguments_say() {
    let line = "--cloud c:1 --token x --cert-port 2 --node-name n --label a/b=c --cgroup-driver \
                systemd --runtime-endpoint unix:///r --set modules.edgeStream.enable=true";
    let tree = configuration(&arguments(line), "t").unwrap();
    let hub = &tree["modules"]["edgeHub"];
    assert_eq!(hub["httpServer"], "https://c:2");
    assert_eq!((&hub["websocket"]["server"], &hub["token"]), (&json!("c:1"), &json!("t")));
    let edged = &tree["modules"]["edged"];
    assert_eq!(edged["hostnameOverride"], "n");
    assert_eq!(edged["nodeLabels"], json!({"a/b": "c"}));
    assert_eq!(edged["tailoredKubeletConfig"]["cgroupDriver"], "systemd");
    assert_eq!(edged["tailoredKubeletConfig"]["imageServiceEndpoint"], "unix:///r");
    let stream = json!({"server": "c:10004", "enable": true});
    assert_eq!(tree["modules"]["edgeStream"], stream);
}

#[test]
fn what_is_no_pair_is_refused() {
    for line in ["--label a", "--label =b", "--set a", "--set a..b=1"] {
        let arguments = arguments(&format!("--cloud c --token x {line}"));
        assert!(configuration(&arguments, "t").is_err(), "{line}");
    }
}
