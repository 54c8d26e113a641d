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
mod tests {
    use super::*;
    use crate::targets::Reach;

    fn pool(network: &str) -> Option<Pool> {
        Pool::new(Network::parse(network).unwrap())
    }

    fn stand_ins(network: &str) -> StandIns {
        let direct = vec![Network::parse("192.168.1.0/24").unwrap()];
        let reach = Reach::Networks(direct);
        let here = Here { node: "edge1".into(), prefer_same_node: false, zone: None, reach };
        StandIns::new(pool(network).unwrap(), here)
    }

    fn pod(address: &str, node: &str) -> Endpoint {
        Endpoint {
            address: address.parse().unwrap(),
            node: Some(node.into()),
            zone: None,
            hostname: None,
            ready: true,
            serving: true,
            ports: Vec::new(),
            stand_in: None,
        }
    }

    #[test]
    fn each_pod_out_of_reach_has_its_own_and_keeps_it_over_a_restart() {
        let mut all = stand_ins("198.18.0.0/16");
        let network = Network::parse("198.18.0.0/16").unwrap();
        let one = all.of(&pod("10.88.0.2", "edge2")).unwrap();
        let other = all.of(&pod("10.88.0.2", "edge3")).unwrap();
        assert!(one != other && network.contains(one) && network.contains(other));
        assert_eq!(all.of(&pod("10.88.0.2", "edge2")), Some(one));
        assert_eq!(all.of(&pod("10.88.0.2", "edge1")), None, "this node's own");
        assert_eq!(all.of(&pod("192.168.1.7", "edge2")), None, "it is reached directly");
        let mut anew = stand_ins("198.18.0.0/16");
        assert_eq!(anew.of(&pod("10.88.0.2", "edge3")), Some(other), "whoever is asked for first");
    }

    #[test]
    fn no_two_pods_have_one_and_a_full_network_gives_none() {
        let mut all = stand_ins("198.18.0.77/24");
        let pods = (0..400).map(|it| pod(&format!("10.88.{}.{}", it / 200, it % 200), "edge2"));
        let given: Vec<_> = pods.filter_map(|pod| all.of(&pod)).collect();
        let distinct: BTreeSet<_> = given.iter().collect();
        assert!(given.len() > 150 && distinct.len() == given.len(), "{}", given.len());
        assert!(given.iter().all(|it| *it != IpAddr::from([198, 18, 0, 0])));
        assert!(given.iter().all(|it| *it != IpAddr::from([198, 18, 0, 255])));
    }

    #[test]
    fn networks_that_are_too_small_too_great_or_of_ipv6_are_none() {
        assert_eq!(pool("198.18.0.0/25"), None);
        assert_eq!(pool("0.0.0.0/7"), None);
        assert_eq!(pool("fd00::/16"), None);
    }
}
