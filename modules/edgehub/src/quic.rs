//! IETF QUIC behind the same seam, for clouds to come. CloudCore's own QUIC is a draft of 2019 that
//! no current stack speaks, so nothing but this project's tests has the other end.
//!
//! One connection, one stream, opened by the node. A frame is a length, a kind and a body:
//!
//! ```text
//! u32 big-endian: length of the body | u8 kind | body
//! hello: {"node_id": …, "project_id": …}, once    message: JSON    probe, answer: a message id
//! ```

#[cfg(test)]
mod tests;

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipc_proto::MessageId;
use module_runtime::net::Endpoint;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, Endpoint as Socket, RecvStream, SendStream, TransportConfig,
};
use serde_json::json;

use crate::activity::Activity;
use crate::certs::Identity;
use crate::config::Config;
use crate::transport::{self, Carrier, Ends, Frame, Incoming, Link, Transport};
use crate::trouble::Trouble;

/// What both ends say they speak.
pub(crate) const ALPN: &[u8] = b"kubeedge-hub/1";

/// The greatest body: as on the WebSocket.
const MAX_BODY: usize = 64 * 1024 * 1024;

pub(crate) const HELLO: u8 = 0;
pub(crate) const MESSAGE: u8 = 1;
pub(crate) const PROBE: u8 = 2;
pub(crate) const ANSWER: u8 = 3;

/// How long the clean close of a link may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The QUIC transport.
#[derive(Debug)]
pub(crate) struct Quic {
    pub(crate) hub: Endpoint,
    pub(crate) config: Config,
}

/// A connection with its one stream, and the socket that it lives on.
struct Stream {
    socket: Socket,
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
}

impl Transport for Quic {
    async fn dial(&self, identity: &Identity) -> Result<(Link, Carrier), Trouble> {
        let patience = self.config.handshake;
        let late = |_| Trouble::Timeout(self.hub.clone(), patience);
        let stream = tokio::time::timeout(patience, self.open(identity)).await.map_err(late)??;
        let (link, ends) = transport::halves(Arc::new(Activity::default()));
        let carrier = tokio::spawn(carry(stream, ends, self.config.write_deadline));
        Ok((link, carrier))
    }
}

impl Quic {
    async fn open(&self, identity: &Identity) -> Result<Stream, Trouble> {
        let broken = |error: &dyn std::fmt::Display| Trouble::Broken(error.to_string());
        let address = self.address().await?;
        let here = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let socket = Socket::client(here).map_err(|error| broken(&error))?;
        let connection = socket
            .connect_with(self.client(identity)?, address, &self.hub.host)
            .map_err(|error| broken(&error))?
            .await
            .map_err(|error| broken(&error))?;
        let (mut send, receive) = connection.open_bi().await.map_err(|error| broken(&error))?;
        let hello = json!({"node_id": self.config.node, "project_id": self.config.project});
        write(&mut send, HELLO, hello.to_string().as_bytes(), &Activity::default()).await?;
        Ok(Stream { socket, connection, send, receive })
    }

    async fn address(&self) -> Result<SocketAddr, Trouble> {
        let unknown = |error| Trouble::Resolve(self.hub.host.clone(), error);
        let found = tokio::net::lookup_host((self.hub.host.as_str(), self.hub.port)).await;
        let address = found.map_err(unknown)?.next();
        let address = address.ok_or_else(|| unknown(std::io::ErrorKind::NotFound.into()))?;
        // The socket speaks both families, IPv4 in its mapped form.
        Ok(match address {
            SocketAddr::V4(v4) => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
            SocketAddr::V6(_) => address,
        })
    }

    /// Makes the client's configuration. A connection on which nothing comes back ends after the
    /// read deadline, as on the WebSocket.
    fn client(&self, identity: &Identity) -> Result<ClientConfig, Trouble> {
        let mut tls = identity.tls()?.as_ref().clone();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto =
            QuicClientConfig::try_from(tls).map_err(|error| Trouble::Broken(error.to_string()))?;
        let mut limits = TransportConfig::default();
        let idle = self.config.read_deadline.try_into();
        limits.max_idle_timeout(idle.ok());
        limits.keep_alive_interval(Some(self.config.read_deadline / 3));
        let mut client = ClientConfig::new(Arc::new(crypto));
        client.transport_config(Arc::new(limits));
        Ok(client)
    }
}

