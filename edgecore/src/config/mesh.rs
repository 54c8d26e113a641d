//! What the mesh is told, and what other modules are told because it is there.

use std::net::{IpAddr, SocketAddr};

use ipc_proto::Module;
use serde_json::{Map, Value, json};

use super::edgecore_yaml::Node;
use super::reader::{Place, Reader};
use super::supervisor_yaml::Settings;

/// Where the mesh answers names, as EdgeMesh does.
const LISTEN: &str = "169.254.96.16:53";

/// The port of DNS.
const DNS: u16 = 53;

/// Where edged finds the servers that pods ask.
const CLUSTER_DNS: &str = "/edged/tailoredKubeletConfig/clusterDNS";

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

/// Tells whether a module runs: as the files say, and metaserver for the mesh too, which it keeps
/// told of services.
pub(super) fn runs(node: &Node, settings: &Settings, module: Module) -> bool {
    let of_file = |module: Module| {
        settings.modules[module.index()].enabled.unwrap_or(node.enabled.contains(module))
    };
    let own = settings.modules[module.index()].enabled;
    of_file(module) || (module == Module::Metaserver && own.is_none() && of_file(Module::Edgemesh))
}

/// Adds to what a module is told what the mesh needs of it.
pub(super) fn adapt(node: &Node, settings: &Settings, module: Module, section: &mut Value) {
    let with_mesh = runs(node, settings, Module::Edgemesh);
    let own = &settings.modules[Module::Edgemesh.index()].own;
    let listen = own.get("dns").and_then(|dns| dns["listen"].as_str()).unwrap_or(LISTEN);
    if module == Module::Edgemesh {
        let dns = &mut section["dns"];
        if dns.is_null() {
            *dns = json!({});
        }
        dns["listen"] = listen.into();
        section["clusterDomain"] = node.cluster_domain().into();
    }
    if module == Module::Metaserver {
        let asked = settings.modules[module.index()].enabled;
        section["serves"] = asked.unwrap_or(node.enabled.contains(module)).into();
        section["mesh"] = with_mesh.into();
    }
    let listen = listen.parse().ok().filter(|listen: &SocketAddr| listen.port() == DNS);
    if module == Module::Edged
        && with_mesh
        && let Some(listen) = listen
        && let Some(servers) = section.pointer_mut(CLUSTER_DNS)
        && servers.as_array().is_none_or(Vec::is_empty)
    {
        *servers = json!([listen.ip()]);
    }
}
