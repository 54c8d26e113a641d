//! Histories of two processes and the connection between them, written by chance: it is cut,
//! delayed and made anew, either side dies, and what must hold is checked after every step.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use ipc_proto::frame::{Outcome, Sequence, Settlement, Window};
use ipc_proto::{Instance, MessageId};
use proptest::prelude::*;

use super::inbound::{Inbound, Life, Verdict};
use super::queue::Queue;
use super::requests::{Patience, Requests};

const WINDOW: Window = Window { messages: 4, bytes: 100 };

#[derive(Clone, Debug)]
enum Step {
    /// The sender gets a message of this size.
    Push(u32),
    /// Nobody wants the message of this place any more.
    Cancel(usize),
    /// The sender writes as much as it may.
    Write,
    /// The receiver reads one message.
    Read,
    /// The receiver settles or refuses one of those it holds.
    Settle(usize, bool),
    /// The receiver lets go of one of those it holds.
    LetGo(usize),
    /// The receiver writes its settlements.
    WriteSettlements,
    /// The sender reads one settlement.
    ReadSettlement,
    /// The connection is cut and made again.
    Cut,
    /// The receiver dies, with all it holds, and is started again.
    RestartReceiver,
    /// The sender dies, with all it holds, and is started again.
    RestartSender,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1_u32..150).prop_map(Step::Push),
        1 => (0_usize..8).prop_map(Step::Cancel),
        6 => Just(Step::Write),
        8 => Just(Step::Read),
        6 => ((0_usize..4), any::<bool>()).prop_map(|(at, done)| Step::Settle(at, done)),
        1 => (0_usize..4).prop_map(Step::LetGo),
        5 => Just(Step::WriteSettlements),
        6 => Just(Step::ReadSettlement),
        2 => Just(Step::Cut),
        1 => Just(Step::RestartReceiver),
        1 => Just(Step::RestartSender),
    ];
    prop::collection::vec(step, 0..200)
}

/// A message: the life of its sender, its number there, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Note {
    sender: u64,
    number: u64,
    bytes: u32,
}

