//! Far ends of TCP connections: as a configuration names them, and made to be missed when they are gone.

use std::fmt;
use std::io;
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
