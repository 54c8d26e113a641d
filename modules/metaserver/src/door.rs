//! Where clients connect: an address in the clear; or, where clients have to say who they are, one
//! or two addresses over TLS, and a socket for root.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use module_runtime::net::look_after;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch as state};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::certificate::Secured;
use crate::config::Config;
use crate::guard::Caller;
use crate::serve::{self, Site};

/// Connections at a time through one door; more wait.
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
    /// An address and a port, or `unix:` and a path.
    address: String,
    serving: bool,
    /// Why it is not open.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// A way in.
#[derive(Clone, Debug)]
enum Place {
    Clear(SocketAddr),
    Secure(SocketAddr, state::Receiver<Secured>),
    Root(PathBuf),
}

/// A way in, and where it is told how it stands.
#[derive(Debug)]
struct Door {
    place: Place,
    number: usize,
    shown: Arc<state::Sender<Vec<Standing>>>,
}

/// A client that has come.
enum Visitor {
    Tcp(TcpStream),
    Unix(UnixStream),
}

enum Listener {
    Tcp(TcpListener),
    /// Who made it, and so may use it as root may.
    Unix(UnixListener, u32),
}

/// Opens the doors, which stay open for ever.
pub(crate) fn open(
    config: &Config,
    site: &Site,
    secured: &state::Receiver<Secured>,
    shown: state::Sender<Vec<Standing>>,
) {
    let places = match &config.secure {
        None => vec![Place::Clear(config.server)],
        Some(secure) => [Some(config.server), secure.dummy]
            .into_iter()
            .flatten()
            .map(|address| Place::Secure(address, secured.clone()))
            .chain([Place::Root(secure.folder.join("root.sock"))])
            .collect(),
    };
    let standing = |place: &Place| Standing { address: place.name(), ..Standing::default() };
    shown.send_replace(places.iter().map(standing).collect());
    let shown = Arc::new(shown);
    for (number, place) in places.into_iter().enumerate() {
        let door = Door { place, number, shown: Arc::clone(&shown) };
        tokio::spawn(door.serve(site.clone()));
    }
}

impl Place {
    fn name(&self) -> String {
        match self {
            Self::Clear(address) | Self::Secure(address, _) => address.to_string(),
            Self::Root(path) => format!("unix:{}", path.display()),
        }
    }

    async fn listen(&self) -> io::Result<Listener> {
        match self {
            Self::Clear(address) | Self::Secure(address, _) => {
                TcpListener::bind(address).await.map(Listener::Tcp)
            }
            Self::Root(path) => listen_at(path),
        }
    }
}

/// Listens on a path, where a former life may have left its socket.
fn listen_at(path: &Path) -> io::Result<Listener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    Ok(Listener::Unix(listener, fs::metadata(path)?.uid()))
}

impl Listener {
    async fn accept(&self) -> io::Result<Visitor> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Visitor::Tcp(stream)),
            Self::Unix(listener, owner) => loop {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                if uid == 0 || uid == *owner {
                    return Ok(Visitor::Unix(stream));
                }
            },
        }
    }
}

impl Door {
    fn tell(&self, serving: bool, reason: &str) {
        let name = self.place.name();
        let told = |shown: &mut Vec<Standing>| {
            let Some(standing) = shown.get_mut(self.number) else { return false };
            let now = Standing { serving, reason: reason.to_owned(), address: name.clone() };
            let is_new = *standing != now;
            *standing = now;
            is_new
        };
        if !self.shown.send_if_modified(told) {
            return;
        }
        if serving {
            info!("the local API is served on {name}");
        } else {
            warn!("the local API is not served on {name}: {reason}");
        }
    }

    async fn serve(mut self, site: Site) {
        self.be_secured().await;
        let listener = self.listen().await;
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok(visitor) = listener.accept().await else {
                // Out of descriptors, or so.
                sleep(PAUSE).await;
                continue;
            };
            let (way, site) = (self.place.clone(), site.clone());
            tokio::spawn(async move {
                receive(visitor, way, site).await;
                drop(place);
            });
        }
    }

    /// Waits until there is what connections are secured with.
    async fn be_secured(&mut self) {
        loop {
            let Place::Secure(_, secured) = &mut self.place else { return };
            let why = secured.borrow_and_update().as_ref().err().cloned();
            let Some(why) = why else { return };
            self.tell(false, &why);
            let Place::Secure(_, secured) = &mut self.place else { return };
            if secured.changed().await.is_err() {
                return;
            }
        }
    }

    /// Listens as soon as the address is there and free.
    async fn listen(&self) -> Listener {
        loop {
            match self.place.listen().await {
                Ok(listener) => {
                    self.tell(true, "");
                    return listener;
                }
                Err(error) => {
                    let name = self.place.name();
                    let absent = error.kind() == io::ErrorKind::AddrNotAvailable;
                    let more = if absent {
                        ": this host has no such address, see edged's log"
                    } else {
                        ""
                    };
                    self.tell(false, &format!("cannot listen on {name}: {error}{more}"));
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Finds out who came, and serves them.
async fn receive(visitor: Visitor, way: Place, site: Site) {
    let stream = match visitor {
        Visitor::Unix(stream) => return connection(stream, Caller::Root, site).await,
        Visitor::Tcp(stream) => stream,
    };
    if look_after(&stream, PATIENCE).is_err() {
        return;
    }
    let Place::Secure(_, secured) = way else {
        return connection(stream, Caller::Unasked, site).await;
    };
    // Taken anew for each connection, so that a renewed certificate counts at once.
    let Ok(config) = secured.borrow().clone() else { return };
    let handshake = timeout(PATIENCE, TlsAcceptor::from(config).accept(stream)).await;
    let Ok(Ok(stream)) = handshake else { return };
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(|it| it.first()).map(|it| it.clone().into_owned());
    connection(stream, Caller::Secure(certificate), site).await;
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, caller: Caller, site: Site) {
    let service = service_fn(move |request| serve::answer(site.clone(), caller.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // How a connection ends is the client's affair.
    let _ended = connection.await;
}
