//! The node's API, as kubelet serves it: logs, streams into containers, and what is used. The
//! tunnel's end, collectors and `edgectl` read it.
//!
//! It has a thread and a connection to the runtime of its own, so that no stream holds up a pod. It
//! asks the engine which pods there are; all else it asks the runtime and the host.

mod amounts;
pub(crate) mod cgroups;
mod ears;
mod files;
mod logs;
mod metrics;
mod pods;
mod reply;
mod route;
mod stats;
mod stream;
pub(crate) mod trial;
mod whole;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::{info, warn};

use crate::config::Config;
use crate::cri::Runtime;
use crate::csi::Csi;
use crate::pods::Shown;
use crate::probes::Tally;
use crate::runtime::Running;
use crate::store::Store;
use reply::{Body, Refusal, Reply};
use route::Route;
pub(crate) use stats::kibibytes;

/// Connections at once; the others wait to be accepted.
const CONNECTIONS: usize = 320;

/// Streams and followed logs at once; the others are refused. What remains is for questions.
const STREAMS: usize = 256;

/// How long a client may take to write the head of its request, and be silent between two.
const HEAD: Duration = Duration::from_secs(10);

/// The longest head of a request, in bytes.
const HEAD_BYTES: usize = 64 * 1024;

/// How long to wait before an address that is in use is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Threads that read files, at most: a disk that hangs holds up those who read from it.
const READERS: usize = 16;

/// How long such a thread lives on with nothing to do.
const REST: Duration = Duration::from_secs(2);

/// How long the engine may take to say which pods there are.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the engine which pods there are. An answer shows that its loop turns.
pub(crate) type Ask = oneshot::Sender<Vec<Shown>>;

/// Whom the API asks, and what it is told.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) running: watch::Receiver<Running>,
    pub(crate) tally: Tally,
    pub(crate) store: Store,
    pub(crate) csi: Csi,
}

/// How the API is, for `edgectl status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Service {
    /// Where it is served.
    address: String,
    serving: bool,
    /// Why it is not served; empty when it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// What the API is made with.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) node: String,
    pub(crate) config: Config,
    runtime: Runtime,
    sources: Sources,
    /// How long a client may take to write the head of its request.
    pub(crate) head: Duration,
    /// Where the host's logs are.
    logs: PathBuf,
    ears: mpsc::Sender<ears::Request>,
    /// Takes a word of each who ceases to follow.
    gone: mpsc::Sender<()>,
    streams: Arc<Semaphore>,
    rates: stats::Rates,
}

/// Starts the API's thread. It tells `services` whether it can be reached.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn begin(
    node: &str,
    config: &Config,
    sources: Sources,
    services: watch::Sender<Service>,
) -> std::io::Result<()> {
    let (node, config) = (node.to_owned(), config.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(READERS)
        .thread_keep_alive(REST)
        .build()?;
    let thread = std::thread::Builder::new().name("api".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let address = SocketAddr::new(config.api_address, config.port);
            let listener = listen(address, &services).await;
            serve(Site::new(node, config, sources), listener).await;
        });
    })?;
    // It ends with the process.
    drop(thread);
    Ok(())
}

/// Listens as soon as the address is free.
pub(crate) async fn listen(address: SocketAddr, services: &watch::Sender<Service>) -> TcpListener {
    let mut service = Service { address: address.to_string(), ..Service::default() };
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                info!(%address, "the node's API is served");
                services.send_replace(Service { serving: true, reason: String::new(), ..service });
                return listener;
            }
            Err(error) => {
                let reason = error.to_string();
                if service.reason != reason {
                    warn!("the node's API cannot be served on {address}: {reason}");
                    service.reason = reason;
                    services.send_replace(service.clone());
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

impl Site {
    /// Makes it. To be called inside a tokio runtime.
    pub(crate) fn new(node: String, config: Config, sources: Sources) -> Arc<Self> {
        let runtime = Runtime::new(config.socket.clone());
        let (ears, requests) = mpsc::channel(16);
        let (gone, ended) = mpsc::channel(16);
        tokio::spawn(ears::run(requests, ended));
        let streams = Arc::new(Semaphore::new(STREAMS));
        let (head, rates, logs) = (HEAD, stats::Rates::new(), files::FOLDER.into());
        Arc::new(Self { node, config, runtime, sources, head, logs, ears, gone, streams, rates })
    }

    /// Asks the engine which pods there are.
    async fn pods(&self) -> Result<Vec<Shown>, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let ask = async {
            self.sources.asks.send(sender).await.ok()?;
            receiver.await.ok()
        };
        let answer = tokio::time::timeout(PATIENCE, ask).await.ok().flatten();
        answer.ok_or_else(|| Refusal::broken("the pod engine does not answer"))
    }

    /// Finds a pod; with a text for who does not find it.
    async fn pod(&self, namespace: &str, name: &str, none: &str) -> Result<Shown, Refusal> {
        let mut pods = self.pods().await?;
        pods.retain(|it| it.pod.metadata.is_named(namespace, name));
        // One that is made anew has its predecessor beside it for a while.
        pods.sort_by_key(|it| it.pod.metadata.deletion_timestamp.is_some());
        pods.into_iter().next().ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, none))
    }
}

/// Serves connections for ever.
pub(crate) async fn serve(site: Arc<Site>, listener: TcpListener) {
    let (room, head) = (Arc::new(Semaphore::new(CONNECTIONS)), site.head);
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors, say: others end.
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let site = Arc::clone(&site);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&site), request));
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(HEAD_BYTES);
            let connection = server.serve_connection(TokioIo::new(stream), service);
            // A client that breaks off or writes rubbish has its answer by now.
            drop(connection.with_upgrades().await);
            drop(place);
        });
    }
}

/// Does what may wait for a disk on a thread for that.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.expect("it neither panics, which would end the process, nor is it cancelled")
}

async fn answer(site: Arc<Site>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let reply = match route::route(request.method(), request.uri()) {
        Ok(route) => handle(&site, route, request).await,
        Err(refusal) => Err(refusal),
    };
    Ok(reply.unwrap_or_else(Refusal::reply))
}

async fn handle(site: &Arc<Site>, route: Route, request: Request<Incoming>) -> Reply {
    match route {
        Route::Healthz { engine } => {
            if engine {
                site.pods().await?;
            }
            Ok(reply::text("ok"))
        }
        Route::Pods => pods::all(site).await,
        Route::RunningPods => pods::running(site).await,
        Route::Logs(target, query) => logs::answer(site, &target, &query).await,
        Route::Exec(target, query) => stream::exec(site, &target, &query, request).await,
        Route::Attach(target, query) => stream::attach(site, &target, &query, request).await,
        Route::PortForward(target, query) => {
            stream::port_forward(site, &target, &query, request).await
        }
        Route::Run(target, query) => stream::run(site, &target, &query).await,
        Route::Summary { small } => Ok(reply::json(&stats::summary(site, small).await?)),
        Route::Metrics => metrics::own(site).await,
        Route::Resource => Ok(metrics::resource(&stats::look(site).await)),
        Route::Cadvisor => Ok(metrics::cadvisor(&stats::look(site).await?)),
        Route::Probes => Ok(metrics::probes(&site.sources.tally)),
        Route::Files(parts) => files::answer(site, parts).await,
        Route::Configz => Ok(pods::configz(&site.config)),
    }
}
