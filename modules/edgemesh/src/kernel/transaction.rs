//! The steps of a transaction as messages of nf_tables(7)'s netlink, which the kernel carries out all
//! or none of.

use std::net::IpAddr;

use super::expressions::{Expressions, REGISTER, end, key, verdict};
use super::skeleton;
use super::words::{Element, Family, Rule, Step, Verdict};
use crate::netlink::{ACKNOWLEDGE, APPEND, Batch, Body, CREATE};

/// `NFNL_SUBSYS_NFTABLES`, as it stands in each message's type.
pub(super) const SUBSYSTEM: u16 = 10;

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`.
const BEGIN: u16 = 16;
const END: u16 = 17;

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;

/// The table's name.
pub(super) const NAME: &str = "edgemesh";

/// `NFPROTO_INET`: both families.
const INET: u8 = 1;

/// Every object's first attribute.
const TABLE: u16 = 1;

const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LENGTH: u16 = 7;
const SET_DESCRIPTION: u16 = 9;
const SET_ID: u16 = 10;
const SET_TIMEOUT: u16 = 11;
const SET_USER_DATA: u16 = 13;
const DESCRIPTION_SIZE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS_LIST: u16 = 3;
const ELEMENTS_ID: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const VALUE: u16 = 1;

/// What a set is: `NFT_SET_ANONYMOUS`, `_CONSTANT`, `_MAP`, `_TIMEOUT` and `_EVAL`.
const ANONYMOUS: u32 = 0x1;
const CONSTANT: u32 = 0x2;
const MAP: u32 = 0x8;
const EXPIRES: u32 = 0x10;
const DYNAMIC: u32 = 0x20;

/// A map's data is a verdict (`NFT_DATA_VERDICT`).
const VERDICTS: u32 = 0xffff_ff00;

/// The name of a map that only its rule knows; the kernel puts a number in it.
const UNNAMED: &str = "__map%d";

/// What the program nft calls the types of keys, for whoever lists the table with it.
const INTEGER: u32 = 4;
const ADDRESS_4: u32 = 7;
const ADDRESS_6: u32 = 8;
const PROTOCOL: u32 = 12;
const PORT: u32 = 13;

/// What it has to know to write the keys and data of an unnamed map: the keys are numbers of this
/// host, the data is as on the wire.
const BYTE_ORDER: [u8; 12] = {
    let [host, wire] = [1_u32.to_ne_bytes(), 2_u32.to_ne_bytes()];
    [0, 4, host[0], host[1], host[2], host[3], 1, 4, wire[0], wire[1], wire[2], wire[3]]
};

/// How many clients stay with one endpoint at most.
const CLIENTS: u32 = 65_536;

/// Writes the steps as one transaction, each under its place, from one on.
pub(super) fn encode(steps: &[Step]) -> Batch {
    let mut transaction = Transaction { batch: Batch::default(), maps: 0 };
    transaction.bound(BEGIN, ACKNOWLEDGE);
    for step in steps {
        transaction.batch.sequence += 1;
        transaction.step(step);
    }
    transaction.bound(END, 0);
    transaction.batch
}

/// How a hook's chain is made: its type, its hook and its priority.
pub(super) type Hook = (&'static str, u32, i32);

/// A transaction in the making.
pub(super) struct Transaction {
    batch: Batch,
    /// The sets that were made in it.
    maps: u32,
}

impl Transaction {
    fn bound(&mut self, kind: u16, flags: u16) {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        self.batch.message(kind, flags, |body| body.raw(&[0, 0, high, low]));
    }

    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Body<'_>)) {
        self.batch.message(SUBSYSTEM << 8 | kind, flags, |message| {
            message.raw(&[INET, 0, 0, 0]);
            message.text(TABLE, NAME);
            body(message);
        });
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Remove => {
                self.message(NEW_TABLE, CREATE, |_| {});
                self.message(DELETE_TABLE, 0, |_| {});
            }
            Step::Make => {
                self.message(NEW_TABLE, CREATE, |_| {});
                skeleton::write(self);
            }
            Step::Clients(name, family, seconds) => self.clients(name, *family, *seconds),
            Step::Chain(name) => self.chain(name, None),
            Step::Flush(name) => self.message(DELETE_RULE, 0, |body| body.text(RULE_CHAIN, name)),
            Step::Rule(chain, rule) => self.service_rule(chain, rule),
            Step::Put(elements) => self.put(elements),
            Step::Take(elements) => self.take(elements),
            Step::RemoveChain(name) => {
                self.message(DELETE_CHAIN, 0, |body| body.text(CHAIN_NAME, name));
            }
            Step::RemoveClients(name) => {
                self.message(DELETE_SET, 0, |body| body.text(SET_NAME, name));
            }
        }
    }

    /// Makes a chain; one with a hook sees packets by itself.
    pub(super) fn chain(&mut self, name: &str, hook: Option<Hook>) {
        self.message(NEW_CHAIN, CREATE, |body| {
            body.text(CHAIN_NAME, name);
            if let Some((kind, number, priority)) = hook {
                body.nest(CHAIN_HOOK, |hook| {
                    hook.number(HOOK_NUMBER, number);
                    hook.put(HOOK_PRIORITY, &priority.to_be_bytes());
                });
                body.text(CHAIN_TYPE, kind);
            }
        });
    }

    /// Appends a rule to a chain.
    pub(super) fn rule(&mut self, chain: &str, write: impl FnOnce(&mut Expressions<'_, '_>)) {
        self.message(NEW_RULE, CREATE | APPEND, |body| {
            body.text(RULE_CHAIN, chain);
            body.nest(RULE_EXPRESSIONS, |body| write(&mut Expressions(body)));
        });
    }

    /// Makes a shared set, or a map of verdicts.
    pub(super) fn shared(&mut self, element: Element) {
        let is_map = matches!(element, Element::Service(..) | Element::Port(..));
        let mut kind = 0;
        let mut length = 0;
        for part in types(element) {
            kind = kind << 6 | part;
            length += if *part == ADDRESS_6 { 16 } else { 4 };
        }
        let id = self.next_map();
        self.message(NEW_SET, CREATE, |body| {
            body.text(SET_NAME, element.set());
            body.number(SET_FLAGS, if is_map { MAP } else { 0 });
            body.number(SET_KEY_TYPE, kind);
            body.number(SET_KEY_LENGTH, length);
            if is_map {
                body.number(SET_DATA_TYPE, VERDICTS);
            }
            body.number(SET_ID, id);
        });
    }

    fn clients(&mut self, name: &str, family: Family, seconds: u64) {
        let (kind, length) = match family {
            Family::V4 => (ADDRESS_4, 4),
            Family::V6 => (ADDRESS_6, 16),
        };
        let id = self.next_map();
        self.message(NEW_SET, CREATE, |body| {
            body.text(SET_NAME, name);
            body.number(SET_FLAGS, EXPIRES | DYNAMIC);
            body.number(SET_KEY_TYPE, kind);
            body.number(SET_KEY_LENGTH, length);
            body.nest(SET_DESCRIPTION, |inner| inner.number(DESCRIPTION_SIZE, CLIENTS));
            body.number(SET_ID, id);
            body.put(SET_TIMEOUT, &seconds.saturating_mul(1000).to_be_bytes());
        });
    }

    const fn next_map(&mut self) -> u32 {
        self.maps += 1;
        self.maps
    }

    fn put(&mut self, elements: &[(Element, Option<Verdict>)]) {
        let Some((first, _)) = elements.first() else { return };
        self.message(NEW_ELEMENTS, CREATE, |body| {
            body.text(ELEMENTS_SET, first.set());
            body.nest(ELEMENTS_LIST, |list| {
                for (element, to) in elements {
                    list.nest(LIST_ELEMENT, |body| {
                        body.nest(ELEMENT_KEY, |body| body.put(VALUE, &key(*element)));
                        if let Some(to) = to {
                            body.nest(ELEMENT_DATA, |body| verdict(body, to));
                        }
                    });
                }
            });
        });
    }

    fn take(&mut self, elements: &[Element]) {
        let Some(first) = elements.first() else { return };
        self.message(DELETE_ELEMENTS, 0, |body| {
            body.text(ELEMENTS_SET, first.set());
            body.nest(ELEMENTS_LIST, |list| {
                for element in elements {
                    list.nest(LIST_ELEMENT, |body| {
                        body.nest(ELEMENT_KEY, |body| body.put(VALUE, &key(*element)));
                    });
                }
            });
        });
    }

    /// Makes a map that one rule has, from numbers to the data that is given; returns its id.
    fn unnamed(
        &mut self,
        count: usize,
        of: impl Fn(&mut Body<'_>),
        data: impl Fn(usize, &mut Body<'_>),
    ) -> u32 {
        let id = self.next_map();
        let size = u32::try_from(count).unwrap_or(u32::MAX);
        self.message(NEW_SET, CREATE, |body| {
            body.text(SET_NAME, UNNAMED);
            body.number(SET_FLAGS, ANONYMOUS | CONSTANT | MAP);
            body.number(SET_KEY_TYPE, INTEGER);
            body.number(SET_KEY_LENGTH, 4);
            of(body);
            body.nest(SET_DESCRIPTION, |inner| inner.number(DESCRIPTION_SIZE, size));
            body.number(SET_ID, id);
            body.put(SET_USER_DATA, &BYTE_ORDER);
        });
        let all: Vec<usize> = (0..count).collect();
        for some in all.chunks(ELEMENTS) {
            self.message(NEW_ELEMENTS, CREATE, |body| {
                body.text(ELEMENTS_SET, UNNAMED);
                body.number(ELEMENTS_ID, id);
                body.nest(ELEMENTS_LIST, |list| {
                    for number in some {
                        let key = u32::try_from(*number).unwrap_or(u32::MAX).to_ne_bytes();
                        list.nest(LIST_ELEMENT, |body| {
                            body.nest(ELEMENT_KEY, |body| body.put(VALUE, &key));
                            body.nest(ELEMENT_DATA, |body| data(*number, body));
                        });
                    }
                });
            });
        }
        id
    }

    fn service_rule(&mut self, chain: &str, rule: &Rule) {
        match rule {
            Rule::Send { family, protocol, targets, remember } => {
                let id = (targets.len() > 1).then(|| {
                    let (kind, length) = match family {
                        Family::V4 => (ADDRESS_4, 8),
                        Family::V6 => (ADDRESS_6, 20),
                    };
                    let of = |body: &mut Body<'_>| {
                        body.number(SET_DATA_TYPE, kind << 6 | PORT);
                        body.number(SET_DATA_LENGTH, length);
                    };
                    self.unnamed(targets.len(), of, |number, body| {
                        body.put(VALUE, &end(targets[number]));
                    })
                });
                self.rule(chain, |rule| {
                    if let Some(set) = remember {
                        rule.remember(*family, set);
                    }
                    rule.is_protocol(*protocol);
                    match (id, targets.first()) {
                        (Some(id), _) => {
                            rule.number(targets.len());
                            rule.look_up(UNNAMED, Some(id), REGISTER, Some(REGISTER));
                        }
                        (None, Some(target)) => rule.target(*target),
                        (None, None) => {}
                    }
                    rule.send(*family);
                });
            }
            Rule::Redirect { protocol, port } => self.rule(chain, |rule| {
                rule.is_protocol(*protocol);
                rule.redirect(*port);
            }),
            Rule::Known { family, set, chain: to } => self.rule(chain, |rule| {
                rule.source(*family, REGISTER);
                rule.look_up(set, None, REGISTER, None);
                rule.goto(to);
            }),
            Rule::Choose(chains) => {
                let of = |body: &mut Body<'_>| body.number(SET_DATA_TYPE, VERDICTS);
                let id = self.unnamed(chains.len(), of, |number, body| {
                    verdict(body, &Verdict::Goto(chains[number].clone()));
                });
                self.rule(chain, |rule| {
                    rule.number(chains.len());
                    rule.look_up(UNNAMED, Some(id), REGISTER, Some(0));
                });
            }
            Rule::Masquerade => self.rule(chain, |rule| rule.jump(skeleton::LATER)),
            Rule::Goto(to) => self.rule(chain, |rule| rule.goto(to)),
        }
    }
}

/// How many elements of an unnamed map stand in one message.
const ELEMENTS: usize = 256;

/// Returns the types of what an element's key is made of.
const fn types(element: Element) -> &'static [u32] {
    match element {
        Element::Service(IpAddr::V4(_), ..) => &[ADDRESS_4, PROTOCOL, PORT],
        Element::Service(IpAddr::V6(_), ..) => &[ADDRESS_6, PROTOCOL, PORT],
        Element::Port(..) | Element::Listener(..) => &[PROTOCOL, PORT],
        Element::Address(IpAddr::V4(_)) => &[ADDRESS_4],
        Element::Address(IpAddr::V6(_)) => &[ADDRESS_6],
        Element::Hairpin(IpAddr::V4(_)) => &[ADDRESS_4, ADDRESS_4],
        Element::Hairpin(IpAddr::V6(_)) => &[ADDRESS_6, ADDRESS_6],
    }
}
