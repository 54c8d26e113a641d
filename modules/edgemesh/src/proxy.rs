//! The user-space path: listeners of this process for what the kernel path cannot do.
//!
//! The kernel redirects a service's traffic to a listener, which chooses the endpoint. HTTP/2, gRPC
//! and WebSocket are passed on as what they are, bytes.

mod balance;
mod head;
mod open;
mod tcp;
#[cfg(test)]
mod tests;
pub mod trial;
mod udp;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::model::{Name, Policy, Protocol};
use crate::targets::Target;
use crate::tunnel::Tunnel;
use balance::Balancer;
use tcp::Tcp;
pub(crate) use tcp::{SCRATCH, Scratch, write};
use udp::Udp;

/// Descriptors that are not for connections.
const RESERVED: u64 = 128;

/// How many connections there are at most, however many descriptors the process may have.
const CONNECTIONS: u64 = 16_384;

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) service: Name,
    /// What stands for the one pod that is served; nothing for the service as a whole.
    pub(crate) pod: Option<IpAddr>,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// How a port is to be served.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) policy: Policy,
    pub(crate) affinity: Option<Duration>,
    pub(crate) targets: Vec<Target>,
}

/// A port that is served.
#[derive(Debug)]
struct Listener {
    port: u16,
    balancer: Rc<RefCell<Balancer>>,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All listeners.
#[derive(Debug)]
pub(crate) struct Proxy {
    listeners: BTreeMap<Key, Listener>,
    scratch: Scratch,
    places: Arc<Semaphore>,
    /// The way to endpoints that are beyond this node's reach.
    tunnel: Option<Rc<Tunnel>>,
}

impl Proxy {
    /// Makes it without listeners. Each connection takes two descriptors, of which it uses as many
    /// as this process may have.
    pub(crate) fn new(tunnel: Option<Rc<Tunnel>>) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = (descriptors.saturating_sub(RESERVED) / 2).clamp(16, CONNECTIONS);
        let connections = usize::try_from(connections).unwrap_or(16);
        Self {
            listeners: BTreeMap::new(),
            scratch: Rc::new(RefCell::new(vec![0; SCRATCH].into())),
            places: Arc::new(Semaphore::new(connections)),
            tunnel,
        }
    }

    /// Serves a port from now on in this manner and returns the listener's port. What is connected
    /// stays so. To be called on the runtime's own thread.
    ///
    /// # Errors
    /// When the host is out of ports or descriptors, or the protocol is one that only the kernel
    /// path carries.
    pub(crate) fn serve(&mut self, key: &Key, manner: Manner) -> io::Result<u16> {
        let Manner { policy, affinity, targets } = manner;
        if let Some(listener) = self.listeners.get(key) {
            let mut balancer = listener.balancer.borrow_mut();
            balancer.follow(policy, affinity);
            balancer.replace(&targets);
            return Ok(listener.port);
        }
        let mut balancer = Balancer::new(policy, affinity);
        balancer.replace(&targets);
        let listener = self.listen(key.protocol, Rc::new(RefCell::new(balancer)))?;
        let port = listener.port;
        self.listeners.insert(key.clone(), listener);
        Ok(port)
    }

    fn listen(&self, protocol: Protocol, balancer: Rc<RefCell<Balancer>>) -> io::Result<Listener> {
        let (scratch, places) = (Rc::clone(&self.scratch), Arc::clone(&self.places));
        let own = Rc::clone(&balancer);
        let tunnel = self.tunnel.clone();
        let (port, task) = match protocol {
            Protocol::Tcp => {
                let listener = tcp::listen()?;
                let tcp = Tcp { balancer: own, scratch, places, tunnel };
                let port = listener.local_addr()?.port();
                (port, tokio::task::spawn_local(tcp.accept(listener)))
            }
            Protocol::Udp => {
                let udp = Udp::listen(own, scratch, places, tunnel)?;
                let port = udp.port()?;
                (port, tokio::task::spawn_local(udp.serve()))
            }
            Protocol::Sctp => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Listener { port, balancer, task })
    }

    /// Gives up the ports of a service but those for which `keep` says true. What is connected
    /// through TCP stays so.
    pub(crate) fn retain(&mut self, service: &Name, keep: impl Fn(&Key) -> bool) {
        self.listeners.retain(|key, _| key.service != *service || keep(key));
    }

    /// Returns the number of ports that are served.
    pub(crate) fn len(&self) -> usize {
        self.listeners.len()
    }
}
