//! UDP: the datagrams of one client are a flow, which goes to one endpoint until it is idle.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use module_runtime::Now;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, send, socket_with, sockopt,
};
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout_at;
use tracing::debug;

use super::balance::{Balancer, Client};
use super::open::Open;
use super::tcp::Scratch;
use crate::targets::Target;
use crate::tunnel::{Flow as Beyond, Tunnel};

/// How long a flow may be silent in both directions. The kernel forgets an answered one after twice
/// that.
const IDLE: Duration = Duration::from_secs(60);

/// How many flows a socket has at most; a new one takes the place of the most silent one.
const FLOWS: usize = 1024;

/// One service port.
#[derive(Debug)]
pub(super) struct Udp {
    sockets: Vec<UdpSocket>,
    balancer: Rc<RefCell<Balancer>>,
    scratch: Scratch,
    places: Arc<Semaphore>,
    tunnel: Option<Rc<Tunnel>>,
}

impl Udp {
    /// Listens at a free port: at all addresses, and apart from that at the loopback address, to which
    /// the kernel redirects what this host sends. An answer has to leave from the address to which the
    /// question came.
    ///
    /// # Errors
    /// When the host is out of ports or descriptors.
    pub(super) fn listen(
        balancer: Rc<RefCell<Balancer>>,
        scratch: Scratch,
        places: Arc<Semaphore>,
        tunnel: Option<Rc<Tunnel>>,
    ) -> io::Result<Self> {
        let first = open(Ipv4Addr::UNSPECIFIED.into(), 0)?;
        let port = first.local_addr()?.port();
        // not before: the kernel might have found a port that is another service's
        sockopt::set_socket_reuseaddr(&first, true)?;
        let mut sockets = vec![first, open(Ipv4Addr::LOCALHOST.into(), port)?];
        // a host without IPv6 has no such traffic either
        for address in [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST] {
            sockets.extend(open(address.into(), port).ok());
        }
        Ok(Self { sockets, balancer, scratch, places, tunnel })
    }

    pub(super) fn port(&self) -> io::Result<u16> {
        self.sockets[0].local_addr().map(|address| address.port())
    }

    /// Serves until it is cancelled, and all its flows with it.
    pub(super) async fn serve(self) {
        let mut all = JoinSet::new();
        for socket in self.sockets {
            let door = Door {
                socket: Rc::new(socket),
                balancer: Rc::clone(&self.balancer),
                scratch: Rc::clone(&self.scratch),
                places: Arc::clone(&self.places),
                tunnel: self.tunnel.clone(),
                flows: BTreeMap::new(),
                tasks: JoinSet::new(),
                last: 0,
            };
            all.spawn_local(door.serve());
        }
        while all.join_next().await.is_some() {}
    }
}

/// Opens a socket; with a port, one that is bound at another address already.
fn open(address: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, port != 0)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(address, port))?;
    UdpSocket::from_std(socket.into())
}

/// One of the sockets and the flows that came through it.
struct Door {
    socket: Rc<UdpSocket>,
    balancer: Rc<RefCell<Balancer>>,
    scratch: Scratch,
    places: Arc<Semaphore>,
    tunnel: Option<Rc<Tunnel>>,
    flows: BTreeMap<SocketAddr, Flow>,
    /// What the endpoints answer, for each flow; tells which has ended.
    tasks: JoinSet<(SocketAddr, u64)>,
    last: u64,
}

