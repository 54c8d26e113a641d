//! Hears from the kernel that someone has removed the table: other programs that manage the packet
//! filter begin by emptying all of it.

use std::io::{self, ErrorKind};

use anyhow::Context as _;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::net::unix::pipe::Receiver;

/// The multicast group of changes of nftables (`NFNLGRP_NFTABLES`), as a bit.
const GROUP: u32 = 1 << 6;

/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_DELTABLE`.
const TABLE_REMOVED: u16 = 10 << 8 | 2;

/// The length of a netlink message's header, and of that and netfilter's behind it.
const HEADER: usize = 16;
const HEADERS: usize = 20;

/// The kernel's news of tables.
#[derive(Debug)]
pub(super) struct Watch(Receiver);

impl Watch {
    /// Begins to listen. Has to be called in the runtime.
    ///
    /// # Errors
    /// When the kernel does not let it.
    pub(super) fn begin() -> anyhow::Result<Self> {
        let listen = || -> io::Result<Self> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let protocol = Some(netlink::NETFILTER);
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUP))?;
            // It is read and waited for just as a pipe.
            Ok(Self(Receiver::from_owned_fd_unchecked(socket)?))
        };
        listen().context("cannot hear of changes of the packet filter")
    }

    /// Forgets what has been heard: it was this process's own doing.
    pub(super) fn forget(&self) {
        let mut news = [0; 8192];
        loop {
            match self.0.try_read(&mut news) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // that there was more than the socket can hold is forgotten too
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Waits until the table is gone, or may be: there was more news than the socket can hold.
    /// Cancelling it loses nothing.
    pub(super) async fn gone(&self, table: &str) {
        let mut news = [0; 8192];
        loop {
            if self.0.readable().await.is_err() {
                return std::future::pending().await;
            }
            match self.0.try_read(&mut news) {
                Ok(length) if !removes(&news[..length], table) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// Tells whether one of the messages says that a table of this name was removed.
fn removes(mut news: &[u8], table: &str) -> bool {
    while let Some((length, rest)) = news.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_ne_bytes(*length)).unwrap_or(usize::MAX);
        let kind = rest.first_chunk().map_or(0, |kind| u16::from_ne_bytes(*kind));
        if length < HEADER || length > news.len() {
            return false;
        }
        // the name is the first attribute: its length and type, the text, a zero
        let name = news[..length].get(HEADERS + 4..).unwrap_or_default();
        let is_named = name.strip_prefix(table.as_bytes()).is_some_and(|it| it.first() == Some(&0));
        if kind == TABLE_REMOVED && is_named {
            return true;
        }
        news = news.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, name: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADERS + 4 + name.len()).unwrap();
        let mut message = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 18], name].concat();
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    #[test]
    fn the_removal_of_the_own_table_is_told_from_all_else() {
        let own = message(TABLE_REMOVED, b"edgemesh\0");
        let other = message(TABLE_REMOVED, b"edgemesh2\0");
        let made = message(10 << 8, b"edgemesh\0");
        assert!(removes(&own, "edgemesh"));
        assert!(removes(&[&other[..], &made, &own].concat(), "edgemesh"));
        assert!(!removes(&[&other[..], &made].concat(), "edgemesh"));
    }

    proptest! {
        #[test]
        fn rubbish_removes_nothing(news in prop::collection::vec(any::<u8>(), 0..128)) {
            removes(&news, "edgemesh");
        }
    }
}
