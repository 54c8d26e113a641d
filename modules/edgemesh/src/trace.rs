//! What a connection to a name goes through, step by step, for the operator: the name is asked for as
//! a pod asks, the services are those of the node's database, what is decided is decided by the code
//! that decides for traffic, and the endpoints are tried.

use std::io::{self, ErrorKind, Read as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use module_runtime::net::Network;

use serde::{Deserialize, Serialize};

use crate::discovery::Discovery;
use crate::dns::{Found, find};
use crate::model::{Endpoint, Kind, Name, Policy, Port, Protocol, Service};
use crate::services::{Backed, Table};
use crate::stand_ins::{Pool, StandIns};
use crate::targets::{Here, Reach, Scope, Target, judged, targets};
use crate::traffic::policy;

/// How long an endpoint may take to accept.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the proxy may take to find an endpoint that accepts, and that to answer.
const PROXY_PATIENCE: Duration = Duration::from_secs(10);

/// How many endpoints are tried.
const TRIES: usize = 16;

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asked {
    /// Where names are answered.
    server: SocketAddr,
    /// What the cluster's names end with.
    domain: String,
    /// The namespace of the pod that would ask.
    namespace: String,
    name: String,
    /// The port of the service; its first where this is nothing.
    port: Option<u16>,
    /// The node's name.
    node: String,
    prefer_same_node: bool,
    zone: Option<Box<str>>,
    /// Whether the mesh carries traffic at all.
    carries: bool,
    /// Nothing where endpoints of other nodes are reached without it.
    tunnel: Option<AskedTunnel>,
}

/// What the running mesh reports of its tunnel.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AskedTunnel {
    direct: Vec<String>,
    stand_ins: Option<String>,
}

impl Asked {
    fn here(&self) -> Here {
        let networks = |tunnel: &AskedTunnel| {
            tunnel.direct.iter().filter_map(|text| Network::parse(text)).collect()
        };
        let reach = self.tunnel.as_ref().map_or(Reach::All, |it| Reach::Networks(networks(it)));
        let Self { prefer_same_node, zone, .. } = self;
        let node = self.node.as_str().into();
        Here { node, prefer_same_node: *prefer_same_node, zone: zone.clone(), reach }
    }

    fn stand_ins(&self) -> Option<StandIns> {
        let text = self.tunnel.as_ref()?.stand_ins.as_ref()?;
        let pool = Network::parse(text).and_then(Pool::new)?;
        Some(StandIns::new(pool, self.here()))
    }
}

/// What a connection goes through.
#[derive(Debug, Serialize)]
struct Trace {
    found: Found,
    /// The address that a client takes.
    address: Option<IpAddr>,
    /// Namespace and name.
    service: Option<String>,
    port: Option<String>,
    policy: Option<String>,
    path: Path,
    endpoints: Vec<Tried>,
    /// What a connection to the service's own address comes to.
    connection: Option<Attempt>,
    /// Why a client is not served.
    trouble: Option<String>,
}

/// How a connection is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Path {
    /// The kernel chooses the endpoint.
    Kernel,
    /// The proxy does.
    Proxy,
    /// To the endpoint that the name gave.
    Direct,
    /// Not by the mesh.
    None,
}

/// An endpoint, and what becomes of it.
#[derive(Debug, Serialize)]
struct Tried {
    address: IpAddr,
    node: Option<String>,
    /// Whether it is reached through the tunnel; the running mesh knows what that comes to.
    tunnel: bool,
    /// Why it is not taken; nothing for one that is.
    excluded: Option<&'static str>,
    connection: Option<Attempt>,
}

/// An attempt to connect.
#[derive(Debug, Serialize)]
struct Attempt {
    to: SocketAddr,
    millis: f64,
    /// Nothing where it stood.
    error: Option<String>,
}

impl Attempt {
    fn make(to: SocketAddr) -> Self {
        Self::with(to, |to| TcpStream::connect_timeout(to, PATIENCE).map(drop))
    }

