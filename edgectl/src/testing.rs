//! A scripted supervisor for tests: one answer for each connection, in order.

use std::io::{IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;

use ipc_proto::control::{
    AgentState, Exits, LastExit, MAX_REQUEST, ModuleStatus, Request, Response, SOCKET_NAME, Status,
};
use ipc_proto::lifeline::{Confinement, Load, Traffic};
use ipc_proto::tap::Record;
use ipc_proto::{Module, ModuleState};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg};

/// 2026-08-01T10:00:00Z in milliseconds.
pub(crate) const TEN: i64 = 1_785_578_400_000;

/// What the supervisor does with one connection.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// What it says.
    pub(crate) says: Vec<u8>,
    /// What it then writes on the attached socket.
    pub(crate) records: Vec<Record>,
    /// Whether it then waits until the other side hangs up.
    pub(crate) stays: bool,
}

impl Answer {
    /// Answers as it should.
    pub(crate) fn proper(response: &Response) -> Self {
        Self { says: line(response), ..Self::default() }
    }
}

/// Runs a supervisor in a thread until the script is over; it returns what it was asked.
pub(crate) fn supervisor(
    runtime_dir: &Path,
    script: impl IntoIterator<Item = Answer>,
) -> JoinHandle<Vec<Request>> {
    let listener = UnixListener::bind(runtime_dir.join(SOCKET_NAME)).unwrap();
    let script: Vec<_> = script.into_iter().collect();
    std::thread::spawn(move || {
        let serve = |answer| {
            let (stream, _) = listener.accept().unwrap();
            serve(stream, answer)
        };
        script.into_iter().map(serve).collect()
    })
}

fn serve(mut stream: UnixStream, answer: Answer) -> Request {
    let (request, attached) = receive(&mut stream);
    // The client may have seen enough before all is written.
    stream.write_all(&answer.says).unwrap_or_default();
    for record in answer.records {
        let socket = attached.as_ref().unwrap();
        rustix::net::send(socket, &record.encode(), SendFlags::empty()).unwrap();
    }
    if answer.stays {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    request
}

fn receive(stream: &mut UnixStream) -> (Request, Option<OwnedFd>) {
    let mut line = vec![0; MAX_REQUEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut line)];
    let count = recvmsg(stream, &mut parts, &mut ancillary, RecvFlags::empty()).unwrap().bytes;
    let attached = ancillary.drain().find_map(|message| {
        let RecvAncillaryMessage::ScmRights(mut descriptors) = message else { return None };
        descriptors.next()
    });
    (serde_json::from_slice(&line[..count]).unwrap(), attached)
}

/// Returns an answer as it stands on the wire.
pub(crate) fn line(response: &Response) -> Vec<u8> {
    let mut line = serde_json::to_vec(response).unwrap();
    line.push(b'\n');
    line
}

/// An agent of four modules: one that runs, one that was killed, one that keeps dying and one that
/// is not wanted.
pub(crate) fn status() -> Status {
    let edgehub = serde_json::json!({
        "state": "connected", "endpoint": "wss://cloud:10000", "since": TEN, "connects": 1,
        "lastHeartbeat": TEN + 50_000, "certificateExpires": "2027-08-01T00:00:00Z",
    });
    let aborted = LastExit {
        reason: "signal 6".into(),
        at: TEN + 58_000,
        pid: 30,
        last_lines: vec!["starting".into(), "panicked at \x1b[2Jcore.rs:7".into()],
    };
    let killed = LastExit { reason: "signal 9".into(), at: TEN, pid: 20, last_lines: Vec::new() };
    Status {
        node: "edge1".into(),
        version: "0.1.0".into(),
        state: AgentState::Degraded,
        uptime_seconds: 60.5,
        pid: 10,
        reloads: 0,
        not_in_force: vec!["no control groups".into(), "edged: the kernel has no Landlock".into()],
        faults: false,
        modules: vec![
            ModuleStatus {
                report: Some(edgehub),
                confinement: Some(Confinement { uid: 996, ..confined() }),
                ..module(Module::Edgehub, ModuleState::Running, Some(11))
            },
            ModuleStatus {
                restarts: 1,
                last_exit: Some(killed),
                load: Load { waiting: 3, unsettled: 12 },
                confinement: Some(Confinement { capabilities: (1 << 41) - 1, ..confined() }),
                cgroup: Some("/edgecore/edged".into()),
                memory_max: Some(64 << 20),
                ..module(Module::Edged, ModuleState::Running, Some(21))
            },
            ModuleStatus {
                restarts: 7,
                last_exit: Some(aborted),
                next_start: Some(TEN + 88_000),
                ..module(Module::Eventbus, ModuleState::Held, None)
            },
            module(Module::Edgemesh, ModuleState::Disabled, None),
        ],
    }
}

fn module(name: Module, state: ModuleState, pid: Option<u32>) -> ModuleStatus {
    ModuleStatus {
        name,
        state,
        pid,
        since: TEN,
        restarts: 0,
        last_exit: None,
        next_start: None,
        load: Load::default(),
        report: None,
        confinement: None,
        cgroup: None,
        memory_max: None,
        last_beat: None,
        traffic: Traffic::default(),
        exits: Exits::default(),
    }
}

fn confined() -> Confinement {
    Confinement {
        no_new_privileges: true,
        seccomp: true,
        landlock_abi: 0,
        open_files: Some(1024),
        not_in_force: vec!["the kernel has no Landlock".into()],
        ..Confinement::default()
    }
}
