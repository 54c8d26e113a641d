//! The seam between the cloud link and what carries it. A transport dials, and then moves messages
//! both ways until one side ends; everything else is the same for all of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipc_proto::MessageId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::activity::Activity;
use crate::certs::Identity;
use crate::trouble::Trouble;

/// What comes from the cloud.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message, encoded.
    Message(Bytes),
    /// The answer to a probe.
    Probed(MessageId),
}

/// What goes to the cloud.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A message, encoded.
    Message(Vec<u8>),
    /// A probe, which the other side's transport answers by itself.
    Probe(MessageId),
}

/// A standing link. Each channel holds one: who does not take what came stops the reading, and who
/// sends waits for the one before.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) incoming: mpsc::Receiver<Incoming>,
    pub(crate) outgoing: mpsc::Sender<Frame>,
    pub(crate) end: End,
    pub(crate) activity: Arc<Activity>,
}

impl Link {
    /// Returns both directions.
    pub(crate) const fn split(&mut self) -> (&mut mpsc::Receiver<Incoming>, &mpsc::Sender<Frame>) {
        (&mut self.incoming, &self.outgoing)
    }
}

/// Ends a link from either side of it, with the reason. The first reason counts.
#[derive(Clone, Debug)]
pub(crate) struct End(mpsc::Sender<Trouble>);

impl End {
    /// Ends the link; a no-op on one that has ended.
    pub(crate) fn because(&self, trouble: Trouble) {
        let _ended_already = self.0.try_send(trouble);
    }
}

/// The work of carrying a link, until it ends; returns why it did.
pub(crate) type Carrier = JoinHandle<Trouble>;

/// The carrier's half of a link.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) incoming: mpsc::Sender<Incoming>,
    pub(crate) outgoing: mpsc::Receiver<Frame>,
    pub(crate) end: mpsc::Receiver<Trouble>,
    pub(crate) activity: Arc<Activity>,
}

/// Makes the two halves of a link.
pub(crate) fn halves(activity: Arc<Activity>) -> (Link, Ends) {
    let (incoming_sender, incoming) = mpsc::channel(1);
    let (outgoing, outgoing_receiver) = mpsc::channel(1);
    let (end, end_receiver) = mpsc::channel(1);
    let link = Link { incoming, outgoing, end: End(end), activity: Arc::clone(&activity) };
    let ends = Ends {
        incoming: incoming_sender,
        outgoing: outgoing_receiver,
        end: end_receiver,
        activity,
    };
    (link, ends)
}

/// What carries the link.
pub(crate) trait Transport {
    /// Dials the cloud as `identity`. The link stands when this returns.
    ///
    /// # Errors
    /// Why it does not.
    fn dial(
        &self,
        identity: &Identity,
    ) -> impl Future<Output = Result<(Link, Carrier), Trouble>> + Send;
}

/// Waits for `work` as long as it moves bytes: the bound is on standing still, not on slowness.
///
/// # Errors
/// [`Trouble::Stalled`] when nothing was written for `patience`.
pub(crate) async fn moving<T>(
    work: impl Future<Output = T>,
    activity: &Activity,
    patience: Duration,
) -> Result<T, Trouble> {
    tokio::pin!(work);
    loop {
        let before = activity.written();
        tokio::select! {
            done = &mut work => return Ok(done),
            () = tokio::time::sleep(patience) => {
                if activity.written() == before {
                    return Err(Trouble::Stalled(patience));
                }
            }
        }
    }
}