    /// Connects through the proxy, which accepts first and resets when no endpoint accepts. Who says
    /// nothing to a client that has nothing to say is there at least.
    fn through_proxy(to: SocketAddr) -> Self {
        Self::with(to, |to| {
            let mut stream = TcpStream::connect_timeout(to, PATIENCE)?;
            stream.set_read_timeout(Some(PROXY_PATIENCE))?;
            stream.shutdown(Shutdown::Write)?;
            match stream.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    Err(io::Error::other("it is reset: no endpoint was reached, or it broke off"))
                }
                read => read.map(drop),
            }
        })
    }

    fn with(to: SocketAddr, connect: impl Fn(&SocketAddr) -> io::Result<()>) -> Self {
        let begin = Instant::now();
        let error = connect(&to).err().map(|it| it.to_string());
        Self { to, millis: begin.elapsed().as_secs_f64() * 1e3, error }
    }
}

/// Follows a connection; returns what it goes through, as JSON. `stored` are the database's services,
/// slices of endpoints, endpoints as they were before there were slices, and rules of how they are
/// chosen, each an array.
///
/// # Errors
/// When the name is none, or the mesh does not answer.
pub fn trace(stored: [&[u8]; 4], asked: &Asked) -> Result<String, String> {
    let Asked { server, domain, namespace, name, .. } = asked;
    let found = find(*server, domain, namespace, name)?;
    let table = Discovery::of_sets(stored, asked.stand_ins());
    let trace = Trace::of(found, &table, asked);
    serde_json::to_string(&trace).map_err(|error| error.to_string())
}

impl Trace {
    fn of(found: Found, table: &Table, asked: &Asked) -> Self {
        let mut trace = Self {
            address: found.address(),
            found,
            service: None,
            port: None,
            policy: None,
            path: Path::None,
            endpoints: Vec::new(),
            connection: None,
            trouble: None,
        };
        trace.trouble = trace.follow(table, asked).err();
        trace
    }

    /// Follows the connection; returns why a client is not served.
    fn follow(&mut self, table: &Table, asked: &Asked) -> Result<(), String> {
        let Some(address) = self.address else {
            return Err(format!("{} has no address: {}", self.found.name(), self.found.status()));
        };
        let Some((name, backed)) = service_of(table, address) else {
            return Err(format!("{address} is no service's: the mesh has nothing to do with it"));
        };
        self.service = Some(name.to_string());
        let Backed { service, endpoints, is_carried } = backed;
        let port = match asked.port {
            None => service.ports.first(),
            Some(number) => service.ports.iter().find(|port| port.port == number),
        };
        // a pod is asked at its own port
        let of_pod = || {
            let number = asked.port.filter(|_| matches!(service.kind, Kind::Headless))?;
            let at = endpoints.iter().filter(|endpoint| endpoint.found_at() == address);
            let mut ports = at.flat_map(|endpoint| &endpoint.ports);
            let (name, protocol, _) = ports.find(|(_, _, port)| *port == number)?;
            service.ports.iter().find(|it| it.name == *name && it.protocol == *protocol)
        };
        let Some(port) = port.or_else(of_pod) else {
            return Err(match asked.port {
                Some(number) => format!("{name} has no port {number}: a client is refused"),
                None => format!("{name} has no ports"),
            });
        };
        self.port = Some(words(port));
        let here = asked.here();
        let scope = if service.local_only { Scope::Local } else { Scope::All };
        self.try_endpoints(service, port, endpoints, scope, &here);
        if matches!(service.kind, Kind::Headless) {
            self.path = Path::Direct;
            if let Some(pod) = endpoints.iter().find(|it| it.stand_in == Some(address)) {
                self.path = Path::Proxy;
                let same =
                    |it: &&(Box<str>, Protocol, u16)| it.0 == port.name && it.1 == port.protocol;
                let number = pod.ports.iter().find(same).filter(|it| it.1 == Protocol::Tcp);
                let to = number.map(|&(.., number)| SocketAddr::new(address, number));
                self.connection = to.map(Attempt::through_proxy);
            }
            return self.served(name);
        }
        if !is_carried || !asked.carries {
            return Err("the mesh does not carry the traffic of this service".to_owned());
        }
        let targets = targets(service, port, endpoints, scope, &here);
        let chosen = policy(service, port, &targets);
        self.policy = Some(policy_words(chosen.as_ref(), service));
        self.path = if chosen.is_some() { Path::Proxy } else { Path::Kernel };
        if port.protocol == Protocol::Tcp {
            let to = SocketAddr::new(address, port.port);
            let attempt = match self.path {
                Path::Proxy => Attempt::through_proxy(to),
                Path::Kernel | Path::Direct | Path::None => Attempt::make(to),
            };
            self.connection = Some(attempt);
        }
        self.served(name)
    }

