//! Histories of a tunnel: whatever comes in whatever order, each connection ends once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const LOGS: &[u8] =
    br#"{"url":{"Scheme":"http","Host":"127.0.0.1:10350","Path":"/containerLogs/d/p/c"}}"#;
const ELSEWHERE: &[u8] = br#"{"url":{"Scheme":"http","Host":"10.0.0.1:22","Path":"/exec/d/p/c"}}"#;

fn sessions() -> Sessions {
    Sessions::new("127.0.0.1:10350".to_owned())
}

fn frame(connection: u64, kind: Kind, data: &'static [u8]) -> Frame {
    Frame { connection, kind, data: Bytes::from_static(data) }
}

#[test]
fn the_cloud_hears_once_that_a_connection_is_over_however_often_it_says_so() {
    let mut sessions = sessions();
    assert!(matches!(*sessions.came(frame(1, Kind::Logs, LOGS)), [Effect::Open(1, 1, _)]));
    let over = [Effect::Drop(1), removed(1)];
    assert_eq!(sessions.came(frame(1, Kind::Remove, b"")), over);
    for _ in 0..10_000 {
        assert_eq!(sessions.came(frame(1, Kind::Remove, b"")), []);
    }
    assert_eq!(sessions.ended(1, 1), [], "its own end comes too late");
}

#[test]
fn a_connection_elsewhere_is_answered_so_that_the_user_sees_why() {
    let effects = sessions().came(frame(7, Kind::Exec, ELSEWHERE));
    let [Effect::Say(7, Kind::Data, text), end] = &*effects else { panic!("{effects:?}") };
    let text = String::from_utf8_lossy(text);
    assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
    assert!(text.ends_with("http://10.0.0.1:22, expected the node's own API\n"), "{text}");
    assert_eq!(*end, removed(7));
}

#[test]
fn the_cloud_can_end_the_tunnel() {
    let effects = sessions().came(frame(0, Kind::Close, b"no node"));
    assert_eq!(effects, [Effect::Leave("no node".to_owned())]);
}

#[test]
fn there_are_only_so_many() {
    let mut sessions = sessions();
    for connection in 0..MAX_SESSIONS as u64 {
        sessions.came(frame(connection, Kind::Logs, LOGS));
    }
    let effects = sessions.came(frame(9999, Kind::Logs, LOGS));
    assert!(matches!(&*effects, [Effect::Say(9999, Kind::Data, _), _]), "{effects:?}");
    assert_eq!(sessions.len(), MAX_SESSIONS);
}

#[derive(Clone, Debug)]
enum Event {
    Came(u64, Kind, &'static [u8]),
    Ended(u64, Life),
    Stalled(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let kinds = [Kind::Logs, Kind::Exec, Kind::Metrics, Kind::Data, Kind::Remove, Kind::Attach];
    let data = prop::sample::select(vec![LOGS, ELSEWHERE, b"null", b""]);
    let connection = 0u64..4;
    let event = prop_oneof![
        4 => (connection.clone(), prop::sample::select(kinds.to_vec()), data)
            .prop_map(|(connection, kind, data)| Event::Came(connection, kind, data)),
        2 => (connection.clone(), 0u64..12).prop_map(|(at, life)| Event::Ended(at, life)),
        1 => connection.prop_map(Event::Stalled),
    ];
    prop::collection::vec(event, 0..200)
}

proptest! {
    #[test]
    fn each_connection_ends_exactly_once(events in events()) {
        let mut sessions = sessions();
        let mut open = BTreeSet::new();
        let mut lives: BTreeMap<u64, Life> = BTreeMap::new();
        for event in events {
            let asked = matches!(event, Event::Came(_, Kind::Logs | Kind::Exec | Kind::Metrics | Kind::Attach, _));
            let stood = open.clone();
            let effects = match event.clone() {
                Event::Came(connection, kind, data) => sessions.came(frame(connection, kind, data)),
                Event::Ended(connection, life) => sessions.ended(connection, life),
                Event::Stalled(connection) => sessions.stalled(connection),
            };
            for effect in effects {
                match effect {
                    Effect::Open(connection, life, _) => {
                        prop_assert!(open.insert(connection), "{event:?} opened one that stood");
                        prop_assert!(lives.insert(connection, life).is_none_or(|old| old < life));
                    }
                    Effect::Feed(connection, _) => prop_assert!(open.contains(&connection)),
                    Effect::Drop(connection) => prop_assert!(open.remove(&connection)),
                    Effect::Say(connection, Kind::Remove, _) => {
                        let ended = stood.contains(&connection) && !open.contains(&connection);
                        let refused = asked && !stood.contains(&connection);
                        prop_assert!(ended || refused, "{event:?} ended what did not stand");
                    }
                    Effect::Say(connection, kind, _) => {
                        prop_assert_eq!(kind, Kind::Data);
                        prop_assert!(asked && !open.contains(&connection));
                    }
                    Effect::Leave(_) => prop_assert!(false, "nobody said close"),
                }
            }
            prop_assert_eq!(sessions.len(), open.len());
        }
    }
}
