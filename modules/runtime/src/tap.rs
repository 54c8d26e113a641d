//! The operator's look at the messages: a record of each to the socket that the supervisor handed
//! over, as long as somebody reads it.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use ipc_proto::frame::{self, Frame};
use ipc_proto::tap::{Filter, Happening, Record};
use ipc_proto::{Content, Module};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::clock;

/// One operator who looks, shared by the links of all peers.
#[derive(Debug)]
pub(crate) struct Tap {
    socket: OwnedFd,
    filter: Filter,
    /// Records dropped since the last one that went out, because the operator read too slowly.
    dropped: AtomicU64,
    ended: AtomicBool,
}

impl Tap {
    pub(crate) const fn new(socket: OwnedFd, filter: Filter) -> Self {
        Self { socket, filter, dropped: AtomicU64::new(0), ended: AtomicBool::new(false) }
    }

    /// Writes a record of a message, given as it lies in the queue, if the operator wants to see
    /// it and reads fast enough.
    pub(crate) fn write(
        &self,
        from: Module,
        to: Module,
        head: &Bytes,
        content: &Bytes,
        happening: Happening,
    ) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        let decoded = frame::decode(&head.slice(frame::LENGTH..));
        let Ok(Frame::Message(_, mut message)) = decoded else { return };
        message.content = Content::from_raw(content.clone());
        if !self.filter.wants(from, to, &message) {
            return;
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        let record = Record::of(&message, from, to, happening, clock::unix_micros());
        let record = Record { dropped, ..record }.encode();
        match send(&self.socket, &record, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => self.dropped.store(0, Ordering::Relaxed),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => {
                self.dropped.store(dropped + 1, Ordering::Relaxed);
            }
            Err(_) => self.ended.store(true, Ordering::Relaxed),
        }
    }
}