    fn try_endpoints(
        &mut self,
        service: &Service,
        port: &Port,
        endpoints: &[Endpoint],
        scope: Scope,
        here: &Here,
    ) {
        let judged = judged(service, port, endpoints, scope, here);
        let mut tries = 0;
        for (endpoint, judgement) in endpoints.iter().zip(judged) {
            let is_tried = |target: &Target| {
                port.protocol == Protocol::Tcp && target.beyond.is_none() && tries < TRIES
            };
            let target = judgement.ok().filter(is_tried);
            tries += usize::from(target.is_some());
            self.endpoints.push(Tried {
                address: endpoint.address,
                node: endpoint.node.as_deref().map(str::to_owned),
                tunnel: here.beyond(endpoint).is_some(),
                excluded: judgement.err(),
                connection: target.map(|target| Attempt::make(target.address)),
            });
        }
    }

    /// Tells why a client is not served, though all was decided.
    fn served(&self, name: &Name) -> Result<(), String> {
        if self.endpoints.iter().all(|endpoint| endpoint.excluded.is_some()) {
            return Err(format!("{name} has no endpoint to which traffic may go"));
        }
        let is_lost = |attempt: &Attempt| attempt.error.is_some();
        let tried = || self.endpoints.iter().filter_map(|endpoint| endpoint.connection.as_ref());
        let taken = || self.endpoints.iter().filter(|endpoint| endpoint.excluded.is_none());
        let all_tried = tried().next().is_some() && taken().all(|endpoint| !endpoint.tunnel);
        if all_tried && tried().all(is_lost) {
            return Err("no endpoint accepts a connection from this node".to_owned());
        }
        match &self.connection {
            Some(Attempt { to, error: Some(error), .. }) => {
                Err(format!("a connection to {to} fails: {error}"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Returns whose an address is.
fn service_of(table: &Table, address: IpAddr) -> Option<(&Name, &Backed)> {
    let own = |service: &Service| match &service.kind {
        Kind::Cluster(addresses) => {
            addresses.contains(&address) || service.external.contains(&address)
        }
        Kind::Headless | Kind::External(_) => false,
    };
    let all = || table.iter().map(|(name, backed)| (name, &**backed));
    let at_end = |backed: &Backed| {
        let is_it = |endpoint: &Endpoint| endpoint.found_at() == address;
        matches!(backed.service.kind, Kind::Headless) && backed.endpoints.iter().any(is_it)
    };
    let served = all().find(|(_, backed)| own(&backed.service));
    served.or_else(|| all().find(|(_, backed)| at_end(backed)))
}

fn words(port: &Port) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    };
    let number = format!("{}/{protocol}", port.port);
    if port.name.is_empty() { number } else { format!("{} {number}", port.name) }
}

fn policy_words(policy: Option<&Policy>, service: &Service) -> String {
    let choice = match policy {
        None | Some(Policy::Random) => "at random".to_owned(),
        Some(Policy::RoundRobin) => "in turns".to_owned(),
        Some(Policy::LeastConnections) => "the one with the fewest connections".to_owned(),
        Some(Policy::Source) => "by the client's address".to_owned(),
        Some(Policy::Header(name)) => format!("by the header {name} of the first request"),
    };
    match service.affinity {
        Some(time) => format!("{choice}, and a client stays for {} s", time.as_secs()),
        None => choice,
    }
}
