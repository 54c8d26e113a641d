//! A node's tunnel: TLS with the node's certificate, upgrade, frames.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use serde_json::json;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::http::Head;
use super::ws::{self, Frame};
use super::{Connect, QUEUE, ToTunnel, Tunnel, TunnelFault, Tunnels};
use crate::shared::Shared;

/// How long the way to a tunnel may take.
const HANDSHAKE: Duration = Duration::from_secs(30);

const TEXT: u8 = 1;
const PING: u8 = 9;
const PONG: u8 = 10;

const DATA: u64 = 3;
const REMOVE: u64 = 4;

type Source = ws::Source<ReadHalf<TlsStream<TcpStream>>>;
type Sink = WriteHalf<TlsStream<TcpStream>>;

/// Serves a tunnel until it ends.
pub(crate) async fn serve(stream: TcpStream, shared: Shared, tunnels: Tunnels) {
    let Ok(Ok((source, mut sink, head, address))) = timeout(HANDSHAKE, open(stream, &shared)).await
    else {
        return;
    };
    let (orders, inbox) = mpsc::channel(QUEUE);
    let name = head.header("Sessionhostnameoverride").unwrap_or_default().to_owned();
    let address = head.header("Sessioninternalip").map_or(address, str::to_owned);
    let mut number = 0;
    let mut hesitation = Duration::ZERO;
    tunnels.0.send_modify(|known| {
        known.last += 1;
        (number, hesitation) = (known.last, known.hesitation);
    });
    // CloudCore does so when it cannot write to the node's status, and reads nothing meanwhile; nor
    // does it look whether the node has gone when it then goes on.
    tokio::time::sleep(hesitation).await;
    let tunnel = Tunnel { number, orders };
    tunnels.0.send_modify(|known| {
        known.tunnels.insert(address, tunnel.clone());
        known.tunnels.insert(name.clone(), tunnel);
    });
    let noted = shared.act(move |cloud, now, out| cloud.tunnel(now, &name, out)).await;
    if !matches!(noted, Ok(Ok(()))) {
        let why = b"\x00\x05failed to Update KubeletEndpoint Port";
        // How it ends is the node's affair.
        ws::write(&mut sink, TEXT, &[why]).await.unwrap_or_default();
        sink.flush().await.unwrap_or_default();
    }
    // How it ends is the node's affair.
    let _ended = carry(&tunnels, source, sink, inbox).await;
    tunnels.0.send_modify(|known| known.tunnels.retain(|_, tunnel| tunnel.number != number));
}

async fn open(stream: TcpStream, shared: &Shared) -> io::Result<(Source, Sink, Head, String)> {
    stream.set_nodelay(true)?;
    let address = stream.peer_addr()?.ip().to_string();
    let stream = TlsAcceptor::from(shared.tls(|tls| &tls.hub)).accept(stream).await?;
    let (mut source, mut sink) = tokio::io::split(stream);
    let head = Head::read(&mut source).await?;
    let key = head.header("Sec-Websocket-Key").unwrap_or_default();
    if head.path != "/v1/kubeedge/connect" || head.header("Origin").is_some() || key.is_empty() {
        sink.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await?;
        return Err(io::ErrorKind::InvalidData.into());
    }
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    sink.write_all(answer.as_bytes()).await?;
    sink.flush().await?;
    Ok((ws::Source::new(source), sink, head, address))
}

/// The users of a tunnel, by their connections' numbers.
type Users = watch::Sender<BTreeMap<u64, mpsc::Sender<Bytes>>>;

/// A tunnel at work.
struct Carrier<'a> {
    tunnels: &'a Tunnels,
    sink: Sink,
    users: &'a Users,
}

async fn carry(
    tunnels: &Tunnels,
    mut source: Source,
    sink: Sink,
    mut inbox: mpsc::Receiver<ToTunnel>,
) -> io::Result<()> {
    let users = Users::new(BTreeMap::new());
    let (pings, mut pinged) = mpsc::channel(QUEUE);
    let reading = async {
        loop {
            let Frame { opcode, payload } = source.next().await?;
            match opcode {
                PING => pings.send(payload).await.unwrap_or_default(),
                TEXT => take(tunnels, &users, payload).await,
                _ => return io::Result::Ok(()),
            }
        }
    };
    let mut carrier = Carrier { tunnels, sink, users: &users };
    let writing = async {
        loop {
            tokio::select! {
                Some(payload) = pinged.recv() => carrier.write(PONG, &[&payload]).await?,
                Some(order) = inbox.recv() => match carrier.obey(order).await? {
                    None => {}
                    Some(fault) => return io::Result::Ok(fault),
                },
            }
        }
    };
    tokio::select! {
        ended = reading => ended,
        fault = writing => match fault? {
            TunnelFault::HalfOpen => std::future::pending().await,
            TunnelFault::Cut | TunnelFault::Raw(_) | TunnelFault::Message(_) => Ok(()),
        },
    }
}

