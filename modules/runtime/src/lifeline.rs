//! The module's end of the lifeline: records from and to the supervisor.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context as _, bail};
use ipc_proto::lifeline::{self, MAX_RECORD, ToModule, ToSupervisor};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recv, recvmsg,
    send,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A record, and the descriptor that came with it.
pub(crate) type Received = (ToModule, Option<OwnedFd>);

/// Reads one record; nothing when the supervisor's end is closed.
pub(crate) fn receive(socket: &impl AsFd) -> anyhow::Result<Option<Received>> {
    let broken = |errno| match errno {
        Errno::CONNRESET => Ok(None),
        errno => Err(io::Error::from(errno)).context("cannot read the lifeline"),
    };
    // A buffer for the greatest record would stay in the heap of each process, touched once.
    let look = RecvFlags::PEEK | RecvFlags::TRUNC;
    let length = match retry_on_intr(|| recv(socket, &mut [0; 0], look)) {
        Ok((_, length)) => length.min(MAX_RECORD),
        Err(errno) => return broken(errno),
    };
    let mut packet = vec![0; length];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let result = retry_on_intr(|| {
        let parts = &mut [io::IoSliceMut::new(&mut packet)];
        recvmsg(socket, parts, &mut attached, RecvFlags::CMSG_CLOEXEC)
    });
    let received = match result {
        Ok(received) if received.bytes == 0 => return Ok(None),
        Ok(received) => received,
        Err(errno) => return broken(errno),
    };
    if received.flags.contains(ReturnFlags::TRUNC) {
        bail!("lifeline record of more than {MAX_RECORD} bytes");
    }
    let descriptor = attached.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        RecvAncillaryMessage::ScmCredentials(_) | _ => None,
    });
    Ok(Some((lifeline::decode(&packet[..received.bytes])?, descriptor)))
}

/// The lifeline inside the runtime. It is watched for records alone: a type of tokio's would be woken
/// whenever the supervisor has read one, too.
#[derive(Debug)]
pub(crate) struct Lifeline(AsyncFd<OwnedFd>);

impl Lifeline {
    #[expect(deprecated, reason = "what came in its place is unsafe; an owned socket stays open")]
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        AsyncFd::with_interest(socket, Interest::READABLE).map(Self)
    }

    /// Waits for a record; nothing when the supervisor's end is closed.
    pub(crate) async fn receive(&self) -> anyhow::Result<Option<Received>> {
        loop {
            let mut ready = self.0.readable().await?;
            let received = |socket: &AsyncFd<_>| receive(socket).map_err(|error| to_io(&error));
            if let Ok(result) = ready.try_io(received) {
                return Ok(result?);
            }
        }
    }

    /// Sends a record; tells whether there was room for it. A supervisor that is busy gets the
    /// next one.
    pub(crate) fn send(&self, record: &ToSupervisor) -> anyhow::Result<bool> {
        let packet = lifeline::encode(record)?;
        match send(&self.0, &packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(io::Error::from(error)).context("cannot write to the lifeline"),
        }
    }
}

/// Keeps `WouldBlock` what it is, since tokio looks for it.
fn to_io(error: &anyhow::Error) -> io::Error {
    match error.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::WouldBlock) => io::ErrorKind::WouldBlock.into(),
        Some(_) | None => io::Error::other(format!("{error:#}")),
    }
}
