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
    /// The zone whose endpoints are taken before those of others; nothing where all are alike.
    pub(crate) zone: Option<Box<str>>,
    /// How far it reaches.
    pub(crate) reach: Reach,
}

/// How near an endpoint is, as far as that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    Anywhere,
    Zone,
    Node,
}

impl Here {
    fn nearness(&self, endpoint: &Endpoint) -> Nearness {
        if self.prefer_same_node && endpoint.node.as_ref() == Some(&self.node) {
            Nearness::Node
        } else if self.zone.is_some() && endpoint.zone == self.zone {
            Nearness::Zone
        } else {
            Nearness::Anywhere
        }
    }

    /// Returns the node through whose end of the tunnel an endpoint is reached; nothing where it is
    /// reached directly.
    pub(crate) fn beyond(&self, endpoint: &Endpoint) -> Option<NodeId> {
        let other = endpoint.node.as_deref().filter(|node| *node != &*self.node)?;
        (!self.reach.has(endpoint.address)).then(|| NodeId::of(other))
    }
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
    let taken = endpoints.iter().filter(|it| able(it) && (ready(it) || !any_ready && it.serving));
    let nearest = taken.map(|it| here.nearness(it)).max().unwrap_or(Nearness::Anywhere);
    endpoints.iter().map(move |endpoint| {
        let Some(number) = number(endpoint, port) else { return Err("it has no such port") };
        if scope == Scope::Local && !local(endpoint) {
            return Err("it is on another node, and the service's traffic stays on its own");
        }
        if any_ready && !ready(endpoint) {
            return Err("it is not ready");
        }
        if !any_ready && !endpoint.serving {
            return Err("it is not ready and does not serve");
        }
        if here.nearness(endpoint) < nearest {
            return Err(match nearest {
                Nearness::Node => {
                    "it is on another node, and this node has endpoints, which are preferred"
                }
                Nearness::Zone | Nearness::Anywhere => {
                    "it is in another zone, and this node's has endpoints, which are preferred"
                }
            });
        }
        let address = SocketAddr::new(endpoint.address, number);
        Ok(Target { address, beyond: here.beyond(endpoint) })
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
