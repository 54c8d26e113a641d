//! The gRPC between the edge and mappers, over Unix sockets (WIRE.md §7.6).
//!
//! The server hands each call to the module's main loop and answers with what that says: a report is
//! answered when it is stored. The number of connections of one process and of calls on each is
//! bounded, so a mapper that floods waits for itself.

pub(crate) mod client;
pub(crate) mod words;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::core::Refused;
use words as w;

/// The socket's name inside its folder.
const NAME: &str = "dmi.sock";

/// Connections at a time: one for each mapper, and as many again for mappers that come back.
const CONNECTIONS: usize = 128;

/// Connections of one process at a time; further ones are closed.
const OF_ONE: usize = 8;

/// Calls at a time on one connection.
const CALLS: u32 = 16;

/// The longest message: a thousand properties with long values.
const MAX_MESSAGE: usize = 1024 * 1024;

/// How long a call waits for the store before the mapper is told to try again.
const PATIENCE: Duration = Duration::from_secs(30);

/// A call of a mapper, for the main loop.
#[derive(Debug)]
pub(crate) enum Ask {
    /// A mapper says that it is there.
    Register(w::MapperRegisterRequest, oneshot::Sender<Result<w::MapperRegisterResponse, Refused>>),
    /// A mapper reports values.
    Report(w::ReportDeviceStatusRequest, oneshot::Sender<Result<(), Refused>>),
    /// A mapper reports how a device is.
    State(w::ReportDeviceStatesRequest, oneshot::Sender<Result<(), Refused>>),
}

/// Returns where the socket is, for the configured path: a folder, or the path of a socket whose
/// folder alone counts.
pub(crate) fn socket_path(configured: &str) -> PathBuf {
    let path = Path::new(configured);
    let folder = if configured.ends_with(".sock") { path.parent().unwrap_or(path) } else { path };
    folder.join(NAME)
}

/// Makes the socket, in place of one that a former life has left. To be called inside a runtime.
///
/// # Errors
/// When the folder does not take it: why, and what can be done.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, String> {
    let made = match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => UnixListener::bind(path),
    };
    let opened = made.and_then(|listener| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        Ok(listener)
    });
    opened.map_err(|error| {
        let path = path.display();
        if error.kind() != io::ErrorKind::PermissionDenied {
            return format!("cannot listen on {path}: {error}");
        }
        format!(
            "no permission to make {path}: name a folder of devicetwin's user \
             (deviceTwin.dmiSockPath; 'edgectl sandbox' shows the user), or run devicetwin as the \
             folder's owner (modules.devicetwin.user of supervisor.yaml)"
        )
    })
}

/// Serves mappers for ever.
pub(crate) async fn serve(listener: UnixListener, asks: mpsc::Sender<Ask>) {
    let mut open = JoinSet::new();
    let mut by_process = BTreeMap::<Option<i32>, usize>::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if open.len() < CONNECTIONS => accepted,
            Some(ended) = open.join_next() => {
                if let Some(count) = ended.ok().and_then(|process| by_process.get_mut(&process)) {
                    *count -= 1;
                }
                by_process.retain(|_, count| *count > 0);
                continue;
            }
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a mapper");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let process = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let count = by_process.entry(process).or_default();
        if *count >= OF_ONE {
            tracing::warn!(?process, "a mapper has {OF_ONE} connections already, expected one");
            continue;
        }
        *count += 1;
        let asks = asks.clone();
        open.spawn(async move {
            connection(stream, asks).await;
            process
        });
    }
}

async fn connection(stream: UnixStream, asks: mpsc::Sender<Ask>) {
    let service = service_fn(move |request| answer(asks.clone(), request));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .max_concurrent_streams(CALLS)
        .max_header_list_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a mapper's connection ended");
    }
}

async fn answer(
    asks: mpsc::Sender<Ask>,
    request: http::Request<Incoming>,
) -> Result<http::Response<Body>, Infallible> {
    Ok(match request.uri().path() {
        "/v1beta1.DeviceManagerService/MapperRegister" => {
            unary(request, Handler(asks, Ask::Register, |response| response)).await
        }
        "/v1beta1.DeviceManagerService/ReportDeviceStatus" => {
            unary(request, Handler(asks, Ask::Report, |()| w::Empty {})).await
        }
        "/v1beta1.DeviceManagerService/ReportDeviceStates" => {
            unary(request, Handler(asks, Ask::State, |()| w::Empty {})).await
        }
        other => {
            let short: String = other.chars().take(128).collect();
            Status::unimplemented(format!("no method '{short}'")).into_http()
        }
    })
}

async fn unary<Q, D, A>(
    request: http::Request<Incoming>,
    handler: Handler<Q, D, A>,
) -> http::Response<Body>
where
    Q: Message + Default + 'static,
    D: Send + 'static,
    A: Message + 'static,
{
    let codec = ProstCodec::<A, Q>::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(MAX_MESSAGE);
    grpc.unary(handler, request).await
}

/// How a method's call is put to the main loop, and what its answer becomes.
struct Handler<Q, D, A>(
    mpsc::Sender<Ask>,
    fn(Q, oneshot::Sender<Result<D, Refused>>) -> Ask,
    fn(D) -> A,
);

impl<Q, D, A> UnaryService<Q> for Handler<Q, D, A>
where
    Q: Message + Default + 'static,
    D: Send + 'static,
    A: Message + 'static,
{
    type Response = A;
    type Future = Pin<Box<dyn Future<Output = Result<Response<A>, Status>> + Send>>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (asks, ask, finish) = (self.0.clone(), self.1, self.2);
        Box::pin(async move {
            let (sender, receiver) = oneshot::channel();
            let done = async {
                asks.send(ask(request.into_inner(), sender)).await.ok()?;
                receiver.await.ok()
            };
            match tokio::time::timeout(PATIENCE, done).await {
                Ok(Some(Ok(answer))) => Ok(Response::new(finish(answer))),
                Ok(Some(Err(refused))) => Err(status(&refused)),
                Ok(None) => Err(Status::unavailable("devicetwin is ending: try again")),
                Err(_) => Err(Status::unavailable("the store does not answer: try again")),
            }
        })
    }
}

fn status(refused: &Refused) -> Status {
    match refused.code {
        404 => Status::not_found(&refused.reason),
        500 => Status::unavailable(&refused.reason),
        _ => Status::invalid_argument(&refused.reason),
    }
}