/// The way from a client to its endpoint.
struct Flow {
    number: u64,
    endpoint: Rc<UdpSocket>,
    /// When a datagram last passed, in either direction.
    seen: Rc<Cell<Instant>>,
    task: AbortHandle,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Door {
    async fn serve(mut self) {
        loop {
            tokio::select! {
                readable = self.socket.readable() => {
                    if readable.is_err() {
                        return;
                    }
                    self.receive();
                    tokio::task::coop::consume_budget().await;
                }
                Some(ended) = self.tasks.join_next() => {
                    let Ok((client, number)) = ended else { continue };
                    if self.flows.get(&client).is_some_and(|flow| flow.number == number) {
                        self.flows.remove(&client);
                    }
                }
            }
        }
    }

    /// Takes one datagram. One that cannot be passed on at once is lost, as UDP has it.
    fn receive(&mut self) {
        let scratch = Rc::clone(&self.scratch);
        let mut scratch = scratch.borrow_mut();
        let Ok((length, client)) = self.socket.try_recv_from(&mut scratch) else { return };
        let now = Now::read().at;
        if !self.flows.contains_key(&client)
            && let Err(error) = self.begin(client, now)
        {
            debug!("a datagram of {client} is lost: {error}");
            return;
        }
        if let Some(flow) = self.flows.get(&client) {
            flow.seen.set(now);
            // past the runtime, which does not know yet that a new socket can be written to
            let sent = send(&*flow.endpoint, &scratch[..length], SendFlags::DONTWAIT);
            if let Err(error) = sent {
                debug!("a datagram of {client} is lost: {error}");
            }
        }
    }

    fn begin(&mut self, client: SocketAddr, now: Instant) -> io::Result<()> {
        if self.flows.len() >= FLOWS {
            let most_silent = self.flows.iter().min_by_key(|(_, flow)| flow.seen.get());
            if let Some(client) = most_silent.map(|(client, _)| *client) {
                self.flows.remove(&client);
            }
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(io::Error::other)?;
        let asker = Client { address: client.ip(), header: None };
        let dice = module_runtime::instance().0;
        let chosen = self.balancer.borrow_mut().choose(asker, &[], now, dice);
        let target = chosen.ok_or(io::Error::new(ErrorKind::NotFound, "there is no endpoint"))?;
        let (endpoint, beyond) = self.reach(target)?;
        endpoint.set_nonblocking(true)?;
        let endpoint = Rc::new(UdpSocket::from_std(endpoint)?);
        let seen = Rc::new(Cell::new(now));
        self.last += 1;
        let answers = Answers {
            door: Rc::clone(&self.socket),
            endpoint: Rc::clone(&endpoint),
            client,
            seen: Rc::clone(&seen),
            scratch: Rc::clone(&self.scratch),
            open: Open::new(&self.balancer, target),
            _place: place,
            _beyond: beyond,
        };
        let number = self.last;
        let task = self.tasks.spawn_local(async move {
            answers.pass().await;
            (client, number)
        });
        self.flows.insert(client, Flow { number, endpoint, seen, task });
        Ok(())
    }

    /// Makes a socket whose datagrams go to an endpoint.
    fn reach(&self, target: Target) -> io::Result<(std::net::UdpSocket, Option<Beyond>)> {
        let Target { address, beyond } = target;
        if let (Some(node), Some(tunnel)) = (beyond, &self.tunnel) {
            let (socket, flow) = tunnel.datagrams(node, address)?;
            return Ok((socket, Some(flow)));
        }
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let endpoint = std::net::UdpSocket::bind((any, 0))?;
        endpoint.connect(address)?;
        Ok((endpoint, None))
    }
}

/// The way back.
struct Answers {
    door: Rc<UdpSocket>,
    endpoint: Rc<UdpSocket>,
    client: SocketAddr,
    seen: Rc<Cell<Instant>>,
    scratch: Scratch,
    open: Open,
    _place: OwnedSemaphorePermit,
    /// The rest of the way, through the tunnel.
    _beyond: Option<Beyond>,
}

impl Answers {
    /// Passes on what the endpoint answers until the flow is idle or the endpoint is not there.
    async fn pass(self) {
        loop {
            let deadline = self.seen.get() + IDLE;
            let Ok(readable) = timeout_at(deadline.into(), self.endpoint.readable()).await else {
                if self.seen.get() + IDLE <= deadline {
                    return;
                }
                continue;
            };
            if readable.is_err() || self.one().is_err() {
                return;
            }
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Passes one datagram on.
    fn one(&self) -> io::Result<()> {
        let mut scratch = self.scratch.borrow_mut();
        match self.endpoint.try_recv(&mut scratch) {
            Ok(length) => {
                self.seen.set(Now::read().at);
                if let Err(error) = self.door.try_send_to(&scratch[..length], self.client) {
                    debug!("an answer to {} is lost: {error}", self.client);
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            // the endpoint's host says that nobody listens; the next datagram goes elsewhere
            Err(error) => {
                self.open.failed(Now::read().at);
                Err(error)
            }
        }
    }
}
