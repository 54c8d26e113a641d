//! Sessions and reliable delivery: by example, and over histories that proptest writes.

use std::collections::BTreeSet;

use ipc_proto::{Content, Route, Scope, Source};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const EDGE: &str = "edge1";

fn at(seconds: i64) -> Time {
    Time::from_millis(seconds * 1000)
}

fn pod(id: u64, uid: u64, version: u64, stage: Stage) -> Message {
    let operation = if stage == Stage::Gone { Operation::Delete } else { Operation::Update };
    let scope = Scope::Namespace("default".into());
    let resource = Resource::object(scope, Kind::Pod, &format!("p{uid}"));
    let route =
        Route { source: Source::Edgecontroller, group: Group::Resource, operation, resource };
    let mut body = json!({"metadata": {"uid": format!("u{uid}")}});
    if stage == Stage::Terminating {
        body["metadata"]["deletionTimestamp"] = "2026-11-23T04:22:20Z".into();
    }
    let id = MessageId::parse(&format!("m{id}"));
    let mut message = Message::new(id, 0, route, Content::encode(&body).unwrap());
    message.header.resource_version = version.to_string().into();
    message
}

fn hub() -> Hub {
    Hub::new(Settings::default(), BTreeMap::new())
}

fn sent(effects: &[Effect]) -> Vec<String> {
    let id = |effect: &Effect| match effect {
        Effect::Send(_, message) => message.header.id.to_string(),
        Effect::Close(id, reason) => format!("close {} {reason:?}", id.0),
    };
    effects.iter().map(id).collect()
}

/// Runs a step and returns what came out of it.
fn step(hub: &mut Hub, run: impl FnOnce(&mut Hub, &mut Vec<Effect>)) -> Vec<String> {
    let mut out = Vec::new();
    run(hub, &mut out);
    sent(&out)
}

#[test]
fn one_reliable_message_is_under_way() {
    let mut hub = hub();
    let session = SessionId(1);
    step(&mut hub, |hub, out| hub.connect(at(0), session, EDGE, out));
    let first = step(&mut hub, |hub, out| hub.send(at(0), EDGE, pod(1, 1, 10, Stage::Live), out));
    assert_eq!(first, ["m1"]);
    let second = step(&mut hub, |hub, out| hub.send(at(0), EDGE, pod(2, 2, 11, Stage::Live), out));
    assert!(second.is_empty());
    let id = MessageId::parse("m1");
    assert_eq!(step(&mut hub, |hub, out| hub.ack(at(1), session, &id, out)), ["m2"]);
    assert_eq!(hub.syncs()[&(EDGE.into(), "u1".into())].version, 10);
}

#[test]
fn unacknowledged_messages_are_sent_five_times_and_then_wait() {
    let mut hub = hub();
    step(&mut hub, |hub, out| {
        hub.connect(at(0), SessionId(1), EDGE, out);
        hub.send(at(0), EDGE, pod(1, 1, 10, Stage::Live), out);
        hub.send(at(0), EDGE, pod(2, 2, 11, Stage::Live), out);
    });
    for second in [5, 10, 15, 20] {
        step(&mut hub, |hub, _| hub.keepalive(at(second), SessionId(1)));
        assert_eq!(step(&mut hub, |hub, out| hub.tick(at(second), out)), ["m1"]);
    }
    assert_eq!(hub.next_deadline(), Some(at(25)));
    assert_eq!(step(&mut hub, |hub, out| hub.tick(at(25), out)), ["m2"]);
    let ack = MessageId::parse("m2");
    assert_eq!(step(&mut hub, |hub, out| hub.ack(at(26), SessionId(1), &ack, out)), ["m1"]);
}

