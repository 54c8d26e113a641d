//! TCP connections that notice when the other side is gone.

use std::io;
use std::time::Duration;

use module_runtime::net::{Endpoint, look_after};
use tokio::net::TcpStream;

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