async fn carry(stream: Stream, ends: Ends, write_deadline: Duration) -> Trouble {
    let Ends { incoming, mut outgoing, mut end, activity } = ends;
    let Stream { socket, connection, mut send, mut receive } = stream;
    let reading = async {
        loop {
            let came = match read(&mut receive, &activity).await {
                Ok((MESSAGE, body)) => Incoming::Message(body),
                Ok((ANSWER, body)) => match std::str::from_utf8(&body) {
                    Ok(id) => Incoming::Probed(MessageId::parse(id)),
                    Err(_) => continue,
                },
                Ok(_) => continue,
                Err(trouble) => return trouble,
            };
            if incoming.send(came).await.is_err() {
                return Trouble::Ending;
            }
        }
    };
    let writing = async {
        while let Some(frame) = outgoing.recv().await {
            let (kind, body) = match frame {
                Frame::Message(json) => (MESSAGE, json),
                Frame::Probe(id) => (PROBE, id.to_string().into_bytes()),
            };
            let written = write(&mut send, kind, &body, &activity);
            match transport::moving(written, &activity, write_deadline).await {
                Ok(Ok(())) => {}
                Ok(Err(trouble)) | Err(trouble) => return trouble,
            }
        }
        Trouble::Ending
    };
    let trouble = tokio::select! {
        biased;
        trouble = end.recv() => trouble.unwrap_or(Trouble::Ending),
        trouble = reading => trouble,
        trouble = writing => trouble,
    };
    connection.close(0u32.into(), b"");
    let _farewell = tokio::time::timeout(GOODBYE, socket.wait_idle()).await;
    trouble
}

/// Writes one frame in pieces, so that a slow one shows that it moves.
pub(crate) async fn write(
    send: &mut SendStream,
    kind: u8,
    body: &[u8],
    activity: &Activity,
) -> Result<(), Trouble> {
    let broken = |error: quinn::WriteError| Trouble::Broken(error.to_string());
    let length = u32::try_from(body.len())
        .map_err(|_| Trouble::Broken("a message of over 4 GiB".to_owned()))?;
    send.write_all(&length.to_be_bytes()).await.map_err(broken)?;
    send.write_all(&[kind]).await.map_err(broken)?;
    for piece in body.chunks(16 * 1024) {
        send.write_all(piece).await.map_err(broken)?;
        activity.note_written(piece.len());
    }
    Ok(())
}

/// Reads one frame.
pub(crate) async fn read(
    receive: &mut RecvStream,
    activity: &Activity,
) -> Result<(u8, Bytes), Trouble> {
    let mut head = [0; 5];
    fill(receive, &mut head).await?;
    let [a, b, c, d, kind] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > MAX_BODY {
        return Err(Trouble::Broken(format!("a frame of {length} bytes")));
    }
    activity.note_read(head.len());
    let mut body = Vec::new();
    while body.len() < length {
        let before = body.len();
        body.resize(length.min(before + 64 * 1024), 0);
        fill(receive, &mut body[before..]).await?;
        activity.note_read(body.len() - before);
    }
    Ok((kind, body.into()))
}

async fn fill(receive: &mut RecvStream, buffer: &mut [u8]) -> Result<(), Trouble> {
    receive.read_exact(buffer).await.map_err(|error| match error {
        quinn::ReadExactError::FinishedEarly(_)
        | quinn::ReadExactError::ReadError(quinn::ReadError::ConnectionLost(
            quinn::ConnectionError::ApplicationClosed(_),
        )) => Trouble::Closed,
        quinn::ReadExactError::ReadError(error) => Trouble::Broken(error.to_string()),
    })
}
