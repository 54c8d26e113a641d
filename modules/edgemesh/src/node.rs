//! Nodes as numbers that fit into the head of each packet. No IO.

use std::net::{Ipv6Addr, SocketAddr};

use ring::digest::{SHA256, digest};

/// How many bytes a number has. With so many no two names have the same number, not even if someone
/// looks for such a name.
pub(crate) const LENGTH: usize = 12;

/// What the addresses that stand for nodes begin with; none of them leaves this process.
const PREFIX: [u8; 4] = [0xfd, b'e', b'd', b'g'];

/// The port of such an address.
const PORT: u16 = 1;

/// A node: the beginning of its name's SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) [u8; LENGTH]);

impl NodeId {
    pub(crate) fn of(name: &str) -> Self {
        let digest = digest(&SHA256, name.as_bytes());
        let mut id = [0; LENGTH];
        id.copy_from_slice(&digest.as_ref()[..LENGTH]);
        Self(id)
    }

    /// Returns the address that stands for it where QUIC wants one.
    pub(crate) fn address(self) -> SocketAddr {
        let mut address = [0; 16];
        address[..PREFIX.len()].copy_from_slice(&PREFIX);
        address[PREFIX.len()..].copy_from_slice(&self.0);
        (Ipv6Addr::from(address), PORT).into()
    }

    /// Returns the node that an address stands for.
    pub(crate) fn of_address(address: SocketAddr) -> Option<Self> {
        let SocketAddr::V6(address) = address else { return None };
        let octets = address.ip().octets();
        let id = octets.strip_prefix(&PREFIX)?;
        Some(Self(id.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_an_address() {
        let [one, other] = ["edge1", "edge2"].map(NodeId::of);
        assert_ne!(one, other);
        assert_eq!(NodeId::of_address(one.address()), Some(one));
        assert_eq!(NodeId::of_address(([127, 0, 0, 1], 1).into()), None);
        assert_eq!(NodeId::of_address("[::1]:1".parse().unwrap()), None);
    }
}
