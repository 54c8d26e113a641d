//! The parts of the tests: modules in threads of their own, and peers that are scripted by hand.

use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ipc_proto::frame::{self, Frame, Hello, Outcome, Settlement};
use ipc_proto::lifeline::QueueBounds;
use ipc_proto::{
    Content, Group, Instance, Kind, Message, MessageId, Module, Operation, Resource, Scope,
};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::super::{Peers, Seat, WINDOW};
use crate::inbox::{Event, Inbox};

/// Longer than anything here takes; a test that waits this long has failed.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// A folder with metamanager's listening socket, which outlives the processes, as in production.
pub(super) struct Node {
    folder: TempDir,
    listener: OwnedFd,
}

impl Node {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(Module::Metamanager.socket_name());
        let listener = UnixListener::bind(path).expect("a socket in a fresh folder").into();
        Self { folder, listener }
    }

    fn seat(&self, module: Module) -> Seat {
        Seat {
            module,
            instance: crate::instance(),
            runtime_dir: self.folder.path().into(),
            users: [rustix::process::getuid().as_raw(); Module::COUNT],
            enabled: Module::ALL.into_iter().collect(),
            queue: QueueBounds::default(),
            window: WINDOW,
        }
    }

    /// Starts metamanager.
    pub(super) fn metamanager<F>(&self, serve: impl FnOnce(Inbox) -> F + Send + 'static) -> Process
    where
        F: Future<Output = ()>,
    {
        self.serve(|_| {}, serve)
    }

    /// Starts metamanager in a seat of another kind.
    pub(super) fn serve<F>(
        &self,
        change: impl FnOnce(&mut Seat),
        serve: impl FnOnce(Inbox) -> F + Send + 'static,
    ) -> Process
    where
        F: Future<Output = ()>,
    {
        let mut seat = self.seat(Module::Metamanager);
        change(&mut seat);
        let listener = self.listener.try_clone().expect("a descriptor");
        Process::start(seat, Some(listener), serve)
    }

    /// Starts a metamanager that answers nothing, and waits until the stranger is its peer.
    pub(super) fn metamanager_alone(&self, stranger: &mut UnixStream) -> Process {
        let process = self.metamanager(answer_all);
        assert!(matches!(read_frame(stranger), Frame::Welcome(_)));
        process
    }

    /// Starts a module that only dials.
    pub(super) fn process(&self, module: Module, change: impl FnOnce(&mut Seat)) -> Process {
        let mut seat = self.seat(module);
        change(&mut seat);
        Process::start(seat, None, answer_all)
    }

    pub(super) fn edged(&self) -> Process {
        self.process(Module::Edged, |_| {})
    }

    /// Dials metamanager without any of our code.
    pub(super) fn stranger(&self) -> UnixStream {
        let path = self.folder.path().join(Module::Metamanager.socket_name());
        let stream = UnixStream::connect(path).expect("connects");
        stream.set_read_timeout(Some(LIMIT)).expect("takes a time-out");
        stream
    }

    pub(super) fn hello(&self, from: Module, instance: Instance) -> Hello {
        Hello { instance, ..self.seat(from).hello(Module::Metamanager) }
    }

    pub(super) fn stranger_as(&self, from: Module, instance: Instance) -> UnixStream {
        let mut stranger = self.stranger();
        stranger.write_all(&frame::hello(&self.hello(from, instance))).expect("is taken");
        stranger
    }

    pub(super) fn stranger_as_edged(&self, instance: Instance) -> UnixStream {
        self.stranger_as(Module::Edged, instance)
    }
}

/// A module in a thread and a runtime of its own; dropping it is its sudden death.
pub(super) struct Process {
    pub(super) peers: Peers,
    death: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Process {
    fn start<F>(
        seat: Seat,
        listener: Option<OwnedFd>,
        serve: impl FnOnce(Inbox) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()>,
    {
        let (death, died) = oneshot::channel();
        let (started, peers) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let (peers, inbox) = seat.take(listener).expect("takes the seat");
                started.send(peers).expect("the test waits");
                tokio::select! {
                    _ = died => {}
                    () = serve(inbox) => {}
                }
            });
        });
        let peers = peers.recv_timeout(LIMIT).expect("starts");
        Self { peers, death: Some(death), thread: Some(thread) }
    }

    pub(super) fn kill(self) {
        drop(self);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.death.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the process panicked");
        }
    }
}

/// Answers every request with its own content and settles every notice.
pub(super) async fn answer_all(mut inbox: Inbox) {
    loop {
        match inbox.next().await {
            Event::Message(delivery) if delivery.is_request() => {
                let content = delivery.message.content.clone();
                delivery.respond(content).expect("fits into a frame");
            }
            Event::Message(delivery) => delivery.settle(),
            Event::PeerUp(_) | Event::PeerDown(_) | Event::Drain => {}
        }
    }
}

fn pod() -> Resource {
    Resource::object(Scope::Namespace("default".into()), Kind::Pod, "p")
}

/// A message that edged may send to metamanager.
pub(super) fn query(process: &Process) -> Message {
    process.peers.message(Group::Meta, Operation::Query, pod(), Content::NULL)
}

/// A message that metamanager may send to edged.
pub(super) fn insert(process: &Process) -> Message {
    process.peers.message(Group::Resource, Operation::Insert, pod(), Content::NULL)
}

/// Reads one frame, with a limit on the time.
pub(super) fn read_frame(stream: &mut UnixStream) -> Frame {
    let mut buffer = BytesMut::zeroed(frame::LENGTH);
    stream.read_exact(&mut buffer).expect("a length");
    let length = frame::frame_length(&buffer).expect("is valid").expect("is whole");
    buffer.resize(length, 0);
    stream.read_exact(&mut buffer[frame::LENGTH..]).expect("a frame");
    frame::take(&mut buffer).expect("is valid").expect("is whole")
}

/// Reads one frame while the runtime goes on.
pub(super) async fn read_in_background(stream: &mut UnixStream) -> Frame {
    let mut stream = stream.try_clone().expect("a descriptor");
    tokio::task::spawn_blocking(move || read_frame(&mut stream)).await.expect("no panic")
}

pub(super) async fn welcomed(stream: &mut UnixStream) {
    assert!(matches!(read_in_background(stream).await, Frame::Welcome(_)));
}

/// Waits until the other end has closed the connection.
pub(super) async fn until_closed(stream: &mut UnixStream) {
    let mut stream = stream.try_clone().expect("a descriptor");
    tokio::task::spawn_blocking(move || {
        let mut rest = Vec::new();
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    })
    .await
    .expect("no panic");
}

/// Waits until it holds, with a limit.
pub(super) async fn until(holds: impl Fn() -> bool) {
    let limit = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < limit, "it does not hold in time");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(super) fn send(stream: &mut UnixStream, sequence: u64, message: &Message) {
    let mut head = frame::message_head(message).expect("fits into a frame");
    frame::set_sequence(&mut head, sequence);
    head.extend_from_slice(message.content.raw());
    stream.write_all(&head).expect("is taken");
}

pub(super) fn answer(stream: &mut UnixStream, sequence: u64, question: &Message) {
    let answer = question.response(MessageId::from_random([1; 16]), 0, Content::NULL);
    send(stream, sequence, &answer);
}

pub(super) fn settle(stream: &mut UnixStream, first: u64) {
    let settlement = Settlement { first, count: 1, outcome: Outcome::Done };
    stream.write_all(&frame::settle(&[settlement])).expect("is taken");
}
