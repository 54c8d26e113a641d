//! What stands in the table whatever services there are.
//!
//! The chains look at the first packet of a connection, before those of others at the usual
//! priorities.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::expressions::{MARK, REFUSE, REGISTER};
use super::transaction::Transaction;
use super::words::{Element, Family};
use crate::model::Protocol;

/// The chain that has the node take the sender's place at the end.
pub(super) const LATER: &str = "snat-later";

/// The bit of the mark by which Kubernetes asks for that.
const ASKED: u32 = 0x4000;

/// The chain that finds the service.
const DISPATCH: &str = "dispatch";

/// The hooks of nf_tables, in the order in which packets pass them.
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// Writes it into a table that is empty.
pub(super) fn write(to: &mut Transaction) {
    let (tcp, any4, any6) = (Protocol::Tcp, Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    for any in [IpAddr::from(any4), any6.into()] {
        to.shared(Element::Service(any, tcp, 0));
        to.shared(Element::Port(Family::of(any), tcp, 0));
        to.shared(Element::Address(any));
        to.shared(Element::Hairpin(any));
    }
    to.shared(Element::Listener(tcp, 0));
    to.chain(REFUSE, None);
    to.rule(REFUSE, |rule| {
        rule.is_protocol(tcp);
        rule.reset();
    });
    to.rule(REFUSE, |rule| rule.unreachable());
    to.chain(LATER, None);
    to.rule(LATER, |rule| {
        rule.meta(MARK, REGISTER);
        rule.bits(!ASKED, ASKED);
        rule.set_mark();
    });
    dispatch(to);
    to.chain("prerouting", Some(("nat", PREROUTING, -105)));
    to.rule("prerouting", |rule| rule.goto(DISPATCH));
    to.chain("output", Some(("nat", OUTPUT, -105)));
    to.rule("output", |rule| rule.goto(DISPATCH));
    postrouting(to);
    to.chain("input", Some(("filter", INPUT, -1)));
    to.rule("input", |rule| {
        rule.port(REGISTER);
        rule.look_up("listeners", None, REGISTER, None);
        rule.is_sent_on(false);
        rule.goto(REFUSE);
    });
}

fn dispatch(to: &mut Transaction) {
    to.chain(DISPATCH, None);
    for (family, map) in Family::BOTH.into_iter().zip(["services4", "services6"]) {
        to.rule(DISPATCH, |rule| {
            rule.service(family);
            rule.look_up(map, None, REGISTER, Some(0));
        });
    }
    for (family, set) in Family::BOTH.into_iter().zip(["addresses4", "addresses6"]) {
        to.rule(DISPATCH, |rule| {
            rule.destination(family);
            rule.look_up(set, None, REGISTER, None);
            rule.goto(REFUSE);
        });
    }
    for (family, map) in Family::BOTH.into_iter().zip(["ports4", "ports6"]) {
        to.rule(DISPATCH, |rule| {
            rule.is_local(family);
            rule.port(REGISTER);
            rule.look_up(map, None, REGISTER, Some(0));
        });
    }
}

fn postrouting(to: &mut Transaction) {
    to.chain("postrouting", Some(("nat", POSTROUTING, 95)));
    to.rule("postrouting", |rule| {
        rule.meta(MARK, REGISTER);
        rule.bits(ASKED, 0);
        rule.is_not(REGISTER, &[0; 4]);
        rule.meta(MARK, REGISTER);
        rule.bits(u32::MAX, ASKED);
        rule.set_mark();
        rule.masquerade();
    });
    for (family, set) in Family::BOTH.into_iter().zip(["hairpin4", "hairpin6"]) {
        to.rule("postrouting", |rule| {
            rule.is_sent_on(true);
            rule.both_addresses(family);
            rule.look_up(set, None, REGISTER, None);
            rule.masquerade();
        });
    }
}
