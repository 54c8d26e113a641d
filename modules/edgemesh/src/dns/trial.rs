//! A trial of the codec of names.

use std::sync::Arc;

use super::Zone;
use super::names::Outcome;
use super::wire::{self, Foreign, Malformed};
use crate::model::{Kind, Name, Service};
use crate::services::{Backed, Table};

/// The name of a service that leads to itself, which a query may ask for.
pub const CIRCLE: &str = "circle.shop.svc.cluster.local";

/// A packet of a client's, and the same as another server's reply to it: an answer is in bounds and
/// can be read, and a reply that is passed on stays one.
///
/// # Panics
/// When that is not so.
pub fn names(packet: &[u8]) {
    let query = match wire::query(packet) {
        Ok(query) => query,
        Err(Malformed::Silent) => return,
        Err(Malformed::Answered { id, flags, code }) => {
            assert_eq!(wire::refusal(id, flags, code).len(), 12, "a head and no more");
            return;
        }
    };
    let again = wire::query(&query.encode(query.id)).expect("what is written can be read");
    assert_eq!((again.kind, again.class), (query.kind, query.class), "the same is asked");
    let room = query.room();
    if let Some(Outcome::Reply(reply)) =
        Zone::new("cluster.local").map(|it| it.answer(&query, Some(&table())))
    {
        let encoded = reply.encode(&query, room);
        assert!(encoded.len() <= room, "{} bytes where {room} fit", encoded.len());
        assert!(Foreign::read(encoded, query.id, &query).is_some(), "the answer can be read");
    }
    let mut reply = packet.to_vec();
    reply[2] |= 0x80;
    if let Some(foreign) = Foreign::read(reply, query.id, &query) {
        let passed = foreign.encode(&query, room, |ttl| ttl / 2);
        assert!(passed.len() <= room, "{} bytes where {room} fit", passed.len());
        assert!(Foreign::read(passed, query.id, &query).is_some(), "it is still a reply");
    }
}

/// A server's reply to a query for a service, whatever it says after its head and question.
pub fn reply(rest: &[u8]) {
    let Some(name) = super::fqdn::Domain::parse(CIRCLE) else { return };
    let query = wire::Query::new(name, 1);
    let mut packet = query.encode(0);
    packet[2] |= 0x80;
    if let [answers, authorities, additionals, rest @ ..] = rest {
        (packet[7], packet[9], packet[11]) = (*answers, *authorities, *additionals);
        packet.extend_from_slice(rest);
    }
    if let Some(foreign) = Foreign::read(packet, 0, &query) {
        let passed = foreign.encode(&query, 512, |ttl| ttl);
        assert!(passed.len() <= 512, "{} bytes where 512 fit", passed.len());
    }
}

fn table() -> Table {
    let service = Service {
        kind: Kind::External(CIRCLE.into()),
        ports: Vec::new(),
        external: Vec::new(),
        affinity: None,
        local_only: false,
        external_local_only: false,
        publish_not_ready: false,
        policy: None,
    };
    let backed = Backed { service, endpoints: Vec::new(), is_carried: true };
    let name = Name { namespace: "shop".into(), name: "circle".into() };
    Table::from([(name, Arc::new(backed))])
}
