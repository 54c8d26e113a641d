//! The expressions of which nf_tables' rules are made, as the kernel reads them.
//!
//! An expression loads something into registers, compares or looks up what is there, or acts on the
//! packet. Registers have four bytes each; what is longer takes those that follow.

use std::net::{IpAddr, SocketAddr};

use super::words::{Element, Family, Verdict};
use crate::model::Protocol;
use crate::netlink::Body;

/// The first register (`NFT_REG32_00`).
pub(super) const REGISTER: u32 = 8;

const LIST_ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// `NFT_JUMP`, `NFT_GOTO` and `NF_DROP`.
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const DROP: i32 = 0;

/// Keys of `meta`: the mark, the family and the protocol of a packet.
pub(super) const MARK: u32 = 3;
const FAMILY: u32 = 15;
const PROTOCOL: u32 = 16;

/// Where `payload` begins.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
const FULLY_RANDOM: u32 = 1 << 4;

/// `IPS_DST_NAT`.
const SENT_ON: u32 = 1 << 5;

/// `RTN_LOCAL`.
const LOCAL: u32 = 2;

/// The chain that tells clients that there is nothing.
pub(super) const REFUSE: &str = "refuse";

/// Writes where traffic goes.
pub(super) fn verdict(body: &mut Body<'_>, verdict: &Verdict) {
    match verdict {
        Verdict::Goto(chain) => to_chain(body, GOTO, chain),
        Verdict::Refuse => to_chain(body, GOTO, REFUSE),
        Verdict::Drop => {
            body.nest(VERDICT, |inner| inner.put(VERDICT_CODE, &DROP.to_be_bytes()));
        }
    }
}

fn to_chain(body: &mut Body<'_>, code: i32, chain: &str) {
    body.nest(VERDICT, |inner| {
        inner.put(VERDICT_CODE, &code.to_be_bytes());
        inner.text(VERDICT_CHAIN, chain);
    });
}

