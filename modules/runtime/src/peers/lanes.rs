//! The two lanes between a pair of processes: messages, and answers to requests.
//!
//! What is not an answer waits for the receiver's window. An answer never does: a module that has
//! its window full of messages, each of which waits for an answer to a request of its own, would
//! wait for ever. There are at most as many answers as the asker has requests under way.
//!
//! Each lane keeps its own order; an answer may overtake messages. The lane is a bit of the
//! sequence ([`ANSWERS`]), so within a lane everything is as in a [`Queue`] and an [`Inbound`].

use ipc_proto::Instance;
use ipc_proto::frame::{ANSWERS, Outcome, Sequence, Settlement, Window};

use super::inbound::{Inbound, Life, Verdict};
use super::queue::Queue;

/// What an answerer lets be in flight: the asker knows better how much it has asked for.
const UNBOUNDED: Window = Window { messages: u32::MAX, bytes: u32::MAX };

/// A stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Messages,
    Answers,
}

impl Lane {
    pub(super) const fn of(sequence: Sequence) -> Self {
        if sequence & ANSWERS == 0 { Self::Messages } else { Self::Answers }
    }

    /// Returns the bit that is set in the sequences of this lane.
    const fn bit(self) -> Sequence {
        match self {
            Self::Messages => 0,
            Self::Answers => ANSWERS,
        }
    }
}

/// The lanes to the peer.
#[derive(Debug)]
pub(super) struct Outbound<T> {
    messages: Queue<T>,
    answers: Queue<T>,
}

impl<T> Outbound<T> {
    pub(super) const fn new() -> Self {
        Self { messages: Queue::new(), answers: Queue::new() }
    }

    const fn lane(&mut self, lane: Lane) -> &mut Queue<T> {
        match lane {
            Lane::Messages => &mut self.messages,
            Lane::Answers => &mut self.answers,
        }
    }

    pub(super) fn push(
        &mut self,
        lane: Lane,
        bytes: u32,
        make: impl FnOnce(Sequence) -> T,
    ) -> Sequence {
        self.lane(lane).push(bytes, |sequence| make(sequence | lane.bit())) | lane.bit()
    }

    pub(super) fn connected(&mut self, window: Window) {
        self.messages.connected(window);
        self.answers.connected(UNBOUNDED);
    }

    pub(super) fn disconnected(&mut self) {
        self.messages.disconnected();
        self.answers.disconnected();
    }

    /// Returns the next to write. Answers go first: what an answer tells is newer than the messages
    /// that wait, and never older than those that follow.
    pub(super) fn send_next(&mut self) -> Option<&mut T> {
        self.answers.send_next().or_else(|| self.messages.send_next())
    }

    pub(super) fn settle(&mut self, first: Sequence, count: u32) -> impl Iterator<Item = T> {
        self.lane(Lane::of(first)).settle(first & !ANSWERS, count)
    }

    pub(super) fn cancel(&mut self, sequence: Sequence) {
        self.lane(Lane::of(sequence)).cancel(sequence & !ANSWERS);
    }

    pub(super) fn waiting(&self) -> usize {
        self.messages.waiting() + self.answers.waiting()
    }

    pub(super) const fn unsettled(&self) -> usize {
        self.messages.unsettled() + self.answers.unsettled()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.messages.bytes() + self.answers.bytes()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.answers.is_empty()
    }
}

/// The lanes from the peer.
#[derive(Debug)]
pub(super) struct Incoming {
    messages: Inbound,
    answers: Inbound,
}

impl Incoming {
    /// Takes messages as far as `window` goes, and at most `requests` answers at once.
    pub(super) const fn new(window: Window, requests: u32) -> Self {
        let answers = Window { messages: requests, ..UNBOUNDED };
        Self { messages: Inbound::new(window), answers: Inbound::new(answers) }
    }

    const fn lane(&mut self, sequence: Sequence) -> &mut Inbound {
        match Lane::of(sequence) {
            Lane::Messages => &mut self.messages,
            Lane::Answers => &mut self.answers,
        }
    }

    pub(super) fn connected(&mut self, instance: Instance) -> bool {
        self.answers.connected(instance);
        self.messages.connected(instance)
    }

    /// Returns the life of the peer; both lanes always live the same one.
    pub(super) const fn life(&self) -> Life {
        self.messages.life()
    }

    pub(super) fn receive(&mut self, sequence: Sequence, bytes: u32) -> Verdict {
        self.lane(sequence).receive(sequence & !ANSWERS, bytes)
    }

    pub(super) fn settle(&mut self, life: Life, sequence: Sequence, outcome: Outcome) {
        self.lane(sequence).settle(life, sequence & !ANSWERS, outcome);
    }

    pub(super) fn let_go(&mut self, life: Life, sequence: Sequence) {
        self.lane(sequence).let_go(life, sequence & !ANSWERS);
    }

    pub(super) fn settlements(&mut self) -> Option<Vec<Settlement>> {
        let answers = self.answers.settlements().into_iter().flatten();
        let answers = answers.map(|part| Settlement { first: part.first | ANSWERS, ..part });
        let mut all = self.messages.settlements().unwrap_or_default();
        all.extend(answers);
        (!all.is_empty()).then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { messages: 2, bytes: 1000 };

    #[test]
    fn answers_pass_a_full_window() {
        let mut outbound = Outbound::new();
        outbound.connected(WINDOW);
        let mut incoming = Incoming::new(WINDOW, 10);
        incoming.connected(Instance(1));
        let push = |outbound: &mut Outbound<Sequence>, lane| outbound.push(lane, 10, |place| place);
        for _ in 0..3 {
            push(&mut outbound, Lane::Messages);
        }
        let mut send = |outbound: &mut Outbound<Sequence>| {
            let place = outbound.send_next().copied()?;
            assert_eq!(incoming.receive(place, 10), Verdict::Deliver);
            Some(place)
        };
        assert_eq!([(); 3].map(|()| send(&mut outbound)), [Some(1), Some(2), None]);
        push(&mut outbound, Lane::Answers);
        assert_eq!(send(&mut outbound), Some(ANSWERS | 1));
        assert_eq!((outbound.waiting(), outbound.unsettled()), (1, 3));
    }

    #[test]
    fn a_settlement_ends_what_its_lane_holds() {
        let mut outbound = Outbound::new();
        outbound.connected(WINDOW);
        let mut incoming = Incoming::new(WINDOW, 10);
        incoming.connected(Instance(1));
        for lane in [Lane::Messages, Lane::Answers] {
            outbound.push(lane, 10, |_| lane);
            assert_eq!(incoming.receive(lane.bit() | 1, 10), Verdict::Deliver);
        }
        while outbound.send_next().is_some() {}
        incoming.settle(incoming.life(), ANSWERS | 1, Outcome::Done);
        let told = incoming.settlements().expect("one is owed");
        assert_eq!(told, [Settlement { first: ANSWERS | 1, count: 1, outcome: Outcome::Done }]);
        let ended: Vec<_> = outbound.settle(told[0].first, told[0].count).collect();
        assert_eq!(ended, [Lane::Answers]);
        assert!(!outbound.is_empty());
    }
}
