//! Reload: the supervisor's installed program is executed in this process, and takes over everything
//! that lives.
//!
//! The state goes as JSON into a memory file; that file, the lock, every socket and every lifeline
//! are put into a socket pair as attached descriptors, and the pair's other end becomes descriptor 0
//! of the new image. Modules stay children of the same process and notice nothing. No descriptor
//! numbers are passed, so nothing unsafe is needed to take them over.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ipc_proto::Module;
use ipc_proto::control::Exits;
use ipc_proto::lifeline::{Confinement, Load, Traffic};
use ipc_proto::tap::Filter;
use rustix::cmsg_space;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::stdio::dup2_stdin;
use serde::{Deserialize, Serialize};

use crate::Options;
use crate::child::Millis;
use crate::config::Config;
use crate::fleet::Fleet;
use crate::metrics;

/// The version of [`State`]; raised with every change of what it holds.
const VERSION: u8 = 1;

/// Descriptors at most: state, lock, sockets, lifelines, a tap, who asked for the
/// reload, and the doors of the metrics.
const MAX_DESCRIPTORS: usize = 3 + 2 * Module::COUNT + 3 + 2;

/// What an image leaves to the next, besides descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// When the agent started.
    pub(crate) started: Millis,
    /// Re-executions so far.
    pub(crate) reloads: u32,
    /// What was not in force, and has been said.
    pub(crate) not_in_force: Vec<String>,
    /// The configuration that was in force.
    pub(crate) before: Config,
    /// The configuration for the new image, as its own converter printed it.
    pub(crate) config: String,
    /// The modules' lives.
    pub(crate) fleet: Fleet,
    /// The living processes, in dial order.
    pub(crate) processes: Vec<Survivor>,
    /// What the operator watches, if one does.
    pub(crate) tap: Option<Filter>,
    /// Whether an operator waits for the reload.
    pub(crate) asked: bool,
    /// Which doors of the metrics come along.
    #[serde(default)]
    pub(crate) metrics: metrics::Open,
    /// How often each module ended, by [`Module::index`].
    #[serde(default)]
    pub(crate) exits: [Exits; Module::COUNT],
    /// Set where the new image is on trial.
    #[serde(default)]
    pub(crate) trial: Option<Trial>,
    /// Whether the new image is to restart every module, because the old one was on trial and they
    /// may be of it.
    #[serde(default)]
    pub(crate) back: bool,
}

/// A program that has to prove itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// The program that is installed, and runs again when the time is over.
    pub(crate) installed: PathBuf,
    /// When that is.
    pub(crate) until: Millis,
}

/// A process that outlives the image that made it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Survivor {
    /// Which module.
    pub(crate) module: Module,
    /// Its process id.
    pub(crate) pid: u32,
    /// Whether its lifeline comes along.
    pub(crate) lifeline: bool,
    /// As in the process.
    pub(crate) log_from: u64,
    /// As in the process.
    pub(crate) confinement: Option<Confinement>,
    /// As in the process.
    pub(crate) load: Load,
    /// As in the process.
    #[serde(default)]
    pub(crate) traffic: Traffic,
    /// As in the process.
    pub(crate) report: Option<Box<[u8]>>,
}

/// What a new image finds: the state, and the descriptors in the order in which they were given.
pub(crate) type Inheritance = (State, std::vec::IntoIter<OwnedFd>);

/// Executes `program` in this process. Returns only when that fails; nothing has changed then.
pub(crate) fn hand_over(
    program: &Path,
    options: &Options,
    state: &State,
    descriptors: &[BorrowedFd<'_>],
) -> io::Error {
    match pack(state, descriptors).and_then(|(_ours, theirs)| {
        dup2_stdin(&theirs)?;
        let error = Command::new(program)
            .arg("--config")
            .arg(&options.config)
            .arg("--supervisor-config")
            .arg(&options.supervisor_config)
            .arg("--runtime-dir")
            .arg(&options.runtime_dir)
            .arg("--resume")
            .exec();
        close_input()?;
        Err(error)
    }) {
        Ok(never) => never,
        Err(error) => error,
    }
}

/// Puts state and descriptors into a socket pair; both ends must stay open until the other is read.
fn pack(state: &State, descriptors: &[BorrowedFd<'_>]) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut file = File::from(memfd_create("supervisor-state", MemfdFlags::CLOEXEC)?);
    serde_json::to_writer(io::BufWriter::new(&file), state)?;
    file.flush()?;
    file.seek(SeekFrom::Start(0))?;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let mut all = vec![file.as_fd()];
    all.extend_from_slice(descriptors);
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&all)) {
        return Err(io::Error::other(format!("{} descriptors to hand over", all.len())));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(&ours, &[IoSlice::new(&[VERSION])], &mut control, flags)?;
    Ok((ours, theirs))
}

/// Takes over what the image before left on descriptor 0.
///
/// # Errors
/// When there is nothing, or nothing of this version. There is no half way: whoever gets an error
/// should end, so that the modules end as well and the next start is a clean one.
pub(crate) fn take_over() -> io::Result<Inheritance> {
    let taken = unpack(io::stdin().as_fd());
    close_input()?;
    taken
}

fn unpack(from: BorrowedFd<'_>) -> io::Result<Inheritance> {
    let mut version = [0];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    recvmsg(from, &mut [IoSliceMut::new(&mut version)], &mut control, flags)?;
    let mut descriptors = Vec::with_capacity(MAX_DESCRIPTORS);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if version != [VERSION] {
        let [found] = version;
        return Err(io::Error::other(format!("state of version {found}, expected {VERSION}")));
    }
    let mut descriptors = descriptors.into_iter();
    let file = descriptors.next().ok_or_else(|| io::Error::other("no state"))?;
    let mut json = Vec::new();
    File::from(file).read_to_end(&mut json)?;
    Ok((serde_json::from_slice(&json)?, descriptors))
}

/// Puts nothing on descriptor 0; the supervisor reads no input.
pub(crate) fn close_input() -> io::Result<()> {
    Ok(dup2_stdin(File::open("/dev/null")?)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use ipc_proto::ModuleSet;

    use super::*;
    use crate::config::tests::config;

    fn state() -> State {
        let before = config();
        State {
            started: 1,
            reloads: 2,
            not_in_force: Vec::new(),
            config: serde_json::to_string(&before).unwrap(),
            fleet: Fleet::new(before.policy, ModuleSet::EMPTY, 3),
            before,
            processes: Vec::new(),
            tap: Some(Filter::default()),
            asked: false,
            metrics: metrics::Open::default(),
            exits: Default::default(),
            trial: Some(Trial { installed: "/bin/edgecore".into(), until: 7 }),
            back: true,
        }
    }

    #[test]
    fn state_and_descriptors_arrive_as_they_were() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let (_ours, theirs) = pack(&state(), &[other.as_fd()]).unwrap();
        let (state, mut descriptors) = unpack(theirs.as_fd()).unwrap();
        assert_eq!((state.started, state.reloads, state.back), (1, 2, true));
        assert_eq!(state.trial.map(|trial| trial.until), Some(7));
        assert_eq!(Config::parse(state.config.as_bytes()).unwrap(), state.before);
        let mut arrived = UnixStream::from(descriptors.next().unwrap());
        assert!(descriptors.next().is_none());
        one.write_all(b"x").unwrap();
        let mut byte = [0];
        arrived.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }

    #[test]
    fn nothing_to_take_over_is_an_error() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(unpack(one.as_fd()).is_err());
        assert!(unpack(File::open("/dev/null").unwrap().as_fd()).is_err());
    }
}