#[test]
fn a_newer_session_replaces_and_silence_closes() {
    let mut hub = hub();
    step(&mut hub, |hub, out| hub.connect(at(0), SessionId(1), EDGE, out));
    let replaced = step(&mut hub, |hub, out| hub.connect(at(1), SessionId(2), EDGE, out));
    assert_eq!(replaced, ["close 1 Replaced"]);
    step(&mut hub, |hub, _| hub.keepalive(at(10), SessionId(2)));
    assert!(step(&mut hub, |hub, out| hub.tick(at(39), out)).is_empty());
    assert_eq!(step(&mut hub, |hub, out| hub.tick(at(40), out)), ["close 2 Keepalive"]);
    assert_eq!(hub.session_of(EDGE), None);
}

#[test]
fn of_what_waits_about_an_object_only_the_latest_is_sent() {
    let map = |id: u64, uid: u64, version: u64| {
        let mut map = pod(id, uid, version, Stage::Live);
        let scope = Scope::Namespace("default".into());
        map.route.resource = Resource::object(scope, Kind::ConfigMap, &format!("m{uid}"));
        map
    };
    let answer = |id: u64, uid: u64| {
        let mut answer = map(id, uid, 10);
        answer.route.operation = Operation::Response;
        answer
    };
    let mut hub = hub();
    let session = SessionId(1);
    step(&mut hub, |hub, out| {
        hub.connect(at(0), session, EDGE, out);
        hub.send(at(0), EDGE, pod(0, 9, 1, Stage::Live), out);
        hub.send(at(0), EDGE, answer(1, 1), out);
        hub.send(at(0), EDGE, answer(2, 1), out);
        hub.send(at(0), EDGE, answer(3, 2), out);
        hub.send(at(0), EDGE, map(4, 2, 11), out);
    });
    let ack = |hub: &mut Hub, id: &str| {
        let id = MessageId::parse(id);
        step(hub, |hub, out| hub.ack(at(1), session, &id, out))
    };
    assert_eq!(ack(&mut hub, "m0"), ["m2"]);
    assert_eq!(ack(&mut hub, "m2"), ["m4"]);
    assert!(ack(&mut hub, "m4").is_empty());
}

#[test]
fn deletions_win_and_old_versions_stay_behind() {
    let mut hub = hub();
    let session = SessionId(1);
    step(&mut hub, |hub, out| {
        hub.connect(at(0), session, EDGE, out);
        hub.send(at(0), EDGE, pod(0, 9, 1, Stage::Live), out);
        hub.send(at(0), EDGE, pod(1, 1, 10, Stage::Live), out);
        hub.send(at(0), EDGE, pod(2, 1, 12, Stage::Terminating), out);
        hub.send(at(0), EDGE, pod(3, 1, 13, Stage::Live), out);
        hub.send(at(0), EDGE, pod(4, 1, 14, Stage::Gone), out);
        hub.send(at(0), EDGE, pod(5, 1, 15, Stage::Live), out);
    });
    let ack = |hub: &mut Hub, id: &str| {
        let id = MessageId::parse(id);
        step(hub, |hub, out| hub.ack(at(1), session, &id, out))
    };
    assert_eq!(ack(&mut hub, "m0"), ["m4"]);
    assert!(ack(&mut hub, "m4").is_empty());
    assert!(!hub.syncs().contains_key(&(EDGE.into(), "u1".into())));
}

#[test]
fn what_the_node_has_is_not_sent_again() {
    let mut hub = hub();
    let session = SessionId(1);
    step(&mut hub, |hub, out| {
        hub.send(at(0), EDGE, pod(1, 1, 10, Stage::Live), out);
        hub.connect(at(0), session, EDGE, out);
    });
    assert_eq!(hub.syncs()[&(EDGE.into(), "u1".into())].version, 0);
    let id = MessageId::parse("m2");
    let again = step(&mut hub, |hub, out| {
        hub.send(at(1), EDGE, pod(2, 1, 10, Stage::Live), out);
        hub.ack(at(1), session, &id, out);
        hub.send(at(1), EDGE, pod(3, 1, 10, Stage::Live), out);
    });
    assert_eq!(again, ["m2"]);
}

