//! A standing tunnel: frames in, frames out, signs of life, and the sessions' connections.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind::UnexpectedEof;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, SimplexStream, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::config::Config;
use crate::core::{Effect, MAX_SESSIONS, Sessions};
use crate::dial::Dialled;
use crate::frames::{self, Decoder, Message};
use crate::local::Local;
use crate::outgoing::{self, Outgoing};
use crate::ready::at_once;
use crate::trouble::Trouble;
use crate::words::Frame;

/// Frames that may wait to go out, all sessions together. Each session that wants to send another
/// waits its turn and reads nothing meanwhile, so this and one frame for each is all there is.
const OUTGOING: usize = 8;

/// Bytes of one session that may wait for the node. The tunnel has no flow control of its own: once
/// they are too many, nothing more is read of the whole tunnel, which holds the cloud up.
const WINDOW: usize = 64 * 1024;

/// Bytes that a read has room for at the least: the cloud's frames are small, and many come at once.
const READ: usize = 16 * 1024;

/// Words that may wait to go out beside the sessions' data: an end for each session, and refusals.
const MAX_SAID: usize = 2 * MAX_SESSIONS;

/// How long a session may hold the tunnel up so, without taking a byte. Slow is not stalled: flash
/// memory may take seconds over a write.
const STALL: Duration = Duration::from_secs(10);

/// The same while others stand that it holds up.
const STALL_AMONG_OTHERS: Duration = Duration::from_secs(3);

/// The longest pause between two pings: KubeEdge's.
const PING: Duration = Duration::from_secs(5);

/// What a ping says.
const PING_TEXT: &[u8] = b"ping you";

/// Bytes between two pings that make a tunnel a busy one: a ping then stands behind what fills the
/// buffers of both kernels, which on a slow line takes its time.
const BUSY: usize = 64 * 1024;

/// How much longer a ping may stay unanswered then.
const BUSY_FACTOR: u32 = 4;

/// How long the cloud may take before it serves a tunnel that it took. It first writes to the node's
/// status where the tunnel is, and when that fails tries again every 20 s for two minutes. To dial
/// again meanwhile would be worse than to wait: the old attempt, once it succeeds, takes the place
/// of the new tunnel, and nothing is served until the next one.
const UNSERVED: Duration = Duration::from_secs(150);

/// The oldest ping that the cloud has not answered.
struct Ping {
    out: Instant,
    busy: bool,
}

/// What the cloud lets hear of itself.
struct Signs<F> {
    unanswered: Option<Ping>,
    /// To be called at the first sign.
    served: Option<F>,
}

impl<F: FnOnce()> Signs<F> {
    /// Notes that something came.
    fn heard(&mut self) {
        self.unanswered = None;
        if let Some(served) = self.served.take() {
            served();
        }
    }

    /// Notes that a ping is out, with so many bytes before it.
    fn pinged(&mut self, before: usize) {
        let busy = before > BUSY;
        let ping = self.unanswered.get_or_insert(Ping { out: now(), busy });
        ping.busy |= busy;
    }

    /// Returns when the cloud is to be given up.
    fn deadline(&self, config: &Config) -> Option<Instant> {
        let Ping { out, busy } = self.unanswered.as_ref()?;
        let patience = config.read_deadline * if *busy { BUSY_FACTOR } else { 1 };
        Some(*out + if self.served.is_none() { patience } else { patience.max(UNSERVED) })
    }
}

/// The node's side of a session.
struct Side {
    /// What waits for the node, [`WINDOW`] bytes at most.
    feed: WriteHalf<SimplexStream>,
    task: AbortHandle,
}

impl Drop for Side {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Bytes that their session has no room for.
struct Waiting {
    connection: u64,
    data: Bytes,
    /// Since when the session took none of them.
    since: Instant,
}

/// What a tunnel holds, beside its socket.
struct Hands<'a> {
    config: &'a Config,
    sessions: Sessions,
    sides: HashMap<u64, Side>,
    up: mpsc::Sender<Outgoing>,
    ended: mpsc::Sender<(u64, u64)>,
    /// What is to be said beside the sessions' data.
    say: VecDeque<Outgoing>,
    /// While there are some, nothing more is read.
    waiting: Option<Waiting>,
}

