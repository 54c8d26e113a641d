//! The JSON that scripts rely on, to the letter.

use super::*;
use crate::testing::{TEN, status};

/// What the processes of the scripted agent use.
pub(crate) fn usage() -> BTreeMap<u32, Usage> {
    let used = |kilobytes: u64, seconds| Usage { pss: Some(kilobytes << 10), cpu: Some(seconds) };
    BTreeMap::from([(10, used(512, 0.5)), (11, used(1024, 1.25)), (21, used(1536, 75.0))])
}

const EXPECTED: &str = r#"{
  "node": "edge1",
  "version": "0.1.0",
  "state": "degraded",
  "uptimeSeconds": 60.5,
  "pssBytes": 3145728,
  "cloud": {
    "state": "connected",
    "endpoint": "wss://cloud:10000",
    "since": "2026-08-01T10:00:00Z",
    "connects": 1,
    "lastHeartbeat": "2026-08-01T10:00:50Z",
    "certificateExpires": "2027-08-01T00:00:00Z",
    "reason": null
  },
  "modules": [
    {
      "name": "edged",
      "state": "running",
      "pid": 21,
      "since": "2026-08-01T10:00:00Z",
      "restarts": 1,
      "lastExit": {
        "reason": "signal 9",
        "at": "2026-08-01T10:00:00Z",
        "pid": 20,
        "lastLines": []
      },
      "pssBytes": 1572864,
      "cpuSeconds": 75.0,
      "queue": {
        "waiting": 3,
        "unsettled": 12
      },
      "nextStart": null,
      "memoryMax": 67108864,
      "cgroup": "/edgecore/edged",
      "report": null
    },
    {
      "name": "edgemesh",
      "state": "disabled",
      "pid": null,
      "since": "2026-08-01T10:00:00Z",
      "restarts": 0,
      "lastExit": null,
      "pssBytes": 0,
      "cpuSeconds": 0.0,
      "queue": {
        "waiting": 0,
        "unsettled": 0
      },
      "nextStart": null,
      "memoryMax": null,
      "cgroup": null,
      "report": null
    }
  ],
  "notInForce": [
    "no control groups",
    "edged: the kernel has no Landlock"
  ],
  "supervisor": {
    "pid": 10,
    "pssBytes": 524288,
    "cpuSeconds": 0.5,
    "reloads": 0
  },
  "faults": false
}"#;

#[test]
fn the_document_is_what_scripts_rely_on() {
    let mut report = Report::new(status(), &usage());
    report.modules.retain(|module| matches!(module.name, Module::Edged | Module::Edgemesh));
    assert_eq!(serde_json::to_string_pretty(&report).unwrap(), EXPECTED);
}

#[test]
fn the_sum_is_unknown_when_a_part_is() {
    let mut usage = usage();
    usage.remove(&21);
    let report = Report::new(status(), &usage);
    assert_eq!(report.pss_bytes, None);
    assert_eq!(report.modules[0].pss_bytes, Some(1 << 20));
    assert_eq!(report.modules[1].pss_bytes, None);
}

#[test]
fn a_dead_edgehub_is_connected_to_nothing() {
    let mut status = status();
    status.modules[0].state = ModuleState::Backoff;
    status.modules[0].since = TEN + 1000;
    let cloud = Report::new(status, &usage()).cloud;
    assert_eq!(cloud.state, LinkState::Disconnected);
    assert_eq!(cloud.since, Some(Timestamp(TEN + 1000)));
    assert_eq!(cloud.connects, 1);
}

#[test]
fn a_report_of_other_fields_is_told_and_not_taken_for_a_link() {
    let mut status = status();
    status.modules[0].report = Some(serde_json::json!({ "state": "wobbly" }));
    let cloud = Report::new(status, &usage()).cloud;
    assert_eq!(cloud.state, LinkState::Disconnected);
    let reason = cloud.reason.unwrap();
    assert!(reason.starts_with("edgehub's report is not understood: unknown variant"), "{reason}");
}
