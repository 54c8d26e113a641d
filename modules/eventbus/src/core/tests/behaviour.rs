//! What a client notices.

use bytes::Bytes;

use super::world::{World, lasting, message, packets, passing, settings};
use crate::core::{Act, BROKER, CLOUD, Settings, TO_BROKER, TWIN};
use crate::mqtt::{Connect, Options, Packet, Publish, Qos, Reason, Version, Will};

const REFUSED: u8 = 0x80;

fn puback(id: u16) -> Packet {
    Packet::Puback { id, reason: Reason::SUCCESS }
}

fn bodies(packets: &[Packet]) -> Vec<String> {
    let bodies = packets.iter().filter_map(|packet| match packet {
        Packet::Publish(message) => Some(String::from_utf8_lossy(&message.payload).into_owned()),
        _ => None,
    });
    bodies.collect()
}

#[test]
fn an_acknowledgement_goes_out_when_the_message_is_on_the_disk() {
    let mut world = World::new(settings());
    world.connect(1, passing("a"));
    let packet = Packet::Publish(message("d/user/x", "1", Qos::AtLeastOnce, 9));
    world.decide(|core, now, out| core.client_says(1, packet, now, out));
    assert_eq!(packets(&world.acts, 1), []);
    world.sync();
    assert_eq!(packets(&world.acts, 1), [puback(9)]);
}

#[test]
fn each_topic_has_its_way() {
    let mut world = World::new(settings());
    world.connect(1, passing("a"));
    let mut out = crate::core::Decided::default();
    assert!(world.core.want("default/up", true, &mut out));
    assert!(!world.core.want("default/up", true, &mut out));
    for (topic, cloud, twin) in [
        ("default/up", true, false),
        ("default/other", false, false),
        ("$hw/events/device/d/s/twin/update", false, true),
        ("$hw/events/device/d/s/twin/update/result", false, false),
        ("$hw/events/upload/x", true, false),
    ] {
        let packet = Packet::Publish(message(topic, "x", Qos::AtMostOnce, 0));
        let acts = world.turn(|core, now, out| core.client_says(1, packet, now, out));
        let is_cloud = |act: &Act| matches!(act, Act::ToCloud(_));
        let is_twin = |act: &Act| matches!(act, Act::ToTwin(_));
        assert_eq!(acts.iter().any(is_cloud), cloud, "{topic}");
        assert_eq!(acts.iter().any(is_twin), twin, "{topic}");
        for sequence in 1..9 {
            world.settle(CLOUD, sequence);
            world.settle(TWIN, sequence);
        }
    }
}

#[test]
fn a_full_queue_pushes_back_and_drops_only_what_may_be_lost() {
    let mut world = World::new(settings());
    world.connect(1, passing("a"));
    for id in 1..=8 {
        let sent = message("d/user/x", "x", Qos::AtLeastOnce, id);
        assert_eq!(world.say(1, Packet::Publish(sent)), [puback(id)]);
    }
    // The ninth waits, and all behind it on that connection.
    assert_eq!(world.say(1, Packet::Publish(message("d/user/x", "x", Qos::AtLeastOnce, 9))), []);
    assert_eq!(world.say(1, Packet::Pingreq), []);
    world.connect(2, passing("b"));
    world.say(2, Packet::Publish(message("d/user/x", "x", Qos::AtMostOnce, 0)));
    assert_eq!(world.core.counts().dropped, 1);
    let acts = world.settle(CLOUD, 1);
    assert_eq!(packets(&acts, 1), [Packet::Pingresp, puback(9)]);
    assert_eq!(world.core.load(CLOUD).0, 8);
}

#[test]
fn messages_that_are_too_old_go() {
    let mut world = World::new(Settings { age: std::time::Duration::from_secs(10), ..settings() });
    world.connect(1, passing("a"));
    for id in 1..=5 {
        world.say(1, Packet::Publish(message("d/user/x", "x", Qos::AtLeastOnce, id)));
    }
    world.pass(9);
    assert_eq!(world.core.load(CLOUD).0, 5);
    world.pass(1);
    // Three are on their way already.
    assert_eq!((world.core.load(CLOUD).0, world.core.counts().expired), (3, 2));
}

#[test]
fn a_session_waits_for_its_client_and_ends_in_time() {
    let mut world = World::new(settings());
    assert!(!world.connect(1, lasting("a")).0.session_present);
    world.subscribe(1, "t/#", Qos::ExactlyOnce);
    world.turn(|core, now, out| core.closed(1, now, out));
    world.connect(2, passing("b"));
    for (body, qos, id) in
        [("0", Qos::AtMostOnce, 0), ("1", Qos::AtLeastOnce, 1), ("2", Qos::ExactlyOnce, 2)]
    {
        world.say(2, Packet::Publish(message("t/x", body, qos, id)));
    }
    let (connack, waiting) = world.connect(3, lasting("a"));
    assert!(connack.session_present);
    assert_eq!(bodies(&waiting), ["1", "2"]);
    world.turn(|core, now, out| core.closed(3, now, out));
    world.pass(499);
    assert!(world.connect(4, lasting("a")).0.session_present);
    world.turn(|core, now, out| core.closed(4, now, out));
    world.pass(500);
    assert!(!world.connect(5, lasting("a")).0.session_present);
}

