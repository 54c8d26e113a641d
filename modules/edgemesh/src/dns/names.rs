//! What the cluster's names mean, as Kubernetes' specification of DNS has it and CoreDNS answers. No IO.

use std::fmt;
use std::net::IpAddr;

use super::fqdn::Domain;
use super::wire::{Data, IN, Query, Record, Reply, code, kind};
use crate::model::{self, Endpoint, Kind, Port, Protocol};
use crate::services::{Backed, Table};

/// How long an answer holds, in seconds.
const TTL: u32 = 5;

/// How many names of the cluster may lead to one another.
const CHAIN: usize = 8;

/// What an SRV record weighs.
const WEIGHT: u16 = 100;

/// What becomes of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is answered.
    Reply(Reply),
    /// It is not about the cluster.
    Forward,
    /// Names of the cluster lead to one outside it.
    Leads { chain: Vec<Record>, to: Domain },
}

/// The names of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    origin: Domain,
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.origin.to_string().trim_end_matches('.'))
    }
}

/// What stands at a name.
enum Found<'a> {
    /// Nothing, nor below it.
    Nothing,
    /// Nothing, but there is something below it; or there would be, of another type.
    Empty,
    Records(Vec<Data>),
    Servers(Vec<Server<'a>>),
    Alias(&'a str),
}

/// A place where a service is served: what SRV records point to.
struct Server<'a> {
    name: Domain,
    addresses: Vec<IpAddr>,
    ports: Vec<(&'a str, Protocol, u16)>,
}

impl Zone {
    /// Makes the zone; nothing when the text is no name.
    pub(crate) fn new(domain: &str) -> Option<Self> {
        let origin = Domain::parse(domain).filter(|origin| origin.labels().next().is_some())?;
        Some(Self { origin })
    }

    /// Answers a query; without a table nobody knows yet what there is.
    pub(super) fn answer(&self, query: &Query, table: Option<&Table>) -> Outcome {
        if query.edns.is_some_and(|edns| edns.version > 0) {
            return Outcome::Reply(Reply::of(code::BAD_VERSION));
        }
        let Some(labels) = query.name.within(&self.origin) else {
            return self.reverse(query, table).map_or(Outcome::Forward, Outcome::Reply);
        };
        if query.class != IN || matches!(query.kind, kind::AXFR | kind::IXFR) {
            return Outcome::Reply(Reply::of(code::REFUSED));
        }
        let Some(table) = table else { return Outcome::Reply(Reply::of(code::FAILURE)) };
        self.resolve(query, labels, table)
    }

    fn resolve(&self, query: &Query, mut labels: Vec<String>, table: &Table) -> Outcome {
        let (mut name, mut chain) = (query.name.clone(), Vec::new());
        loop {
            let found = self.find(&labels, table);
            let Found::Alias(target) = found else {
                return Outcome::Reply(self.reply(query, &name, chain, found));
            };
            let Some(target) = Domain::parse(target).filter(|_| chain.len() < CHAIN) else {
                return Outcome::Reply(Reply::of(code::FAILURE));
            };
            let data = Data::Alias(target.clone());
            chain.push(Record { name: name.clone(), ttl: TTL, data });
            if query.kind == kind::CNAME {
                return Outcome::Reply(Reply { answers: chain, ..Reply::default() });
            }
            match target.within(&self.origin) {
                Some(next) => (name, labels) = (target, next),
                None => return Outcome::Leads { chain, to: target },
            }
        }
    }

    /// Makes the reply of what was found.
    fn reply(&self, query: &Query, name: &Domain, chain: Vec<Record>, found: Found<'_>) -> Reply {
        let mut reply = Reply { answers: chain, ..Reply::default() };
        let is_asked = |asked: u16| query.kind == asked || query.kind == kind::ANY;
        match found {
            Found::Nothing => reply.code = code::NO_NAME,
            Found::Empty | Found::Alias(_) => {}
            Found::Records(records) => {
                let wanted = records.into_iter().filter(|data| is_asked(data.kind()));
                reply.answers.extend(wanted.map(|data| record(name, data)));
            }
            Found::Servers(servers) if query.kind == kind::SRV => {
                for server in &servers {
                    for (_, _, port) in &server.ports {
                        let (port, weight, target) = (*port, WEIGHT, server.name.clone());
                        let data = Data::Server { port, weight, target };
                        reply.answers.push(record(name, data));
                    }
                }
                let targets = servers.iter().filter(|server| !server.ports.is_empty());
                let of = |server: &Server<'_>| -> Vec<Record> {
                    let addresses = server.addresses.iter();
                    addresses.map(|it| record(&server.name, Data::Address(*it))).collect()
                };
                reply.additionals = targets.flat_map(of).collect();
            }
            Found::Servers(servers) => {
                let addresses = servers.iter().flat_map(|server| &server.addresses);
                let data = addresses.map(|address| Data::Address(*address));
                let mut wanted: Vec<_> = data.filter(|data| is_asked(data.kind())).collect();
                wanted.dedup();
                // Each asks under another id, and so begins with another.
                let first = usize::from(query.id) % wanted.len().max(1);
                wanted.rotate_left(first);
                reply.answers.extend(wanted.into_iter().map(|data| record(name, data)));
            }
        }
        let is_apex = query.name.folded() == self.origin.folded();
        if is_apex && is_asked(kind::SOA) {
            reply.answers.push(self.authority());
        } else if reply.answers.last().is_none_or(|last| last.data.kind() == kind::CNAME) {
            reply.authorities.push(self.authority());
        }
        reply
    }

    fn authority(&self) -> Record {
        let under = |labels: &[&str]| self.origin.under(labels).unwrap_or(self.origin.clone());
        let (server, mailbox) = (under(&["ns", "dns"]), under(&["hostmaster"]));
        record(&self.origin, Data::Authority { server, mailbox, serial: 1, negative: TTL })
    }

    /// Finds what stands at a name, of which the labels before the zone are given.
    fn find<'a>(&self, labels: &[String], table: &'a Table) -> Found<'a> {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match *labels.as_slice() {
            [] | ["svc" | "pod"] => Found::Empty,
            [namespace, "svc"] => {
                let is_there = table.keys().any(|name| *name.namespace == *namespace);
                if is_there { Found::Empty } else { Found::Nothing }
            }
            [_, "pod"] => Found::Empty,
            [address, _, "pod"] => {
                dashed(address).map_or(Found::Nothing, |it| Found::Records(vec![Data::Address(it)]))
            }
            [ref before @ .., service, namespace, "svc"] => {
                let name = model::Name { namespace: namespace.into(), name: service.into() };
                match table.get(&name) {
                    Some(backed) => self.find_in(before, &name, backed),
                    None => Found::Nothing,
                }
            }
            _ => Found::Nothing,
        }
    }

    /// Finds what stands at or below a service.
    fn find_in<'a>(&self, before: &[&str], name: &model::Name, backed: &'a Backed) -> Found<'a> {
        let Backed { service, .. } = backed;
        match (before, &service.kind) {
            ([], Kind::External(target)) => Found::Alias(target),
            (_, Kind::External(_)) => Found::Nothing,
            ([], Kind::Headless) => Found::Servers(self.endpoints(name, backed)),
            ([], Kind::Cluster(_)) => Found::Servers(self.cluster(name, backed)),
            ([port, protocol], kind) if port.starts_with('_') && protocol.starts_with('_') => {
                let mut servers = match kind {
                    Kind::Headless => self.endpoints(name, backed),
                    Kind::Cluster(_) | Kind::External(_) => self.cluster(name, backed),
                };
                for server in &mut servers {
                    server
                        .ports
                        .retain(|(name, of, _)| *name == &port[1..] && word(*of) == &protocol[1..]);
                }
                servers.retain(|server| !server.ports.is_empty());
                let is_port =
                    |it: &Port| *it.name == port[1..] && word(it.protocol) == &protocol[1..];
                match service.ports.iter().any(is_port) {
                    true => Found::Servers(servers),
                    false => Found::Nothing,
                }
            }
            ([protocol], _) if matches!(*protocol, "_tcp" | "_udp" | "_sctp") => {
                let is_there = service.ports.iter().any(|it| word(it.protocol) == &protocol[1..]);
                if is_there { Found::Empty } else { Found::Nothing }
            }
            ([hostname], _) => {
                let named = given_out(backed).filter(|endpoint| host(endpoint) == *hostname);
                let data: Vec<_> = named.map(|it| Data::Address(it.found_at())).collect();
                if data.is_empty() { Found::Nothing } else { Found::Records(data) }
            }
            _ => Found::Nothing,
        }
    }

    fn service_name(&self, before: &[&str], name: &model::Name) -> Domain {
        let labels = [before, &[&name.name, &name.namespace, "svc"]].concat();
        self.origin.under(&labels).unwrap_or(self.origin.clone())
    }

    fn cluster<'a>(&self, name: &model::Name, backed: &'a Backed) -> Vec<Server<'a>> {
        let addresses = match &backed.service.kind {
            Kind::Cluster(addresses) => addresses.clone(),
            Kind::Headless | Kind::External(_) => Vec::new(),
        };
        let ports = backed.service.ports.iter();
        let ports = ports.map(|port| (&*port.name, port.protocol, port.port)).collect();
        vec![Server { name: self.service_name(&[], name), addresses, ports }]
    }

    fn endpoints<'a>(&self, name: &model::Name, backed: &'a Backed) -> Vec<Server<'a>> {
        let server = |endpoint: &'a Endpoint| Server {
            name: self.service_name(&[&host(endpoint)], name),
            addresses: vec![endpoint.found_at()],
            ports: endpoint.ports.iter().map(|(name, of, port)| (&**name, *of, *port)).collect(),
        };
        given_out(backed).map(server).collect()
    }

    /// Answers who has an address; nothing when no service has it.
    fn reverse(&self, query: &Query, table: Option<&Table>) -> Option<Reply> {
        let address = query.name.reversed().filter(|_| query.class == IN)?;
        let mut names = Vec::new();
        for (name, backed) in table? {
            if let Kind::Cluster(addresses) = &backed.service.kind
                && addresses.contains(&address)
            {
                names.push(self.service_name(&[], name));
                continue;
            }
            let its = given_out(backed).filter(|endpoint| endpoint.found_at() == address);
            names.extend(its.map(|it| self.service_name(&[&host(it)], name)));
        }
        if names.is_empty() {
            return None;
        }
        let mut reply = Reply::default();
        if matches!(query.kind, kind::PTR | kind::ANY) {
            let records = names.into_iter().map(|name| record(&query.name, Data::Pointer(name)));
            reply.answers = records.collect();
        } else {
            reply.authorities.push(self.authority());
        }
        Some(reply)
    }
}

fn record(name: &Domain, data: Data) -> Record {
    Record { name: name.clone(), ttl: TTL, data }
}

/// Returns the endpoints whose names are told.
fn given_out(backed: &Backed) -> impl Iterator<Item = &Endpoint> {
    let all = backed.service.publish_not_ready;
    backed.endpoints.iter().filter(move |endpoint| endpoint.ready || all)
}

/// Returns an endpoint's name below its service: its own, or its address with dashes.
fn host(endpoint: &Endpoint) -> String {
    match &endpoint.hostname {
        Some(hostname) => hostname.to_string(),
        None => endpoint.found_at().to_string().replace(['.', ':'], "-"),
    }
}

/// Reads an address that is written with dashes.
fn dashed(label: &str) -> Option<IpAddr> {
    let v4 = || label.replace('-', ".").parse().ok().map(IpAddr::V4);
    let v6 = || label.replace('-', ":").parse().ok().map(IpAddr::V6);
    v4().or_else(v6)
}

const fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}
