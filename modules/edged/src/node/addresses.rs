//! Hears from the kernel that addresses or routes of the host change (rtnetlink).

use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

/// The kernel's multicast groups of IPv4 and IPv6 addresses and routes (rtnetlink(7)).
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

/// The kernel's news of addresses.
#[derive(Debug)]
pub(crate) struct Addresses(Receiver);

impl Addresses {
    /// Begins to listen. Has to be called in the runtime.
    ///
    /// # Errors
    /// When the kernel does not let it.
    pub(crate) fn listen() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Without a protocol it is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        // It is read and waited for just as a pipe.
        Ok(Self(Receiver::from_owned_fd_unchecked(socket)?))
    }

    /// Waits until something has changed. What exactly is to be looked up; so a message that was
    /// too long, or lost because there were too many, is news all the same.
    pub(crate) async fn changed(&mut self) {
        let mut buffer = [0; 4096];
        let _news_either_way = self.0.read(&mut buffer).await;
    }
}

#[cfg(test)]
mod tests;
