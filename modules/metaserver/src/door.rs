//! Where clients connect.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use module_runtime::net::look_after;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch as state};
use tracing::{info, warn};

use crate::config::Config;
use crate::serve::{self, Site};

/// Connections at a time; more wait.
const CONNECTIONS: usize = 256;

/// How long the head of a request may take, and a client may take nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait before an address that is taken is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// How a door is, for `edgectl status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Standing {
    address: String,
    serving: bool,
    /// Why it is not open.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// Serves for ever, and tells how that goes.
pub(crate) async fn open(config: Config, site: Site, shown: state::Sender<Vec<Standing>>) {
    let address = config.server;
    let mut standing = Standing { address: address.to_string(), ..Standing::default() };
    if config.authorize {
        standing.reason = "featureGates.requireAuthorization is on, and this version cannot tell \
                           who its clients are: nobody is let in"
            .to_owned();
        warn!("the local API is not served: {}", standing.reason);
        shown.send_replace(vec![standing]);
        return;
    }
    let listener = listen(address, standing, &shown).await;
    serve(listener, site).await;
}

/// Listens as soon as the address is free.
async fn listen(
    address: SocketAddr,
    mut standing: Standing,
    shown: &state::Sender<Vec<Standing>>,
) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                info!(%address, "the local API is served");
                standing = Standing { serving: true, reason: String::new(), ..standing };
                shown.send_replace(vec![standing]);
                return listener;
            }
            Err(error) => {
                let reason = format!("cannot listen on {address}: {error}");
                if standing.reason != reason {
                    warn!("the local API is not served: {reason}");
                    standing.reason = reason;
                    shown.send_replace(vec![standing.clone()]);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(listener: TcpListener, site: Site) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or so.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let site = site.clone();
        tokio::spawn(async move {
            connection(stream, site).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, site: Site) {
    if look_after(&stream, PATIENCE).is_err() {
        return;
    }
    let service = service_fn(move |request| serve::answer(site.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // How a connection ends is the client's affair.
    let _ended = connection.await;
}
