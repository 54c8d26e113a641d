//! A message that came in, and the duty to settle it.

use ipc_proto::frame::Outcome;
use ipc_proto::{Content, Message, Module};
use tokio::sync::mpsc;
use tracing::debug;

use super::inbound::Life;
use super::link::Command;
use super::{Outgoing, SendError, Then, try_command};
use crate::{clock, random};

/// A message of a peer. It stays with its sender until it is settled here, which is to be done
/// when its work is durable. One that is dropped unsettled comes again after a reconnect.
#[derive(Debug)]
pub struct Delivery {
    /// Who sent it.
    pub from: Module,
    /// The message.
    pub message: Message,
    claim: Claim,
}

/// What settles one message, once.
#[derive(Debug)]
pub(crate) struct Claim {
    link: mpsc::Sender<Command>,
    life: Life,
    sequence: u64,
    settled: bool,
}

impl Claim {
    pub(super) const fn new(link: mpsc::Sender<Command>, life: Life, sequence: u64) -> Self {
        Self { link, life, sequence, settled: false }
    }

    pub(crate) fn settle(mut self, outcome: Outcome) {
        self.settled = true;
        self.tell(Command::Settle { life: self.life, sequence: self.sequence, outcome });
    }

    /// A link that is gone or too far behind hears nothing; the message then comes again.
    fn tell(&self, command: Command) {
        if self.link.try_send(command).is_err() {
            debug!(sequence = self.sequence, "a settlement did not reach its connection");
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.settled {
            self.tell(Command::LetGo { life: self.life, sequence: self.sequence });
        }
    }
}

impl Delivery {
    pub(crate) const fn new(from: Module, message: Message, claim: Claim) -> Self {
        Self { from, message, claim }
    }

    /// Tells the sender that the work is done, and durable where it has to be.
    pub fn settle(self) {
        self.claim.settle(Outcome::Done);
    }

    /// Settles the message and keeps it: for what needs no storing.
    #[must_use]
    pub fn take(self) -> Message {
        let Self { message, claim, .. } = self;
        claim.settle(Outcome::Done);
        message
    }

    /// Tells the sender that the message will never be taken, and why.
    pub fn refuse(self, reason: &str) {
        self.claim.settle(Outcome::Refused(reason.into()));
    }

    /// Tells whether the sender waits for an answer.
    #[must_use]
    pub const fn is_request(&self) -> bool {
        self.message.header.sync
    }

    /// Answers a request. It is settled when the answer is: if one of the two dies in between, the
    /// request comes again. An answer never waits for room, because there are at most as many as
    /// the asker has requests in flight.
    ///
    /// # Errors
    /// [`SendError::TooLong`] when the content does not fit into a frame; the request then counts
    /// as refused.
    pub fn respond(self, content: Content) -> Result<(), SendError> {
        let (id, now) = (random::message_id(), clock::unix_millis());
        let answer = self.message.response(id, now, content);
        self.answer(answer)
    }

    /// Answers a request with an error, as [`Delivery::respond`] does with a content.
    ///
    /// # Errors
    /// As [`Delivery::respond`].
    pub fn respond_error(self, reason: &str) -> Result<(), SendError> {
        let (id, now) = (random::message_id(), clock::unix_millis());
        let answer = self.message.error(id, now, reason);
        self.answer(answer)
    }

    fn answer(self, answer: Message) -> Result<(), SendError> {
        let Self { from, claim, .. } = self;
        match Outgoing::new(answer, Then::Nothing) {
            Ok(outgoing) => {
                let link = claim.link.clone();
                try_command(&link, from, Outgoing { then: Then::Settle(claim), ..outgoing })
            }
            Err(error) => {
                claim.settle(Outcome::Refused(error.to_string().into()));
                Err(error.into())
            }
        }
    }

    /// Ends the work on a message that the module has no use for: a request is answered with an
    /// error that says so, a notice is settled.
    pub fn unsupported(self) {
        let reason = unsupported_reason(&self.message);
        debug!(from = %self.from, id = %self.message.header.id, "{reason}");
        if !self.is_request() {
            self.settle();
        } else if let Err(error) = self.respond_error(&reason) {
            debug!("cannot answer an unsupported request: {error}");
        }
    }
}

/// Says what is unsupported about a message, in at most some 300 letters.
fn unsupported_reason(message: &Message) -> String {
    let short = |text: &str| text.chars().take(128).collect::<String>();
    format!(
        "unsupported: operation '{}' on '{}'",
        short(message.route.operation.as_str()),
        short(&message.route.resource.to_string())
    )
}
