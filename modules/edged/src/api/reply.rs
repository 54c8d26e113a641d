//! Answers: texts, JSON, streams, and kubelet's way to say no.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// An answer, or why there is none.
pub(crate) type Reply = Result<Response<Body>, Refusal>;

/// A status that is no success, with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// Of what should work and does not.
    pub(crate) fn broken(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    pub(crate) fn reply(self) -> Response<Body> {
        let mut reply = text(self.text);
        *reply.status_mut() = self.status;
        reply
    }
}

fn with(kind: &'static str, body: Body) -> Response<Body> {
    let mut reply = Response::new(body);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

pub(crate) fn text(text: impl Into<Bytes>) -> Response<Body> {
    with("text/plain; charset=utf-8", full(text))
}

/// Leaves out of an object what is not known.
pub(crate) fn without_nulls(mut shown: Value) -> Value {
    if let Some(fields) = shown.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    shown
}

pub(crate) fn json(value: &Value) -> Response<Body> {
    written(value.to_string())
}

/// What is JSON already.
pub(crate) fn written(json: impl Into<Bytes>) -> Response<Body> {
    with("application/json", full(json))
}

/// A page for browsers.
pub(crate) fn page(text: String) -> Response<Body> {
    with("text/html; charset=utf-8", full(text))
}

/// Metrics as Prometheus reads them.
pub(crate) fn exposition(text: String) -> Response<Body> {
    with("text/plain; version=0.0.4; charset=utf-8", full(text))
}

/// What a task writes, as it comes.
pub(crate) fn streamed(parts: mpsc::Receiver<Bytes>) -> Response<Body> {
    with("text/plain; charset=utf-8", Parts(parts).boxed_unsync())
}

/// The parts of a body that a task sends.
struct Parts(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.poll_recv(cx).map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}
