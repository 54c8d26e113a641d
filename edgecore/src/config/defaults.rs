//! KubeEdge's defaults (WIRE.md §11), with this host's name and address filled in.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use serde_json::Value;

use super::reader;

/// The name that KubeEdge gives a node whose host name is no DNS subdomain.
const NAMELESS: &str = "default-edge-node";

/// Returns the text that `edgecore --defaultconfig` prints.
pub(crate) fn defaults_text() -> String {
    filled(include_str!("default.yaml"))
}

/// Returns the text that `edgecore --minconfig` prints.
pub(crate) fn minimal_text() -> String {
    filled(include_str!("minimal.yaml"))
}

/// Returns the defaults as a tree.
pub(super) fn tree() -> Value {
    reader::parse(&defaults_text())
        .expect("the defaults are valid YAML whatever the host's name is")
}

/// Tells whether a text can name a node: an RFC 1123 subdomain of at most 253 characters.
pub(super) fn is_node_name(name: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = [label.bytes().next(), label.bytes().last()];
        ends.into_iter().all(|end| end.is_some_and(inner))
            && label.bytes().all(|byte| inner(byte) || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn filled(template: &str) -> String {
    let comment_ends = template.find("apiVersion").unwrap_or(0);
    let (comment, body) = template.split_at(comment_ends);
    let comment = if comment.contains('@') { "" } else { comment };
    let body = body.replace("@NODE@", &host_name()).replace("@IP@", &local_address().to_string());
    format!("{comment}{body}")
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    if is_node_name(&name) { name } else { NAMELESS.to_owned() }
}

/// Returns the address that this host would use towards others: a datagram socket is given a
/// destination, nothing is sent.
fn local_address() -> IpAddr {
    let probe = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An address of the range for documentation, RFC 5737: only the route to it matters.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    match probe() {
        Ok(address) if !address.ip().is_unspecified() => address.ip(),
        Ok(_) | Err(_) => Ipv4Addr::LOCALHOST.into(),
    }
}