/// Two processes and what is on the way between them.
struct World {
    queue: Queue<(Sequence, Note)>,
    inbound: Inbound,
    sender: u64,
    receiver: u64,
    numbers: u64,
    wire: VecDeque<(Sequence, Note)>,
    wire_back: VecDeque<Settlement>,
    /// Delivered to the receiver's module and not settled yet.
    held: Vec<(Life, Sequence, Note)>,
    /// Deliveries by receiver: the latest of the sender, to see the order.
    latest: Option<Note>,
    /// Delivered to this receiver, and not let go of.
    delivered: HashSet<Note>,
    /// Done or refused by a receiver, by what it said.
    ended: HashMap<Note, HashSet<bool>>,
    cancelled: HashSet<Note>,
    /// Given to this sender, in order.
    given: Vec<Note>,
    /// Of this sender, and told as settled.
    told: HashSet<Note>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            queue: Queue::new(),
            inbound: Inbound::new(WINDOW),
            sender: 1,
            receiver: 1,
            numbers: 0,
            wire: VecDeque::new(),
            wire_back: VecDeque::new(),
            held: Vec::new(),
            latest: None,
            delivered: HashSet::new(),
            ended: HashMap::new(),
            cancelled: HashSet::new(),
            given: Vec::new(),
            told: HashSet::new(),
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        self.wire.clear();
        self.wire_back.clear();
        self.queue.disconnected();
        self.queue.connected(WINDOW);
        self.inbound.connected(Instance(self.sender));
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Push(bytes) => {
                self.numbers += 1;
                let note = Note { sender: self.sender, number: self.numbers, bytes };
                self.queue.push(bytes, |sequence| (sequence, note));
                self.given.push(note);
            }
            Step::Cancel(at) => {
                let open = self.given.iter().filter(|note| !self.told.contains(note));
                if let Some(note) = open.copied().nth(at) {
                    // Places are given in order from 1, as numbers are.
                    let place = self.given.iter().position(|given| *given == note).unwrap_or(0);
                    self.queue.cancel(place as Sequence + 1);
                    self.cancelled.insert(note);
                }
            }
            Step::Write => {
                while let Some(&mut message) = self.queue.send_next() {
                    self.wire.push_back(message);
                }
            }
            Step::Read => self.read()?,
            Step::Settle(at, done) => self.settle(at, done),
            Step::LetGo(at) => {
                if at < self.held.len() {
                    let (life, sequence, note) = self.held.remove(at);
                    self.inbound.let_go(life, sequence);
                    self.delivered.remove(&note);
                }
            }
            Step::WriteSettlements => {
                self.wire_back.extend(self.inbound.settlements().into_iter().flatten());
            }
            Step::ReadSettlement => self.read_settlement()?,
            Step::Cut => self.connect(),
            Step::RestartReceiver => {
                self.receiver += 1;
                self.inbound = Inbound::new(WINDOW);
                self.held.clear();
                self.delivered.clear();
                self.latest = None;
                self.connect();
            }
            Step::RestartSender => {
                self.sender += 1;
                self.queue = Queue::new();
                self.numbers = 0;
                self.given.clear();
                self.told.clear();
                self.connect();
            }
        }
        self.bounds_hold()
    }

    fn read(&mut self) -> Result<(), TestCaseError> {
        let Some((sequence, note)) = self.wire.pop_front() else { return Ok(()) };
        let verdict = self.inbound.receive(sequence, note.bytes);
        prop_assert_ne!(&verdict, &Verdict::OverWindow, "a sender that keeps to the window");
        if verdict == Verdict::Deliver {
            self.no_duplicate_between_living_processes(note)?;
            self.order_is_kept(note)?;
            self.held.push((self.inbound.life(), sequence, note));
        }
        Ok(())
    }

    fn settle(&mut self, at: usize, done: bool) {
        if at >= self.held.len() {
            return;
        }
        let (life, sequence, note) = self.held.remove(at);
        let outcome = if done { Outcome::Done } else { Outcome::Refused("no".into()) };
        self.inbound.settle(life, sequence, outcome);
        self.ended.entry(note).or_default().insert(done);
    }

    fn read_settlement(&mut self) -> Result<(), TestCaseError> {
        let Some(Settlement { first, count, outcome }) = self.wire_back.pop_front() else {
            return Ok(());
        };
        for (_, note) in self.queue.settle(first, count) {
            // A sender is told what a receiver said of this very message, and nothing else.
            let said = self.ended.get(&note);
            let done = outcome == Outcome::Done;
            prop_assert!(said.is_some_and(|said| said.contains(&done)), "{note:?}: {outcome:?}");
            self.told.insert(note);
        }
        Ok(())
    }

    fn no_duplicate_between_living_processes(&mut self, note: Note) -> Result<(), TestCaseError> {
        prop_assert!(self.delivered.insert(note), "{note:?} was delivered twice");
        Ok(())
    }

    fn order_is_kept(&mut self, note: Note) -> Result<(), TestCaseError> {
        // One that was let go of comes again behind those that came after it.
        if self.latest.is_none_or(|latest| latest < note) {
            self.latest = Some(note);
            return Ok(());
        }
        let later = self.latest.is_some_and(|latest| latest.sender == note.sender);
        prop_assert!(later, "{note:?} came after {:?}", self.latest);
        Ok(())
    }

    fn bounds_hold(&self) -> Result<(), TestCaseError> {
        prop_assert!(self.queue.unsettled() <= WINDOW.messages as usize);
        // What was cancelled and then cut off is held beside the window until its work ends.
        let counts = |(life, _, note): &&(Life, Sequence, Note)| {
            *life == self.inbound.life() && !self.cancelled.contains(note)
        };
        let held = self.held.iter().filter(counts);
        let bytes: u32 = held.clone().map(|(_, _, note)| note.bytes).sum();
        let held = held.count();
        prop_assert!(held <= WINDOW.messages as usize);
        prop_assert!(held <= 1 || bytes <= WINDOW.bytes, "{held} with {bytes} bytes");
        Ok(())
    }

    /// Lets everything go its way: then every message has been settled, but the cancelled ones.
    fn nothing_settled_is_lost(mut self) -> Result<(), TestCaseError> {
        self.connect();
        let mut turns = 0;
        while !self.queue.is_empty() && turns < 1000 {
            turns += 1;
            self.step(&Step::Write)?;
            while !self.wire.is_empty() {
                self.step(&Step::Read)?;
            }
            while !self.held.is_empty() {
                self.step(&Step::Settle(0, true))?;
            }
            self.step(&Step::WriteSettlements)?;
            while !self.wire_back.is_empty() {
                self.step(&Step::ReadSettlement)?;
            }
        }
        prop_assert!(self.queue.is_empty(), "{} wait", self.queue.waiting());
        for note in &self.given {
            let gone = self.told.contains(note) || self.cancelled.contains(note);
            prop_assert!(gone, "{note:?} was lost");
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn histories_keep_every_promise(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step)?;
        }
        world.nothing_settled_is_lost()?;
    }

    #[test]
    fn a_peer_that_sends_rubbish_breaks_nothing(
        messages in prop::collection::vec((0_u64..20, 0_u32..50), 0..100),
        settlements in prop::collection::vec((any::<u64>(), any::<u32>()), 0..20),
    ) {
        let mut inbound = Inbound::new(WINDOW);
        inbound.connected(Instance(1));
        for (sequence, bytes) in messages {
            inbound.receive(sequence, bytes);
        }
        let mut queue = Queue::new();
        queue.connected(WINDOW);
        (0..8).for_each(|number| { queue.push(1, |_| number); });
        while queue.send_next().is_some() {}
        for (first, count) in settlements {
            queue.settle(first, count).for_each(drop);
        }
        prop_assert!(queue.waiting() == 4, "what was not written cannot be settled");
    }
}

