//! Records as people and as programs read them.

use ipc_proto::{Group, MessageId, Module, Operation, Source};

use super::*;

fn record(happening: Happening) -> Record {
    Record {
        at: 1_785_578_645_123_456,
        from: Module::Edgehub,
        to: Module::Metamanager,
        happening,
        id: MessageId::parse("07fc34ee-832f-4364-89eb-579fc0e49c7d"),
        parent: None,
        source: Source::Edgecontroller,
        group: Group::Resource,
        operation: Operation::Insert,
        resource: "default/pod/p\u{1b}".into(),
        bytes: 1536,
        dropped: 0,
    }
}

#[test]
fn a_line_tells_the_way_and_what_happened() {
    let text = |happening| line(&record(happening), Style::PLAIN);
    let start = r"10:04:05.123456 edgehub→metamanager     insert   default/pod/p\u{1b} 1.5K ";
    assert_eq!(text(Happening::Sent), format!("{start}sent"));
    assert_eq!(text(Happening::Settled(1234)), format!("{start}settled in 1.2ms"));
    let refused = text(Happening::Refused("not mine".into()));
    assert_eq!(refused, format!("{start}refused: not mine"));
    let dropped = Record { dropped: 5, resource: "".into(), ..record(Happening::Settled(7)) };
    assert!(
        line(&dropped, Style::PLAIN)
            .ends_with("insert   - 1.5K settled in 7us (5 records dropped before this one)")
    );
}

#[test]
fn a_json_line_has_every_field() {
    let text = serde_json::to_string(&Line::from(&record(Happening::Settled(1234)))).unwrap();
    let expected = concat!(
        r#"{"at":"2026-08-01T10:04:05.123456Z","from":"edgehub","to":"metamanager","#,
        r#""operation":"insert","resource":"default/pod/p\u001b","bytes":1536,"#,
        r#""happening":"settled","settledMicroseconds":1234,"reason":null,"#,
        r#""id":"07fc34ee-832f-4364-89eb-579fc0e49c7d","parent":null,"source":"edgecontroller","#,
        r#""group":"resource","dropped":0}"#
    );
    assert_eq!(text, expected);
}
