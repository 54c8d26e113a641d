//! A node's WebSocket: TLS, upgrade, frames, and the faults that are done to a socket.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use ipc_proto::json;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frames;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::core::SessionId;
use crate::fault::Fault;
use crate::owner::{Command, Conditions, LINK_QUEUE, ToLink};
use crate::shared::Shared;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// The largest message that is taken from a node.
const MAX_MESSAGE: usize = 64 << 20;
/// The size from which the real cloud's messages come in two frames: its write buffer.
const WRITE_BUFFER: usize = 4096;

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// What the request to upgrade says.
#[derive(Default)]
struct Asked {
    node: String,
    messages: bool,
}

/// Why a socket is left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    Closed,
    HalfOpen,
}

/// Serves a connection to the hub until it ends.
pub(crate) async fn serve(stream: TcpStream, shared: Shared) {
    let mut conditions = shared.conditions.clone();
    let Ok(Some((socket, asked, certificate))) =
        timeout(HANDSHAKE, handshake(stream, &shared)).await
    else {
        return;
    };
    let (mut sink, mut stream) = socket.split();
    if !asked.messages {
        // As in the real cloud: upgraded, and never read.
        return park(&mut conditions).await;
    }
    let own = |der: &CertificateDer<'_>| shared.authority.check_node(der, &asked.node).is_ok();
    if shared.authorize && !certificate.as_ref().is_some_and(own) {
        while let Some(Ok(_)) = stream.next().await {}
        return;
    }
    let (link, inbox) = mpsc::channel(LINK_QUEUE);
    let (reply, id) = oneshot::channel();
    let connect = Command::Connect { node: asked.node, link, reply };
    if shared.commands.send(connect).await.is_err() {
        return;
    }
    let Ok(id) = id.await else { return };
    let leave = tokio::select! {
        leave = read(&mut stream, id, &shared.commands) => leave,
        leave = write(&mut sink, inbox) => leave,
    };
    match leave {
        // The session is left to its keepalive; the node must find out by itself.
        Leave::HalfOpen => park(&mut conditions).await,
        // The owner may have ended already.
        Leave::Closed => shared.commands.send(Command::Disconnect(id)).await.unwrap_or_default(),
    }
}

/// Keeps a connection without serving it, until all faults end.
async fn park(conditions: &mut watch::Receiver<Conditions>) {
    let heals = conditions.borrow().heals;
    // An error means that the cloud ends, which is reason enough too.
    conditions.wait_for(|now| now.heals != heals).await.ok();
}

type Opened = (Socket, Asked, Option<CertificateDer<'static>>);

async fn handshake(stream: TcpStream, shared: &Shared) -> Option<Opened> {
    stream.set_nodelay(true).ok()?;
    let tls = shared.tls(|tls| &tls.hub);
    let stream = TlsAcceptor::from(tls).accept(stream).await.ok()?;
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate =
        certificates.and_then(|chain| chain.first()).map(|it| it.clone().into_owned());
    let mut asked = Asked::default();
    #[expect(clippy::result_large_err, reason = "the signature is the library's")]
    let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        asked = read_request(request)?;
        Ok(response)
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let socket =
        tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(config)).await.ok()?;
    Some((socket, asked, certificate))
}

#[expect(clippy::result_large_err, reason = "the type is the library's")]
fn read_request(request: &Request) -> Result<Asked, ErrorResponse> {
    let refuse = |status, text: &str| {
        let mut response = ErrorResponse::new(Some(text.to_owned()));
        *response.status_mut() = status;
        Err(response)
    };
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if header("origin").is_some() {
        return refuse(StatusCode::FORBIDDEN, "request origin not allowed");
    }
    let Some(node) = header("node_id").filter(|node| !node.is_empty()) else {
        return refuse(StatusCode::BAD_REQUEST, "no header node_id");
    };
    Ok(Asked { node: node.to_owned(), messages: header("connectionuse") == Some("msg") })
}

/// Reads messages until the socket ends. What is no message is passed over.
async fn read(
    stream: &mut SplitStream<Socket>,
    id: SessionId,
    commands: &mpsc::Sender<Command>,
) -> Leave {
    while let Some(Ok(frames)) = stream.next().await {
        let bytes = match frames {
            Frames::Text(text) => Bytes::from(text),
            Frames::Binary(bytes) => bytes,
            Frames::Close(_) => break,
            Frames::Ping(_) | Frames::Pong(_) | Frames::Frame(_) => continue,
        };
        if let Ok(message) = json::decode(&bytes)
            && commands.send(Command::Receive(id, message)).await.is_err()
        {
            break;
        }
    }
    Leave::Closed
}

