//! The screens, to the letter.

use super::*;
use crate::report::tests::usage;
use crate::testing::{TEN, status};

const NOW: Timestamp = Timestamp(TEN + 60_000);

const OVERVIEW: &str = r"Node:  edge1, degraded for 1m00s, edgecore 0.1.0, 3M in 3 processes
Cloud: connected to wss://cloud:10000 for 1m00s, 1 connect, heartbeat 10s ago, certificate until 2027-08-01

NAME      STATE     PID  UPTIME  RESTARTS  LAST EXIT            MEMORY  CPU    QUEUE
edgehub   running   11   1m00s   0         -                    1M      1.25s  0/0
edged     running   21   1m00s   1         signal 9, 1m00s ago  1.5M    1m15s  3/12
eventbus  held      -    -       7         signal 6, 2s ago     -       -      0/0
edgemesh  disabled  -    -       0         -                    -       -      0/0

Not in force:
  no control groups
  edged: the kernel has no Landlock

eventbus keeps dying and is held: signal 6, 2s ago, next try in 28s
  | panicked at \u{1b}[2Jcore.rs:7
";

#[test]
fn one_screen_tells_what_is_wrong() {
    let report = Report::new(status(), &usage());
    assert_eq!(overview(&report, NOW, Style::PLAIN), OVERVIEW);
}

#[test]
fn without_a_link_the_reason_stands_below() {
    let mut report = Report::new(status(), &usage());
    report.cloud = Cloud {
        certificate_expires: Some(Timestamp(TEN)),
        reason: Some("certificate expired: join again with 'keadm join'".into()),
        ..Cloud::default()
    };
    let text = overview(&report, NOW, Style::PLAIN);
    let lines: Vec<_> = text.lines().skip(1).take(2).collect();
    assert_eq!(
        lines,
        [
            "Cloud: disconnected, certificate expired on 2026-08-01",
            "       certificate expired: join again with 'keadm join'"
        ]
    );
}

#[test]
fn details_show_how_a_module_ended() {
    let report = Report::new(status(), &usage());
    let text = details(&report.modules[2], &[], NOW, Style::PLAIN);
    let expected = r"eventbus held
       since: 2026-08-01T10:00:00Z (1m00s ago)
    restarts: 7
  next start: 2026-08-01T10:01:28Z (in 28s)
       queue: 0 waiting, 0 unsettled
   last exit: signal 6 of process 30 at 2026-08-01T10:00:58Z (2s ago)
    | starting
    | panicked at \u{1b}[2Jcore.rs:7
";
    assert_eq!(text, expected);
}

#[test]
fn details_show_what_a_module_uses_and_logs() {
    let report = Report::new(status(), &usage());
    let text = details(&report.modules[1], &["ready".into()], NOW, Style::PLAIN);
    let expected = r"edged running
       since: 2026-08-01T10:00:00Z (1m00s ago)
     process: 21
    restarts: 1
      memory: 1.5M of 64M
         cpu: 1m15s
       queue: 3 waiting, 12 unsettled
      cgroup: /edgecore/edged
   last exit: signal 9 of process 20 at 2026-08-01T10:00:00Z (1m00s ago)
         log:
    | ready
";
    assert_eq!(text, expected);
}

#[test]
fn what_could_not_be_read_is_a_question_mark() {
    let report = Report::new(status(), &std::collections::BTreeMap::new());
    let text = overview(&report, NOW, Style::PLAIN);
    assert!(text.starts_with("Node:  edge1, degraded for 1m00s, edgecore 0.1.0\n"), "{text}");
    assert!(text.contains("  ?       ?    0/0\n"), "{text}");
}
