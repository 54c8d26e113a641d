//! The WebSocket that CloudHub speaks (WIRE.md §2.1): one message is one text frame, or several.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use ipc_proto::MessageId;
use module_runtime::net::Endpoint;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::http::Request;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message as WsMessage, Utf8Bytes};

use crate::activity::Counted;
use crate::certs::Identity;
use crate::config::Config;
use crate::http::server_name;
use crate::tcp;
use crate::transport::{self, Carrier, Ends, Frame, Incoming, Link, Transport};
use crate::trouble::Trouble;

/// The greatest message: twice what a module can be given, so that one too large is answered and
/// does not end the link.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Memory of a link at rest; larger messages grow it.
const BUFFER: usize = 16 * 1024;

/// How long the clean close of a link may take.
const GOODBYE: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<TlsStream<Counted<TcpStream>>>;

/// The WebSocket transport.
#[derive(Debug)]
pub(crate) struct WebSocket {
    pub(crate) config: Config,
}

impl Transport for WebSocket {
    async fn dial(&self, identity: &Identity) -> Result<(Link, Carrier), Trouble> {
        let Config { hub, handshake, write_deadline, .. } = &self.config;
        let late = |_| Trouble::Timeout(hub.clone(), *handshake);
        let (socket, link, ends) =
            tokio::time::timeout(*handshake, self.upgrade(identity)).await.map_err(late)??;
        let carrier = tokio::spawn(carry(socket, ends, hub.clone(), *write_deadline));
        Ok((link, carrier))
    }
}

impl WebSocket {
    async fn upgrade(&self, identity: &Identity) -> Result<(Socket, Link, Ends), Trouble> {
        let hub = &self.config.hub;
        let stream = tcp::connect(hub, self.config.read_deadline).await?;
        let (stream, activity) = Counted::new(stream);
        let stream = TlsConnector::from(identity.tls()?)
            .connect(server_name(hub)?, stream)
            .await
            .map_err(|error| Trouble::of_tls(hub, error))?;
        let limits = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let (socket, _response) =
            tokio_tungstenite::client_async_with_config(self.request()?, stream, Some(limits))
                .await
                .map_err(|error| sort(hub, error))?;
        let (link, ends) = transport::halves(activity);
        Ok((socket, link, ends))
    }

    /// Makes the upgrade request. `Origin` has to be absent, and without `ConnectionUse: msg`
    /// CloudHub never reads.
    fn request(&self) -> Result<Request<()>, Trouble> {
        let Config { hub, project, node, .. } = &self.config;
        Request::get(format!("wss://{hub}/{project}/{node}/events"))
            .header("Host", hub.to_string())
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", generate_key())
            .header("ConnectionUse", "msg")
            .header("node_id", node)
            .header("project_id", project)
            .body(())
            .map_err(|error| Trouble::Upgrade(hub.clone(), error.to_string()))
    }
}

/// Moves messages until one side ends the link, then closes it cleanly: CloudHub ends a session
/// when it sees its connection end, and a node that dials again must find it gone.
async fn carry(socket: Socket, ends: Ends, hub: Endpoint, write_deadline: Duration) -> Trouble {
    let Ends { incoming, mut outgoing, mut end, activity } = ends;
    let (mut sink, mut stream) = socket.split();
    let reading = async {
        loop {
            let message = match stream.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return sort(&hub, error),
                None => return Trouble::Closed,
            };
            let came = match message {
                WsMessage::Text(text) => Incoming::Message(Bytes::from(text)),
                WsMessage::Binary(bytes) => Incoming::Message(bytes),
                WsMessage::Pong(id) => match std::str::from_utf8(&id) {
                    Ok(id) => Incoming::Probed(MessageId::parse(id)),
                    Err(_) => continue,
                },
                WsMessage::Ping(_) | WsMessage::Frame(_) => continue,
                WsMessage::Close(_) => return Trouble::Closed,
            };
            if incoming.send(came).await.is_err() {
                return Trouble::Ending;
            }
        }
    };
    let writing = async {
        while let Some(frame) = outgoing.recv().await {
            let message = match frame {
                Frame::Message(json) => match Utf8Bytes::try_from(json) {
                    Ok(text) => WsMessage::Text(text),
                    Err(_) => continue,
                },
                Frame::Probe(id) => WsMessage::Ping(id.to_string().into()),
            };
            match transport::moving(sink.send(message), &activity, write_deadline).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return sort(&hub, error),
                Err(stalled) => return stalled,
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
    // Best effort: a peer that is gone hears nothing.
    let _farewell = tokio::time::timeout(GOODBYE, sink.close()).await;
    trouble
}

/// Sorts a failure of the WebSocket.
fn sort(hub: &Endpoint, error: Error) -> Trouble {
    match error {
        Error::Io(error) if is_tls(&error) => Trouble::of_tls(hub, error),
        Error::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
            ) =>
        {
            Trouble::Closed
        }
        Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            Trouble::Broken("what was sent is not confirmed any more".to_owned())
        }
        Error::Http(response) => Trouble::Upgrade(hub.clone(), response.status().to_string()),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Trouble::Closed,
        other @ (Error::Io(_)
        | Error::Tls(_)
        | Error::Capacity(_)
        | Error::Protocol(_)
        | Error::WriteBufferFull(_)
        | Error::Utf8(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::HttpFormat(_)) => Trouble::Broken(other.to_string()),
    }
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<tokio_rustls::rustls::Error>())
}
