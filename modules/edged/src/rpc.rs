//! The server's side of gRPC over Unix sockets, for plug-ins and monitors of the node. Connections,
//! and calls on each, are bounded: who floods waits for itself.

use std::convert::Infallible;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tracing::debug;

/// Connections at a time; the others wait to be accepted.
const CONNECTIONS: usize = 64;

/// Calls at a time on one connection.
const CALLS: u32 = 16;

/// The longest request, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// How long after a connection could not be accepted the next one is.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers calls by their paths.
pub trait Answers: Clone + Send + 'static {
    /// Answers a call.
    fn answer(&self, call: Call) -> impl Future<Output = http::Response<Body>> + Send;
}

/// A call that waits for its answer.
#[derive(Debug)]
pub struct Call(http::Request<Incoming>);

impl Call {
    /// Returns which it is, as `/package.Service/Method`.
    pub fn path(&self) -> &str {
        self.0.uri().path()
    }

    /// Reads the request, and answers with what is made of it.
    pub async fn with<Q, A, F, T>(self, make: F) -> http::Response<Body>
    where
        Q: Message + Default + 'static,
        A: Message + 'static,
        F: FnMut(Q) -> T,
        T: Future<Output = Result<A, Status>> + Send + 'static,
    {
        let codec = ProstCodec::<A, Q>::default();
        let mut grpc = Grpc::new(codec).max_decoding_message_size(MAX_MESSAGE);
        grpc.unary(Made(make), self.0).await
    }

    /// Returns the request as it came.
    pub fn into_request(self) -> http::Request<Incoming> {
        self.0
    }

    /// Answers that there is no such call.
    pub fn unknown(self) -> http::Response<Body> {
        let path: String = self.path().chars().take(128).collect();
        Status::unimplemented(format!("no method '{path}'")).into_http()
    }
}

struct Made<F>(F);

impl<Q, A, F, T> UnaryService<Q> for Made<F>
where
    F: FnMut(Q) -> T,
    T: Future<Output = Result<A, Status>> + Send + 'static,
{
    type Response = A;
    type Future = Pin<Box<dyn Future<Output = Result<Response<A>, Status>> + Send>>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let answer = (self.0)(request.into_inner());
        Box::pin(async move { answer.await.map(Response::new) })
    }
}

/// Makes a socket with the folder that it is in, in place of one that a former life has left.
///
/// # Errors
/// When the folder does not take it.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => UnixListener::bind(path),
    }
}

/// Serves a socket for ever.
pub async fn serve(listener: UnixListener, answers: impl Answers + Sync) {
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if open.len() < CONNECTIONS => accepted,
            Some(_) = open.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => drop(open.spawn(connection(stream, answers.clone()))),
            Err(error) => {
                debug!("cannot accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, answers: impl Answers + Sync) {
    let service = service_fn(move |request| {
        let answers = answers.clone();
        async move { Ok::<_, Infallible>(answers.answer(Call(request)).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .max_concurrent_streams(CALLS)
        .max_header_list_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!("a connection ended: {error}");
    }
}