#[test]
fn a_delivery_of_an_earlier_life_settles_nothing_in_a_later_one() {
    let mut inbound = Inbound::new(WINDOW);
    inbound.connected(Instance(1));
    let earlier = inbound.life();
    inbound.receive(1, 10);
    assert!(inbound.connected(Instance(2)));
    inbound.receive(1, 10);
    inbound.settle(earlier, 1, Outcome::Done);
    assert_eq!(inbound.settlements(), None);
    inbound.settle(inbound.life(), 1, Outcome::Done);
    assert!(inbound.settlements().is_some());
}

#[test]
fn settlements_that_follow_each_other_travel_as_one() {
    let mut inbound = Inbound::new(Window { messages: 10, bytes: 1000 });
    inbound.connected(Instance(1));
    (1..=6).for_each(|sequence| {
        inbound.receive(sequence, 1);
    });
    for sequence in [1, 2, 4, 5] {
        inbound.settle(inbound.life(), sequence, Outcome::Done);
    }
    let run = |first| Settlement { first, count: 2, outcome: Outcome::Done };
    assert_eq!(inbound.settlements(), Some(vec![run(1), run(4)]));
}

#[test]
fn a_refusal_that_was_lost_on_the_way_is_said_again() {
    let mut inbound = Inbound::new(WINDOW);
    inbound.connected(Instance(1));
    inbound.receive(1, 10);
    let refused = Outcome::Refused("no".into());
    inbound.settle(inbound.life(), 1, refused.clone());
    inbound.connected(Instance(1));
    assert_eq!(inbound.receive(1, 10), Verdict::Repeated);
    let again = Settlement { first: 1, count: 1, outcome: refused };
    assert_eq!(inbound.settlements(), Some(vec![again]));
}

#[test]
fn a_window_that_is_passed_is_seen() {
    let mut inbound = Inbound::new(WINDOW);
    inbound.connected(Instance(1));
    for sequence in 1..=4 {
        assert_eq!(inbound.receive(sequence, 1), Verdict::Deliver);
    }
    assert_eq!(inbound.receive(5, 1), Verdict::OverWindow);
}

