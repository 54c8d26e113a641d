//! The books: what was sent, what came to the end of its path, what was settled, and every breach
//! of what is promised.

use ipc_proto::MessageId;
use module_runtime::Recent;
use tokio::sync::watch;

/// The sums over all streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages handed over for sending.
    pub sent: u64,
    /// Messages that took effect at the end of their path.
    pub arrived: u64,
    /// Messages that came there again after the death of a process on their way.
    pub repeated: u64,
    /// Messages that their first receiver settled.
    pub settled: u64,
    /// Requests sent beside them.
    pub asked: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that ended with a reason, such as the death of who was asked.
    pub unanswered: u64,
    /// Breach: settled, and not arrived.
    pub lost: u64,
    /// Breach: arrived before one that was sent before it.
    pub out_of_order: u64,
    /// Breach: took effect twice.
    pub double: u64,
    /// Breach: never to be taken.
    pub refused: u64,
}

/// The books of all streams. A message is known by its stream and its number, which counts from 1.
#[derive(Debug)]
pub(super) struct Ledger {
    streams: Vec<Stream>,
    tally: Tally,
    published: watch::Sender<Tally>,
}

#[derive(Debug)]
struct Stream {
    /// The greatest number that arrived; all before it did too.
    arrived: u64,
    /// Tells apart, as a module has to, what is new and what comes again.
    recent: Recent,
}

impl Ledger {
    /// Opens the books; `queue` is how many messages of a stream can come again.
    pub(super) fn new(streams: usize, queue: u32, published: watch::Sender<Tally>) -> Self {
        let recent = || Recent::new(queue as usize);
        let streams =
            std::iter::repeat_with(|| Stream { arrived: 0, recent: recent() }).take(streams);
        Self { streams: streams.collect(), tally: Tally::default(), published }
    }

    pub(super) fn sent(&mut self) {
        self.note(|tally| tally.sent += 1);
    }

    /// Notes a message at the end of its path.
    pub(super) fn arrived(&mut self, stream: usize, number: u64) {
        let Some(line) = self.streams.get_mut(stream) else { return };
        let is_new = line.recent.note(&identity(stream, number));
        let before = line.arrived;
        line.arrived = before.max(number);
        self.note(|tally| match (is_new, number <= before) {
            (true, true) => tally.double += 1,
            (false, _) => tally.repeated += 1,
            (true, false) => {
                tally.arrived += 1;
                tally.out_of_order += u64::from(number != before + 1);
            }
        });
    }

    /// Notes that a message was settled.
    pub(super) fn settled(&mut self, stream: usize, number: u64) {
        let lost = self.streams.get(stream).is_none_or(|line| number > line.arrived);
        self.note(|tally| {
            tally.settled += 1;
            tally.lost += u64::from(lost);
        });
    }

    pub(super) fn refused(&mut self) {
        self.note(|tally| tally.refused += 1);
    }

    pub(super) fn asked(&mut self) {
        self.note(|tally| tally.asked += 1);
    }

    pub(super) fn request_ended(&mut self, answered: bool) {
        self.note(|tally| match answered {
            true => tally.answered += 1,
            false => tally.unanswered += 1,
        });
    }

    fn note(&mut self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally);
        self.published.send_replace(self.tally);
    }
}

/// Makes one id for all comings of one message.
fn identity(stream: usize, number: u64) -> MessageId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(stream as u64).to_be_bytes());
    id[8..].copy_from_slice(&number.to_be_bytes());
    MessageId::Uuid(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger::new(1, 100, watch::channel(Tally::default()).0)
    }

    #[test]
    fn a_repetition_is_no_breach_and_a_gap_is_one() {
        let mut ledger = ledger();
        for number in [1, 2, 3, 2, 3, 4] {
            ledger.arrived(0, number);
        }
        let Tally { arrived, repeated, out_of_order, double, .. } = ledger.tally;
        assert_eq!((arrived, repeated, out_of_order, double), (4, 2, 0, 0));
        ledger.arrived(0, 6);
        assert_eq!(ledger.tally.out_of_order, 1);
    }

    #[test]
    fn what_is_settled_before_it_arrives_is_lost() {
        let mut ledger = ledger();
        ledger.arrived(0, 1);
        ledger.settled(0, 1);
        assert_eq!(ledger.tally.lost, 0);
        ledger.settled(0, 2);
        assert_eq!((ledger.tally.settled, ledger.tally.lost), (2, 1));
    }

    #[test]
    fn a_message_that_is_forgotten_and_comes_again_takes_effect_twice() {
        let mut ledger = Ledger::new(1, 2, watch::channel(Tally::default()).0);
        for number in [1, 2, 3, 4, 1] {
            ledger.arrived(0, number);
        }
        assert_eq!(ledger.tally.double, 1);
    }
}
