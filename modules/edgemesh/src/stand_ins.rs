//! Addresses that stand on this node for pods that it cannot reach: whoever asks for a pod of a
//! headless service is given one, and what is sent there goes through the tunnel. No IO.
//!
//! Two nodes may have pods of one address, and this node one of its own too, so that their own
//! addresses would not do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use module_runtime::net::Network;
use ring::digest::{SHA256, digest};

use crate::model::Endpoint;
use crate::node::NodeId;
use crate::targets::Here;

/// How many addresses are looked at until one is free.
const LOOKS: u32 = 64;

/// The shortest and the longest beginning that the network's addresses may have in common, in bits.
const BITS: std::ops::RangeInclusive<u8> = 8..=24;

/// A network that is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    network: Network,
    first: u32,
    /// How many addresses there are: a power of two.
    count: u32,
}

impl Pool {
    /// Takes a network of IPv4; nothing when it is another, or of another size.
    pub(crate) fn new(network: Network) -> Option<Self> {
        let (IpAddr::V4(address), bits) = (network.address(), network.bits()) else { return None };
        let count = BITS.contains(&bits).then(|| 1 << (32 - u32::from(bits)))?;
        Some(Self { network, first: address.to_bits() & !(count - 1), count })
    }

    /// Returns an address, of which neither the first nor the last is one.
    const fn at(self, place: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first + 1 + place % (self.count - 2))
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.network.fmt(f)
    }
}

/// The addresses that were given out. None is given to another pod as long as this process lives, so
/// that who remembers one never comes to another pod.
#[derive(Debug)]
pub(crate) struct StandIns {
    pool: Pool,
    here: Here,
    given: BTreeMap<(NodeId, IpAddr), Ipv4Addr>,
    taken: BTreeSet<Ipv4Addr>,
}

impl StandIns {
    pub(crate) const fn new(pool: Pool, here: Here) -> Self {
        Self { pool, here, given: BTreeMap::new(), taken: BTreeSet::new() }
    }

    /// Returns what stands for an endpoint; nothing for one that this node reaches, or when there is
    /// no room.
    pub(crate) fn of(&mut self, endpoint: &Endpoint) -> Option<IpAddr> {
        let pod = (self.here.beyond(endpoint)?, endpoint.address);
        if let Some(given) = self.given.get(&pod) {
            return Some((*given).into());
        }
        // the same after a restart, as long as no other pod has it
        let place = place_of(&pod);
        let mut places = (0..LOOKS).map(|look| self.pool.at(place.wrapping_add(look)));
        let free = places.find(|address| !self.taken.contains(address))?;
        self.taken.insert(free);
        self.given.insert(pod, free);
        Some(free.into())
    }
}

fn place_of((node, address): &(NodeId, IpAddr)) -> u32 {
    let text = [&node.0[..], address.to_string().as_bytes()].concat();
    let hash = digest(&SHA256, &text);
    hash.as_ref().iter().take(4).fold(0, |place, byte| place << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests;
