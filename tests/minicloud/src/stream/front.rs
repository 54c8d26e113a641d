//! What Kubernetes' API server asks: plain HTTP here, where CloudCore has TLS.

use std::time::Duration;

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::http::Head;
use super::{Connect, QUEUE, ToTunnel, Tunnel, Tunnels};
use crate::core::key::Key;
use crate::shared::Shared;

/// How often a user who has gone is told of; CloudCore does not pause at all.
const FLOOD: Duration = Duration::from_millis(1);

/// Bytes of users that are made room for at once.
const BUFFER: usize = 16 * 1024;

/// Frames' kinds.
const LOGS: u8 = 0;
const EXEC: u8 = 1;
const METRICS: u8 = 2;
const ATTACH: u8 = 6;

/// Serves one request; the connection ends with it.
pub(crate) async fn serve(mut stream: TcpStream, shared: Shared, tunnels: Tunnels) {
    // How a connection ends is the user's affair.
    let _ended = answer(&mut stream, &shared, &tunnels).await;
}

async fn answer(stream: &mut TcpStream, shared: &Shared, tunnels: &Tunnels) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let head = Head::read(stream).await?;
    let kind = match head.path.split('/').nth(1) {
        Some("containerLogs") => LOGS,
        Some("exec") => EXEC,
        Some("attach") => ATTACH,
        Some("stats" | "metrics") => METRICS,
        _ => return refuse(stream, "404 Not Found").await,
    };
    let Some(tunnel) = find(kind, &head, shared, tunnels).await else {
        return refuse(stream, "500 Internal Server Error").await;
    };
    let upgrade = matches!(kind, EXEC | ATTACH);
    if upgrade && head.header("Upgrade").is_none() {
        return refuse(stream, "500 Internal Server Error").await;
    }
    let Head { method, path, query, headers } = head;
    let method = upgrade.then_some(method);
    let connect = Connect { kind, method, path, query, headers };
    if upgrade {
        let piece = tunnels.0.borrow().piece;
        relay(stream, &tunnel, connect, piece).await
    } else {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        pass_on(stream, &tunnel, connect).await
    }
}

async fn refuse(stream: &mut TcpStream, status: &str) -> std::io::Result<()> {
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await
}

/// Finds the tunnel: by the pod's node, or for numbers by the address that was asked.
async fn find(kind: u8, head: &Head, shared: &Shared, tunnels: &Tunnels) -> Option<Tunnel> {
    if kind == METRICS {
        return tunnels.find(head.header("Host")?.split(':').next()?);
    }
    let mut segments = head.path.split('/').skip(2);
    let key = Key::parse(&format!("{}/pod/{}", segments.next()?, segments.next()?)).ok()?;
    let node = shared.look(move |cloud, _| {
        let node = cloud.cluster().get(&key)?.pointer("/spec/nodeName")?.as_str()?;
        Some(node.to_owned())
    });
    tunnels.find(&node.await.ok()??)
}

/// A user's connection in a tunnel; the node hears when it is dropped.
struct User {
    connection: u64,
    tunnel: Tunnel,
    bytes: mpsc::Receiver<Bytes>,
}

impl User {
    async fn connect(tunnel: &Tunnel, connect: Connect) -> Option<Self> {
        let (user, bytes) = mpsc::channel(QUEUE);
        let (reply, connection) = oneshot::channel();
        tunnel.orders.send(ToTunnel::Connect { connect, user, reply }).await.ok()?;
        Some(Self { connection: connection.await.ok()?, tunnel: tunnel.clone(), bytes })
    }
}

/// Passes what the node sends on as the body of an answer, until either side ends.
async fn pass_on(stream: &mut TcpStream, tunnel: &Tunnel, connect: Connect) -> std::io::Result<()> {
    let Some(mut user) = User::connect(tunnel, connect).await else { return Ok(()) };
    let (mut source, mut sink) = stream.split();
    let mut nothing = [0; 64];
    loop {
        tokio::select! {
            bytes = user.bytes.recv() => match bytes {
                None => return sink.write_all(b"0\r\n\r\n").await,
                Some(bytes) => {
                    let head = Bytes::from(format!("{:x}\r\n", bytes.len()));
                    let mut chunk = Buf::chain(head, bytes).chain(&b"\r\n"[..]);
                    if sink.write_all_buf(&mut chunk).await.is_err() {
                        break;
                    }
                }
            },
            read = source.read(&mut nothing) => if read.unwrap_or(0) == 0 { break },
        }
    }
    say(tunnel, ToTunnel::Remove(user.connection)).await;
    Ok(())
}

/// Passes bytes on both ways as they are, until the node ends it or the user has gone. As in
/// CloudCore a user who has gone is told of until the node says that it is over.
async fn relay(
    stream: &mut TcpStream,
    tunnel: &Tunnel,
    connect: Connect,
    piece: usize,
) -> std::io::Result<()> {
    let Some(mut user) = User::connect(tunnel, connect).await else { return Ok(()) };
    let (mut source, mut sink) = stream.split();
    let User { connection, tunnel, bytes } = &mut user;
    let upwards = async {
        let mut buffer = BytesMut::new();
        loop {
            if buffer.capacity() < piece {
                buffer.reserve(BUFFER.max(piece));
            }
            let Ok(1..) = source.read_buf(&mut (&mut buffer).limit(piece)).await else { break };
            say(tunnel, ToTunnel::Data(*connection, buffer.split().freeze())).await;
        }
        let mut flood = tokio::time::interval(FLOOD);
        loop {
            flood.tick().await;
            say(tunnel, ToTunnel::Remove(*connection)).await;
        }
    };
    let downwards = async {
        while let Some(bytes) = bytes.recv().await {
            if sink.write_all(&bytes).await.is_err() {
                break;
            }
        }
        // Who has gone hears nothing.
        sink.shutdown().await.unwrap_or_default();
        while bytes.recv().await.is_some() {}
    };
    tokio::select! {
        () = downwards => Ok(()),
        never = upwards => never,
    }
}

async fn say(tunnel: &Tunnel, order: ToTunnel) {
    // The tunnel may have ended, and with it everything in it.
    let _ended = tunnel.orders.send(order).await;
}
