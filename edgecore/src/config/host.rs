//! What the host says of itself: its name, its address, its users.

use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

use nix::unistd::{Uid, User};

/// KubeEdge's name for a node whose host has no usable one.
const NAMELESS: &str = "default-edge-node";

/// Returns the node's name where the configuration has none: the host's, in lower case.
pub(crate) fn node_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().trim().to_lowercase();
    if is_dns_subdomain(&name) { name } else { NAMELESS.to_owned() }
}

/// Tells whether Kubernetes takes a text as a node's name (RFC 1123).
pub(crate) fn is_dns_subdomain(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = bytes.first().zip(bytes.last());
        ends.is_some_and(|(first, last)| letter(*first) && letter(*last))
            && bytes.iter().all(|byte| letter(*byte) || *byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Returns this host's address on the way to the world, IPv4 first. No packet is sent: a datagram
/// socket only asks the kernel for the route to addresses that are reserved for documentation.
pub(crate) fn local_ip() -> IpAddr {
    let routed = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    routed
        .into_iter()
        .find_map(|(own, world)| {
            let socket = UdpSocket::bind(own).ok()?;
            socket.connect(world).ok()?;
            Some(socket.local_addr().ok()?.ip())
        })
        .or_else(|| {
            let mut all = (node_name(), 0).to_socket_addrs().ok()?.map(|address| address.ip());
            all.find(|address| !address.is_loopback())
        })
        .unwrap_or(IpAddr::from([127, 0, 0, 1]))
}

/// Finds a user by name or number: its user and group id. A number needs no entry.
pub(crate) fn user(text: &str) -> Option<(u32, u32)> {
    let found = match text.parse::<u32>() {
        Ok(uid) => {
            return match User::from_uid(Uid::from_raw(uid)) {
                Ok(Some(user)) => Some((uid, user.gid.as_raw())),
                Ok(None) | Err(_) => Some((uid, uid)),
            };
        }
        Err(_) => User::from_name(text).ok().flatten(),
    };
    found.map(|user| (user.uid.as_raw(), user.gid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_dns_subdomains() {
        for name in ["edge1", "a.b-c.d9", "9", &"a".repeat(253)] {
            assert!(is_dns_subdomain(name), "{name}");
        }
        for name in ["", "Edge", "a_b", "-a", "a-", "a..b", ".a", "a b", "ä", &"a".repeat(254)] {
            assert!(!is_dns_subdomain(name), "{name}");
        }
        assert!(is_dns_subdomain(&node_name()));
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(user("root"), Some((0, 0)));
        assert_eq!(user("0"), Some((0, 0)));
        assert_eq!(user("4000000000"), Some((4_000_000_000, 4_000_000_000)));
        assert_eq!(user("no such user"), None);
        assert_eq!(user("-1"), None);
    }
}
