//! The mesh's part of supervisor.yaml.

use std::net::{IpAddr, SocketAddr};

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

/// Reads how the mesh carries traffic: whether, and whether endpoints of this node come first.
pub(super) fn traffic(
    place: &Place,
    value: Option<&Value>,
    reader: &mut Reader<'_>,
) -> Option<Value> {
    const KEYS: [&str; 2] = ["enabled", "preferSameNode"];
    let table = reader.table(place, value, &KEYS)?;
    let read =
        |key: &str| Some((key.to_owned(), reader.boolean(&place.key(key), table.get(key))?.into()));
    Some(Value::Object(KEYS.into_iter().filter_map(read).collect()))
}

fn upstream(text: &str) -> Option<SocketAddr> {
    let bare: Option<IpAddr> = text.parse().ok();
    let server = bare.map(|address| (address, DNS).into()).or_else(|| text.parse().ok());
    server.filter(|server: &SocketAddr| server.port() != 0)
}
