//! The supervisor's end of a module's lifeline. Nothing here waits: a module that does not read its
//! lifeline is lost, like one that closed it.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipc_proto::lifeline::{MAX_REPORT, RecordError, ToModule, ToSupervisor, decode, encode};
use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recv, sendmsg, socketpair,
};

/// The greatest record of a module in bytes: a report, or a confinement with its sentences.
const MAX_FROM_MODULE: usize = MAX_REPORT + 4 * 1024;

/// The supervisor's end.
#[derive(Debug)]
pub(crate) struct Lifeline(OwnedFd);

/// Why a lifeline is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// The module's end is closed.
    #[error("the lifeline is closed")]
    Closed,
    /// The module leaves too many records unread.
    #[error("the lifeline is full")]
    Full,
    /// The module sent something that is no record.
    #[error("the lifeline carried rubbish")]
    Rubbish(#[from] RecordError),
    /// The module sent more than a record may have.
    #[error("a lifeline record over {MAX_FROM_MODULE} bytes")]
    TooLong,
    /// Anything else.
    #[error("the lifeline broke")]
    Broken(#[source] Errno),
}

impl Lifeline {
    /// Makes a lifeline and returns the module's end beside it.
    ///
    /// # Errors
    /// When the host is out of descriptors or memory.
    pub(crate) fn pair() -> Result<(Self, OwnedFd), Errno> {
        let kind = SocketType::SEQPACKET;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// Takes over a lifeline that an earlier image of this process made.
    pub(crate) const fn adopt(end: OwnedFd) -> Self {
        Self(end)
    }

    /// Sends a record, with a descriptor attached where one is given.
    ///
    /// # Errors
    /// [`Lost`] when the module does not take it at once.
    pub(crate) fn send(
        &self,
        record: &ToModule,
        attached: Option<BorrowedFd<'_>>,
    ) -> Result<(), Lost> {
        let packet = encode(record)?;
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let rights = attached.as_ref().map(std::slice::from_ref);
        if let Some(rights) = rights {
            control.push(SendAncillaryMessage::ScmRights(rights));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(&self.0, &[IoSlice::new(&packet)], &mut control, flags) {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN) => Err(Lost::Full),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(Lost::Closed),
            Err(errno) => Err(Lost::Broken(errno)),
        }
    }

    /// Returns the next record, or none when there is none now. A descriptor that a module attaches
    /// is closed by the kernel, since none is asked for.
    ///
    /// # Errors
    /// [`Lost`] when there will be none any more.
    pub(crate) fn receive(&self) -> Result<Option<ToSupervisor>, Lost> {
        let mut packet = [0; MAX_FROM_MODULE];
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        match recv(&self.0, &mut packet, flags) {
            Ok((_, 0)) => Err(Lost::Closed),
            Ok((_, length)) if length > packet.len() => Err(Lost::TooLong),
            Ok((_, length)) => Ok(Some(decode(&packet[..length])?)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(Errno::CONNRESET) => Err(Lost::Closed),
            Err(errno) => Err(Lost::Broken(errno)),
        }
    }
}

impl AsFd for Lifeline {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