#[test]
fn a_clean_start_forgets_and_a_second_connection_takes_over() {
    let mut world = World::new(settings());
    world.connect(1, lasting("a"));
    world.subscribe(1, "t", Qos::AtLeastOnce);
    let again = Packet::Connect(Box::new(lasting("a")));
    let acts = world.turn(|core, now, out| core.client_says(2, again, now, out));
    let goodbye = Packet::Disconnect { reason: Reason::TAKEN_OVER, session_expiry: None };
    assert_eq!(packets(&acts, 1), [goodbye]);
    assert!(acts.contains(&Act::Close(1)));
    world.turn(|core, now, out| core.closed(1, now, out));
    world.connect(3, passing("b"));
    world.say(3, Packet::Publish(message("t", "x", Qos::AtLeastOnce, 1)));
    let clean = Connect { clean: true, ..lasting("a") };
    let (connack, waiting) = world.connect(4, clean);
    assert_eq!((connack.session_present, waiting), (false, vec![]));
    assert_eq!(
        bodies(&world.say(3, Packet::Publish(message("t", "x", Qos::AtLeastOnce, 2)))),
        [""; 0]
    );
}

#[test]
fn a_will_is_published_when_its_client_is_lost_and_not_when_it_says_goodbye() {
    let will = |delay| {
        let message = message("will", "lost", Qos::AtLeastOnce, 0);
        Some(Will { message, delay })
    };
    let mut world = World::new(settings());
    world.connect(1, passing("watcher"));
    world.subscribe(1, "will", Qos::AtMostOnce);
    world.connect(2, Connect { will: will(0), ..passing("a") });
    let goodbye = Packet::Disconnect { reason: Reason::SUCCESS, session_expiry: None };
    let acts = world.turn(|core, now, out| core.client_says(2, goodbye, now, out));
    assert_eq!(bodies(&packets(&acts, 1)), [""; 0]);
    world.connect(3, Connect { will: will(0), ..passing("a") });
    let acts = world.turn(|core, now, out| core.closed(3, now, out));
    assert_eq!(bodies(&packets(&acts, 1)), ["lost"]);
    // With a delay only when the client does not come back.
    world.connect(4, Connect { will: will(10), ..lasting("a") });
    world.turn(|core, now, out| core.closed(4, now, out));
    world.connect(5, Connect { will: will(10), ..lasting("a") });
    assert_eq!(bodies(&packets(&world.pass(20), 1)), [""; 0]);
    world.turn(|core, now, out| core.closed(5, now, out));
    assert_eq!(bodies(&packets(&world.pass(10), 1)), ["lost"]);
}

#[test]
fn the_last_kept_message_of_a_topic_is_there_for_later_clients() {
    let mut world = World::new(settings());
    world.connect(1, passing("a"));
    let kept = |topic: &str, body: &str| {
        let kept = Publish { retain: true, ..message(topic, body, Qos::AtLeastOnce, 1) };
        Packet::Publish(kept)
    };
    for (topic, body) in [("t/1", "old"), ("t/1", "new"), ("t/2", "two"), ("t/3", "no room")] {
        world.say(1, kept(topic, body));
    }
    assert_eq!(world.core.counts().overflowed, 1);
    world.crash();
    world.connect(2, passing("b"));
    let ask = |filter: &str, retain_handling| Packet::Subscribe {
        id: 1,
        identified: false,
        filters: vec![(filter.into(), Options { retain_handling, ..Options::default() })],
    };
    let given = world.say(2, ask("t/#", 0));
    assert_eq!(bodies(&given), ["new", "two"]);
    let is_marked = |packet: &Packet| matches!(packet, Packet::Publish(it) if it.retain);
    assert!(given[1..].iter().all(is_marked));
    assert_eq!(bodies(&world.say(2, ask("t/#", 1))), [""; 0]);
    assert_eq!(bodies(&world.say(2, ask("t/+", 2))), [""; 0]);
    world.say(2, kept("t/1", ""));
    assert_eq!(bodies(&world.say(2, ask("t/+", 0))), ["two"]);
}

#[test]
fn bounds_refuse_and_say_so() {
    let mut world = World::new(settings());
    for (connection, client) in [(1, "a"), (2, "b"), (3, "c")] {
        world.connect(connection, passing(client));
    }
    assert_eq!(world.connect(4, passing("d")).0.reason, Reason::BUSY);
    let filters: Vec<_> = ["a", "b/#", "$share/g/t", "a/#/b", "c", "d"]
        .map(|filter| (filter.into(), Options::default()))
        .into();
    let ask = Packet::Subscribe { id: 1, identified: false, filters };
    let Packet::Suback { reasons, .. } = &world.say(1, ask)[0] else { panic!() };
    let expected = [
        Reason::SUCCESS,
        Reason::SUCCESS,
        Reason::SHARED,
        Reason::FILTER,
        Reason::SUCCESS,
        Reason::QUOTA,
    ];
    assert_eq!(reasons, &expected);
    let identified = Packet::Subscribe {
        id: 2,
        identified: true,
        filters: vec![("t".into(), Options::default())],
    };
    let goodbye = Packet::Disconnect { reason: Reason::IDENTIFIERS, session_expiry: None };
    assert_eq!(world.say(1, identified), [goodbye]);
    let bad = Packet::Publish(message("a/+", "x", Qos::AtMostOnce, 0));
    let goodbye = Packet::Disconnect { reason: Reason::TOPIC, session_expiry: None };
    assert_eq!(world.say(2, bad), [goodbye]);
    // 3.1.1 has no words for it.
    world.connect(5, Connect { version: Version::V4, ..passing("e") });
    let acts = world.turn(|core, now, out| core.client_says(5, Packet::Pingresp, now, out));
    assert_eq!((packets(&acts, 5), acts.contains(&Act::Close(5))), (vec![], true));
    assert_eq!(world.core.counts().violations, 4);
}

