//! Services and their endpoints as the mesh sees them, read from Kubernetes' objects. No IO.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Which service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What carries a port's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// How a service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// At addresses of its own.
    Cluster(Vec<IpAddr>),
    /// At its endpoints.
    Headless,
    /// At another name.
    External(Box<str>),
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// May be empty when it is the only one.
    pub(crate) name: Box<str>,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    /// The port at each address of the node, where it has one.
    pub(crate) node_port: Option<u16>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) kind: Kind,
    pub(crate) ports: Vec<Port>,
    /// External and load balancer's addresses.
    pub(crate) external: Vec<IpAddr>,
    /// How long a client stays with its endpoint; nothing without `sessionAffinity: ClientIP`.
    pub(crate) affinity: Option<Duration>,
    /// `internalTrafficPolicy: Local`.
    pub(crate) local_only: bool,
    /// `externalTrafficPolicy: Local`.
    pub(crate) external_local_only: bool,
    /// Whether endpoints that are not ready are given out.
    pub(crate) publish_not_ready: bool,
    /// How its endpoints are chosen; at random where it does not say.
    pub(crate) policy: Option<Policy>,
}

/// An endpoint of a service: one address, with the ports that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    pub(crate) node: Option<Box<str>>,
    /// The zone of that node, as its label `topology.kubernetes.io/zone` says.
    pub(crate) zone: Option<Box<str>>,
    pub(crate) hostname: Option<Box<str>>,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    /// The number of each port of the service by its name and protocol.
    pub(crate) ports: Vec<(Box<str>, Protocol, u16)>,
    /// What stands for it on this node, where it cannot be reached at its own address.
    pub(crate) stand_in: Option<IpAddr>,
}

impl Endpoint {
    /// Returns the address at which clients on this node find it.
    pub(crate) fn found_at(&self) -> IpAddr {
        self.stand_in.unwrap_or(self.address)
    }
}

/// How the endpoints of a service are chosen, where it says so itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    RoundRobin,
    Random,
    LeastConnections,
    /// The client's address decides.
    Source,
    /// The value of this header of a connection's first HTTP/1 request decides.
    Header(Box<str>),
}
