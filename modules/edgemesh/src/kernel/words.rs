//! The words of nftables: families, elements, rules, the steps of a transaction, and names. No IO.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use crate::model::{Name, Port, Protocol};

/// The longest readable part of a name; the kernel takes names of up to 127 bytes.
const READABLE: usize = 90;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
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

    pub(super) const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// The name of a chain or of a service's own set.
pub(crate) type Label = Rc<str>;

/// What stands in the sets and maps that all services share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Element {
    /// A port at an address, with its verdict.
    Service(IpAddr, Protocol, u16),
    /// A port at each address of the node, with its verdict.
    Port(Family, Protocol, u16),
    /// An address of which all other ports are refused.
    Address(IpAddr),
    /// An endpoint, which may reach itself.
    Hairpin(IpAddr),
    /// A port of the proxy's, which is not to be reached otherwise.
    Listener(Protocol, u16),
}

impl Element {
    /// Returns the name of the set or map that has it.
    pub(super) const fn set(self) -> &'static str {
        match self {
            Self::Service(IpAddr::V4(_), ..) => "services4",
            Self::Service(IpAddr::V6(_), ..) => "services6",
            Self::Port(Family::V4, ..) => "ports4",
            Self::Port(Family::V6, ..) => "ports6",
            Self::Address(IpAddr::V4(_)) => "addresses4",
            Self::Address(IpAddr::V6(_)) => "addresses6",
            Self::Hairpin(IpAddr::V4(_)) => "hairpin4",
            Self::Hairpin(IpAddr::V6(_)) => "hairpin6",
            Self::Listener(..) => "listeners",
        }
    }
}

/// Where traffic goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// To the chain that says more.
    Goto(Label),
    /// Nowhere, and nobody is told.
    Drop,
    /// Nowhere, and the client is told.
    Refuse,
}

/// A rule of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// To one of these, at random; before that the client is remembered in the set, where there is one.
    Send { family: Family, protocol: Protocol, targets: Vec<SocketAddr>, remember: Option<Label> },
    /// To a port of this host.
    Redirect { protocol: Protocol, port: u16 },
    /// Clients that the set remembers go to the chain.
    Known { family: Family, set: Label, chain: Label },
    /// To one of these chains, at random.
    Choose(Vec<Label>),
    /// The node takes the client's place, at the end.
    Masquerade,
    /// To a chain.
    Goto(Label),
}

/// A step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The table goes, which need not be there.
    Remove,
    /// The table comes, with what stands in it whatever services there are.
    Make,
    /// A set of clients comes, each of which is forgotten after so many seconds.
    Clients(Label, Family, u64),
    Chain(Label),
    Flush(Label),
    Rule(Label, Rule),
    /// Elements of one set come, each with its verdict where the set is a map.
    Put(Vec<(Element, Option<Verdict>)>),
    /// Elements of one set go.
    Take(Vec<Element>),
    RemoveChain(Label),
    RemoveClients(Label),
}

const fn protocol(protocol: Protocol) -> &'static str {
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
        // whatever a cluster's object is called, for who lists the table it is a word
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
