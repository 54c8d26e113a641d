//! Flows of datagrams that the kernel remembers: one that was given an endpoint goes there for as long
//! as it is not silent, also when that endpoint has gone. Such are forgotten, and their next datagram
//! is a flow of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{SocketFlags, netlink as protocols};

use super::words::Family;
use crate::netlink::{ACKNOWLEDGE, Batch, DUMP, ask, attribute, open, tell};

/// `NFNL_SUBSYS_CTNETLINK` with `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;

/// The length of netfilter's own header.
const NETFILTER: usize = 4;

const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PORTS: u16 = 2;
const SOURCE_4: u16 = 1;
const TARGET_4: u16 = 2;
const SOURCE_6: u16 = 3;
const TARGET_6: u16 = 4;
const PROTOCOL: u16 = 1;
const SOURCE_PORT: u16 = 2;
const TARGET_PORT: u16 = 3;

/// `NLA_F_NESTED`: the tuple is told as it came.
const NESTED: u16 = 0x8000;

/// `IPPROTO_UDP`.
const UDP: u8 = 17;

/// `IPS_DST_NAT`: it goes elsewhere than it was sent.
const SENT_ON: u32 = 1 << 5;

/// Where datagrams come to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Front {
    Address(SocketAddr),
    /// A port at each address of the node.
    Node(Family, u16),
}

/// Where they may end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Targets(BTreeSet<SocketAddr>),
    /// At this port of the node.
    Listener(u16),
}

impl Ends {
    /// Nowhere: the service is gone.
    pub(super) const NONE: Self = Self::Targets(BTreeSet::new());

    fn has(&self, end: SocketAddr) -> bool {
        match self {
            Self::Targets(targets) => targets.contains(&end),
            Self::Listener(port) => end.port() == *port,
        }
    }
}

/// What the kernel remembers of a flow: where it was sent, who answers, and whether these differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    sent: SocketAddr,
    answers: SocketAddr,
    sent_on: bool,
}

impl Flow {
    /// Reads it from the attributes of a message; nothing for what is no datagram's.
    fn read(told: &[u8]) -> Option<Self> {
        let number = |status: &[u8]| status.first_chunk().map(|it| u32::from_be_bytes(*it));
        Some(Self {
            sent: end(attribute(told, ORIGINAL)?, TARGET_4, TARGET_6, TARGET_PORT)?,
            answers: end(attribute(told, REPLY)?, SOURCE_4, SOURCE_6, SOURCE_PORT)?,
            sent_on: attribute(told, STATUS).and_then(number)? & SENT_ON != 0,
        })
    }

    /// Tells whether it goes where its service is not, or not any more.
    fn is_stale(&self, fronts: &BTreeMap<Front, Ends>) -> bool {
        let at_address = fronts.get(&Front::Address(self.sent));
        // at a node's port it may as well be another host's that has the same number
        let node = Front::Node(Family::of(self.sent.ip()), self.sent.port());
        let ends = at_address.or_else(|| fronts.get(&node).filter(|_| self.sent_on));
        ends.is_some_and(|ends| !ends.has(self.answers))
    }
}

fn end(tuple: &[u8], v4: u16, v6: u16, port: u16) -> Option<SocketAddr> {
    let (addresses, ports) = (attribute(tuple, TUPLE_ADDRESSES)?, attribute(tuple, TUPLE_PORTS)?);
    if attribute(ports, PROTOCOL)? != [UDP] {
        return None;
    }
    let v4 = attribute(addresses, v4).and_then(|it| it.first_chunk::<4>().copied());
    let v6 = || attribute(addresses, v6).and_then(|it| it.first_chunk::<16>().copied());
    let address = v4.map(IpAddr::from).or_else(|| v6().map(IpAddr::from))?;
    let port = u16::from_be_bytes(*attribute(ports, port)?.first_chunk()?);
    Some(SocketAddr::new(address, port))
}

/// Has the kernel forget all flows to these fronts that end elsewhere than they may; returns how many.
///
/// # Errors
/// When the kernel does not tell which there are.
pub(super) fn forget_stale(fronts: &BTreeMap<Front, Ends>) -> io::Result<usize> {
    if fronts.is_empty() {
        return Ok(0);
    }
    let socket = open(Some(protocols::NETFILTER), 0, SocketFlags::empty())?;
    let mut batch = Batch::default();
    batch.message(GET, DUMP, |body| body.raw(&[0; NETFILTER]));
    let mut stale = Vec::new();
    ask(&socket, &batch, |told| {
        let Some((head, flow)) = told.split_first_chunk::<NETFILTER>() else { return };
        if Flow::read(flow).is_some_and(|flow| flow.is_stale(fronts)) {
            stale.push((head[0], flow.to_vec()));
        }
    })?;
    let forgotten = stale.iter().filter(|(family, flow)| forget(&socket, *family, flow));
    Ok(forgotten.count())
}

/// Has the kernel forget one flow, if it is still that; returns whether it was there.
fn forget(socket: &OwnedFd, family: u8, flow: &[u8]) -> bool {
    let mut batch = Batch::default();
    batch.message(DELETE, ACKNOWLEDGE, |body| {
        body.raw(&[family, 0, 0, 0]);
        for (kind, flag) in [(ORIGINAL, NESTED), (ZONE, 0), (ID, 0)] {
            if let Some(value) = attribute(flow, kind) {
                body.put(kind | flag, value);
            }
        }
    });
    tell(socket, &batch).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(sent: &str, answers: &str) -> Flow {
        let (sent, answers) = (sent.parse().unwrap(), answers.parse().unwrap());
        Flow { sent, answers, sent_on: sent != answers }
    }

    #[test]
    fn a_flow_is_stale_where_its_service_is_not() {
        let targets = Ends::Targets(BTreeSet::from(["10.1.0.1:53".parse().unwrap()]));
        let fronts = BTreeMap::from([
            (Front::Address("10.96.0.7:53".parse().unwrap()), targets.clone()),
            (Front::Address("[fd00::7]:53".parse().unwrap()), Ends::Listener(4000)),
            (Front::Node(Family::V4, 30_053), targets),
            (Front::Address("10.96.0.8:53".parse().unwrap()), Ends::NONE),
        ]);
        for (sent, answers, expected) in [
            ("10.96.0.7:53", "10.1.0.1:53", false),
            ("10.96.0.7:53", "10.1.0.2:53", true),
            ("10.96.0.7:53", "10.96.0.7:53", true),
            ("10.96.0.7:54", "10.96.0.7:54", false),
            ("[fd00::7]:53", "[fd01::1]:4000", false),
            ("[fd00::7]:53", "[fd01::1]:53", true),
            ("192.0.2.1:30053", "10.1.0.2:53", true),
            ("192.0.2.1:30053", "10.1.0.1:53", false),
            ("198.51.100.1:30053", "198.51.100.1:30053", false),
            ("10.96.0.8:53", "10.1.0.1:53", true),
        ] {
            assert_eq!(flow(sent, answers).is_stale(&fronts), expected, "{sent} {answers}");
        }
    }
}
