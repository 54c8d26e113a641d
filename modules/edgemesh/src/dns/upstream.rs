//! The host's own name servers, which are asked what the cluster does not know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::wire::{Foreign, Query, code};

/// Where the host says which servers it asks.
const FILE: &str = "/etc/resolv.conf";

/// The longest such file, in bytes.
const LONGEST: u64 = 64 * 1024;

/// How many servers are asked: as many as the C library takes.
const MOST: usize = 3;

/// How long one server may take before the next is asked.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The longest datagram that is taken, in bytes.
const DATAGRAM: usize = 4096;

/// The servers to ask.
#[derive(Debug)]
pub(super) struct Upstreams {
    /// As configured; nothing for the host's own.
    fixed: Option<Vec<SocketAddr>>,
    /// Where we are ourselves.
    own: SocketAddr,
    /// When the file changed last, and what it says.
    read: Option<(SystemTime, Vec<SocketAddr>)>,
}

impl Upstreams {
    pub(super) const fn new(fixed: Option<Vec<SocketAddr>>, own: SocketAddr) -> Self {
        Self { fixed, own, read: None }
    }

    /// Returns the servers, never ourselves. The file is read again when it has changed.
    pub(super) fn servers(&mut self) -> Vec<SocketAddr> {
        let own = self.own;
        let servers = match &self.fixed {
            Some(fixed) => fixed,
            None => of_host(&mut self.read),
        };
        servers.iter().filter(|server| **server != own).take(MOST).copied().collect()
    }
}

/// Returns what the host's file says, which is read again when it has changed.
fn of_host(read: &mut Option<(SystemTime, Vec<SocketAddr>)>) -> &[SocketAddr] {
    let file = Path::new(FILE);
    let metadata = std::fs::metadata(file).ok().filter(|it| it.len() <= LONGEST);
    let changed = metadata.and_then(|metadata| metadata.modified().ok());
    if changed != read.as_ref().map(|(changed, _)| *changed) {
        let text = changed.and_then(|_| std::fs::read_to_string(file).ok());
        let servers = name_servers(&text.unwrap_or_default());
        *read = changed.map(|changed| (changed, servers));
    }
    read.as_ref().map_or(&[], |(_, servers)| servers)
}

/// Reads the name servers of resolv.conf(5).
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        // An interface behind the address makes sense on that link alone, which the kernel knows.
        let address: IpAddr = address.split('%').next()?.parse().ok()?;
        Some(SocketAddr::from((address, 53)))
    };
    text.lines().filter_map(server).collect()
}

/// Asks servers one after the other, for so long at most. Returns the first proper reply; else the
/// last that came; nothing when there was none.
pub(super) async fn ask(
    servers: Vec<SocketAddr>,
    query: &Query,
    stream: bool,
    patience: Duration,
) -> Option<Foreign> {
    let mut last = None;
    let all = async {
        for server in servers {
            let asked = async {
                if stream {
                    by_stream(server, query).await
                } else {
                    by_datagram(server, query).await
                }
            };
            let reply = timeout(PATIENCE, asked).await.ok().flatten();
            let is_proper = |reply: &Foreign| is_proper(reply.code());
            if reply.as_ref().is_some_and(is_proper) {
                last = reply;
                return;
            }
            last = reply.or(last.take());
        }
    };
    // What came by then is what there is.
    let _late = timeout(patience, all).await;
    last
}

/// Tells whether a server that ends with this code knows what it is asked about.
pub(super) const fn is_proper(code: u16) -> bool {
    !matches!(code, code::FAILURE | code::REFUSED | code::NOT_IMPLEMENTED)
}

async fn by_datagram(server: SocketAddr, query: &Query) -> Option<Foreign> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port that nobody can guess, as the id.
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(server).await.ok()?;
    let id = draw();
    socket.send(&query.encode(id)).await.ok()?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await.ok()?;
        // What is no reply to this is passed over: somebody guesses.
        if let Some(reply) = Foreign::read(buffer[..length].to_vec(), id, query) {
            return Some(reply);
        }
    }
}

async fn by_stream(server: SocketAddr, query: &Query) -> Option<Foreign> {
    let mut stream = TcpStream::connect(server).await.ok()?;
    let id = draw();
    let packet = query.encode(id);
    let length = u16::try_from(packet.len()).ok()?;
    let framed = [&length.to_be_bytes(), &*packet].concat();
    stream.write_all(&framed).await.ok()?;
    let length = stream.read_u16().await.ok()?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await.ok()?;
    Foreign::read(reply, id, query)
}

/// Draws an id that nobody can guess.
fn draw() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness the port is what has to be guessed.
    let _short = getrandom(&mut bytes, GetRandomFlags::empty());
    u16::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_c_library_does() {
        let text = "# comment\nsearch a b\nnameserver 192.0.2.1\n nameserver\tfe80::1%eth0 x\n\
                    nameserver none\n;nameserver 192.0.2.9\nnameserver\n";
        let servers = name_servers(text);
        assert_eq!(servers, ["192.0.2.1:53".parse().unwrap(), "[fe80::1]:53".parse().unwrap()]);
    }

    #[test]
    fn we_never_ask_ourselves() {
        let own: SocketAddr = "169.254.96.16:53".parse().unwrap();
        let other = "192.0.2.1:53".parse().unwrap();
        let mut upstreams = Upstreams::new(Some(vec![own, other]), own);
        assert_eq!(upstreams.servers(), [other]);
    }
}