/// How fast messages go out.
#[derive(Default)]
struct Pace {
    delay: Duration,
    pieces: Option<(usize, Duration)>,
}

/// Writes messages until nobody has any more, or a fault ends it.
async fn write(sink: &mut SplitSink<Socket, Frames>, mut inbox: mpsc::Receiver<ToLink>) -> Leave {
    let mut pace = Pace::default();
    let mut late = VecDeque::new();
    loop {
        let due = late.front().map(|(due, _): &(Instant, Bytes)| *due);
        // A timer would round what is due now up to its next millisecond.
        let is_due = due.is_some_and(|due| due <= Instant::now());
        tokio::select! {
            told = inbox.recv(), if late.len() < LINK_QUEUE => match told {
                None => return Leave::Closed,
                Some(ToLink::Fault(Fault::HalfOpen)) => return Leave::HalfOpen,
                Some(ToLink::Fault(Fault::Close)) => return Leave::Closed,
                Some(ToLink::Fault(fault)) => {
                    pace.set(&fault);
                    if let Fault::Garbage { kind } = fault {
                        late.push_back((Instant::now(), Bytes::from_static(kind.bytes())));
                    }
                }
                Some(ToLink::Message(message)) => {
                    let Ok(mut text) = json::encode(&message) else { continue };
                    text.push(b'\n');
                    late.push_back((Instant::now() + pace.delay, Bytes::from(text)));
                }
            },
            () = async {
                if !is_due {
                    sleep_until(due.unwrap_or_else(Instant::now)).await;
                }
            }, if due.is_some() => {
                if let Some((_, text)) = late.pop_front()
                    && send(sink, text, pace.pieces).await.is_err()
                {
                    return Leave::Closed;
                }
            }
        }
    }
}

impl Pace {
    fn set(&mut self, fault: &Fault) {
        if let Fault::Delay { millis } = fault {
            self.delay = Duration::from_millis(*millis);
        }
        if let Fault::Slow { piece, millis } = fault {
            self.pieces = Some(((*piece).max(1), Duration::from_millis(*millis)));
        }
        if *fault == Fault::Heal {
            *self = Self::default();
        }
    }
}

/// Sends one message: in one frame, in two as the real cloud does when it is longer than its
/// buffer, or in pieces.
async fn send(
    sink: &mut SplitSink<Socket, Frames>,
    text: Bytes,
    pieces: Option<(usize, Duration)>,
) -> Result<(), ()> {
    let parts: Vec<Bytes> = match pieces {
        Some((piece, _)) => (0..text.len())
            .step_by(piece)
            .map(|at| text.slice(at..text.len().min(at + piece)))
            .collect(),
        None => fragments(&text),
    };
    let last = parts.len().saturating_sub(1);
    for (index, part) in parts.into_iter().enumerate() {
        if let Some((_, pause)) = pieces.filter(|_| index > 0) {
            sleep(pause).await;
        }
        let data = if index == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(part, OpCode::Data(data), index == last);
        sink.send(Frames::Frame(frame)).await.map_err(drop)?;
    }
    Ok(())
}

/// Cuts a message as the real cloud's library does: up to its buffer in one frame; up to twice of
/// it at the buffer's end; beyond that everything in the first frame and nothing in the last.
fn fragments(text: &Bytes) -> Vec<Bytes> {
    let cut = match text.len() {
        0..=WRITE_BUFFER => return vec![text.clone()],
        length if length <= 2 * WRITE_BUFFER => WRITE_BUFFER,
        length => length,
    };
    vec![text.slice(..cut), text.slice(cut..)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_come_in_two_frames() {
        let lengths = |length| -> Vec<usize> {
            fragments(&Bytes::from(vec![b'x'; length])).iter().map(Bytes::len).collect()
        };
        assert_eq!(lengths(4096), [4096]);
        assert_eq!(lengths(5000), [4096, 904]);
        assert_eq!(lengths(9000), [9000, 0]);
    }
}
