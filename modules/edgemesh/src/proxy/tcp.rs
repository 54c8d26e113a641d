//! TCP connections from client to endpoint, byte for byte: each side may finish before the other.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use module_runtime::Now;
use module_runtime::net::look_after;
use rustix::net::{Shutdown, shutdown, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::coop::consume_budget;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::balance::{Balancer, Client};
use super::head::{Look, MAX_HEAD, look};
use super::open::Open;
use crate::targets::Target;
use crate::tunnel::{Carriage, Stream, Tunnel};

/// How many wait to be accepted.
const BACKLOG: u32 = 1024;

/// The pause when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// How long an endpoint may take to accept.
const DIAL: Duration = Duration::from_secs(2);

/// How many endpoints are tried for one client.
const TRIES: usize = 4;

/// How long a client may take to send the head of its first request, where that is looked at.
const HEAD: Duration = Duration::from_secs(10);

/// How long a side may confirm nothing of what was sent to it, or stay away when looked after.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all connections share: a read is written on at once, so one buffer serves all, and a
/// connection on which nothing moves has none.
pub(crate) type Scratch = Rc<RefCell<Box<[u8]>>>;

/// The size of that buffer, in bytes.
pub(crate) const SCRATCH: usize = 64 * 1024;

/// Listens at a free port of all addresses, in both families where the host has both.
///
/// # Errors
/// When the host is out of ports or descriptors.
pub(super) fn listen() -> io::Result<TcpListener> {
    let both = || {
        let socket = TcpSocket::new_v6()?;
        sockopt::set_ipv6_v6only(&socket, false)?;
        socket.bind((Ipv6Addr::UNSPECIFIED, 0).into())?;
        socket.listen(BACKLOG)
    };
    both().or_else(|_: io::Error| {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
        socket.listen(BACKLOG)
    })
}

/// One service port.
#[derive(Clone, Debug)]
pub(super) struct Tcp {
    pub(super) balancer: Rc<RefCell<Balancer>>,
    pub(super) scratch: Scratch,
    /// One for each connection that all ports together may have.
    pub(super) places: Arc<Semaphore>,
    pub(super) tunnel: Option<Rc<Tunnel>>,
}

/// The way to an endpoint.
enum Way {
    Direct(TcpStream),
    Beyond(Stream),
}

impl Tcp {
    /// Accepts until it is cancelled; connections that stand go on after that.
    pub(super) async fn accept(self, listener: TcpListener) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            let (stream, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // The process is out of descriptors, or so; connections end, and there are more.
                    warn!("cannot take a connection: {error}");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let own = self.clone();
            tokio::task::spawn_local(async move {
                if let Err(error) = own.carry(&stream, client).await {
                    debug!("a connection of {client} ends: {error}");
                    // The client sees a reset and not the end of an answer.
                    let _closed_anyhow = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
                }
                drop(place);
            });
        }
    }

    /// Carries one connection to its end.
    async fn carry(&self, stream: &TcpStream, client: SocketAddr) -> io::Result<()> {
        look_after(stream, PATIENCE)?;
        let header = self.balancer.borrow().header().map(str::to_owned);
        let (head, value) = match header {
            Some(header) => read_head(stream, &header).await?,
            None => (Vec::new(), None),
        };
        let client = Client { address: client.ip().to_canonical(), header: value.as_deref() };
        let (way, target) = self.dial(client).await?;
        let _open = Open::new(&self.balancer, target);
        match way {
            Way::Direct(endpoint) => {
                look_after(&endpoint, PATIENCE)?;
                write(&endpoint, &head).await?;
                let up = pass(stream, &endpoint, &self.scratch);
                let down = pass(&endpoint, stream, &self.scratch);
                tokio::try_join!(up, down).map(|((), ())| ())
            }
            Way::Beyond(mut endpoint) => {
                endpoint.begin(&head).await?;
                endpoint.carry(stream, &self.scratch).await
            }
        }
    }

    /// Connects to an endpoint, and to the next while that fails: nothing has been sent yet.
    async fn dial(&self, client: Client<'_>) -> io::Result<(Way, Target)> {
        let mut tried = Vec::new();
        let mut trouble = io::Error::new(ErrorKind::NotFound, "there is no endpoint");
        while tried.len() < TRIES {
            let dice = module_runtime::instance().0;
            let now = Now::read().at;
            let chosen = self.balancer.borrow_mut().choose(client, &tried, now, dice);
            let Some(target) = chosen else { break };
            match self.reach(target).await {
                Ok(way) => return Ok((way, target)),
                Err(error) => {
                    self.balancer.borrow_mut().failed(target, Now::read().at);
                    trouble = io::Error::new(error.kind(), format!("{target}: {error}"));
                }
            }
            tried.push(target);
        }
        Err(trouble)
    }

    /// Connects to one endpoint.
    async fn reach(&self, target: Target) -> io::Result<Way> {
        let Target { address, beyond } = target;
        match (beyond, &self.tunnel) {
            (Some(node), Some(tunnel)) => {
                tunnel.stream(node, address, Carriage::Tcp).await.map(Way::Beyond)
            }
            _ => {
                let dialled = timeout(DIAL, TcpStream::connect(address)).await;
                dialled.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())).map(Way::Direct)
            }
        }
    }
}

/// Reads until a header's value is known; returns what was read, which is the endpoint's.
async fn read_head(stream: &TcpStream, header: &str) -> io::Result<(Vec<u8>, Option<Vec<u8>>)> {
    let mut head = Vec::new();
    let reading = async {
        loop {
            if let Look::Found(value) = look(&head, header) {
                return Ok(value.map(<[u8]>::to_vec));
            }
            stream.readable().await?;
            let mut part = [0; 2048];
            let room = part.len().min(MAX_HEAD - head.len());
            match stream.try_read(&mut part[..room]) {
                Ok(0) => return Ok(None),
                Ok(length) => head.extend_from_slice(&part[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    // Who waits for the other side to speak first is served without.
    let value = timeout(HEAD, reading).await.unwrap_or(Ok(None))?;
    Ok((head, value))
}

/// Passes on what one side sends until it has finished, and then tells the other so.
async fn pass(from: &TcpStream, to: &TcpStream, scratch: &Scratch) -> io::Result<()> {
    loop {
        from.readable().await?;
        let rest = {
            let mut scratch = scratch.borrow_mut();
            let length = match from.try_read(&mut scratch) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            let sent = match to.try_write(&scratch[..length]) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            scratch[sent..length].to_vec()
        };
        write(to, &rest).await?;
        consume_budget().await;
    }
    match shutdown(to, Shutdown::Write) {
        // it has gone by itself
        Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes all.
///
/// # Errors
/// When the connection is broken.
pub(crate) async fn write(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
