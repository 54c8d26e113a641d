//! The mesh's part of supervisor.yaml.

use std::net::{IpAddr, SocketAddr};

use module_runtime::net::{Endpoint, Network};
use serde_json::{Map, Value, json};

use super::reader::{Place, Reader};

/// The port of DNS.
pub(super) const DNS: u16 = 53;

/// Reads how the mesh answers names: where, and whom it asks what it does not know.
pub(super) fn dns(place: &Place, value: Option<&Value>, reader: &mut Reader<'_>) -> Option<Value> {
    let table = reader.table(place, value, &["listen", "upstreams"])?;
    let mut dns = Map::new();
    if let Some(value) = table.get("listen") {
        let listen: Option<SocketAddr> = value.as_str().and_then(|text| text.parse().ok());
        match listen.filter(|listen| listen.port() != 0 && !listen.ip().is_unspecified()) {
            Some(listen) => drop(dns.insert("listen".to_owned(), json!(listen))),
            None => reader.wrong(&place.key("listen"), value, "an address and a port"),
        }
    }
    if let Some(value) = table.get("upstreams") {
        let read = |server: &Value| server.as_str().and_then(upstream);
        let servers =
            value.as_array().and_then(|list| list.iter().map(read).collect::<Option<_>>());
        match servers.filter(|servers: &Vec<SocketAddr>| !servers.is_empty()) {
            Some(servers) => drop(dns.insert("upstreams".to_owned(), json!(servers))),
            None => {
                let expected = "a list of addresses, with a port where it is not 53";
                reader.wrong(&place.key("upstreams"), value, expected);
            }
        }
    }
    Some(dns.into())
}

/// Reads how the mesh carries traffic: whether, and which endpoints come first.
pub(super) fn traffic(
    place: &Place,
    value: Option<&Value>,
    reader: &mut Reader<'_>,
) -> Option<Value> {
    let table = reader.table(place, value, &["enabled", "preferSameNode", "zone"])?;
    let mut traffic = Map::new();
    for key in ["enabled", "preferSameNode"] {
        if let Some(value) = reader.boolean(&place.key(key), table.get(key)) {
            traffic.insert(key.to_owned(), value.into());
        }
    }
    if let Some(value) = table.get("zone") {
        match value.as_str().filter(|zone| !zone.is_empty()) {
            Some(zone) => drop(traffic.insert("zone".to_owned(), zone.into())),
            None => reader.wrong(&place.key("zone"), value, "the name of a zone"),
        }
    }
    Some(traffic.into())
}

/// The bounds on how often a silent connection is looked after, in milliseconds.
const KEEP_ALIVE: std::ops::RangeInclusive<u64> = 500..=60_000;

/// How many far ends a node dials at most.
const MOST_RELAYS: usize = 8;

/// How many networks are reached without the tunnel at most: reports name them.
const MOST_DIRECT: usize = 32;

/// How many bits the stand-in addresses have in common.
const STAND_INS: std::ops::RangeInclusive<u8> = 8..=24;

const TUNNEL: [&str; 7] =
    ["enabled", "listen", "relay", "relays", "direct", "standIns", "keepAlive"];

/// Reads how nodes are reached across networks: where they dial this one, whom it dials, what is
/// reached directly.
pub(super) fn tunnel(
    place: &Place,
    value: Option<&Value>,
    reader: &mut Reader<'_>,
) -> Option<Value> {
    let table = reader.table(place, value, &TUNNEL)?;
    let mut tunnel = Map::new();
    for key in ["enabled", "relay"] {
        if let Some(value) = reader.boolean(&place.key(key), table.get(key)) {
            tunnel.insert(key.to_owned(), value.into());
        }
    }
    if let Some(value) = table.get("listen") {
        let listen: Option<SocketAddr> = value.as_str().and_then(|text| text.parse().ok());
        match listen.filter(|listen| listen.port() != 0) {
            Some(listen) => drop(tunnel.insert("listen".to_owned(), json!(listen))),
            None => reader.wrong(&place.key("listen"), value, "an address and a port"),
        }
    }
    let is_far = |text: &str| Endpoint::parse(text).is_some();
    let expected = "a list of at most 8 far ends as host:port";
    texts(("relays", expected, MOST_RELAYS), is_far, place, table, reader, &mut tunnel);
    let is_network = |text: &str| Network::parse(text).is_some();
    let expected = "a list of at most 32 networks such as 10.244.0.0/16";
    texts(("direct", expected, MOST_DIRECT), is_network, place, table, reader, &mut tunnel);
    if let Some(value) = table.get("standIns") {
        let network = value.as_str().and_then(Network::parse);
        let fits = |it: &Network| it.address().is_ipv4() && STAND_INS.contains(&it.bits());
        if network.as_ref().is_some_and(fits) {
            tunnel.insert("standIns".to_owned(), value.clone());
        } else {
            let expected = "a network of IPv4 with 8 to 24 bits such as 198.18.0.0/16";
            reader.wrong(&place.key("standIns"), value, expected);
        }
    }
    let keep_alive = table.get("keepAlive");
    if let Some(millis) = reader.duration(&place.key("keepAlive"), keep_alive, KEEP_ALIVE) {
        tunnel.insert("keepAlive".to_owned(), millis.into());
    }
    let says = |key: &str| tunnel.get(key) == Some(&Value::Bool(true));
    if says("relay") && !table.contains_key("listen") {
        let listen = place.key("listen");
        reader
            .error(format_args!("{listen} is missing, expected an address and a port of a relay"));
    }
    if says("enabled") && !["listen", "relays"].iter().any(|key| table.contains_key(*key)) {
        reader.error(format_args!("{place} has neither listen nor relays, expected one of them"));
    }
    Some(tunnel.into())
}

/// Reads a list of texts of one form: its key, what is expected, and how many there may be.
fn texts(
    (key, expected, most): (&str, &str, usize),
    is_one: impl Fn(&str) -> bool,
    place: &Place,
    table: &Map<String, Value>,
    reader: &mut Reader<'_>,
    read: &mut Map<String, Value>,
) {
    let Some(value) = table.get(key) else { return };
    let list = value.as_array().filter(|list| list.len() <= most);
    if list.is_some_and(|list| list.iter().all(|it| it.as_str().is_some_and(&is_one))) {
        read.insert(key.to_owned(), value.clone());
    } else {
        reader.wrong(&place.key(key), value, expected);
    }
}

fn upstream(text: &str) -> Option<SocketAddr> {
    let bare: Option<IpAddr> = text.parse().ok();
    let server = bare.map(|address| (address, DNS).into()).or_else(|| text.parse().ok());
    server.filter(|server: &SocketAddr| server.port() != 0)
}
