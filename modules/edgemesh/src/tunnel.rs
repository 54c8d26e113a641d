//! The way to endpoints of nodes that this one cannot reach: streams of QUIC, through a relay where
//! there is no other way.
//!
//! Each node keeps a connection to its relays. Two nodes that have no direct connection make one of
//! their own, end to end, whose packets the relay passes on as datagrams inside of these: it cannot
//! read or change them, nor speak for either. A [`link`] is a connection that this node dials, in
//! [`relay`] are those that come, [`mod@serve`] carries on what others ask for.

mod counts;
mod credentials;
mod link;
mod peers;
mod relay;
mod serve;
mod socket;
mod splice;
mod standing;
#[cfg(test)]
mod tests;
mod unreached;
pub mod words;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use module_runtime::net::{Endpoint as FarEnd, Network};
use module_runtime::tls::Files;
use module_runtime::{Now, Redial, chance};
use quinn::{ClientConfig, Endpoint, TokioRuntime};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{interval, sleep, timeout};
use tracing::{debug, info, warn};

pub(crate) use splice::Stream;
pub(crate) use standing::Standing;

use crate::node::NodeId;
use crate::proxy::{SCRATCH, Scratch};
use crate::services::Services;
use crate::stand_ins::Pool;
use counts::Counts;
use credentials::{Credentials, node_at};
use peers::{Peer, Peers, REFUSED};
use relay::Way;
use serve::serve;
use socket::{Packet, Routes, Socket};
use unreached::Unreached;
pub(crate) use words::Carriage;
use words::Request;

/// The name that TLS wants of a server; nodes have none.
const NAME: &str = "edgemesh";

/// How many packets wait until they are looked at.
const INCOMING: usize = 512;

/// How often it is looked at what has ended, and at the certificate.
const TIDY: Duration = Duration::from_secs(5);

/// How many connections of other nodes there are to this node's endpoints at most.
const SERVED: usize = 4096;

/// How long it may take until a stream stands: a few times there and back by satellite.
const OPEN: Duration = Duration::from_secs(5);

/// How long a node may be unknown to all relays: after a relay's restart the nodes come one by one.
const ABSENT: Duration = Duration::from_secs(2);

/// What the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where other nodes dial this one; nothing for none.
    pub(crate) listen: Option<SocketAddr>,
    /// Whether this node passes on what others send to each other.
    pub(crate) relay: bool,
    /// Whom this node dials.
    pub(crate) relays: Vec<FarEnd>,
    /// The networks that are reached without it.
    pub(crate) direct: Vec<Network>,
    /// Where the addresses are of that stand for pods beyond it; nothing for none.
    pub(crate) stand_ins: Option<Pool>,
    /// How often a silent connection is looked after.
    pub(crate) keep_alive: Duration,
    pub(crate) tls: Files,
}

/// The tunnel.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// This node.
    name: Box<str>,
    id: NodeId,
    config: Config,
    services: Services,
    peers: RefCell<Peers>,
    routes: watch::Sender<Routes>,
    /// Packets for the connections through relays.
    incoming: mpsc::Sender<Packet>,
    /// The other end of that, until the socket takes it.
    packets: RefCell<Option<mpsc::Receiver<Packet>>>,
    endpoints: OnceCell<Endpoints>,
    /// Why each far end is not connected.
    troubles: RefCell<BTreeMap<usize, String>>,
    /// Why the whole does not stand.
    trouble: RefCell<Option<String>>,
    unreached: RefCell<Unreached>,
    counts: Rc<Counts>,
    changed: Notify,
    scratch: Scratch,
    /// One for each connection of others to this node's endpoints.
    places: Arc<Semaphore>,
}

/// The two sockets and how connections are made from them.
#[derive(Debug)]
struct Endpoints {
    outer: Endpoint,
    inner: Endpoint,
    clients: RefCell<Clients>,
}

#[derive(Debug)]
struct Clients {
    outer: ClientConfig,
    inner: ClientConfig,
    /// When the certificate was written of which they are made.
    written: Option<SystemTime>,
}

impl Tunnel {
    /// Makes it; nothing is connected before it runs.
    pub(crate) fn new(node: &str, config: Config, services: Services) -> Rc<Self> {
        let (incoming, packets) = mpsc::channel(INCOMING);
        Rc::new(Self {
            name: node.into(),
            id: NodeId::of(node),
            config,
            services,
            peers: RefCell::default(),
            routes: watch::Sender::new(Routes::default()),
            incoming,
            packets: RefCell::new(Some(packets)),
            endpoints: OnceCell::new(),
            troubles: RefCell::default(),
            trouble: RefCell::default(),
            unreached: RefCell::default(),
            counts: Rc::default(),
            changed: Notify::new(),
            scratch: Rc::new(RefCell::new(vec![0; SCRATCH].into())),
            places: Arc::new(Semaphore::new(SERVED)),
        })
    }

