//! Random histories: messages both ways, lost links, slow and silent clouds, slow modules.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use ipc_proto::frame::Outcome;
use ipc_proto::{
    Content, Group, Kind, Message, MessageId, Module, Operation, Resource, Route, Scope, Source,
};
use proptest::prelude::*;

use super::super::{Bucket, Core, Effect, Now, Outgoing, Token};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes, in milliseconds.
    Wait(u64),
    /// The link comes up, or goes down with everything that is on the way.
    Link(bool),
    /// The transport takes so many messages.
    Write(usize),
    /// The cloud reads and answers so many of what is on the way.
    CloudReads(usize),
    /// What the cloud said arrives, so many messages.
    Arrive(usize),
    /// The cloud sends an object, or sends the one in flight again.
    Object,
    /// A module sends something up.
    Send(Kind, u8),
    /// The modules finish so many of what they have in work.
    Settle(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..3000).prop_map(Step::Wait),
        any::<bool>().prop_map(Step::Link),
        (1usize..8).prop_map(Step::Write),
        (1usize..8).prop_map(Step::CloudReads),
        (1usize..8).prop_map(Step::Arrive),
        Just(Step::Object),
        (prop::sample::select(vec![Kind::PodPatch, Kind::Event, Kind::Lease]), 0u8..3)
            .prop_map(|(kind, name)| Step::Send(kind, name)),
        (1usize..4).prop_map(Step::Settle),
    ]
}

