//! The node's API, as kubelet serves it: logs, streams into containers, and what is used. The
//! tunnel's end, collectors and `edgectl` read it.
//!
//! It has a thread and a connection to the runtime of its own, so that no stream holds up a pod. It
//! asks the engine which pods there are; all else it asks the runtime and the host.

mod ears;
mod logs;
mod metrics;
mod pods;
mod reply;
mod route;
mod stats;
mod stream;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::{info, warn};

use crate::config::Config;
use crate::cri::Runtime;
use crate::pod::spec::Pod;
use reply::{Body, Refusal, Reply};
use route::Route;

/// Connections at once; the others wait to be accepted.
const CONNECTIONS: usize = 320;

/// Streams and followed logs at once; the others are refused. What remains is for questions.
const STREAMS: usize = 256;

/// How long a client may take to write the head of its request.
const HEAD: Duration = Duration::from_secs(30);

/// The longest head of a request, in bytes.
const HEAD_BYTES: usize = 64 * 1024;

/// How long to wait before an address that is in use is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// How long the engine may take to say which pods there are.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the engine which pods there are. An answer shows that its loop turns.
pub(crate) type Ask = oneshot::Sender<Vec<Arc<Pod>>>;

/// What the API is made with.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) node: String,
    pub(crate) config: Config,
    runtime: Runtime,
    asks: mpsc::Sender<Ask>,
    ears: mpsc::Sender<ears::Request>,
    streams: Arc<Semaphore>,
    rates: stats::Rates,
}

/// Starts the API's thread. It sends its questions to `asks`, and to `troubles` why it cannot be
/// reached; empty when it can.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn begin(
    node: &str,
    config: &Config,
    asks: mpsc::Sender<Ask>,
    troubles: watch::Sender<String>,
) -> std::io::Result<()> {
    let (node, config) = (node.to_owned(), config.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("api".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let address = SocketAddr::new(config.api_address, config.port);
            let listener = listen(address, &troubles).await;
            serve(Site::new(node, config, asks), listener).await;
        });
    })?;
    // It ends with the process.
    drop(thread);
    Ok(())
}

/// Listens as soon as the address is free.
async fn listen(address: SocketAddr, troubles: &watch::Sender<String>) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                info!(%address, "the node's API is served");
                troubles.send_replace(String::new());
                return listener;
            }
            Err(error) => {
                let trouble = format!("the node's API cannot be served on {address}: {error}");
                if *troubles.borrow() != trouble {
                    warn!("{trouble}");
                    troubles.send_replace(trouble);
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

impl Site {
    /// Makes it. To be called inside a tokio runtime.
    pub(crate) fn new(node: String, config: Config, asks: mpsc::Sender<Ask>) -> Arc<Self> {
        let runtime = Runtime::new(config.socket.clone());
        let (ears, requests) = mpsc::channel(16);
        tokio::spawn(ears::run(runtime.clone(), requests));
        let streams = Arc::new(Semaphore::new(STREAMS));
        Arc::new(Self { node, config, runtime, asks, ears, streams, rates: stats::Rates::new() })
    }

    /// Asks the engine which pods there are.
    async fn pods(&self) -> Result<Vec<Arc<Pod>>, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let ask = async {
            self.asks.send(sender).await.ok()?;
            receiver.await.ok()
        };
        let answer = tokio::time::timeout(PATIENCE, ask).await.ok().flatten();
        answer.ok_or_else(|| Refusal::broken("the pod engine does not answer"))
    }

    /// Finds a pod; with a text for who does not find it.
    async fn pod(&self, namespace: &str, name: &str, none: &str) -> Result<Arc<Pod>, Refusal> {
        let mut pods = self.pods().await?;
        pods.retain(|pod| pod.metadata.namespace == namespace && pod.metadata.name == name);
        // One that is made anew has its predecessor beside it for a while.
        pods.sort_by_key(|pod| pod.metadata.deletion_timestamp.is_some());
        pods.into_iter().next().ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, none))
    }
}

/// Serves connections for ever.
pub(crate) async fn serve(site: Arc<Site>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
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
            server.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
            let connection = server.serve_connection(TokioIo::new(stream), service);
            // A client that breaks off or writes rubbish has its answer by now.
            drop(connection.with_upgrades().await);
            drop(place);
        });
    }
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
        Route::Summary { small } => Ok(reply::json(&stats::look(site).await?.summary(small))),
        Route::Metrics => metrics::own(site).await,
        Route::Resource => Ok(metrics::resource(&stats::look(site).await)),
        Route::Cadvisor => Ok(metrics::cadvisor(&stats::look(site).await?)),
        Route::Probes => Ok(reply::exposition(String::new())),
        Route::Configz => Ok(pods::configz(&site.config)),
    }
}
