//! Hears from the kernel that someone has removed the table: other programs that manage the packet
//! filter begin by emptying all of it.

use std::io::{self, ErrorKind};

use anyhow::Context as _;
use rustix::net::{SocketFlags, netlink as protocols};
use tokio::net::unix::pipe::Receiver;

use super::transaction::SUBSYSTEM;
use crate::netlink::{attribute, open, split};

/// The multicast group of changes of nftables (`NFNLGRP_NFTABLES`), as a bit.
const GROUP: u32 = 1 << 6;

/// `NFT_MSG_DELTABLE`, and the attribute with the table's name.
const TABLE_REMOVED: u16 = SUBSYSTEM << 8 | 2;
const TABLE_NAME: u16 = 1;

/// The length of netfilter's own header.
const NETFILTER: usize = 4;

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
            let socket = open(Some(protocols::NETFILTER), GROUP, SocketFlags::NONBLOCK)?;
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
    while let Some(((kind, body), rest)) = split(news) {
        let name = body.get(NETFILTER..).and_then(|body| attribute(body, TABLE_NAME));
        let is_named = name.and_then(|name| name.strip_suffix(b"\0")) == Some(table.as_bytes());
        if kind == TABLE_REMOVED && is_named {
            return true;
        }
        news = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::Batch;

    fn message(kind: u16, name: &[u8]) -> Vec<u8> {
        let mut batch = Batch::default();
        batch.message(kind, 0, |body| {
            body.raw(&[0; NETFILTER]);
            body.put(TABLE_NAME, name);
        });
        batch.as_bytes().to_vec()
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
