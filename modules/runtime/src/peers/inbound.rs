//! The receiving core: which messages of a peer are new, and which settlements it is owed.
//!
//! Messages of one process come in the order of their sequence, with gaps where the sender
//! cancelled one, so everything up to the highest seen is a repetition. Between two living
//! processes a repetition is never delivered; it is settled again, or will be.

use std::collections::VecDeque;

use ipc_proto::Instance;
use ipc_proto::frame::{Outcome, Sequence, Settlement, Window};

/// One life of a peer's process. A delivery of an earlier life settles nothing in a later one.
pub(crate) type Life = u32;

/// What a peer's process has sent and how far it was settled.
#[derive(Debug)]
pub(crate) struct Inbound {
    window: Window,
    instance: Option<Instance>,
    life: Life,
    highest: Sequence,
    /// Delivered and not settled, in order.
    open: VecDeque<Open>,
    /// How many of them, and of their bytes, the peer has in flight on this connection.
    counted: u32,
    counted_bytes: u64,
    /// The latest refusals, at most a window of them: more can not have been lost on the way.
    refusals: VecDeque<(Sequence, Box<str>)>,
    ready: Vec<Settlement>,
}

#[derive(Debug)]
struct Open {
    sequence: Sequence,
    bytes: u32,
    /// The peer knows of it on this connection. What it cancelled before a cut does not come
    /// again, and takes nothing of the window any more.
    counted: bool,
    /// The module let go of it without settling: it is to be delivered when it comes again.
    dropped: bool,
}

/// What is to be done with a message that came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is new.
    Deliver,
    /// It came before; nothing is to be done.
    Repeated,
    /// The peer sends more than it was allowed to have in flight.
    OverWindow,
}

impl Inbound {
    pub(crate) const fn new(window: Window) -> Self {
        Self {
            window,
            instance: None,
            life: 0,
            highest: 0,
            open: VecDeque::new(),
            counted: 0,
            counted_bytes: 0,
            refusals: VecDeque::new(),
            ready: Vec::new(),
        }
    }

    /// Begins a connection; tells whether a new process took the place of an earlier one.
    pub(crate) fn connected(&mut self, instance: Instance) -> bool {
        self.ready.clear();
        self.counted = 0;
        self.counted_bytes = 0;
        self.open.iter_mut().for_each(|open| open.counted = false);
        let before = self.instance.replace(instance);
        if before == Some(instance) {
            return false;
        }
        self.life = self.life.wrapping_add(1);
        self.highest = 0;
        self.open.clear();
        self.refusals.clear();
        before.is_some()
    }

    /// Returns the life of the peer that deliveries now belong to.
    pub(crate) const fn life(&self) -> Life {
        self.life
    }

    /// Takes note of a message of `bytes`.
    pub(crate) fn receive(&mut self, sequence: Sequence, bytes: u32) -> Verdict {
        if sequence <= self.highest {
            return self.repeated(sequence);
        }
        let over = self.counted >= self.window.messages
            || self.counted_bytes + u64::from(bytes) > u64::from(self.window.bytes);
        if over && self.counted > 0 {
            return Verdict::OverWindow;
        }
        self.highest = sequence;
        self.counted += 1;
        self.counted_bytes += u64::from(bytes);
        self.open.push_back(Open { sequence, bytes, counted: true, dropped: false });
        Verdict::Deliver
    }

    fn repeated(&mut self, sequence: Sequence) -> Verdict {
        if let Ok(at) = self.find(sequence) {
            let open = &mut self.open[at];
            if !std::mem::replace(&mut open.counted, true) {
                self.counted += 1;
                self.counted_bytes += u64::from(open.bytes);
            }
            return if std::mem::take(&mut open.dropped) {
                Verdict::Deliver
            } else {
                Verdict::Repeated
            };
        }
        let refused = self.refusals.iter().find(|(refused, _)| *refused == sequence);
        let outcome = refused.map_or(Outcome::Done, |(_, reason)| Outcome::Refused(reason.clone()));
        self.owe(sequence, outcome);
        Verdict::Repeated
    }

    /// Ends the work on a message of this life.
    pub(crate) fn settle(&mut self, life: Life, sequence: Sequence, outcome: Outcome) {
        if life != self.life {
            return;
        }
        let Ok(at) = self.find(sequence) else { return };
        if let Some(open) = self.open.remove(at)
            && open.counted
        {
            self.counted -= 1;
            self.counted_bytes -= u64::from(open.bytes);
        }
        if let Outcome::Refused(reason) = &outcome {
            if self.refusals.len() >= self.window.messages as usize {
                self.refusals.pop_front();
            }
            self.refusals.push_back((sequence, reason.clone()));
        }
        self.owe(sequence, outcome);
    }

    /// Lets go of a message without settling it: it stays with its sender, who sends it again
    /// after the next reconnect.
    pub(crate) fn let_go(&mut self, life: Life, sequence: Sequence) {
        if life == self.life
            && let Ok(at) = self.find(sequence)
        {
            self.open[at].dropped = true;
        }
    }

    /// Takes the settlements that the peer is owed.
    pub(crate) fn settlements(&mut self) -> Option<Vec<Settlement>> {
        (!self.ready.is_empty()).then(|| std::mem::take(&mut self.ready))
    }

    /// Notes a settlement; those that follow each other make one run.
    fn owe(&mut self, sequence: Sequence, outcome: Outcome) {
        if let Some(last) = self.ready.last_mut()
            && last.outcome == Outcome::Done
            && outcome == Outcome::Done
            && last.first + u64::from(last.count) == sequence
        {
            last.count += 1;
            return;
        }
        self.ready.push(Settlement { first: sequence, count: 1, outcome });
    }

    fn find(&self, sequence: Sequence) -> Result<usize, usize> {
        match self.open.front() {
            Some(front) if front.sequence == sequence => Ok(0),
            Some(_) | None => self.open.binary_search_by_key(&sequence, |open| open.sequence),
        }
    }
}