    /// Connects and serves for as long as this process lives.
    pub(crate) async fn run(self: Rc<Self>, shown: watch::Sender<Option<Standing>>) {
        let mut redial = Redial::default();
        while let Err(error) = self.start() {
            let trouble = format!("{error:#}");
            if self.trouble.borrow().as_ref() != Some(&trouble) {
                warn!("the tunnel does not stand: {trouble}");
            }
            self.trouble.replace(Some(trouble));
            shown.send_replace(Some(self.standing()));
            sleep(redial.after(Duration::ZERO, chance())).await;
        }
        self.trouble.replace(None);
        let mut tidy = interval(TIDY);
        loop {
            tokio::select! {
                _ = tidy.tick() => {
                    let now = Now::read().at;
                    self.peers.borrow_mut().tidy(now);
                    self.unreached.borrow_mut().tidy(now);
                    self.renew();
                }
                () = self.changed.notified() => {}
            }
            let standing = Some(self.standing());
            shown.send_if_modified(|shown| {
                let is_news = *shown != standing;
                *shown = standing;
                is_news
            });
        }
    }

    /// Opens the sockets and begins all that goes on with them.
    fn start(self: &Rc<Self>) -> Result<()> {
        let (credentials, written) = self.credentials()?;
        let outer = self.open(&credentials)?;
        let packets = self.packets.take().context("the tunnel stands already")?;
        let socket = Socket::new(self.id, self.routes.subscribe(), packets);
        let mut config = credentials.endpoint();
        config.max_udp_payload_size(1200).context("a bound on packets")?;
        let server = Some(credentials.inner.server.clone());
        let runtime = Arc::new(TokioRuntime);
        let inner = Endpoint::new_with_abstract_socket(config, server, Arc::new(socket), runtime)?;
        let clients =
            Clients { outer: credentials.outer.client, inner: credentials.inner.client, written };
        if let Some(listen) = self.config.listen {
            info!(relay = self.config.relay, "other nodes dial this one at {listen}");
            spawn_local(relay::accept(Rc::clone(self), outer.clone(), Way::Direct));
        }
        spawn_local(relay::accept(Rc::clone(self), inner.clone(), Way::Relayed));
        let _were_none = self.endpoints.set(Endpoints { outer, inner, clients: clients.into() });
        for place in 0..self.config.relays.len() {
            spawn_local(link::keep(Rc::clone(self), place));
        }
        Ok(())
    }

    fn credentials(&self) -> Result<(Credentials, Option<SystemTime>)> {
        let written = self.written();
        let credentials = Credentials::load(&self.config.tls, &self.name, self.config.keep_alive)?;
        Ok((credentials, written))
    }

    /// When the certificate was written.
    fn written(&self) -> Option<SystemTime> {
        let identity = self.config.tls.identity.as_ref()?;
        std::fs::metadata(&identity.certificate).and_then(|facts| facts.modified()).ok()
    }

    /// Takes a certificate that is new; connections that stand go on with the one before.
    fn renew(&self) {
        let Some(endpoints) = self.endpoints.get() else { return };
        let written = self.written();
        if written.is_none() || endpoints.clients.borrow().written == written {
            return;
        }
        match self.credentials() {
            Ok((Credentials { outer, inner, .. }, written)) => {
                info!("the certificate is a new one");
                if self.config.listen.is_some() {
                    endpoints.outer.set_server_config(Some(outer.server));
                }
                endpoints.inner.set_server_config(Some(inner.server));
                let (outer, inner) = (outer.client, inner.client);
                endpoints.clients.replace(Clients { outer, inner, written });
            }
            // it may be half written
            Err(error) => debug!("the new certificate is not taken yet: {error:#}"),
        }
    }

    /// Opens the real socket.
    fn open(&self, credentials: &Credentials) -> Result<Endpoint> {
        let server = self.config.listen.map(|_| credentials.outer.server.clone());
        let socket = match self.config.listen {
            Some(listen) => bound(listen).with_context(|| format!("cannot listen at {listen}"))?,
            // a host without IPv6 has IPv4 at least
            None => bound((Ipv6Addr::UNSPECIFIED, 0).into())
                .or_else(|_| bound((Ipv4Addr::UNSPECIFIED, 0).into()))?,
        };
        Ok(Endpoint::new(credentials.endpoint(), server, socket, Arc::new(TokioRuntime))?)
    }

    /// Returns what dials over the real socket.
    fn outer(&self) -> Option<(Endpoint, ClientConfig)> {
        let endpoints = self.endpoints.get()?;
        Some((endpoints.outer.clone(), endpoints.clients.borrow().outer.clone()))
    }

    /// Opens a stream to an endpoint of another node.
    ///
    /// # Errors
    /// When the node cannot be reached in time, or does not connect to the endpoint.
    pub(crate) async fn stream(
        self: &Rc<Self>,
        node: NodeId,
        endpoint: SocketAddr,
        carriage: Carriage,
    ) -> io::Result<Stream> {
        let opened = timeout(OPEN, self.opened(node, endpoint, carriage)).await;
        let opened = opened.unwrap_or_else(|_| Err(self.silence(node)));
        let error = opened.as_ref().err().map(ToString::to_string);
        let name = || self.name_of(node, endpoint.ip());
        let is_news = self.unreached.borrow_mut().note(node, error, name, Now::read().at);
        if is_news {
            self.changed.notify_one();
        }
        opened
    }

