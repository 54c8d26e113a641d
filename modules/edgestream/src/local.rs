//! One session's connection to the node's API: asks, and passes on what comes until it ends.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, SimplexStream};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::core::{Life, failure};
use crate::frames::HEAD;
use crate::outgoing::Outgoing;
use crate::ready::at_once;
use crate::request::{Manner, Request};
use crate::words::{self, Kind, MAX_HEAD};

/// Bytes of a full frame: what a read brings at most, so that a busy stream costs few frames and an
/// idle one no memory.
const CHUNK: usize = 32 * 1024;

/// Bytes that are handed to the node at once.
const FEED: usize = 16 * 1024;

/// How long the node's API may take to accept; it is on this host.
const PATIENCE: Duration = Duration::from_secs(5);

/// A session's place.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) connection: u64,
    pub(crate) life: Life,
    pub(crate) api: SocketAddr,
    /// To the cloud. Who sends waits its turn among all sessions, and does not read meanwhile.
    pub(crate) up: mpsc::Sender<Outgoing>,
    pub(crate) ended: mpsc::Sender<(u64, Life)>,
}

/// The node's API cannot be asked, in words for the user.
struct Unserved(String);

impl Local {
    /// Serves the session. `feed` brings what the cloud sends.
    pub(crate) async fn serve(self, request: Request, mut feed: ReadHalf<SimplexStream>) {
        let manner = request.manner;
        let served = match manner {
            Manner::Get => {
                // Nothing that the cloud sends here means anything; it must not pile up.
                tokio::select! {
                    served = self.get(request) => served,
                    never = drain(&mut feed) => match never {},
                }
            }
            Manner::Upgrade => self.upgrade(&request, feed).await,
        };
        if let Err(Unserved(why)) = served {
            self.say(&failure(manner, "502 Bad Gateway", &why)).await;
        }
        // A tunnel that has ended needs no word of it.
        let _gone = self.ended.send((self.connection, self.life)).await;
    }

    async fn connect(&self) -> Result<TcpStream, Unserved> {
        let api = self.api;
        let unserved = |why: &dyn std::fmt::Display| {
            Unserved(format!("cannot reach the node's API at {api} (edged): {why}"))
        };
        let connected = tokio::time::timeout(PATIENCE, TcpStream::connect(api)).await;
        let stream = connected
            .map_err(|_| unserved(&format_args!("no answer within {PATIENCE:?}")))?
            .map_err(|error| unserved(&error))?;
        stream.set_nodelay(true).map_err(|error| unserved(&error))?;
        Ok(stream)
    }

    /// Asks and passes the body of the answer on; of a failure, the node's own words.
    async fn get(&self, request: Request) -> Result<(), Unserved> {
        let failed = |error: hyper::Error| Unserved(format!("the node's API failed: {error}"));
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(CHUNK)
            .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        let asking = async {
            let Request { method, target, headers, .. } = request;
            let mut asked = hyper::Request::builder()
                .method(method)
                .uri(target)
                .header("host", self.api.to_string())
                .body(Empty::new())
                .map_err(|error| Unserved(error.to_string()))?;
            asked.headers_mut().extend(headers);
            let answer = sender.send_request(asked).await.map_err(failed)?;
            let status = answer.status();
            if self.pass_on(answer.into_body()).await? == 0 && !status.is_success() {
                return Err(Unserved(format!("the node's API answered {status}")));
            }
            Ok(())
        };
        tokio::pin!(asking);
        tokio::select! {
            asked = &mut asking => asked,
            // What was read before the end is still to be passed on.
            _over = connection => asking.await,
        }
    }

    /// Passes a body on in full frames, as far as there is something at once; returns its length.
    async fn pass_on(&self, mut body: hyper::body::Incoming) -> Result<u64, Unserved> {
        let mut length = 0;
        // There is a frame only once there is something for it: most logs say little.
        while let Some(first) = body.frame().await {
            let mut frame = self.frame();
            let begin = frame.len();
            let mut came = Some(first);
            let mut end = Ok(());
            while let Some(piece) = came.take() {
                match piece.map(hyper::body::Frame::into_data) {
                    Ok(Ok(data)) => frame.extend_from_slice(&data),
                    Ok(Err(_)) => {}
                    Err(error) => {
                        let why = format!("the node's API (edged) broke off: {error}");
                        end = Err(Unserved(why));
                        break;
                    }
                }
                if frame.len() < CHUNK {
                    came = at_once(body.frame()).flatten();
                }
            }
            length += (frame.len() - begin) as u64;
            if frame.len() > begin && !self.send(frame).await {
                break;
            }
            end?;
        }
        Ok(length)
    }

    /// Asks for a connection and passes bytes on both ways, the head of the answer among them.
    async fn upgrade(
        &self,
        request: &Request,
        mut feed: ReadHalf<SimplexStream>,
    ) -> Result<(), Unserved> {
        let stream = self.connect().await?;
        let (mut from_node, mut to_node) = stream.into_split();
        let head = request.head(&self.api.to_string());
        let feeding = async {
            let mut buffer = BytesMut::with_capacity(FEED);
            buffer.extend_from_slice(&head);
            while to_node.write_all(&buffer).await.is_ok() {
                buffer.clear();
                match feed.read_buf(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            // The node takes no more, but may still have something to say.
            drain(&mut feed).await
        };
        let passing = async {
            while from_node.readable().await.is_ok() {
                let mut frame = self.frame();
                match at_once(from_node.read_buf(&mut frame)) {
                    Some(Ok(1..)) if self.send(frame).await => {}
                    Some(_) => break,
                    None => {}
                }
            }
        };
        tokio::select! {
            () = passing => Ok(()),
            never = feeding => match never {},
        }
    }

    /// Begins a frame of this connection's data.
    fn frame(&self) -> BytesMut {
        let mut frame = BytesMut::with_capacity(HEAD + MAX_HEAD + CHUNK);
        frame.resize(HEAD, 0);
        words::write_head(&mut frame, self.connection, Kind::Data);
        frame
    }

    async fn send(&self, frame: BytesMut) -> bool {
        self.up.send(Outgoing::text(frame)).await.is_ok()
    }

    async fn say(&self, text: &[u8]) {
        let mut frame = self.frame();
        frame.extend_from_slice(text);
        self.send(frame).await;
    }
}

/// Reads and forgets, for ever.
async fn drain(feed: &mut ReadHalf<SimplexStream>) -> std::convert::Infallible {
    let mut buffer = BytesMut::new();
    while feed.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        buffer.clear();
    }
    std::future::pending().await
}
