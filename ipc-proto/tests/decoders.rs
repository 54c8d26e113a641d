//! Every decoder against mutated seeds: the bodies of the fuzz targets, on the ordinary toolchain.
//!
//! `PROPTEST_CASES` says how many mutations each decoder gets. The seeds are what today's encoders
//! write; `UPDATE_SEEDS=1` writes them anew after a change of the protocol.
#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a failure is the message")]

use std::path::{Path, PathBuf};
use std::{env, fs};

use bytes::Bytes;
use ipc_proto::control::{AgentState, Exits, LastExit, ModuleStatus, Request, Response, Status};
use ipc_proto::frame::{self, Hello, Outcome, Settlement, Window};
use ipc_proto::lifeline::{
    self, Confine, Confinement, Fault, Load, LogLevel, QueueBounds, Start, ToModule, ToSupervisor,
    Traffic,
};
use ipc_proto::tap::{Filter, Happening, Record};
use ipc_proto::{
    Content, Group, Instance, Kind, Message, MessageId, Module, ModuleSet, ModuleState, Operation,
    Resource, Route, Scope, Source,
};
use proptest::prelude::*;
use serde::Serialize;

#[path = "../../fuzz/src/mutation.rs"]
mod mutation;
#[path = "../../fuzz/src/lib.rs"]
pub mod targets;

use mutation::{changed, seeds_of};
use targets::{TARGETS, Target};

