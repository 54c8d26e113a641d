//! Questions and answers, to the letter.

use ipc_proto::control::{AgentState, Exits, LastExit, ModuleStatus, Status};
use ipc_proto::lifeline::{Load, Traffic};
use ipc_proto::{Module, ModuleState};
use serde_json::{Value, json};

use super::families;
use super::http::{MAX_HEAD, Question, question};
use super::page::{Format, Kind, Page};
use super::usage;
use std::fs;
use std::path::Path;

fn module(
    name: Module,
    state: ModuleState,
    pid: Option<u32>,
    report: Option<Value>,
) -> ModuleStatus {
    ModuleStatus {
        name,
        state,
        pid,
        since: 1_000_000,
        restarts: 3,
        last_exit: Some(LastExit {
            reason: "signal 9".to_owned(),
            at: 1_500_000,
            pid: 7,
            last_lines: Vec::new(),
        }),
        next_start: None,
        load: Load { waiting: 1, unsettled: 2 },
        report,
        confinement: None,
        cgroup: Some("/sys/fs/cgroup/edgecore/edged".to_owned()),
        memory_max: Some(1 << 26),
        last_beat: pid.map(|_| 1_998_500),
        traffic: Traffic { sent: 10, received: 20, queued_bytes: 30, peers: 4, connections: 5 },
        exits: Exits { signal: 3, ..Exits::default() },
    }
}

fn status() -> Status {
    let edged = json!({"runtime": {"state": "ready"}, "pods": 7, "api": {"serving": false}});
    let twin =
        json!({"devices": 2, "mappers": [{"state": "ok"}, {"state": "trouble"}, {"state": "ok"}]});
    Status {
        node: "a\"b\\c\nd".to_owned(),
        version: "0.1.0".to_owned(),
        state: AgentState::Degraded,
        uptime_seconds: 12.5,
        pid: 1,
        reloads: 2,
        not_in_force: vec!["no control groups".to_owned()],
        faults: false,
        modules: vec![
            module(Module::Edged, ModuleState::Running, Some(21), Some(edged)),
            module(Module::Devicetwin, ModuleState::Running, Some(22), Some(twin)),
            module(Module::Eventbus, ModuleState::Held, None, None),
            module(
                Module::Edgehub,
                ModuleState::Running,
                Some(23),
                Some(
                    json!({"state": "connecting", "lastHeartbeat": "2026-08-01T10:00:00Z", "connects": "x"}),
                ),
            ),
        ],
    }
}

#[test]
fn a_dead_module_has_its_state_and_no_process() {
    let page = families::page(&status(), 2000.0, Path::new("/nowhere"), Format::Text);
    for line in [
        r#"edgecore_info{version="0.1.0",node="a\"b\\c\nd"} 1"#,
        "edgecore_degraded 1",
        r#"edgecore_module_state{module="eventbus",state="held"} 1"#,
        r#"edgecore_module_state{module="eventbus",state="running"} 0"#,
        r#"edgecore_module_restarts_total{module="eventbus"} 3"#,
        r#"edgecore_module_exits_total{module="eventbus",reason="signal"} 3"#,
        r#"edgecore_module_last_exit_timestamp_seconds{module="eventbus"} 1500"#,
        r#"edgecore_module_last_beat_age_seconds{module="edged"} 1.5"#,
        r#"edgecore_module_queue_bytes{module="edged"} 30"#,
        r#"edgecore_pods 7"#,
        r#"edgecore_runtime_ready 1"#,
        r#"edgecore_node_api_serving 0"#,
        r#"edgecore_mappers{state="ok"} 2"#,
        r#"edgecore_cloud_connected 0"#,
        r#"edgecore_cloud_last_heartbeat_timestamp_seconds 1785578400"#,
    ] {
        assert!(page.lines().any(|it| it == line), "no {line} in\n{page}");
    }
    for missing in [
        r#"edgecore_module_queue_bytes{module="eventbus"}"#,
        r#"edgecore_module_last_beat_age_seconds{module="eventbus"}"#,
        // a report that says something else than expected
        "\nedgecore_cloud_connects_total ",
    ] {
        assert!(!page.contains(missing), "{missing} in\n{page}");
    }
}

#[test]
fn open_metrics_differs_in_names_of_counters_and_in_its_end() {
    let mut page = Page::new(Format::OpenMetrics);
    page.family("x_total", Kind::Counter, "What.");
    page.sample(&[("a", "b")], 1.5);
    page.maybe(&[], None);
    let expected = "# HELP x What.\n# TYPE x counter\nx_total{a=\"b\"} 1.5\n# EOF\n";
    assert_eq!(page.finish(), expected);
}

#[test]
fn questions_are_told_from_rubbish() {
    let refused = |head: &[u8]| question(head).unwrap().unwrap_err().0[..3].to_owned();
    assert_eq!(refused(b"GET /metrics\r\n\r\n"), "400");
    assert_eq!(refused(b"GET /metrics HTTP/2\r\n\r\n"), "400");
    assert_eq!(refused(b"\x16\x03\x01\xff\xfe\r\n\r\n"), "400");
    assert_eq!(refused(b"POST /metrics HTTP/1.1\r\n\r\n"), "405");
    assert_eq!(refused(b"GET /metrics/.. HTTP/1.1\r\n\r\n"), "404");
    assert_eq!(refused(&[b'x'; MAX_HEAD + 1]), "431");
    assert_eq!(refused(&[&[b'x'; MAX_HEAD + 1], &b"\r\n\r\n"[..]].concat()), "431");
    assert_eq!(question(b"GET /metrics HTTP/1.1\r\nHost: x\r\n"), None);
    assert_eq!(question(&[b'x'; MAX_HEAD]), None);
    let asked = |head: &[u8]| question(head).unwrap().unwrap();
    let text = Question { bare: false, format: Format::Text };
    assert_eq!(asked(b"GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n"), text);
    let accept =
        b"HEAD /metrics HTTP/1.0\r\nACCEPT: application/openmetrics-text;version=1.0.0\r\n\r\n";
    assert_eq!(asked(accept), Question { bare: true, format: Format::OpenMetrics });
}

#[test]
fn the_machine_is_asked_without_waiting() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("proc/21");
    fs::create_dir_all(folder.join("fd")).unwrap();
    fs::write(
        folder.join("status"),
        "Name:\tVmRSS: 1\nVmRSS:\t  2048 kB\nRssAnon:\t 512 kB\nThreads:\t3\n",
    )
    .unwrap();
    fs::write(folder.join("stat"), "21 (a) b) S 1 1 1 0 -1 0 0 0 0 0 100 50 0 0").unwrap();
    let found = usage::usage(root.path(), 21);
    assert_eq!((found.resident, found.anonymous), (Some(2_097_152.0), Some(524_288.0)));
    assert_eq!((found.threads, found.cpu), (Some(3.0), Some(1.5)));
    assert_eq!(usage::usage(root.path(), 22), usage::Usage::default());
    let group = root.path().join("sys/edged");
    fs::create_dir_all(&group).unwrap();
    fs::write(group.join("memory.current"), "4096\n").unwrap();
    assert_eq!(usage::group(root.path(), "/sys/edged"), Some(4096.0));
    assert_eq!(usage::group(root.path(), "/sys/none"), None);
}