/// The number of a protocol of the Internet's.
const fn protocol(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Returns an element's key: its parts, each filled up to registers.
pub(super) fn key(element: Element) -> Vec<u8> {
    let port = |of: Protocol, port: u16| {
        let [high, low] = port.to_be_bytes();
        [protocol(of), 0, 0, 0, high, low, 0, 0]
    };
    match element {
        Element::Service(at, of, number) => [&address(at)[..], &port(of, number)].concat(),
        Element::Port(_, of, number) | Element::Listener(of, number) => port(of, number).to_vec(),
        Element::Address(at) => address(at),
        Element::Hairpin(at) => [address(at), address(at)].concat(),
    }
}

/// Returns an address and a port, filled up to registers.
pub(super) fn end(target: SocketAddr) -> Vec<u8> {
    let [high, low] = target.port().to_be_bytes();
    [&address(target.ip())[..], &[high, low, 0, 0]].concat()
}

/// The registers that an address takes.
const fn registers(family: Family) -> u32 {
    match family {
        Family::V4 => 1,
        Family::V6 => 4,
    }
}

/// The expressions of one rule.
#[derive(Debug)]
pub(super) struct Expressions<'a, 'b>(pub(super) &'a mut Body<'b>);

impl Expressions<'_, '_> {
    fn expression(&mut self, name: &str, numbers: &[(u16, u32)]) {
        self.with(name, |body| numbers.iter().for_each(|(kind, it)| body.number(*kind, *it)));
    }

    fn with(&mut self, name: &str, inner: impl FnOnce(&mut Body<'_>)) {
        self.0.nest(LIST_ELEMENT, |body| {
            body.text(NAME, name);
            body.nest(DATA, inner);
        });
    }

    /// Goes on if a register has this value.
    fn is(&mut self, register: u32, value: &[u8]) {
        self.compare(register, 0, value);
    }

    /// Goes on if a register has another value.
    pub(super) fn is_not(&mut self, register: u32, value: &[u8]) {
        self.compare(register, 1, value);
    }

    fn compare(&mut self, register: u32, how: u32, value: &[u8]) {
        self.with("cmp", |body| {
            body.number(1, register);
            body.number(2, how);
            body.nest(3, |body| body.put(VALUE, value));
        });
    }

    /// Loads what the kernel knows of the packet.
    pub(super) fn meta(&mut self, key: u32, register: u32) {
        self.expression("meta", &[(2, key), (1, register)]);
    }

    /// Goes on for packets of a family.
    pub(super) fn is_family(&mut self, family: Family) {
        self.meta(FAMILY, REGISTER);
        // NFPROTO_IPV4 and NFPROTO_IPV6
        self.is(
            REGISTER,
            match family {
                Family::V4 => &[2],
                Family::V6 => &[10],
            },
        );
    }

    /// Goes on for packets of a protocol.
    pub(super) fn is_protocol(&mut self, of: Protocol) {
        self.meta(PROTOCOL, REGISTER);
        self.is(REGISTER, &[protocol(of)]);
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        self.expression("payload", &[(1, register), (2, base), (3, offset), (4, length)]);
    }

    /// Loads the address from which a packet of a family comes; goes on for such only.
    pub(super) fn source(&mut self, family: Family, register: u32) {
        self.is_family(family);
        match family {
            Family::V4 => self.payload(NETWORK, 12, 4, register),
            Family::V6 => self.payload(NETWORK, 8, 16, register),
        }
    }

    fn target_address(&mut self, family: Family, register: u32) {
        match family {
            Family::V4 => self.payload(NETWORK, 16, 4, register),
            Family::V6 => self.payload(NETWORK, 24, 16, register),
        }
    }

    /// Loads the address to which a packet of a family goes; goes on for such only.
    pub(super) fn destination(&mut self, family: Family) {
        self.is_family(family);
        self.target_address(family, REGISTER);
    }

    /// Loads both addresses.
    pub(super) fn both_addresses(&mut self, family: Family) {
        self.source(family, REGISTER);
        self.target_address(family, REGISTER + registers(family));
    }

    /// Loads the protocol and the port to which a packet goes.
    pub(super) fn port(&mut self, register: u32) {
        self.meta(PROTOCOL, register);
        self.payload(TRANSPORT, 2, 2, register + 1);
    }

    /// Loads what a map of services is asked for.
    pub(super) fn service(&mut self, family: Family) {
        self.destination(family);
        self.port(REGISTER + registers(family));
    }

    /// Goes on for packets to an address of this host but the loopback.
    pub(super) fn is_local(&mut self, family: Family) {
        self.is_family(family);
        match family {
            Family::V4 => {
                self.payload(NETWORK, 16, 1, REGISTER);
                self.is_not(REGISTER, &[127]);
            }
            Family::V6 => {
                self.target_address(family, REGISTER);
                self.is_not(REGISTER, &1_u128.to_be_bytes());
            }
        }
        // the type of the address that the packet goes to
        self.expression("fib", &[(3, 2), (2, 3), (1, REGISTER)]);
        self.is(REGISTER, &LOCAL.to_ne_bytes());
    }

    /// Looks up what is in a register: goes on if a set has it, loads what a map has for it. Into
    /// register 0 it goes where the map says.
    pub(super) fn look_up(&mut self, set: &str, id: Option<u32>, from: u32, into: Option<u32>) {
        self.with("lookup", |body| {
            body.text(1, set);
            body.number(2, from);
            if let Some(into) = into {
                body.number(3, into);
            }
            if let Some(id) = id {
                body.number(4, id);
            }
        });
    }

    pub(super) fn goto(&mut self, chain: &str) {
        self.act(GOTO, chain);
    }

    pub(super) fn jump(&mut self, chain: &str) {
        self.act(JUMP, chain);
    }

    fn act(&mut self, code: i32, chain: &str) {
        self.with("immediate", |body| {
            body.number(1, 0);
            body.nest(2, |body| to_chain(body, code, chain));
        });
    }

    /// Draws a number under a bound.
    pub(super) fn number(&mut self, bound: usize) {
        let bound = u32::try_from(bound).unwrap_or(u32::MAX);
        self.expression("numgen", &[(1, REGISTER), (2, bound), (3, 1), (4, 0)]);
    }

    fn immediate(&mut self, register: u32, value: &[u8]) {
        self.with("immediate", |body| {
            body.number(1, register);
            body.nest(2, |body| body.put(VALUE, value));
        });
    }

    /// Loads one target.
    pub(super) fn target(&mut self, target: SocketAddr) {
        self.immediate(REGISTER, &address(target.ip()));
        let register = REGISTER + registers(Family::of(target.ip()));
        self.immediate(register, &target.port().to_be_bytes());
    }

    /// Sends the connection to the target that is loaded.
    pub(super) fn send(&mut self, family: Family) {
        let port = REGISTER + registers(family);
        let number = match family {
            Family::V4 => 2,
            Family::V6 => 10,
        };
        self.expression("nat", &[(1, 1), (2, number), (3, REGISTER), (5, port)]);
    }

    /// Sends the connection to a port of this host.
    pub(super) fn redirect(&mut self, port: u16) {
        self.immediate(REGISTER, &port.to_be_bytes());
        self.expression("redir", &[(1, REGISTER)]);
    }

    /// Remembers the client in a set, for as long as that says.
    pub(super) fn remember(&mut self, family: Family, set: &str) {
        self.source(family, REGISTER);
        self.with("dynset", |body| {
            body.number(4, REGISTER);
            body.number(3, 1);
            body.text(1, set);
        });
    }

    /// The node takes the sender's place.
    pub(super) fn masquerade(&mut self) {
        self.expression("masq", &[(1, FULLY_RANDOM)]);
    }

    /// Changes bits of a register: keeps those of the mask, then turns those that are given.
    pub(super) fn bits(&mut self, mask: u32, turn: u32) {
        self.with("bitwise", |body| {
            body.number(1, REGISTER);
            body.number(2, REGISTER);
            body.number(3, 4);
            body.nest(4, |body| body.put(VALUE, &mask.to_ne_bytes()));
            body.nest(5, |body| body.put(VALUE, &turn.to_ne_bytes()));
        });
    }

    /// Sets the packet's mark.
    pub(super) fn set_mark(&mut self) {
        self.expression("meta", &[(2, MARK), (3, REGISTER)]);
    }

    /// Goes on for connections that are sent on to another target, or for those that are not.
    pub(super) fn is_sent_on(&mut self, is: bool) {
        self.expression("ct", &[(2, 2), (1, REGISTER)]);
        self.bits(SENT_ON, 0);
        self.compare(REGISTER, u32::from(is), &[0; 4]);
    }

    /// Tells the client that there is nothing: by a reset.
    pub(super) fn reset(&mut self) {
        self.reject(1, 0);
    }

    /// Tells the client that there is nothing: that the port is unreachable.
    pub(super) fn unreachable(&mut self) {
        self.reject(2, 1);
    }

    fn reject(&mut self, how: u32, code: u8) {
        self.with("reject", |body| {
            body.number(1, how);
            body.put(2, &[code]);
        });
    }
}