mod requests {
    //! KubeEdge's three ways to lose a reply, each tried here.

    use super::*;

    fn id(byte: u8) -> MessageId {
        MessageId::from_random([byte; 16])
    }

    #[test]
    fn a_reply_that_comes_before_the_wait_begins_finds_its_waiter() {
        // Registering is a part of sending: there is no reply to a message that is not registered.
        let mut requests = Requests::new();
        let patience = Patience::Until(Instant::now() + Duration::from_secs(1));
        assert_eq!(requests.register(id(1), 1, patience, "waiter"), Ok(()));
        assert_eq!(requests.answered(&id(1)), Some((1, "waiter")));
        assert_eq!(requests.deadline(), None);
    }

    #[test]
    fn a_late_reply_finds_nobody_and_a_second_one_neither() {
        let now = Instant::now();
        let mut requests = Requests::new();
        assert_eq!(requests.register(id(1), 1, Patience::Until(now), "waiter"), Ok(()));
        assert_eq!(requests.expired(now), Some((1, "waiter")));
        assert_eq!(requests.expired(now), None);
        assert_eq!(requests.answered(&id(1)), None);
        assert_eq!(requests.answered(&id(1)), None);
    }

    #[test]
    fn a_reply_and_the_time_out_at_once_end_the_request_once() {
        let now = Instant::now();
        let mut requests = Requests::new();
        assert_eq!(requests.register(id(1), 1, Patience::Until(now), "waiter"), Ok(()));
        assert_eq!(requests.answered(&id(1)), Some((1, "waiter")));
        assert_eq!(requests.expired(now + Duration::from_secs(1)), None);
        assert_eq!(requests.bereaved(), None);
    }

    #[test]
    fn only_an_endless_request_outlives_the_peer() {
        let now = Instant::now();
        let mut requests = Requests::new();
        assert_eq!(requests.register(id(1), 1, Patience::Until(now), 1), Ok(()));
        assert_eq!(requests.register(id(2), 2, Patience::Endless, 2), Ok(()));
        assert_eq!(requests.register(id(2), 3, Patience::Endless, 3), Err(3));
        assert_eq!(requests.bereaved(), Some((1, 1)));
        assert_eq!(requests.bereaved(), None);
        assert_eq!(requests.answered(&id(2)), Some((2, 2)));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask(u8, Option<u64>),
        Answer(u8),
        Wait(u64),
        Die,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0_u8..6, proptest::option::of(0_u64..20)).prop_map(|(id, ms)| Step::Ask(id, ms)),
            3 => (0_u8..6).prop_map(Step::Answer),
            2 => (0_u64..10).prop_map(Step::Wait),
            1 => Just(Step::Die),
        ]
    }

    proptest! {
        #[test]
        fn every_request_ends_once(steps in prop::collection::vec(step(), 0..100)) {
            let mut requests = Requests::new();
            let mut now = Instant::now();
            let mut open = HashSet::new();
            for (at, step) in (1_u64..).zip(steps) {
                let mut ended = Vec::new();
                match step {
                    Step::Ask(byte, after) => {
                        let until = |ms| Patience::Until(now + Duration::from_millis(ms));
                        let patience = after.map_or(Patience::Endless, until);
                        if requests.register(id(byte), at, patience, at) == Ok(()) {
                            open.insert(at);
                        }
                    }
                    Step::Answer(byte) => ended.extend(requests.answered(&id(byte))),
                    Step::Wait(ms) => {
                        now += Duration::from_millis(ms);
                        ended.extend(std::iter::from_fn(|| requests.expired(now)));
                        prop_assert!(requests.deadline().is_none_or(|deadline| deadline > now));
                    }
                    Step::Die => {
                        ended.extend(std::iter::from_fn(|| requests.bereaved()));
                        prop_assert_eq!(requests.deadline(), None);
                    }
                }
                for (_, waiter) in ended {
                    prop_assert!(open.remove(&waiter), "request {waiter} ended twice");
                }
            }
        }
    }
}
