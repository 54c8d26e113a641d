//! A wall clock that jumps while the process is dead. While it lives it asks a clock that does not.

use std::time::Duration;

use super::world::{World, lasting, message, passing, settings};
use crate::core::{CLOUD, ConnectionId};
use crate::mqtt::{Packet, Publish, Qos};

/// Not set yet, shortly after 1970.
const UNSET: i64 = 60_000;

const RIGHT: i64 = 1_800_000_000_000;

fn publish(topic: &str, id: u16, expiry: Option<u32>) -> Packet {
    Packet::Publish(Publish { expiry, ..message(topic, "x", Qos::AtLeastOnce, id) })
}

/// Publishes as many messages as go to the cloud at a time; those behind them wait.
fn fly(world: &mut World, connection: ConnectionId) {
    for id in (100..).take(settings().node.flying) {
        world.say(connection, publish("default/user/x", id, None));
    }
}

/// Counts the messages for the cloud that were not sent yet.
fn waiting(world: &World) -> usize {
    world.core.load(CLOUD).0 - settings().node.flying
}

#[test]
fn messages_and_sessions_wait_as_long_as_ever_when_the_clock_is_set_or_falls_back() {
    for (before, after) in [(UNSET, RIGHT), (RIGHT, UNSET), (RIGHT, RIGHT - 86_400_000)] {
        let mut world = World::new(settings());
        world.now.unix = before;
        world.connect(1, lasting("a"));
        world.subscribe(1, "t", Qos::AtLeastOnce);
        world.connect(2, passing("b"));
        world.turn(|core, now, out| core.closed(1, now, out));
        world.say(2, publish("t", 1, None));
        fly(&mut world, 2);
        world.say(2, publish("default/user/x", 2, None));
        world.say(2, publish("default/user/x", 3, Some(100)));
        world.now.unix = after;
        world.crash();
        world.pass(90);
        assert_eq!(waiting(&world), 2, "from {before} to {after}");
        world.pass(20);
        assert_eq!(waiting(&world), 1, "from {before} to {after}");
        let (connack, given) = world.connect(3, lasting("a"));
        assert!(connack.session_present, "from {before} to {after}");
        assert_eq!(given.len(), 1);
        // And not for ever.
        world.turn(|core, now, out| core.closed(3, now, out));
        world.crash();
        world.pass(settings().age.as_secs());
        assert_eq!(waiting(&world), 0, "from {before} to {after}");
        assert!(!world.connect(4, lasting("a")).0.session_present);
    }
}

#[test]
fn time_that_passed_while_the_process_was_dead_has_passed() {
    let mut world = World::new(settings());
    world.connect(1, passing("b"));
    fly(&mut world, 1);
    world.say(1, publish("default/user/x", 1, None));
    let away = settings().age + Duration::from_secs(1);
    world.now.unix += i64::try_from(away.as_millis()).unwrap();
    world.crash();
    world.pass(1);
    assert_eq!(waiting(&world), 0);
}
