//! Random histories with crashes: what was acknowledged arrives, in order, and with QoS 2 once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::world::{World, lasting, message, packets, settings};
use crate::core::{Act, Bounds, CLOUD, ConnectionId, Settings};
use crate::mqtt::{Packet, Qos, Reason};

#[derive(Clone, Debug)]
enum Step {
    /// A message with this QoS on one of two topics.
    Publish(Qos, bool),
    /// The cloud has the oldest message that it was sent.
    Settle,
    /// The reader takes what it was sent.
    Read,
    /// The reader's connection is cut, and it comes back.
    Reconnect,
    Sync,
    Compact,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let qos = prop::sample::select(vec![Qos::AtLeastOnce, Qos::ExactlyOnce]);
    prop_oneof![
        6 => (qos, any::<bool>()).prop_map(|(qos, topic)| Step::Publish(qos, topic)),
        4 => Just(Step::Settle),
        4 => Just(Step::Read),
        1 => Just(Step::Reconnect),
        4 => Just(Step::Sync),
        1 => Just(Step::Compact),
        1 => Just(Step::Crash),
    ]
}

/// A writer and a reader that do as the standard says, and the cloud.
#[derive(Default)]
struct People {
    connections: ConnectionId,
    writer: ConnectionId,
    reader: ConnectionId,
    next: u16,
    /// By identity of the packet: topic and number.
    asked: BTreeMap<u16, (String, u32)>,
    acknowledged: Vec<(String, u32)>,
    cloud: VecDeque<u64>,
    /// First arrivals at the cloud.
    arrived: Vec<(String, u32)>,
    unread: VecDeque<Packet>,
    /// Identities that the reader has seen and that were not released.
    seen: BTreeSet<u16>,
    read: Vec<(String, u32, Qos)>,
}

fn number(payload: &[u8]) -> u32 {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

impl People {
    /// Looks at what was done since the last time.
    fn look(&mut self, world: &mut World) {
        let mut answers = Vec::new();
        for act in std::mem::take(&mut world.acts) {
            match act {
                Act::ToCloud(message) => {
                    self.cloud.push_back(message.sequence);
                    let arrival = (message.topic.to_string(), number(&message.payload));
                    if !self.arrived.contains(&arrival) {
                        self.arrived.push(arrival);
                    }
                }
                Act::Send(to, packet) if to == self.writer => match packet {
                    Packet::Puback { id, .. } => self.acknowledged.extend(self.asked.remove(&id)),
                    Packet::Pubrec { id, .. } => {
                        self.acknowledged.extend(self.asked.remove(&id));
                        answers.push(Packet::Pubrel { id, reason: Reason::SUCCESS });
                    }
                    _ => {}
                },
                Act::Send(to, packet) if to == self.reader => self.unread.push_back(packet),
                _ => {}
            }
        }
        for answer in answers {
            let writer = self.writer;
            world.decide(|core, now, out| core.client_says(writer, answer, now, out));
        }
    }

    fn connect(&mut self, world: &mut World, client: &str) -> ConnectionId {
        self.connections += 1;
        let connection = self.connections;
        let connect = Packet::Connect(Box::new(lasting(client)));
        world.decide(|core, now, out| core.client_says(connection, connect, now, out));
        connection
    }

    fn reconnect_reader(&mut self, world: &mut World) {
        let reader = self.reader;
        world.decide(|core, now, out| core.closed(reader, now, out));
        self.unread.clear();
        self.reader = self.connect(world, "reader");
    }

    fn publish(&mut self, world: &mut World, qos: Qos, topic: bool) {
        self.next += 1;
        let topic = if topic { "a/user/x" } else { "b/user/y" };
        self.asked.insert(self.next, (topic.to_owned(), self.next.into()));
        let packet = Packet::Publish(message(topic, &self.next.to_string(), qos, self.next));
        let writer = self.writer;
        world.decide(|core, now, out| core.client_says(writer, packet, now, out));
    }

    fn read(&mut self, world: &mut World) {
        let Some(packet) = self.unread.pop_front() else { return };
        let reason = Reason::SUCCESS;
        let answer = match packet {
            Packet::Publish(it) => {
                let is_new = it.qos < Qos::ExactlyOnce || self.seen.insert(it.id);
                if is_new {
                    self.read.push((it.topic.to_string(), number(&it.payload), it.qos));
                }
                match it.qos {
                    Qos::ExactlyOnce => Packet::Pubrec { id: it.id, reason },
                    _ => Packet::Puback { id: it.id, reason },
                }
            }
            Packet::Pubrel { id, .. } => {
                self.seen.remove(&id);
                Packet::Pubcomp { id, reason }
            }
            _ => return,
        };
        let reader = self.reader;
        world.decide(|core, now, out| core.client_says(reader, answer, now, out));
    }

    fn settle(&mut self, world: &mut World) {
        if let Some(sequence) = self.cloud.pop_front() {
            world.decide(|core, now, out| core.settled(now, CLOUD, sequence, true, out));
        }
    }

    fn crash(&mut self, world: &mut World) {
        world.crash();
        self.cloud.clear();
        self.unread.clear();
        self.asked.clear();
        self.writer = self.connect(world, "writer");
        self.reader = self.connect(world, "reader");
    }

    fn step(&mut self, world: &mut World, step: &Step) {
        match step {
            Step::Publish(qos, topic) => self.publish(world, *qos, *topic),
            Step::Settle => self.settle(world),
            Step::Read => self.read(world),
            Step::Reconnect => self.reconnect_reader(world),
            Step::Sync => world.sync(),
            Step::Compact => world.compact(),
            Step::Crash => self.crash(world),
        }
        self.look(world);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_was_acknowledged_arrives(steps in prop::collection::vec(step(), 1..120)) {
        let session = Bounds { messages: 1000, bytes: 1 << 20, flying: 2 };
        let mut world = World::new(Settings { session, ..settings() });
        let mut people = People::default();
        people.reader = people.connect(&mut world, "reader");
        world.sync();
        assert_eq!(packets(&std::mem::take(&mut world.acts), people.reader).len(), 1);
        world.subscribe(people.reader, "+/user/+", Qos::ExactlyOnce);
        people.writer = people.connect(&mut world, "writer");
        for step in &steps {
            people.step(&mut world, step);
        }
        // All come to rest.
        for _ in 0..2000 {
            for step in [Step::Sync, Step::Settle, Step::Read, Step::Sync] {
                people.step(&mut world, &step);
            }
        }
        for message in &people.acknowledged {
            prop_assert!(people.arrived.contains(message), "{message:?} did not arrive");
        }
        for topic in ["a/user/x", "b/user/y"] {
            let numbers: Vec<u32> =
                people.arrived.iter().filter(|it| it.0 == topic).map(|it| it.1).collect();
            prop_assert!(numbers.is_sorted(), "out of order: {numbers:?}");
        }
        prop_assert_eq!(world.core.load(CLOUD).0, 0);
        for (topic, number) in &people.acknowledged {
            let times = people.read.iter().filter(|it| it.0 == *topic && it.1 == *number);
            let qos: Vec<Qos> = times.map(|it| it.2).collect();
            prop_assert!(!qos.is_empty(), "{number} on {topic} was not read");
            if qos[0] == Qos::ExactlyOnce {
                prop_assert_eq!(qos.len(), 1, "{} on {} was read again", number, topic);
            }
        }
    }
}
