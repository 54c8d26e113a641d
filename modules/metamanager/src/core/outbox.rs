//! The sending side of the outbox: which parcels are on their way, and who waits for their answers.
//!
//! Parcels are read from the database in order and handed to edgehub while the cloud is connected,
//! a bounded number at a time. One that is done with is taken out of the database. Whoever asked
//! waits for the cloud's answer while there is a cloud; without one it hears `"OK"`: the message is
//! on the disk and will arrive.

use std::collections::{BTreeMap, HashMap};

use ipc_proto::{Kind, Message, MessageId, Module, Operation};

use super::{Effect, Receipt, Tag, Then, ok};
use crate::row::{Answer, Change, Question};

/// Parcels on their way at a time: enough to keep the cloud's rate limit busy.
const WINDOW: u32 = 64;

/// How often a parcel is sent that the cloud does not answer, before it is given up: the cloud
/// never answers what it cannot make sense of.
const TRIES: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The last parcel that was read.
    sent: i64,
    /// Parcels on their way, or to be sent again.
    flights: BTreeMap<i64, Flight>,
    /// Who waits for the answer to a parcel that was not read yet, by subject.
    waiting: HashMap<Box<str>, (MessageId, Receipt)>,
    more: bool,
    reading: bool,
    /// Whether the database was looked at: it may hold parcels of an earlier process.
    looked: bool,
}

#[derive(Debug)]
struct Flight {
    message: Message,
    receipt: Option<Receipt>,
    tries: u32,
    flying: bool,
}

/// Tells whether the cloud answers a parcel. Events and uploads it takes in silence.
pub(super) fn is_answered(message: &Message) -> bool {
    message.route.operation != Operation::Upload
        && message.route.resource.kind().is_some_and(|kind| *kind != Kind::Event)
}

impl Outbox {
    /// Returns the last parcel that was read: those after it may be replaced.
    pub(super) const fn sent(&self) -> i64 {
        self.sent
    }

    /// Notes who waits for the answer to the parcel of a subject, and lets go of who waited before.
    pub(super) fn wait(
        &mut self,
        subject: &str,
        id: &MessageId,
        receipt: Receipt,
        out: &mut Vec<Effect>,
    ) {
        if let Some((_, earlier)) = self.waiting.insert(subject.into(), (id.clone(), receipt)) {
            out.push(Effect::Respond(earlier, ok()));
        }
    }

    /// Notes that there is something to be read.
    pub(super) const fn more(&mut self) {
        self.more = true;
    }

    /// Sends what is to be sent again, and reads more when there is room.
    pub(super) fn pump(&mut self, linked: bool, out: &mut Vec<Effect>) {
        if !linked {
            return;
        }
        if !self.looked {
            self.looked = true;
            self.more = true;
        }
        for (sequence, flight) in &mut self.flights {
            if !flight.flying {
                flight.launch(*sequence, out);
            }
        }
        let flying = u32::try_from(self.flights.len()).unwrap_or(u32::MAX);
        let room = WINDOW.saturating_sub(flying);
        // Half a window at a time: one read for many parcels.
        if self.more && !self.reading && room >= WINDOW / 2 {
            self.reading = true;
            self.more = false;
            let question = Question::Outbox { after: self.sent, limit: room };
            out.push(Effect::Ask(question, Then::Parcels(room)));
        }
    }

    /// Takes parcels that were read, and sends them.
    pub(super) fn read(
        &mut self,
        limit: u32,
        answer: Result<Answer, String>,
        out: &mut Vec<Effect>,
    ) {
        self.reading = false;
        let parcels = match answer {
            Ok(Answer::Outbox(parcels)) => parcels,
            other => {
                tracing::warn!(?other, "the outbox cannot be read");
                return;
            }
        };
        self.more |= parcels.len() >= limit as usize;
        for (sequence, message) in parcels {
            self.sent = self.sent.max(sequence);
            let receipt = self.claim(&message);
            let mut flight = Flight { message, receipt, tries: 0, flying: false };
            flight.launch(sequence, out);
            self.flights.insert(sequence, flight);
        }
    }

    /// Returns who waits for the answer to a message.
    fn claim(&mut self, message: &Message) -> Option<Receipt> {
        let subject = super::modules::subject(message)?;
        let (id, _) = self.waiting.get(&subject)?;
        if *id != message.header.id {
            return None;
        }
        self.waiting.remove(&subject).map(|(_, receipt)| receipt)
    }

    /// Ends a parcel: it arrived, or was refused for good. Returns it, if it was on its way.
    pub(super) fn delivered(
        &mut self,
        sequence: i64,
        out: &mut Vec<Effect>,
    ) -> Option<(Message, Option<Receipt>)> {
        let Flight { message, receipt, .. } = self.flights.remove(&sequence)?;
        out.push(Effect::Commit(vec![Change::Dequeue(sequence)], Then::Do(Vec::new())));
        Some((message, receipt))
    }

    /// Notes that a parcel was not answered. It is sent again, unless it was too often.
    pub(super) fn failed(&mut self, sequence: i64, linked: bool, out: &mut Vec<Effect>) {
        let Some(flight) = self.flights.get_mut(&sequence) else { return };
        flight.flying = false;
        if let Some(receipt) = flight.receipt.take() {
            out.push(Effect::Respond(receipt, ok()));
        }
        flight.tries += u32::from(linked);
        if flight.tries >= TRIES {
            let resource = flight.message.route.resource.to_string();
            tracing::warn!(%resource, "the cloud does not answer a message, which is given up");
            self.delivered(sequence, out);
        }
    }

    /// Lets go of all who wait: the cloud is gone.
    pub(super) fn unlinked(&mut self, out: &mut Vec<Effect>) {
        self.looked = false;
        let waiting = self.waiting.drain().map(|(_, (_, receipt))| receipt);
        let flying = self.flights.values_mut().filter_map(|flight| flight.receipt.take());
        out.extend(waiting.chain(flying).map(|receipt| Effect::Respond(receipt, ok())));
    }
}

impl Flight {
    fn launch(&mut self, sequence: i64, out: &mut Vec<Effect>) {
        self.flying = true;
        let message = self.message.clone();
        out.push(if is_answered(&message) {
            Effect::Request(Module::Edgehub, message, Tag::Parcel(sequence))
        } else {
            Effect::Deliver(message, sequence)
        });
    }
}
