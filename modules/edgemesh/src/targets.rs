//! Which of a service's endpoints traffic may go to: readiness, policy, topology. No IO.

use std::net::SocketAddr;

use crate::model::{Endpoint, Port, Service};

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
) -> Vec<SocketAddr> {
    let local = |endpoint: &&Endpoint| endpoint.node.as_ref() == Some(&here.node);
    let ready = |endpoint: &&Endpoint| endpoint.ready || service.publish_not_ready;
    let mut chosen: Vec<&Endpoint> = endpoints
        .iter()
        .filter(|endpoint| scope == Scope::All || local(endpoint))
        .filter(|endpoint| number(endpoint, port).is_some())
        .collect();
    if chosen.iter().any(&ready) {
        chosen.retain(ready);
        if here.prefer_same_node && chosen.iter().any(&local) {
            chosen.retain(local);
        }
    } else {
        chosen.retain(|endpoint| endpoint.serving);
    }
    let address = |endpoint: &Endpoint| {
        number(endpoint, port).map(|number| SocketAddr::new(endpoint.address, number))
    };
    let mut targets: Vec<SocketAddr> = chosen.into_iter().filter_map(address).collect();
    targets.sort_unstable();
    targets.dedup();
    targets
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
