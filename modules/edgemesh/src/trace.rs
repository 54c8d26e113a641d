//! What a connection to a name goes through, step by step, for the operator: the name is asked for as
//! a pod asks, the services are those of the node's database, what is decided is decided by the code
//! that decides for traffic, and the endpoints are tried.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::discovery::Discovery;
use crate::dns::{Found, find};
use crate::model::{Endpoint, Kind, Name, Policy, Port, Protocol, Service};
use crate::services::{Backed, Table};
use crate::targets::{Here, Reach, Scope, judged, targets};
use crate::traffic::policy;

/// How long an endpoint may take to accept.
const PATIENCE: Duration = Duration::from_secs(2);

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
    /// Whether the mesh carries traffic at all.
    carries: bool,
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
        let begin = Instant::now();
        let error = TcpStream::connect_timeout(&to, PATIENCE).err().map(|it| it.to_string());
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
    let table = Discovery::of_sets(stored);
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
        let Some(port) = port else {
            return Err(match asked.port {
                Some(number) => format!("{name} has no port {number}: a client is refused"),
                None => format!("{name} has no ports"),
            });
        };
        self.port = Some(words(port));
        let Asked { node, prefer_same_node, .. } = asked;
        let node = node.as_str().into();
        let here = Here { node, prefer_same_node: *prefer_same_node, reach: Reach::All };
        let scope = if service.local_only { Scope::Local } else { Scope::All };
        self.try_endpoints(service, port, endpoints, scope, &here);
        if matches!(service.kind, Kind::Headless) {
            self.path = Path::Direct;
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
            self.connection = Some(Attempt::make(SocketAddr::new(address, port.port)));
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
            let target = judgement.ok().filter(|_| port.protocol == Protocol::Tcp && tries < TRIES);
            tries += usize::from(target.is_some());
            self.endpoints.push(Tried {
                address: endpoint.address,
                node: endpoint.node.as_deref().map(str::to_owned),
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
        if tried().next().is_some() && tried().all(is_lost) {
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
        let is_it = |endpoint: &Endpoint| endpoint.address == address;
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
