//! Far ends of TCP connections: as a configuration names them, and made to be missed when they are gone.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// Never 0 in one that was parsed.
    pub port: u16,
}

impl Endpoint {
    /// Takes `host:port` or `[address]:port`; nothing when it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let sane = !host.is_empty()
            && (bare.is_some() || !host.contains(':'))
            && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:%".contains(c));
        sane.then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A network: the addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Takes `address/bits`; nothing when it is no network.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.parse().ok().filter(|bits| *bits <= most)?;
        Some(Self { address, bits })
    }

    /// Returns an address of it, as it was written.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns how many bits all its addresses begin with.
    #[must_use]
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// Tells whether an address is of this network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Makes a connection notice when the other side is gone: what is not confirmed within `patience`
/// ends it (`TCP_USER_TIMEOUT`), and an idle one is looked after. By default the kernel gives up
/// after some 15 minutes.
///
/// # Errors
/// When the kernel refuses an option.
pub fn look_after(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    let millis = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    stream.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(stream, millis)?;
    sockopt::set_tcp_keepidle(stream, patience)?;
    sockopt::set_tcp_keepintvl(stream, (patience / 3).max(Duration::from_secs(1)))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        let has = |network: &str, address: &str| {
            Network::parse(network).unwrap().contains(address.parse().unwrap())
        };
        assert!(has("10.244.1.0/24", "10.244.1.255") && !has("10.244.1.0/24", "10.244.2.0"));
        assert!(has("0.0.0.0/0", "203.0.113.7") && !has("0.0.0.0/0", "::1"));
        assert!(has("192.0.2.1/32", "192.0.2.1") && !has("192.0.2.1/32", "192.0.2.0"));
        assert!(has("fd00::/8", "fd12::1") && !has("fd00::/8", "fe80::1"));
        assert_eq!(Network::parse("fd00::/8").unwrap().to_string(), "fd00::/8");
        for wrong in ["10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "net/8", "/8"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