/// Carries a tunnel until it ends; returns why it did. `streams` is told how many sessions stand, and
/// `served` called as soon as the cloud says anything.
pub(crate) async fn carry(
    dialled: Dialled,
    config: &Config,
    streams: &watch::Sender<usize>,
    served: impl FnOnce(),
) -> Trouble {
    let Dialled { stream, early } = dialled;
    let (mut source, sink) = tokio::io::split(stream);
    let (up, queue) = mpsc::channel(OUTGOING);
    let (ended_sender, mut ended) = mpsc::channel(MAX_SESSIONS);
    let (pinged_sender, mut pinged) = watch::channel(0);
    let writing = outgoing::write(sink, queue, config.write_deadline, pinged_sender);
    tokio::pin!(writing);
    let mut decoder = Decoder::new(early);
    let mut hands = Hands::new(config, up, ended_sender);
    let mut ping = interval(PING.min(config.read_deadline / 3).max(Duration::from_millis(100)));
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut signs = Signs { unanswered: None, served: Some(served) };
    loop {
        if let Err(trouble) = hands.take(&mut decoder) {
            return trouble;
        }
        streams.send_if_modified(|now| std::mem::replace(now, hands.sessions.len()) != *now);
        let (stalled, reads) = (hands.stalled(), hands.has_room());
        let silent = signs.deadline(config).filter(|_| reads);
        let room = hands.up.clone();
        decoder.input.reserve(READ);
        tokio::select! {
            trouble = &mut writing => return trouble,
            read = source.read_buf(&mut decoder.input), if reads => match read {
                Ok(0) => return Trouble::Closed,
                Ok(_) => signs.heard(),
                // A cloud that dies says nothing of its end in TLS.
                Err(error) if error.kind() == UnexpectedEof => return Trouble::Closed,
                Err(error) => return Trouble::Broken(error),
            },
            () = hands.feed(), if stalled.is_some() => signs.unanswered = None,
            () = at(stalled), if stalled.is_some() => {
                signs.unanswered = None;
                hands.give_up();
            }
            Some((connection, life)) = ended.recv() => {
                let effects = hands.sessions.ended(connection, life);
                if let Err(trouble) = hands.carry_out(effects) {
                    return trouble;
                }
            }
            Ok(room) = room.reserve(), if !hands.say.is_empty() => {
                if let Some(outgoing) = hands.say.pop_front() {
                    room.send(outgoing);
                }
            }
            _ = ping.tick() => hands.ping(),
            Ok(()) = pinged.changed() => signs.pinged(*pinged.borrow_and_update()),
            () = at(silent), if silent.is_some() => {
                return Trouble::Silent(config.read_deadline);
            }
        }
    }
}

impl<'a> Hands<'a> {
    fn new(
        config: &'a Config,
        up: mpsc::Sender<Outgoing>,
        ended: mpsc::Sender<(u64, u64)>,
    ) -> Self {
        Self {
            config,
            sessions: Sessions::new(config.api.to_string()),
            sides: HashMap::new(),
            up,
            ended,
            say: VecDeque::new(),
            waiting: None,
        }
    }

    /// Tells whether more may be read.
    fn has_room(&self) -> bool {
        self.waiting.is_none() && self.say.len() < MAX_SAID
    }

    /// Takes what was read, until bytes wait for their session.
    fn take(&mut self, decoder: &mut Decoder) -> Result<(), Trouble> {
        while self.has_room() {
            match decoder.next()? {
                None => break,
                Some(Message::Data(bytes)) => {
                    if let Some(frame) = Frame::read(bytes) {
                        let effects = self.sessions.came(frame);
                        self.carry_out(effects)?;
                    }
                }
                Some(Message::Ping(payload)) => {
                    let pong = frames::Kind::Pong;
                    // Of pings that came meanwhile only the last needs an answer.
                    self.say.retain(|waiting| waiting.kind != pong);
                    self.say.push_back(Outgoing::control(pong, &payload));
                }
                Some(Message::Pong) => {}
                Some(Message::Close) => return Err(Trouble::Closed),
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), Trouble> {
        for effect in effects {
            match effect {
                Effect::Open(connection, life, request) => {
                    let (feed, own) = tokio::io::simplex(WINDOW);
                    let (up, ended) = (self.up.clone(), self.ended.clone());
                    let local = Local { connection, life, api: self.config.api, up, ended };
                    let task = tokio::spawn(local.serve(request, feed)).abort_handle();
                    self.sides.insert(connection, Side { feed: own, task });
                }
                Effect::Feed(_, data) if data.is_empty() => {}
                Effect::Feed(connection, data) => {
                    self.waiting = Some(Waiting { connection, data, since: now() });
                    // Mostly there is room.
                    at_once(self.feed());
                }
                Effect::Drop(connection) => drop(self.sides.remove(&connection)),
                Effect::Say(connection, kind, data) => {
                    self.say.push_back(Outgoing::said(connection, kind, &data));
                }
                Effect::Leave(why) => return Err(Trouble::Unwanted(why)),
            }
        }
        Ok(())
    }

    /// Gives the session whose bytes wait as many as it has room for. Cancelling it loses nothing.
    async fn feed(&mut self) {
        let Some(Waiting { connection, data, since }) = &mut self.waiting else { return };
        let written = match self.sides.get_mut(connection) {
            Some(side) => side.feed.write(data).await.unwrap_or(0),
            None => 0,
        };
        data.advance(written);
        *since = now();
        // A session that is gone needs nothing.
        if written == 0 || data.is_empty() {
            self.waiting = None;
        }
    }

    /// Returns when the session whose bytes wait is to be given up.
    fn stalled(&self) -> Option<Instant> {
        let patience = if self.sides.len() > 1 { STALL_AMONG_OTHERS } else { STALL };
        Some(self.waiting.as_ref()?.since + patience)
    }

    /// Ends the session that has held up all others for too long.
    fn give_up(&mut self) {
        let Some(Waiting { connection, .. }) = self.waiting.take() else { return };
        tracing::warn!(connection, "a stream took nothing of its input for too long and was ended");
        let effects = self.sessions.stalled(connection);
        // Its effects leave no tunnel.
        let _stays = self.carry_out(effects);
    }

    fn ping(&mut self) {
        if self.say.iter().all(|waiting| waiting.kind != frames::Kind::Ping) {
            self.say.push_back(Outgoing::control(frames::Kind::Ping, PING_TEXT));
        }
    }
}

/// Waits until then; for ever where there is no such time.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn now() -> Instant {
    Instant::now()
}