#[test]
fn users_do_what_they_may() {
    let access =
        r##"{"robot": {"password": "secret", "publish": ["robot/#"], "subscribe": ["orders/+"]}}"##;
    let access = serde_json::from_str(access).unwrap();
    let mut world = World::new(Settings { access, ..settings() });
    let login = |user: &str, password: &'static str| Connect {
        user: Some(user.into()),
        password: Some(Bytes::from_static(password.as_bytes())),
        ..passing("r")
    };
    assert_eq!(world.connect(1, passing("r")).0.reason, Reason::PASSWORD);
    assert_eq!(world.connect(2, login("robot", "wrong!")).0.reason, Reason::PASSWORD);
    assert_eq!(world.connect(3, login("robot", "secret")).0.reason, Reason::SUCCESS);
    let sent = Packet::Publish(message("other/x", "x", Qos::AtLeastOnce, 4));
    let refused = Packet::Puback { id: 4, reason: Reason::NOT_AUTHORIZED };
    assert_eq!(world.say(3, sent), [refused]);
    let sent = Packet::Publish(message("robot/x", "x", Qos::AtLeastOnce, 5));
    assert_eq!(world.say(3, sent), [puback(5)]);
    let filters = ["orders/1", "orders/#", "#"].map(|it| (it.into(), Options::default())).into();
    let ask = Packet::Subscribe { id: 1, identified: false, filters };
    let Packet::Suback { reasons, .. } = &world.say(3, ask)[0] else { panic!() };
    let refused: Vec<bool> = reasons.iter().map(|reason| reason.0 >= REFUSED).collect();
    assert_eq!(refused, [false, true, true]);
}

#[test]
fn what_the_cloud_publishes_waits_for_the_external_broker() {
    let mut world = World::new(Settings { external: true, ..settings() });
    let acts = world.peer_says("test", "1");
    assert_eq!(acts, [Act::Settle(5)]);
    world.crash();
    assert_eq!(world.core.load(BROKER).0, 1);
    let acts = world.turn(|core, now, out| core.broker_up(now, out));
    let sent = packets(&acts, TO_BROKER);
    assert_eq!(bodies(&sent), ["1"]);
    // The connection is lost before the broker says that it has it.
    world.core.broker_down();
    let again = world.turn(|core, now, out| core.broker_up(now, out));
    let Packet::Publish(again) = &packets(&again, TO_BROKER)[0] else { panic!() };
    assert!(again.dup);
    let id = again.id;
    world.turn(|core, now, out| core.broker_says(now, puback(id), out));
    world.crash();
    assert_eq!(world.core.load(BROKER).0, 0);
}

#[test]
fn messages_of_the_external_broker_are_acknowledged_when_they_are_safe() {
    let mut world = World::new(Settings { external: true, ..settings() });
    for id in 1..=8 {
        let sent = Packet::Publish(message("default/up", "x", Qos::AtLeastOnce, id));
        let acts = world.turn(|core, now, out| core.broker_says(now, sent, out));
        assert_eq!(packets(&acts, TO_BROKER), [puback(id)]);
    }
    let sent = Packet::Publish(message("default/up", "x", Qos::AtLeastOnce, 9));
    let acts = world.turn(|core, now, out| core.broker_says(now, sent, out));
    assert_eq!(packets(&acts, TO_BROKER), []);
    assert_eq!(packets(&world.settle(CLOUD, 1), TO_BROKER), [puback(9)]);
}

#[test]
fn a_number_that_was_seen_outside_is_never_another_message_s() {
    let mut world = World::new(settings());
    let mut seen = Vec::new();
    for life in 1..=3 {
        world.connect(life, passing("a"));
        let packet = Packet::Publish(message("d/user/x", "1", Qos::AtLeastOnce, 9));
        // It goes to the cloud before it is on the disk, and there it never comes.
        world.decide(|core, now, out| core.client_says(life, packet, now, out));
        seen.extend(world.acts.iter().filter_map(|act| match act {
            Act::ToCloud(message) => Some(message.sequence),
            _ => None,
        }));
        world.crash();
    }
    assert_eq!(seen.len(), 3);
    assert!(seen[0] < seen[1] && seen[1] < seen[2], "{seen:?}");
}
