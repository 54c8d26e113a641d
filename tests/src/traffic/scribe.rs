//! The end of every path: a receiver of its own make that notes each message, answers it, and
//! settles it once its answer is settled.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use ipc_proto::frame::{self, ANSWERS, Frame, Hello, Outcome, Sequence, Settlement, Window};
use ipc_proto::{Instance, Message, Module};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::SCRIBE;
use super::ledger::Ledger;
use super::sender::Note;
use crate::rig::hostile::whole;

/// What the modules may have in flight towards the scribe.
const WINDOW: Window = Window { messages: 1024, bytes: 4 << 20 };

/// The pause after a connection ended.
const PAUSE: Duration = Duration::from_millis(5);

/// All that the scribe knows of one module.
struct Scribe {
    module: Module,
    own: Instance,
    ledger: Rc<RefCell<Ledger>>,
    /// The module's process, and the place of its latest message.
    peer: Option<(Instance, Sequence)>,
    /// The place of the scribe's latest answer.
    sent: Sequence,
    /// Answers that the module has not settled, oldest first.
    answers: VecDeque<Answer>,
}

struct Answer {
    sequence: Sequence,
    /// The message that it answers.
    echo: Sequence,
    frame: Bytes,
}

/// Keeps the connection to one module for ever.
pub(super) async fn run(
    runtime_dir: PathBuf,
    module: Module,
    own: Instance,
    ledger: Rc<RefCell<Ledger>>,
) {
    let mut scribe = Scribe { module, own, ledger, peer: None, sent: 0, answers: VecDeque::new() };
    loop {
        // a connection that ends is no fault here: the test is why it ends
        drop(scribe.serve(&runtime_dir).await);
        tokio::time::sleep(PAUSE).await;
    }
}

impl Scribe {
    async fn serve(&mut self, runtime_dir: &Path) -> Result<()> {
        let mut stream = UnixStream::connect(runtime_dir.join(self.module.socket_name())).await?;
        let hello = Hello { from: SCRIBE, to: self.module, instance: self.own, window: WINDOW };
        stream.write_all(&frame::hello(&hello)).await?;
        let mut input = BytesMut::new();
        let mut output = BytesMut::new();
        loop {
            while let Some(frame) = frame::take(&mut input)? {
                self.hear(frame, &mut output)?;
            }
            stream.write_all(&output).await?;
            output.clear();
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Takes one frame in and puts what is to be said into `output`.
    fn hear(&mut self, frame: Frame, output: &mut BytesMut) -> Result<()> {
        match frame {
            Frame::Welcome(peer) => self.welcome(peer.instance, output),
            Frame::Message(sequence, message) => self.message(sequence, &message, output)?,
            Frame::Settle(settlements) => {
                for settlement in settlements {
                    self.settled(&settlement, output);
                }
            }
            Frame::Hello(_) | Frame::Refused(_) => bail!("the scribe is not welcome"),
        }
        Ok(())
    }

    /// Begins a connection: what a living process has not settled is said again; a new process
    /// asked for none of it.
    fn welcome(&mut self, instance: Instance, output: &mut BytesMut) {
        if self.peer.is_none_or(|(before, _)| before != instance) {
            self.peer = Some((instance, 0));
            self.answers.clear();
        }
        for answer in &self.answers {
            output.extend_from_slice(&answer.frame);
        }
    }

    fn message(
        &mut self,
        sequence: Sequence,
        message: &Message,
        output: &mut BytesMut,
    ) -> Result<()> {
        let (_, highest) = self.peer.as_mut().context("a message before the welcome")?;
        if sequence <= *highest {
            // said again on a new connection; settled already unless its answer is still open
            if self.answers.iter().all(|answer| answer.echo != sequence) {
                output.extend_from_slice(&settle(sequence));
            }
            return Ok(());
        }
        *highest = sequence;
        let note: Note = message.content.decode().context("no message of the traffic")?;
        self.ledger.borrow_mut().arrived(note.stream, note.number);
        self.sent += 1;
        let answer = message.response(module_runtime::message_id(), 0, message.content.clone());
        let place = self.sent | ANSWERS;
        let frame = whole(place, &answer)?;
        output.extend_from_slice(&frame);
        self.answers.push_back(Answer { sequence: place, echo: sequence, frame });
        Ok(())
    }

    fn settled(&mut self, settlement: &Settlement, output: &mut BytesMut) {
        let range = settlement.first..settlement.first.saturating_add(settlement.count.into());
        self.answers.retain(|answer| {
            let settled = range.contains(&answer.sequence);
            if settled {
                output.extend_from_slice(&settle(answer.echo));
            }
            !settled
        });
    }
}

fn settle(first: Sequence) -> Bytes {
    frame::settle(&[Settlement { first, count: 1, outcome: Outcome::Done }])
}