/// Takes a message of the node. As in CloudCore, a user who reads slowly holds up all.
async fn take(tunnels: &Tunnels, users: &Users, mut data: Bytes) {
    let Some(connection) = uvarint(&mut data) else { return };
    let Some(kind) = uvarint(&mut data) else { return };
    match kind {
        DATA => {
            tunnels.0.send_if_modified(|known| {
                known.frames.0 += 1;
                known.frames.1 += data.len() as u64;
                false
            });
            let user = users.borrow().get(&connection).cloned();
            if let Some(user) = user {
                // One that has gone reads nothing.
                user.send(data).await.unwrap_or_default();
            }
        }
        REMOVE => {
            users.send_modify(|users| drop(users.remove(&connection)));
            tunnels.0.send_modify(|known| *known.removed.entry(connection).or_default() += 1);
        }
        _ => {}
    }
}

impl Carrier<'_> {
    async fn write(&mut self, opcode: u8, parts: &[&[u8]]) -> io::Result<()> {
        ws::write(&mut self.sink, opcode, parts).await?;
        self.sink.flush().await
    }

    async fn obey(&mut self, order: ToTunnel) -> io::Result<Option<TunnelFault>> {
        match order {
            ToTunnel::Connect { connect, user, reply } => {
                let mut connection = 0;
                self.tunnels.0.send_modify(|known| {
                    known.users += 1;
                    connection = known.users;
                });
                self.users.send_modify(|users| drop(users.insert(connection, user)));
                let kind = u64::from(connect.kind);
                self.say(connection, kind, connect.json(connection).as_bytes()).await?;
                // The user may have gone meanwhile.
                let _gone = reply.send(connection);
            }
            ToTunnel::Data(connection, data) => self.say(connection, DATA, &data).await?,
            ToTunnel::Remove(connection) => self.say(connection, REMOVE, &[]).await?,
            ToTunnel::Fault(TunnelFault::Raw(bytes)) => {
                self.sink.write_all(&bytes).await?;
                self.sink.flush().await?;
            }
            ToTunnel::Fault(TunnelFault::Message(bytes)) => self.write(TEXT, &[&bytes]).await?,
            ToTunnel::Fault(fault) => return Ok(Some(fault)),
        }
        Ok(None)
    }

    async fn say(&mut self, connection: u64, kind: u64, data: &[u8]) -> io::Result<()> {
        let mut head = Vec::new();
        put_uvarint(&mut head, connection);
        put_uvarint(&mut head, kind);
        self.write(TEXT, &[&head, data]).await
    }
}

impl Connect {
    /// Writes the request as CloudCore does, which says of every node that its API is here.
    fn json(&self, connection: u64) -> String {
        let Self { method, path, query, headers, .. } = self;
        let mut connect = json!({"MessID": connection,
            "url": {"Scheme": "http", "Opaque": "", "User": null, "Host": "127.0.0.1:10350",
                "Path": path, "RawPath": "", "OmitHost": false, "ForceQuery": false,
                "RawQuery": query, "Fragment": "", "RawFragment": ""},
            "header": headers});
        if let Some(method) = method {
            connect["method"] = json!(method);
        }
        connect.to_string()
    }
}

fn uvarint(bytes: &mut Bytes) -> Option<u64> {
    let mut number = 0;
    for index in 0..9.min(bytes.len()) {
        let byte = bytes.get_u8();
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn put_uvarint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        let [low, ..] = number.to_le_bytes();
        bytes.push(low | 0x80);
        number >>= 7;
    }
    let [low, ..] = number.to_le_bytes();
    bytes.push(low);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first frame of the recording, its head and its tail cut off.
    #[test]
    fn a_request_is_written_as_recorded() {
        let recorded = r#"{"MessID":1,"url":{"Scheme":"http","Opaque":"","User":null,"Host":"127.0.0.1:10350","Path":"/containerLogs/default/cap-pod/c","RawPath":"","OmitHost":false,"ForceQuery":false,"RawQuery":"tailLines=3\u0026timestamps=true","Fragment":"","RawFragment":""},"header":{"Accept-Encoding":["gzip"],"User-Agent":["Go-http-client/2.0"]}}"#;
        let one = |value: &str| vec![value.to_owned()];
        let connect = Connect {
            kind: 0,
            method: None,
            path: "/containerLogs/default/cap-pod/c".to_owned(),
            query: "tailLines=3&timestamps=true".to_owned(),
            headers: [
                ("Accept-Encoding".to_owned(), one("gzip")),
                ("User-Agent".to_owned(), one("Go-http-client/2.0")),
            ]
            .into(),
        };
        let ours: serde_json::Value = serde_json::from_str(&connect.json(1)).unwrap();
        assert_eq!(ours, serde_json::from_str::<serde_json::Value>(recorded).unwrap());
    }
}
