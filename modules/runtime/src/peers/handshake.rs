//! How two modules come to share a connection: dialling with patience, accepting with suspicion.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::BytesMut;
use ipc_proto::Module;
use ipc_proto::frame::{self, Frame, Hello};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, warn};

use super::Seat;

/// The pause after the first dial that failed; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between two dials: a peer that comes back is found within a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a caller may take to say hello. Only its first frame is meant, sent at once.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// Callers that may be at the door at once. There are at most nine peers; more is an attack, and
/// waits in the backlog.
const CALLERS: usize = 16;

/// The greatest hello in bytes, length field included; a refusal brings a sentence with it.
const MAX_HELLO: usize = 1024;

/// A connection on which both sides know each other.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) stream: UnixStream,
    pub(crate) peer: Hello,
}

/// Dials a peer until it answers. A connection to a dead module waits in the backlog of the socket
/// that its supervisor holds, so there is no time-out here.
pub(crate) async fn dial(seat: &Seat, peer: Module) -> Established {
    let path = seat.runtime_dir.join(peer.socket_name());
    let mut pause = FIRST_PAUSE;
    loop {
        match dial_once(seat, peer, &path).await {
            Ok(established) => return established,
            Err(error) => debug!(%peer, "cannot reach the peer, trying again: {error:#}"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn dial_once(seat: &Seat, peer: Module, path: &Path) -> anyhow::Result<Established> {
    let mut stream = UnixStream::connect(path)
        .await
        .with_context(|| format!("cannot connect to {}", path.display()))?;
    stream.write_all(&frame::hello(&seat.hello(peer))).await.context("cannot say hello")?;
    let answer = match read_frame(&mut stream).await? {
        Frame::Welcome(answer) => answer,
        Frame::Refused(reason) => {
            warn!(%peer, %reason, "the peer refused the connection");
            bail!("refused: {reason}");
        }
        Frame::Hello(_) | Frame::Message(..) | Frame::Settle(_) => {
            bail!("unexpected answer to hello, expected welcome or refused")
        }
    };
    ensure!(
        answer.from == peer && answer.to == seat.module && answer.window.messages > 0,
        "the socket of {peer} was answered by {} for {}",
        answer.from,
        answer.to
    );
    Ok(Established { stream, peer: answer })
}

/// Accepts callers for ever and hands each to the task of its peer.
pub(crate) async fn accept(
    seat: Arc<Seat>,
    listener: UnixListener,
    arrivals: [Option<mpsc::Sender<Established>>; Module::COUNT],
) {
    let callers = Arc::new(Semaphore::new(CALLERS));
    loop {
        let Ok(place) = Arc::clone(&callers).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("cannot accept a caller: {error}");
                // Out of descriptors most likely: the caller stays in the backlog meanwhile.
                tokio::time::sleep(LONGEST_PAUSE).await;
                continue;
            }
        };
        let seat = Arc::clone(&seat);
        let arrivals = arrivals.clone();
        tokio::spawn(async move {
            match welcome(&seat, stream).await {
                Ok(established) => {
                    if let Some(link) = &arrivals[established.peer.from.index()] {
                        // The link ends with the module, and then nobody needs the connection.
                        let _ended = link.send(established).await;
                    }
                }
                Err(error) => warn!("turned a caller away: {error:#}"),
            }
            drop(place);
        });
    }
}

/// Reads a caller's hello and answers it.
async fn welcome(seat: &Seat, mut stream: UnixStream) -> anyhow::Result<Established> {
    let hello = tokio::time::timeout(HELLO_PATIENCE, read_frame(&mut stream))
        .await
        .with_context(|| format!("no hello within {} s", HELLO_PATIENCE.as_secs()));
    let uid = stream.peer_cred().context("cannot read the caller's credentials")?.uid();
    match hello.flatten().and_then(|hello| admit(seat, hello, uid)) {
        Ok(peer) => {
            let welcome = frame::welcome(&seat.hello(peer.from));
            stream.write_all(&welcome).await.context("cannot say welcome")?;
            Ok(Established { stream, peer })
        }
        Err(error) => {
            let reason = format!("{error:#}");
            // A caller that is gone already needs no reason.
            let _gone = stream.write_all(&frame::refused(&reason)).await;
            Err(error)
        }
    }
}

/// Decides whether a caller is who it says, and has business here.
fn admit(seat: &Seat, hello: Frame, uid: u32) -> anyhow::Result<Hello> {
    let Frame::Hello(hello) = hello else { bail!("the first frame is no hello") };
    let (me, from) = (seat.module, hello.from);
    ensure!(hello.to == me, "hello to {}, expected to {me}", hello.to);
    ensure!(from.dials().contains(&me), "{from} does not dial {me}");
    let expected = seat.users[from.index()];
    ensure!(uid == expected, "user {uid} says it is {from}, expected user {expected}");
    ensure!(hello.window.messages > 0, "hello with a window of 0 messages, expected at least 1");
    Ok(hello)
}

/// Reads exactly one small frame, so that what follows stays in the socket.
async fn read_frame(stream: &mut UnixStream) -> anyhow::Result<Frame> {
    let mut frame = BytesMut::zeroed(frame::LENGTH);
    stream.read_exact(&mut frame).await.map_err(gone)?;
    let length = frame::frame_length(&frame)?.context("no length in the first bytes")?;
    ensure!(length <= MAX_HELLO, "hello of {length} bytes, expected at most {MAX_HELLO}");
    frame.resize(length, 0);
    stream.read_exact(&mut frame[frame::LENGTH..]).await.map_err(gone)?;
    frame::take(&mut frame)?.context("a frame shorter than its length")
}

fn gone(error: io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context("the connection ended before its first frame did")
}
