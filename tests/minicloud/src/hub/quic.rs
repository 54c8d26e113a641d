//! The hub over IETF QUIC, for nodes that are built with that transport. The frames are those that
//! edgehub's `quic` describes; of the faults, a socket here knows the clean end alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use ipc_proto::json;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, ServerConfig};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::core::SessionId;
use crate::fault::Fault;
use crate::owner::{Command, LINK_QUEUE, ToLink};
use crate::shared::Shared;

/// What both ends say they speak.
const ALPN: &[u8] = b"kubeedge-hub/1";

const HELLO: u8 = 0;
const MESSAGE: u8 = 1;
const PROBE: u8 = 2;
const ANSWER: u8 = 3;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// The largest frame that is taken from a node.
const MAX_BODY: usize = 64 << 20;

/// Who dials.
#[derive(Deserialize)]
struct Hello {
    node_id: String,
}

/// Takes an address.
///
/// # Errors
/// When it is taken.
pub(crate) fn bind(address: SocketAddr, shared: &Shared) -> Result<Endpoint> {
    let mut tls = shared.tls(|tls| &tls.hub).as_ref().clone();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).context("QUIC needs TLS 1.3")?;
    let endpoint = Endpoint::server(ServerConfig::with_crypto(Arc::new(crypto)), address);
    endpoint.with_context(|| format!("cannot listen on UDP {address}"))
}

/// Serves nodes until the cloud ends; all links end when it restarts.
pub(crate) async fn listen(endpoint: Endpoint, shared: Shared) {
    let mut conditions = shared.conditions.clone();
    loop {
        let epoch = conditions.borrow().epoch;
        let mut links = JoinSet::new();
        loop {
            tokio::select! {
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) if !shared.conditions.borrow().down => {
                        links.spawn(serve(incoming, shared.clone()));
                    }
                    Some(incoming) => incoming.ignore(),
                    None => return,
                },
                Some(_) = links.join_next() => {}
                over = conditions.wait_for(|now| now.epoch != epoch) => match over {
                    Ok(_) => break,
                    Err(_) => return,
                },
            }
        }
        links.shutdown().await;
    }
}

async fn serve(incoming: Incoming, shared: Shared) {
    let Ok(Ok((connection, node, send, receive))) =
        timeout(HANDSHAKE, handshake(incoming, &shared)).await
    else {
        return;
    };
    let (link, inbox) = mpsc::channel(LINK_QUEUE);
    let (reply, id) = oneshot::channel();
    if shared.commands.send(Command::Connect { node, link, reply }).await.is_err() {
        return;
    }
    let Ok(id) = id.await else { return };
    let (answers, probes) = mpsc::channel(1);
    tokio::select! {
        ended = read(receive, id, &shared.commands, answers) => ended.unwrap_or_default(),
        ended = write(send, inbox, probes) => ended.unwrap_or_default(),
    }
    connection.close(0u32.into(), b"");
    // The owner may have ended already.
    shared.commands.send(Command::Disconnect(id)).await.unwrap_or_default();
}

type Opened = (Connection, String, SendStream, RecvStream);

async fn handshake(incoming: Incoming, shared: &Shared) -> Result<Opened> {
    let connection = incoming.await?;
    let (send, mut receive) = connection.accept_bi().await?;
    let (kind, body) = frame(&mut receive).await?;
    ensure!(kind == HELLO, "the first frame is {kind}, expected a hello");
    let Hello { node_id: node } = serde_json::from_slice(&body).context("the hello")?;
    let shown = connection.peer_identity().and_then(|it| it.downcast::<Vec<_>>().ok());
    let leaf: &CertificateDer<'_> =
        shown.as_ref().and_then(|chain| chain.first()).ok_or_else(|| anyhow!("no certificate"))?;
    if shared.authorize {
        shared.authority.check_node(leaf, &node)?;
    }
    Ok((connection, node, send, receive))
}

/// Reads messages until the stream ends. What is no message is passed over.
async fn read(
    mut receive: RecvStream,
    id: SessionId,
    commands: &mpsc::Sender<Command>,
    answers: mpsc::Sender<Bytes>,
) -> Result<()> {
    loop {
        match frame(&mut receive).await? {
            (MESSAGE, body) => {
                if let Ok(message) = json::decode(&body) {
                    let taken = commands.send(Command::Receive(id, message)).await;
                    taken.ok().context("the cloud has ended")?;
                }
            }
            (PROBE, probe) => answers.send(probe).await?,
            _ => {}
        }
    }
}

/// Writes messages and answers to probes until nobody has any more.
async fn write(
    mut send: SendStream,
    mut inbox: mpsc::Receiver<ToLink>,
    mut probes: mpsc::Receiver<Bytes>,
) -> Result<()> {
    loop {
        let (kind, body) = tokio::select! {
            told = inbox.recv() => match told {
                None | Some(ToLink::Fault(Fault::Close)) => return Ok(()),
                Some(ToLink::Fault(_)) => continue,
                Some(ToLink::Message(message)) => (MESSAGE, Bytes::from(json::encode(&message)?)),
            },
            Some(probe) = probes.recv() => (ANSWER, probe),
        };
        send.write_all(&u32::try_from(body.len())?.to_be_bytes()).await?;
        send.write_all(&[kind]).await?;
        send.write_all(&body).await?;
    }
}

/// Reads one frame.
async fn frame(receive: &mut RecvStream) -> Result<(u8, Bytes)> {
    let mut head = [0; 5];
    receive.read_exact(&mut head).await?;
    let [a, b, c, d, kind] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    ensure!(length <= MAX_BODY, "a frame of {length} bytes");
    let mut body = vec![0; length];
    receive.read_exact(&mut body).await?;
    Ok((kind, body.into()))
}
