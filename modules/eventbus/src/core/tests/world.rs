//! A core with a disk that syncs when it is told to, and clients of its own.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::core::{
    Access, Act, Bounds, ConnectionId, Core, Decided, FromPeer, Now, QueueId, Settings,
};
use crate::journal::Record;
use crate::mqtt::{Connack, Connect, Options, Packet, Publish, Qos, Reason, Version};

/// A core and its disk.
pub(super) struct World {
    pub(super) core: Core,
    settings: Settings,
    disk: Vec<Record>,
    /// What a crash loses.
    unsynced: Vec<Record>,
    gated: Vec<Act>,
    /// What was done.
    pub(super) acts: Vec<Act>,
    pub(super) now: Now,
}

pub(super) fn settings() -> Settings {
    Settings {
        node: Bounds { messages: 8, bytes: 1 << 20, flying: 3 },
        age: Duration::from_secs(3600),
        session: Bounds { messages: 20, bytes: 1 << 20, flying: 2 },
        sessions: 3,
        subscriptions: 3,
        retained: 2,
        session_expiry: 1000,
        qos: Qos::AtLeastOnce,
        retain: false,
        external: false,
        access: Access::default(),
    }
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        let core = Core::new(settings.clone(), 7);
        let now = Now { steady: Instant::now(), unix: 1_800_000_000_000 };
        let disk = core.snapshot(now);
        let (unsynced, gated, acts) = (Vec::new(), Vec::new(), Vec::new());
        Self { core, settings, disk, unsynced, gated, acts, now }
    }

    /// Lets the core decide; the disk does not sync.
    pub(super) fn decide(&mut self, work: impl FnOnce(&mut Core, Now, &mut Decided)) {
        let mut out = Decided::default();
        work(&mut self.core, self.now, &mut out);
        self.acts.append(&mut out.now);
        self.unsynced.append(&mut out.records);
        self.gated.append(&mut out.then);
    }

    pub(super) fn sync(&mut self) {
        self.disk.append(&mut self.unsynced);
        self.acts.append(&mut self.gated);
    }

    /// Lets the core decide, syncs, and returns what was done.
    pub(super) fn turn(&mut self, work: impl FnOnce(&mut Core, Now, &mut Decided)) -> Vec<Act> {
        self.decide(work);
        self.sync();
        std::mem::take(&mut self.acts)
    }

    /// Ends the process and starts the next on what is on the disk.
    pub(super) fn crash(&mut self) {
        self.unsynced.clear();
        self.gated.clear();
        self.acts.clear();
        self.core = Core::new(self.settings.clone(), 8);
        for record in self.disk.clone() {
            self.core.restore(record, self.now);
        }
        self.core.restored(self.now);
        // As the shell does.
        self.disk = self.core.snapshot(self.now);
        self.decide(|core, now, out| core.begin(now, out));
    }

    /// Replaces the disk by what there is.
    pub(super) fn compact(&mut self) {
        self.disk = self.core.snapshot(self.now);
        self.unsynced.clear();
        self.acts.append(&mut self.gated);
    }

    pub(super) fn pass(&mut self, seconds: u64) -> Vec<Act> {
        self.now.steady += Duration::from_secs(seconds);
        self.now.unix += i64::try_from(seconds * 1000).unwrap();
        let waits = !self.acts.is_empty() || !self.gated.is_empty() || !self.core.is_at_rest();
        let acts = self.turn(|core, now, out| core.tick(now, out));
        // The shell does not call it then.
        assert!(waits || acts.is_empty(), "at rest, and time did something: {acts:?}");
        acts
    }

    pub(super) fn say(&mut self, connection: ConnectionId, packet: Packet) -> Vec<Packet> {
        let acts = self.turn(|core, now, out| core.client_says(connection, packet, now, out));
        packets(&acts, connection)
    }

    /// Connects a client; returns whether its session was there, and what it is sent at once.
    pub(super) fn connect(
        &mut self,
        connection: ConnectionId,
        connect: Connect,
    ) -> (Connack, Vec<Packet>) {
        let mut packets = self.say(connection, Packet::Connect(Box::new(connect))).into_iter();
        let Some(Packet::Connack(connack)) = packets.next() else { panic!("no CONNACK first") };
        (*connack, packets.collect())
    }

    pub(super) fn subscribe(&mut self, connection: ConnectionId, filter: &str, qos: Qos) {
        let options = Options { qos, ..Options::default() };
        let filters = vec![(filter.into(), options)];
        let packets = self.say(connection, Packet::Subscribe { id: 1, identified: false, filters });
        let expected = Packet::Suback { id: 1, reasons: vec![Reason(qos as u8)] };
        assert_eq!(packets.first(), Some(&expected));
    }

    pub(super) fn peer_says(&mut self, topic: &str, payload: &str) -> Vec<Act> {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let message = FromPeer { token: 5, topic: topic.into(), payload };
        self.turn(|core, now, out| core.peer_says(now, message, out))
    }

    pub(super) fn settle(&mut self, queue: QueueId, sequence: u64) -> Vec<Act> {
        self.turn(|core, now, out| core.settled(now, queue, sequence, true, out))
    }
}

/// Returns what a connection is sent.
pub(super) fn packets(acts: &[Act], connection: ConnectionId) -> Vec<Packet> {
    let sent = acts.iter().filter_map(|act| match act {
        Act::Send(to, packet) if *to == connection => Some(packet.clone()),
        _ => None,
    });
    sent.collect()
}

/// A client that wants its session kept.
pub(super) fn lasting(client: &str) -> Connect {
    Connect {
        version: Version::V5,
        clean: false,
        keep_alive: 0,
        client: client.into(),
        will: None,
        user: None,
        password: None,
        session_expiry: 500,
        receive_maximum: u16::MAX,
        maximum_packet: u32::MAX,
        authentication: false,
    }
}

/// A client that is forgotten when it goes.
pub(super) fn passing(client: &str) -> Connect {
    Connect { clean: true, session_expiry: 0, ..lasting(client) }
}

pub(super) fn message(topic: &str, payload: &str, qos: Qos, id: u16) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.into(),
        id,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        expiry: None,
        properties: Bytes::new(),
    }
}