#[derive(Clone, Debug)]
enum Step {
    Connect,
    Disconnect,
    Send { uid: u64, stage: Stage },
    Ack { known: bool },
    Wait { seconds: i64, keepalive: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stage = prop_oneof![
        6 => Just(Stage::Live), 1 => Just(Stage::Terminating), 1 => Just(Stage::Gone)];
    let step = prop_oneof![
        1 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        6 => (0..4_u64, stage).prop_map(|(uid, stage)| Step::Send { uid, stage }),
        6 => prop::bool::weighted(0.9).prop_map(|known| Step::Ack { known }),
        3 => (1..40_i64, prop::bool::weighted(0.9))
            .prop_map(|(seconds, keepalive)| Step::Wait { seconds, keepalive }),
    ];
    prop::collection::vec(step, 0..120)
}

/// What must hold of every history: one message under way per session, nothing to a session that
/// does not stand, no version twice once it was acknowledged, and ObjectSyncs that only grow.
#[derive(Default)]
struct Watcher {
    now: i64,
    current: Option<SessionId>,
    sessions: u64,
    version: u64,
    under_way: Option<(MessageId, String, u64)>,
    acked: BTreeSet<(String, u64)>,
}

impl Watcher {
    fn apply(&mut self, hub: &mut Hub, step: &Step) {
        let mut out = Vec::new();
        let now = at(self.now);
        match step {
            Step::Connect => {
                self.sessions += 1;
                hub.connect(now, SessionId(self.sessions), EDGE, &mut out);
                self.current = Some(SessionId(self.sessions));
                self.under_way = None;
            }
            Step::Disconnect => {
                if let Some(id) = self.current.take() {
                    hub.disconnect(id);
                }
                self.under_way = None;
            }
            Step::Send { uid, stage } => {
                self.version += 1;
                let message = pod(self.version, *uid, self.version, *stage);
                hub.send(now, EDGE, message, &mut out);
            }
            Step::Ack { known } => self.ack(hub, *known, &mut out),
            Step::Wait { seconds, keepalive } => {
                self.now += seconds;
                if let (true, Some(id)) = (keepalive, self.current) {
                    hub.keepalive(at(self.now), id);
                }
                hub.tick(at(self.now), &mut out);
            }
        }
        self.check(hub, &out);
    }

    fn ack(&mut self, hub: &mut Hub, known: bool, out: &mut Vec<Effect>) {
        let Some(session) = self.current else { return };
        if !known {
            hub.ack(at(self.now), session, &MessageId::parse("stranger"), out);
        } else if let Some((id, uid, version)) = self.under_way.take() {
            self.acked.insert((uid, version));
            hub.ack(at(self.now), session, &id, out);
        }
    }

    fn check(&mut self, hub: &Hub, out: &[Effect]) {
        for effect in out {
            match effect {
                Effect::Close(id, CloseReason::Keepalive) => {
                    assert_eq!(self.current.take(), Some(*id));
                    self.under_way = None;
                }
                Effect::Close(id, _) => assert_ne!(self.current, Some(*id)),
                Effect::Send(id, message) => {
                    assert_eq!(self.current, Some(*id), "sent to a session that does not stand");
                    let body: serde_json::Value = message.content.decode().unwrap();
                    let uid = body["metadata"]["uid"].as_str().unwrap().to_owned();
                    let version = message.header.resource_version.parse().unwrap();
                    assert!(!self.acked.contains(&(uid.clone(), version)), "sent after its ack");
                    self.under_way = Some((message.header.id.clone(), uid, version));
                }
            }
        }
        let in_flight = hub.sessions().iter().any(|session| session.in_flight);
        assert_eq!(in_flight, self.under_way.is_some());
        let waiting: usize = hub.sessions().iter().map(|session| session.waiting).sum();
        assert!(waiting == 0 || in_flight, "messages wait although none is under way");
        assert!(waiting <= 4, "more than one message per object waits");
    }
}

proptest! {
    #[test]
    fn histories_keep_the_promises(steps in steps()) {
        let mut hub = hub();
        let mut watcher = Watcher::default();
        for step in &steps {
            watcher.apply(&mut hub, step);
        }
    }
}
