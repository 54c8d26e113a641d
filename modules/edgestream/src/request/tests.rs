//! Requests as they were recorded, and those that somebody could try.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const API: &str = "127.0.0.1:10350";

fn connect(path: &str, query: &str) -> Value {
    json!({"MessID": 3,
        "url": {"Scheme": "http", "Opaque": "", "User": null, "Host": "127.0.0.1:10350",
            "Path": path, "RawPath": "", "OmitHost": false, "ForceQuery": false,
            "RawQuery": query, "Fragment": "", "RawFragment": ""},
        "header": {"Connection": ["Upgrade"], "Content-Length": ["0"], "Upgrade": ["SPDY/3.1"],
            "X-Stream-Protocol-Version": ["v5.channel.k8s.io", "v4.channel.k8s.io"],
            "Accept-Encoding": ["gzip"]},
        "method": "POST"})
}

fn ask(kind: Kind, connect: &Value) -> Result<Request, Refusal> {
    check(kind, connect.to_string().as_bytes(), API)
}

#[test]
fn a_recorded_exec_becomes_the_request_that_kubelet_expects() -> Result<(), Refusal> {
    let request = ask(Kind::Exec, &connect("/exec/default/cap-pod/c", "command=cat&input=1"))?;
    assert_eq!(
        String::from_utf8_lossy(&request.head(API)),
        "POST /exec/default/cap-pod/c?command=cat&input=1 HTTP/1.1\r\n\
         Host: 127.0.0.1:10350\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\
         upgrade: SPDY/3.1\r\nx-stream-protocol-version: v5.channel.k8s.io\r\n\
         x-stream-protocol-version: v4.channel.k8s.io\r\n\r\n"
    );
    Ok(())
}

#[test]
fn what_cloudcore_forwards_is_served() {
    for (kind, path) in [
        (Kind::Logs, "/containerLogs/default/cap-pod/c"),
        (Kind::Exec, "/exec/default/p/2d3e-uid/c"),
        (Kind::Attach, "/attach/default/p/c"),
        (Kind::Metrics, "/stats/summary"),
        (Kind::Metrics, "/stats"),
        (Kind::Metrics, "/metrics"),
        (Kind::Metrics, "/metrics/cadvisor"),
    ] {
        assert!(ask(kind, &connect(path, "")).is_ok(), "{path}");
    }
}

#[test]
fn no_other_path_is_served() {
    for (kind, path) in [
        (Kind::Logs, "/exec/default/p/c"),
        (Kind::Logs, "/containerLogs/default/../c"),
        (Kind::Logs, "/containerLogs/default/%2e%2e/c"),
        (Kind::Logs, "/containerLogs//p/c"),
        (Kind::Logs, "/containerLogs/default/p/c/d"),
        (Kind::Logs, "containerLogs/default/p/c"),
        (Kind::Logs, "/containerLogs/default/p/c HTTP/1.1\r\nX: y"),
        (Kind::Exec, "/run/default/p/c"),
        (Kind::Exec, "/exec/default/p"),
        (Kind::Metrics, "/metrics/../run/default/p/c"),
        (Kind::Metrics, "/configz"),
        (Kind::Metrics, "/logs/"),
        (Kind::Metrics, ""),
    ] {
        let refused = ask(kind, &connect(path, ""));
        assert!(matches!(refused, Err(Refusal::Path(_))), "{path:?}: {refused:?}");
    }
    let mut hidden = connect("/stats/summary", "");
    hidden["url"]["RawPath"] = json!("/run/default/p/c");
    assert!(matches!(ask(Kind::Metrics, &hidden), Err(Refusal::Path(_))));
}

#[test]
fn no_other_place_is_asked() {
    for (key, value) in [
        ("Host", "127.0.0.1:2379"),
        ("Host", "169.254.169.254"),
        ("Host", "127.0.0.1:10350@evil.example"),
        ("Host", ""),
        ("Scheme", "https"),
        ("Scheme", "file"),
        ("Opaque", "//evil.example/"),
    ] {
        let mut connect = connect("/stats/summary", "");
        connect["url"][key] = json!(value);
        let refused = ask(Kind::Metrics, &connect);
        assert!(matches!(refused, Err(Refusal::Host(_))), "{key} {value}: {refused:?}");
    }
}

#[test]
fn nothing_can_hide_in_query_method_or_headers() {
    for query in ["a=b c", "a=b#c", "a=\r\nX: y", "a=\u{e9}"] {
        let refused = ask(Kind::Metrics, &connect("/stats/summary", query));
        assert_eq!(refused, Err(Refusal::Query), "{query:?}");
    }
    let mut odd = connect("/exec/default/p/c", "");
    odd["method"] = json!("DELETE /");
    assert!(matches!(ask(Kind::Exec, &odd), Err(Refusal::Method(_))));
    for (name, value) in [("X\r\nY", "z"), ("X", "z\r\nY: z"), ("", "z")] {
        let mut odd = connect("/exec/default/p/c", "");
        odd["header"][name] = json!([value]);
        assert!(matches!(ask(Kind::Exec, &odd), Err(Refusal::Header(_))), "{name:?}");
    }
    let mut smuggled = connect("/exec/default/p/c", "");
    smuggled["header"]["Transfer-Encoding"] = json!(["chunked"]);
    smuggled["header"]["Host"] = json!(["evil.example"]);
    let head = ask(Kind::Exec, &smuggled).unwrap().head(API);
    let head = String::from_utf8_lossy(&head).to_lowercase();
    assert!(!head.contains("chunked") && !head.contains("evil"), "{head}");
}

#[test]
fn what_is_no_request_is_said_to_be_none() {
    for json in ["null", "[]", "", "5", "{\"url\": 3}", "{\"header\": {\"A\": \"b\"}}"] {
        let refused = check(Kind::Logs, json.as_bytes(), API);
        assert!(refused.is_err(), "{json}");
    }
}

proptest! {
    #[test]
    fn a_head_has_one_empty_line_and_one_target(path: String, query: String, name: String, value: String) {
        let mut connect = connect(&format!("/exec/default/p/{path}"), &query);
        connect["header"][name] = json!([value]);
        if let Ok(request) = ask(Kind::Exec, &connect) {
            let head = request.head(API);
            let head = String::from_utf8_lossy(&head).into_owned();
            prop_assert_eq!(head.matches("\r\n\r\n").count(), 1);
            prop_assert_eq!(head.lines().next().unwrap().split(' ').count(), 3);
        }
    }
}