/// Draws ids that never come twice.
fn draw() -> MessageId {
    use std::sync::atomic::{AtomicU64, Ordering};
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let mut id = [0; 16];
    id[8..].copy_from_slice(&DRAWN.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    MessageId::Uuid(id)
}

struct World {
    now: Instant,
    core: Core,
    up: bool,
    /// Written and not read by the cloud.
    wire_up: VecDeque<Outgoing>,
    /// Said by the cloud and not arrived.
    wire_down: VecDeque<Message>,
    /// The pongs that are on the way.
    pongs: VecDeque<MessageId>,
    /// What the cloud has read, by message id, in order.
    read: Vec<MessageId>,
    sent: BTreeMap<Token, Message>,
    done: BTreeSet<Token>,
    /// By which message a status was superseded.
    superseded: HashMap<MessageId, MessageId>,
    in_work: VecDeque<Message>,
    /// The object that the cloud waits for.
    in_flight: Option<Message>,
    settled: BTreeSet<MessageId>,
    acknowledged: usize,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let heartbeat = Duration::from_secs(15);
        let core = Core::new(now, heartbeat, Bucket::new(30, 60), draw);
        Self {
            now,
            core,
            up: false,
            wire_up: VecDeque::new(),
            wire_down: VecDeque::new(),
            pongs: VecDeque::new(),
            read: Vec::new(),
            sent: BTreeMap::new(),
            done: BTreeSet::new(),
            superseded: HashMap::new(),
            in_work: VecDeque::new(),
            in_flight: None,
            settled: BTreeSet::new(),
            acknowledged: 0,
        }
    }

    fn time(&self) -> Now {
        Now { at: self.now, unix_ms: 0 }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Wait(millis) => self.now += Duration::from_millis(*millis),
            Step::Link(true) if !self.up => {
                self.up = true;
                self.core.link_up(self.time());
            }
            Step::Link(false) if self.up => self.cut(),
            Step::Link(_) => {}
            Step::Write(count) => {
                for _ in 0..*count {
                    if let Some(outgoing) = self.core.next(self.time()) {
                        self.wire_up.push_back(outgoing);
                    }
                }
            }
            Step::CloudReads(count) => (0..*count).for_each(|_| self.cloud_reads()),
            Step::Arrive(count) => (0..*count).for_each(|_| self.arrive()),
            Step::Object => self.object(),
            Step::Send(kind, name) => self.send(kind, *name),
            Step::Settle(count) => {
                for _ in 0..*count {
                    if let Some(message) = self.in_work.pop_front() {
                        self.settled.insert(message.header.id.clone());
                        self.core.settled(self.time(), &message.header.id, Outcome::Done);
                    }
                }
            }
        }
        self.core.tick(self.time());
        self.effects();
    }

    fn cut(&mut self) {
        self.up = false;
        self.wire_up.clear();
        self.wire_down.clear();
        self.pongs.clear();
        self.core.link_down(self.time());
    }

    fn effects(&mut self) {
        while let Some(effect) = self.core.effect() {
            match effect {
                Effect::Deliver(_, message) => {
                    let id = &message.header.id;
                    assert!(
                        self.in_work.iter().all(|other| other.header.id != *id),
                        "what is in work is not handed on again"
                    );
                    self.in_work.push_back(message);
                }
                Effect::Done(token) => self.done(token),
                Effect::Unserved => self.cut(),
                Effect::Refuse(..) | Effect::Fail(..) => panic!("nothing here is refused"),
                Effect::Announce(_) | Effect::Note(_) => {}
            }
        }
    }

    /// A message is forgotten only when the cloud has read it, or one that says more.
    fn done(&mut self, token: Token) {
        assert!(self.done.insert(token), "done once");
        let mut id = &self.sent[&token].header.id;
        while !self.read.contains(id) {
            id = self.superseded.get(id).expect("forgotten before the cloud has read it");
        }
    }

    fn cloud_reads(&mut self) {
        let message = match self.wire_up.pop_front() {
            Some(Outgoing::Message(message)) => message,
            Some(Outgoing::Probe(id)) => return self.pongs.push_back(id),
            None => return,
        };
        assert!(!message.header.sync, "sync is never set on the wire");
        let route = &message.route;
        if route.operation == Operation::Response {
            let parent = message.header.parent.as_ref().expect("an acknowledgement has a parent");
            assert!(self.settled.contains(parent), "acknowledged before it was settled");
            if self.in_flight.as_ref().is_some_and(|object| object.header.id == *parent) {
                self.in_flight = None;
                self.acknowledged += 1;
            }
        } else if route.resource == Resource::KubernetesCa
            || matches!(route.resource.kind(), Some(Kind::PodPatch | Kind::Lease))
        {
            let mut answer = message.response(draw(), 0, Content::from_raw("{}".into()));
            answer.route.source = Source::Edgecontroller;
            answer.route.group = Group::Resource;
            self.wire_down.push_back(answer);
        }
        self.read.push(message.header.id);
    }

    fn arrive(&mut self) {
        if let Some(message) = self.wire_down.pop_front() {
            self.core.came_down(self.time(), message);
        }
        if let Some(id) = self.pongs.pop_front() {
            self.core.probed(self.time(), &id);
        }
        self.effects();
    }

    fn object(&mut self) {
        if !self.up {
            return;
        }
        let message = self.in_flight.get_or_insert_with(|| {
            let resource =
                Resource::object(Scope::Namespace("default".into()), Kind::ConfigMap, "c");
            let route = Route {
                source: Source::Edgecontroller,
                group: Group::Resource,
                operation: Operation::Update,
                resource,
            };
            Message::new(draw(), 0, route, Content::from_raw("{}".into()))
        });
        self.wire_down.push_back(message.clone());
    }

    fn send(&mut self, kind: &Kind, name: u8) {
        let resource = Resource::object(
            Scope::Namespace("default".into()),
            kind.clone(),
            &format!("{kind}-{name}"),
        );
        let operation = if *kind == Kind::PodPatch { Operation::Patch } else { Operation::Update };
        let route = Route { source: Source::Edged, group: Group::Meta, operation, resource };
        let message = Message::new(draw(), 0, route, Content::from_raw("{}".into()));
        let token = self.sent.len() as Token;
        if *kind != Kind::Event {
            let older = self
                .sent
                .values()
                .filter(|older| older.route == message.route)
                .map(|older| older.header.id.clone())
                .next_back();
            if let Some(older) = older {
                self.superseded.insert(older, message.header.id.clone());
            }
        }
        self.sent.insert(token, message.clone());
        self.core.sent_up(self.time(), Module::Metamanager, token, message);
    }

    /// Lets everything work until nothing is left to do.
    fn heal(&mut self) {
        let all = [Step::Link(true), Step::Write(9), Step::CloudReads(9), Step::Arrive(9)];
        for _ in 0..2000 {
            all.iter().chain(&[Step::Settle(9), Step::Wait(500)]).for_each(|step| self.step(step));
            if self.in_flight.is_some() {
                self.step(&Step::Object);
            }
            if self.done.len() == self.sent.len() && self.in_flight.is_none() {
                return;
            }
        }
        panic!("not settled: {} of {}", self.done.len(), self.sent.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_forgotten_early_or_stuck(
        history in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new();
        for step in &history {
            world.step(step);
        }
        world.heal();
        // Events of one object reach the cloud for the first time in the order they were sent.
        let mut first: Vec<&MessageId> = Vec::new();
        for id in &world.read {
            if !first.contains(&id) {
                first.push(id);
            }
        }
        let events: Vec<&MessageId> = world
            .sent
            .values()
            .filter(|message| message.route.resource.kind() == Some(&Kind::Event))
            .map(|message| &message.header.id)
            .collect();
        first.retain(|id| events.contains(id));
        prop_assert_eq!(first, events);
    }

    #[test]
    fn the_time_of_the_next_write_is_never_missed(
        history in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new();
        for step in &history {
            world.step(step);
            let due = world.core.next_at(world.now);
            let early = due.is_none_or(|due| due > world.now);
            if early && let Some(outgoing) = world.core.next(world.time()) {
                prop_assert!(false, "written before it was due: {outgoing:?}");
            }
        }
    }
}
