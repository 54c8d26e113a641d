//! A peer on the other end of D-Bus that the test plays, and what our end makes of it.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::PathBuf;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::*;

/// What the peer answers.
pub(crate) enum Reply {
    /// A signature and a body.
    With(&'static str, Vec<u8>),
    /// A descriptor.
    Descriptor(OwnedFd),
    /// The name of an error.
    Error(&'static str),
}

/// Returns the answer with a property that is a number.
pub(crate) fn long(value: u64) -> Reply {
    let mut bytes = vec![1, b't', 0, 0, 0, 0, 0, 0];
    bytes.extend(value.to_ne_bytes());
    Reply::With("v", bytes)
}

/// Returns the answer with a property that is yes or no.
pub(crate) fn flag(value: bool) -> Reply {
    let mut bytes = vec![1, b'b', 0, 0];
    bytes.extend(u32::from(value).to_ne_bytes());
    Reply::With("v", bytes)
}

/// A call that came: its method, and what follows the head.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    pub(crate) method: String,
    pub(crate) body: Vec<u8>,
}

/// The peer.
pub(crate) struct Peer {
    pub(crate) socket: PathBuf,
    /// Every call that came.
    pub(crate) called: watch::Receiver<Vec<Called>>,
    signals: mpsc::Sender<&'static str>,
    _work: JoinSet<()>,
}

impl Peer {
    /// Serves one connection after the other; `answers` says what is answered.
    pub(crate) fn begin(
        socket: PathBuf,
        mut answers: impl FnMut(&Called) -> Reply + Send + 'static,
    ) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let (sender, called) = watch::channel(Vec::new());
        let (signals, mut waiting) = mpsc::channel::<&'static str>(8);
        let mut work = JoinSet::new();
        work.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut bus = greet(stream).await;
                loop {
                    tokio::select! {
                        message = bus.message() => {
                            let Ok(message) = message else { break };
                            let (method, body) = (message.member, message.body);
                            let called = Called { method, body };
                            let reply = answers(&called);
                            sender.send_modify(|all| all.push(called));
                            send(&bus.stream, message.serial, reply).await;
                        }
                        Some(name) = waiting.recv() => {
                            let bytes = wire::message_of(4, 1, &[(3, "s", name)], None, &[]);
                            bus.stream.write_all(&bytes).await.unwrap();
                        }
                    }
                }
            }
        });
        Self { socket, called, signals, _work: work }
    }

    /// Sends a signal.
    pub(crate) async fn signal(&self, name: &'static str) {
        self.signals.send(name).await.unwrap();
    }

    /// Returns the methods that were called, with how often.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for called in self.called.borrow().iter() {
            *counts.entry(called.method.clone()).or_default() += 1;
        }
        counts
    }
}

async fn greet(mut stream: UnixStream) -> Bus {
    for answer in ["OK 0\r\n", "AGREE_UNIX_FD\r\n", ""] {
        let line = line_of(&mut stream).await.unwrap();
        assert!(!line.is_empty());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    let (read, attached, signals) = (Vec::new(), VecDeque::new(), VecDeque::new());
    Bus { stream, serial: 0, read, attached, signals }
}

async fn send(stream: &UnixStream, to: u32, reply: Reply) {
    let (kind, fields, body, descriptor) = match &reply {
        Reply::With(signature, body) => (2, vec![(8, "g", *signature)], body.clone(), None),
        Reply::Descriptor(descriptor) => {
            (2, vec![(8, "g", "h")], 0_u32.to_ne_bytes().to_vec(), Some(descriptor))
        }
        Reply::Error(name) => (3, vec![(4, "s", *name)], Vec::new(), None),
    };
    let bytes = wire::message_of(kind, 1, &fields, Some(to), &body);
    let descriptors: Vec<_> = descriptor.into_iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(attached.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    let sent = sendmsg(stream, &[IoSlice::new(&bytes)], &mut attached, SendFlags::empty());
    assert_eq!(sent, Ok(bytes.len()));
}

const SOME: Target = Target { peer: "a.b", object: "/a", interface: "a.b.C" };

#[tokio::test]
async fn calls_are_answered_also_with_descriptors_errors_and_signals_between() {
    let folder = tempfile::tempdir().unwrap();
    let (held, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut held = Some(OwnedFd::from(held));
    let peer = Peer::begin(folder.path().join("bus"), move |called| match &*called.method {
        "Get" => long(7),
        "Hold" => Reply::Descriptor(held.take().unwrap()),
        "Fail" => Reply::Error("a.b.Failed"),
        _ => Reply::With("", Vec::new()),
    });
    let mut bus = Bus::shared(&peer.socket).await.unwrap();
    peer.signal("Happened").await;
    assert_eq!(bus.signal().await.as_deref(), Ok("Happened"));
    let answer = bus.property(SOME, "P").await.unwrap();
    let mut cursor = answer.read();
    assert_eq!((cursor.signature().as_deref(), cursor.long()), (Some("t"), Some(7)));
    assert!(cursor.long().is_none(), "there is no more");
    let answer = bus.call(SOME, "Hold", Body::default()).await.unwrap();
    assert!(answer.descriptor.unwrap().as_raw_fd() >= 0);
    let failed = bus.call(SOME, "Fail", Body::default()).await.unwrap_err();
    assert_eq!(failed, Trouble::Refused("a.b.Failed".to_owned(), String::new()));
    assert_eq!(peer.counts()["Hello"], 1);
}

#[test]
fn nothing_that_comes_breaks_the_reader() {
    let whole =
        wire::message_of(3, 9, &[(4, "s", "a.b"), (8, "g", "s")], Some(7), b"\x01\0\0\0x\0");
    assert_eq!(wire::length(&whole), Ok(Some(whole.len())));
    let read = wire::message(&whole).unwrap();
    assert_eq!((read.kind, read.answers, &*read.error), (Kind::Error, 7, "a.b"));
    assert_eq!(Cursor::new(&read.body).text().as_deref(), Some("x"));
    for end in 16..whole.len() {
        drop(wire::message(&whole[..end]));
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut other = whole.clone();
            other[at] = value;
            if let Ok(Some(length)) = wire::length(&other)
                && length <= other.len()
            {
                drop(wire::message(&other[..length]));
            }
        }
    }
    let mut long = whole;
    long[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert!(wire::length(&long).unwrap_err().contains("more than"));
}
