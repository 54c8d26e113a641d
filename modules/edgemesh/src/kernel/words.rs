//! The words of nftables: families, protocols, and names that are safe in a script. No IO.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};

use crate::model::{Name, Port, Protocol};

/// The longest readable part of a name; the kernel takes names of up to 127 bytes.
const READABLE: usize = 90;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn has(self, address: IpAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }

    /// What stands in names.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// The protocol's name in rules.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// The type of an address.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_addr",
            Self::V6 => "ipv6_addr",
        }
    }

    /// The name of this family's set of a kind.
    pub(super) fn set(self, kind: &str) -> String {
        format!("{kind}{}", self.number())
    }
}

pub(super) const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// A name for a port of a service: a hash, which tells all apart, and a part to be read.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    hash: u64,
    readable: String,
}

impl Identity {
    pub(super) fn new(name: &Name, port: &Port) -> Self {
        let protocol = protocol(port.protocol);
        let full = format!("{}/{}/{protocol}/{}", name.namespace, name.name, port.port);
        // whatever a cluster's object is called, in a script it is a word
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-./".contains(c) { c } else { '_' };
        Self { hash: hash(&full), readable: full.chars().take(READABLE).map(safe).collect() }
    }

    /// With the part to be read.
    pub(super) fn long(&self) -> String {
        format!("{:016x}/{}", self.hash, self.readable)
    }

    /// For what belongs to one target of the port and a time-out.
    pub(super) fn of_target(&self, target: SocketAddr, seconds: u64) -> String {
        let full = format!("{:016x}/{target}/{seconds}", self.hash);
        format!("{:016x}/{}", hash(&full), self.readable)
    }
}

/// The same for the same text as long as this process lives; a new one replaces the whole table.
fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
