//! Bodies of answers: whole, or as a task writes them.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::mpsc;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Parts that wait for a slow reader; each is at most about a page of the store.
const WAITING: usize = 2;

fn with(kind: &'static str, body: Body) -> Response<Body> {
    let mut reply = Response::new(body);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

pub(crate) fn text(text: &'static str) -> Response<Body> {
    with("text/plain; charset=utf-8", full(text))
}

pub(crate) fn json(bytes: impl Into<Bytes>) -> Response<Body> {
    with("application/json", full(bytes))
}

/// Where a task writes a body. An error breaks the answer off, so that nobody takes it for whole.
pub(crate) type Writer = mpsc::Sender<io::Result<Bytes>>;

/// Makes an answer of JSON that a task writes.
pub(crate) fn streamed() -> (Writer, Response<Body>) {
    let (writer, parts) = mpsc::channel(WAITING);
    (writer, with("application/json", Parts(parts).boxed_unsync()))
}

struct Parts(mpsc::Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx).map(|part| part.map(|part| part.map(Frame::data)))
    }
}
