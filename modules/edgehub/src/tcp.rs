//! TCP connections that notice when the other side is gone.

use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

use crate::config::Endpoint;
use crate::trouble::Trouble;

/// Opens a connection. What was sent and not confirmed within `patience` ends it
/// (`TCP_USER_TIMEOUT`), and an idle one is looked after; by default the kernel gives up after some
/// 15 minutes.
pub(crate) async fn connect(endpoint: &Endpoint, patience: Duration) -> Result<TcpStream, Trouble> {
    let address = (endpoint.host.as_str(), endpoint.port);
    let addresses = tokio::net::lookup_host(address)
        .await
        .map_err(|error| Trouble::Resolve(endpoint.host.clone(), error))?;
    let mut trouble = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                look_after(&stream, patience)
                    .map_err(|error| Trouble::Unreachable(endpoint.clone(), error))?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                trouble = Some(Trouble::Refused(endpoint.clone()));
            }
            Err(error) => trouble = Some(Trouble::Unreachable(endpoint.clone(), error)),
        }
    }
    let none = || Trouble::Resolve(endpoint.host.clone(), io::ErrorKind::NotFound.into());
    Err(trouble.unwrap_or_else(none))
}

fn look_after(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    let millis = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    stream.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(stream, millis)?;
    sockopt::set_tcp_keepidle(stream, patience)?;
    sockopt::set_tcp_keepintvl(stream, (patience / 3).max(Duration::from_secs(1)))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}
