//! The live screen, to the letter.

use super::*;
use crate::report::tests::usage;
use crate::testing::{TEN, status};

const NOW: Timestamp = Timestamp(TEN + 60_000);

/// Reports of an agent whose edged takes more each second, and whose edgehub died once.
fn seen() -> (Report, History) {
    let mut history = History::new(Letters::BLOCKS);
    let begin = Instant::now();
    let mut report = Report::new(status(), &usage());
    for second in 0..4_u32 {
        report.cloud.state = if second < 2 { LinkState::Connecting } else { LinkState::Connected };
        let hub = &mut report.modules[0];
        hub.restarts = u32::from(second >= 2);
        let edged = &mut report.modules[1];
        edged.pss_bytes = Some(u64::from(second + 1) << 20);
        edged.cpu_seconds = Some(75.0 + f64::from(second) * 0.25);
        edged.queue.waiting = second * 4;
        edged.queue.unsettled = 0;
        history.push(&report, begin + Duration::from_secs(second.into()));
    }
    (report, history)
}

const SCREEN: &str = "\
Node:  edge1, degraded for 1m00s, edgecore 0.1.0, 3M in 3 processes
Cloud: connected to wss://cloud:10000 for 1m00s, 1 connect, heartbeat 10s ago, certificate until 2027-08-01
                           ▅▅██  the link: full when connected, half on the way

NAME      STATE     RESTARTS  MEMORY     CPU           QUEUE
edgehub   running      ▁█▁ 1    ████ 1M     ▁▁▁ 0.0%     ▁▁▁▁ 0
edged     running      ▁▁▁ 1    ▃▅▇█ 4M     ███ 25.0%    ▁▄▆█ 12
eventbus  held         ▁▁▁ 7    ▁▁▁▁ -      ▁▁▁ -        ▁▁▁▁ -
edgemesh  disabled     ▁▁▁ 0    ▁▁▁▁ -      ▁▁▁ -        ▁▁▁▁ -
";

#[test]
fn graphs_tell_the_last_seconds() {
    let (report, history) = seen();
    let text = screen(&report, &history, 75, NOW, Style::PLAIN);
    let (shown, notes) = text.split_at(text.find("\nNot in force").unwrap());
    assert_eq!(shown, SCREEN);
    assert!(notes.contains("eventbus keeps dying and is held"), "{notes}");
}

#[test]
fn graphs_are_as_wide_as_the_terminal_lets_them() {
    let (report, history) = seen();
    for columns in [20, 80, 120, 200, 5000] {
        let text = screen(&report, &history, columns, NOW, Style::PLAIN);
        let row = text.lines().find(|line| line.starts_with("edged ")).unwrap();
        assert!(row.chars().count() <= columns.max(80), "{columns}: {row}");
    }
}

#[test]
fn no_more_is_remembered_than_is_shown_and_a_resize_is_no_second() {
    let (report, mut history) = seen();
    let begin = Instant::now() + Duration::from_secs(100);
    for tick in 0..1000 {
        history.push(&report, begin + Duration::from_millis(tick));
    }
    assert_eq!(history.looks.len(), 5);
    for tick in 0..1000 {
        history.push(&report, begin + Duration::from_secs(tick + 10));
    }
    assert_eq!(history.looks.len(), LOOKS);
}

#[test]
fn a_terminal_without_unicode_gets_letters_that_it_has() {
    let with = |name: &'static str, value: &'static str| {
        Letters::of(move |asked| (asked == name).then(|| value.to_owned())).0[7]
    };
    assert_eq!(with("LANG", "de_DE.UTF-8"), '█');
    assert_eq!(with("LC_ALL", "C.utf8"), '█');
    assert_eq!(with("LANG", "C"), '#');
    assert_eq!(with("TERM", "xterm"), '#');
}