/// A seed's name and bytes.
type Seed = (&'static str, Vec<u8>);

fn message() -> Message {
    let route = Route {
        source: Source::Edgecontroller,
        group: Group::Resource,
        operation: Operation::Update,
        resource: Resource::object(Scope::Namespace("default".into()), Kind::Pod, "web-0"),
    };
    let content = Content::from_raw(Bytes::from_static(b"{\"kind\":\"Pod\"}"));
    Message::new(MessageId::from_random([7; 16]), 1_700_000_000_000, route, content)
}

fn frames() -> Vec<Seed> {
    let hello = Hello {
        from: Module::Edged,
        to: Module::Metamanager,
        instance: Instance(u64::MAX),
        window: Window { messages: 1024, bytes: 4 << 20 },
    };
    let settlements = [
        Settlement { first: 1, count: 2, outcome: Outcome::Done },
        Settlement { first: 3, count: 1, outcome: Outcome::Refused("no such pod".into()) },
    ];
    let answer = message().error(MessageId::parse("not a UUID"), -1, "no");
    let sent = |sequence, message: &Message| {
        let mut head = frame::message_head(message).unwrap();
        frame::set_sequence(&mut head, sequence);
        [&head[..], message.content.raw()].concat()
    };
    let welcome = [frame::welcome(&hello).to_vec(), sent(1, &message())].concat();
    vec![
        ("hello", frame::hello(&hello).to_vec()),
        ("refused", frame::refused("not your socket").to_vec()),
        ("settle", frame::settle(&settlements).to_vec()),
        ("message", sent(1, &message())),
        ("answer", sent(u64::MAX, &answer)),
        ("two", welcome),
    ]
}

fn to_module() -> Vec<Seed> {
    let start = Start {
        module: Module::Edgehub,
        instance: Instance(1),
        node: "edge1".into(),
        runtime_dir: "/run/edgecore".into(),
        config: "{}".into(),
        enabled: Module::ALL.into_iter().collect::<ModuleSet>(),
        users: [997; Module::COUNT],
        beat_interval_ms: 2000,
        faults: true,
        log_level: LogLevel::Info,
        confine: Confine {
            user: Some((997, 997)),
            writable: vec!["/var/lib/kubeedge".into()],
            open_files: Some(1024),
            ..Confine::default()
        },
        queue: QueueBounds::default(),
    };
    let filter = Filter { module: Some(Module::Edged), resource: Some("pod".to_owned()) };
    let packet = |record| lifeline::encode::<ToModule>(&record).unwrap();
    vec![
        ("start", packet(ToModule::Start(Box::new(start)))),
        ("drain", packet(ToModule::Drain)),
        ("fault", packet(ToModule::Fault(Fault::DiskFull))),
        ("tap", packet(ToModule::Tap(filter))),
        ("tap-end", packet(ToModule::TapEnd)),
    ]
}

fn to_supervisor() -> Vec<Seed> {
    let confinement = Confinement {
        uid: 997,
        landlock_abi: 6,
        open_files: Some(1024),
        not_in_force: vec!["no cgroup".into()],
        ..Confinement::default()
    };
    let packet = |record| lifeline::encode::<ToSupervisor>(&record).unwrap();
    vec![
        ("ready", packet(ToSupervisor::Ready(confinement))),
        ("beat", packet(ToSupervisor::Beat(Load { waiting: 3, unsettled: 300 }))),
        ("report", packet(ToSupervisor::Report(b"{}".as_slice().into()))),
        ("traffic", packet(ToSupervisor::Traffic(traffic()))),
    ]
}

fn traffic() -> Traffic {
    Traffic { sent: 7, received: 300, queued_bytes: 70_000, peers: 2, connections: 3 }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn requests() -> Vec<Seed> {
    let modules = vec![Module::Edged, Module::Edgehub];
    let filter = Filter { module: None, resource: Some("pod".to_owned()) };
    vec![
        ("status", line(&Request::Status)),
        ("restart", line(&Request::Restart { modules })),
        ("fault", line(&Request::Fault { module: Module::Edged, fault: Fault::SlowIpc })),
        ("tap", line(&Request::Tap { filter })),
    ]
}

fn responses() -> Vec<Seed> {
    let module = ModuleStatus {
        name: Module::Edged,
        state: ModuleState::Backoff,
        pid: None,
        since: 1_700_000_000_000,
        restarts: 2,
        last_exit: Some(LastExit {
            reason: "signal 9".to_owned(),
            at: 1_700_000_000_000,
            pid: 4711,
            last_lines: vec!["panicked".to_owned()],
        }),
        next_start: Some(1_700_000_001_000),
        load: Load::default(),
        report: Some(serde_json::json!({ "pods": 1.5 })),
        confinement: Some(Confinement::default()),
        cgroup: None,
        memory_max: Some(64 << 20),
        last_beat: Some(1_700_000_000_500),
        traffic: traffic(),
        exits: Exits { signal: 2, ..Exits::default() },
    };
    let status = Status {
        node: "edge1".to_owned(),
        version: "0.1.0".to_owned(),
        state: AgentState::Degraded,
        uptime_seconds: 12.3,
        pid: 1,
        reloads: 0,
        not_in_force: vec!["no cgroup".to_owned()],
        faults: false,
        modules: vec![module],
    };
    vec![
        ("done", line(&Response::Done)),
        ("failed", line(&Response::Failed { reason: "no such module".to_owned() })),
        ("status", line(&Response::Status(Box::new(status)))),
    ]
}

fn records() -> Vec<Seed> {
    let record = |happening| Record::of(&message(), Module::Edgehub, Module::Edged, happening, 1);
    vec![
        ("sent", record(Happening::Sent).encode()),
        ("settled", record(Happening::Settled(90)).encode()),
        ("refused", record(Happening::Refused("no".into())).encode()),
    ]
}

fn words() -> Vec<Seed> {
    vec![
        ("object", b"\x01default/pod/web-0".to_vec()),
        ("list", b"\x06default/podlist".to_vec()),
        ("cluster", b"\x01null/node/edge1".to_vec()),
        ("device", b"\x03device/default/sensor/twin/edge_updated".to_vec()),
        ("task", b"\x05operations.kubeedge.io/v1alpha2/nodeupgradejob/j/node/edge1".to_vec()),
        ("uuid", b"\x0007fc34ee-832f-4364-89eb-579fc0e49c7d".to_vec()),
    ]
}

/// What today's encoders write, by target. The JSON target has none of its own: the recorded
/// messages are its seeds.
fn written(target: &str) -> Vec<Seed> {
    match target {
        "frame" => frames(),
        "to_module" => to_module(),
        "to_supervisor" => to_supervisor(),
        "json" => Vec::new(),
        "control_request" => requests(),
        "control_response" => responses(),
        "tap" => records(),
        "words" => words(),
        other => panic!("target {other} has no seeds: write some"),
    }
}

fn folder(target: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    match target {
        "json" => own.join("tests/fixtures/messages"),
        other => own.join("../fuzz/seeds").join(other),
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    seeds_of(&folder(target))
}

#[test]
fn the_seeds_are_what_the_encoders_write() {
    for (target, _) in TARGETS {
        for (name, bytes) in written(target) {
            let path = folder(target).join(name);
            if env::var_os("UPDATE_SEEDS").is_some() {
                fs::create_dir_all(folder(target)).unwrap();
                fs::write(&path, &bytes).unwrap();
            }
            let current = fs::read(&path).is_ok_and(|seed| seed == bytes);
            assert!(current, "{target}/{name} is out of date: run again with UPDATE_SEEDS=1");
        }
    }
}

#[test]
fn every_seed_is_taken() {
    for (target, run) in TARGETS {
        for (number, seed) in seeds(target).iter().enumerate() {
            assert!(run(seed), "{target} does not take its seed {number}");
        }
    }
}

/// Shoots at one decoder with changed seeds, and with bytes that never were one.
fn shoot((name, run): Target) {
    let noise = prop::collection::vec(any::<u8>(), 0..64);
    proptest!(|(bytes in changed(seeds(name)), noise in noise)| {
        run(&bytes);
        run(&noise);
    });
}

/// One test for each target, so that they run side by side and a failure names its decoder.
macro_rules! shots {
    ($($target:ident),*) => {
        mod takes_rubbish_without_harm {
            $(#[test]
            fn $target() {
                super::shoot((stringify!($target), super::targets::$target));
            })*
        }

        #[test]
        fn every_target_is_shot_at() {
            assert_eq!([$(stringify!($target)),*], TARGETS.map(|(name, _)| name));
        }
    };
}

shots!(frame, to_module, to_supervisor, json, control_request, control_response, tap, words);
