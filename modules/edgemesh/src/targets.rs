//! Which of a service's endpoints traffic may go to: readiness, policy, topology. No IO.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use module_runtime::net::Network;

use crate::model::{Endpoint, Port, Service};
use crate::node::NodeId;

/// From how far away endpoints are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// From every node.
    All,
    /// From this node only.
    Local,
}

/// What is known of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Here {
    /// Its name.
    pub(crate) node: Box<str>,
    /// Whether endpoints of this node are taken before all others.
    pub(crate) prefer_same_node: bool,
    /// How far it reaches.
    pub(crate) reach: Reach,
}

/// Which endpoints of other nodes this node reaches by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All.
    #[default]
    All,
    /// Those in these networks; the others through the tunnel.
    Networks(Vec<Network>),
}

impl Reach {
    fn has(&self, address: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Networks(networks) => networks.iter().any(|network| network.contains(address)),
        }
    }
}

/// Where traffic may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// The node through whose end of the tunnel it is reached; two nodes may have pods of one
    /// address.
    pub(crate) beyond: Option<NodeId>,
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { address, beyond: None }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.beyond.is_some() { f.write_str(" through the tunnel") } else { Ok(()) }
    }
}

/// Returns where a port's traffic may go, in a fixed order, each once.
///
/// Endpoints that are ready; where none is, those that end but still serve.
pub(crate) fn targets(
    service: &Service,
    port: &Port,
    endpoints: &[Endpoint],
    scope: Scope,
    here: &Here,
) -> Vec<Target> {
    let judged = judged(service, port, endpoints, scope, here);
    let mut targets: Vec<Target> = judged.filter_map(Result::ok).collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// Returns for each endpoint where traffic may go, or why it does not go there.
pub(crate) fn judged(
    service: &Service,
    port: &Port,
    endpoints: &[Endpoint],
    scope: Scope,
    here: &Here,
) -> impl Iterator<Item = Result<Target, &'static str>> {
    let local = |endpoint: &Endpoint| endpoint.node.as_ref() == Some(&here.node);
    let ready = |endpoint: &Endpoint| endpoint.ready || service.publish_not_ready;
    let able = |endpoint: &Endpoint| {
        let near = scope == Scope::All || local(endpoint);
        near && number(endpoint, port).is_some()
    };
    let any_ready = endpoints.iter().any(|it| able(it) && ready(it));
    let prefers = any_ready
        && here.prefer_same_node
        && endpoints.iter().any(|it| able(it) && ready(it) && local(it));
    endpoints.iter().map(move |endpoint| {
        let Some(number) = number(endpoint, port) else { return Err("it has no such port") };
        if scope == Scope::Local && !local(endpoint) {
            return Err("it is on another node, and the service's traffic stays on its own");
        }
        if any_ready && !ready(endpoint) {
            return Err("it is not ready");
        }
        if prefers && !local(endpoint) {
            return Err("it is on another node, and this node has endpoints, which are preferred");
        }
        if !any_ready && !endpoint.serving {
            return Err("it is not ready and does not serve");
        }
        let address = SocketAddr::new(endpoint.address, number);
        let other = endpoint.node.as_deref().filter(|node| *node != &*here.node);
        let beyond = other.filter(|_| !here.reach.has(endpoint.address)).map(NodeId::of);
        Ok(Target { address, beyond })
    })
}

/// Returns the number of the service's port at an endpoint.
fn number(endpoint: &Endpoint, port: &Port) -> Option<u16> {
    let same = |(name, protocol, _): &&(Box<str>, _, u16)| {
        *name == port.name && *protocol == port.protocol
    };
    endpoint.ports.iter().find(same).map(|&(_, _, number)| number)
}

#[cfg(test)]
mod tests;