    /// Returns what a node is called, by an endpoint that it has.
    fn name_of(&self, node: NodeId, endpoint: IpAddr) -> String {
        let table = self.services.now().unwrap_or_default();
        let all = table.values().flat_map(|backed| &backed.endpoints);
        let mut names = all.filter(|it| it.address == endpoint).filter_map(|it| it.node.as_deref());
        names.find(|name| NodeId::of(name) == node).unwrap_or_default().to_owned()
    }

    async fn opened(
        self: &Rc<Self>,
        node: NodeId,
        endpoint: SocketAddr,
        carriage: Carriage,
    ) -> io::Result<Stream> {
        loop {
            let (peer, is_new) = self.peer(node).await?;
            let request = Request { carriage, node: peer.name.to_string(), endpoint };
            match peer.open(&request).await {
                // that the node has been started again is noticed only now; nothing was sent to the
                // endpoint
                Err(_) if !is_new && !peer.is_standing() => {}
                opened => return opened,
            }
        }
    }

    /// Makes a socket whose datagrams go to an endpoint of another node, for as long as [`Flow`] lives.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub(crate) fn datagrams(
        self: &Rc<Self>,
        node: NodeId,
        endpoint: SocketAddr,
    ) -> io::Result<(std::net::UdpSocket, Flow)> {
        let here = (Ipv4Addr::LOCALHOST, 0);
        let [near, far] = [std::net::UdpSocket::bind(here)?, std::net::UdpSocket::bind(here)?];
        near.connect(far.local_addr()?)?;
        far.connect(near.local_addr()?)?;
        far.set_nonblocking(true)?;
        let far = tokio::net::UdpSocket::from_std(far)?;
        let tunnel = Rc::clone(self);
        let task = spawn_local(async move {
            let carried = match tunnel.stream(node, endpoint, Carriage::Datagrams).await {
                Ok(stream) => stream.carry_datagrams(&far, &tunnel.scratch).await,
                Err(error) => Err(error),
            };
            if let Err(error) = carried {
                debug!("a flow to {endpoint} ends: {error}");
            }
        });
        Ok((near, Flow(task.abort_handle())))
    }

    /// Says why a node has not answered in time.
    fn silence(&self, node: NodeId) -> io::Error {
        let routes = self.routes.borrow();
        let reason = if routes.is_empty() {
            "no relay is connected"
        } else if routes.is_absent(node) {
            "no relay is connected with the node"
        } else {
            "the node does not answer"
        };
        io::Error::new(io::ErrorKind::TimedOut, reason)
    }

    /// Returns the connection with a node, made where there is none, and whether it was.
    async fn peer(self: &Rc<Self>, node: NodeId) -> io::Result<(Peer, bool)> {
        if let Some(peer) = self.peers.borrow().direct(node) {
            return Ok((peer, false));
        }
        let relayed = self.peers.borrow_mut().relayed(node);
        let mut is_new = false;
        let dialling = relayed.peer.get_or_try_init(|| {
            is_new = true;
            self.dial(node)
        });
        let peer = dialling.await?.clone();
        Ok((peer, is_new))
    }

    /// Makes a connection with a node through a relay.
    async fn dial(self: &Rc<Self>, node: NodeId) -> io::Result<Peer> {
        let not_yet = || io::Error::new(io::ErrorKind::NotConnected, "the tunnel does not stand");
        let endpoints = self.endpoints.get().ok_or_else(not_yet)?;
        let mut routes = self.routes.subscribe();
        // who waits for that has a bound of time
        drop(routes.wait_for(|routes| !routes.is_empty()).await);
        let config = endpoints.clients.borrow().inner.clone();
        let connecting = endpoints.inner.connect_with(config, node.address(), NAME);
        let hopeless = async {
            sleep(ABSENT).await;
            drop(routes.wait_for(|routes| routes.is_absent(node)).await);
        };
        let connection = tokio::select! {
            connected = connecting.map_err(io::Error::other)? => connected?,
            () = hopeless => return Err(self.silence(node)),
        };
        let peer = match node_at(&connection) {
            Some(name) if NodeId::of(&name) == node => Peer::new(name, connection, &self.counts),
            other => {
                connection.close(REFUSED, b"another node was asked for");
                let who = other.unwrap_or_default();
                let reason = format!("node '{who}' answers in the place of another");
                return Err(io::Error::other(reason));
            }
        };
        spawn_local(serve(Rc::clone(self), peer.clone()));
        self.changed.notify_one();
        Ok(peer)
    }
}

/// A flow of datagrams; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Flow(AbortHandle);

impl Drop for Flow {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Binds a socket; one of IPv6 takes both families.
fn bound(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    Ok(socket.into())
}
