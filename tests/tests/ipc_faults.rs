//! Peers that break the rules: the one connection ends, with the reason where there is one to be
//! told to; the module and everybody else go on.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use edgecore_tests::rig::hostile::{Hostile, echo, hello, message, ping, whole};
use edgecore_tests::rig::privilege::root_or_skip;
use edgecore_tests::rig::{Rig, Setup, control};
use ipc_proto::control::Response;
use ipc_proto::frame::{self, MAX_FRAME, Outcome};
use ipc_proto::{Content, Group, Kind, Module, Operation, Resource, Route, Scope, Source};
use rustix::process::{Gid, Uid};

/// The places that the tests of this file speak from: both dial [`HOST`].
const SEAT: Module = Module::Metaserver;
const OTHER_SEAT: Module = Module::Eventbus;
/// A module that serves both.
const HOST: Module = Module::Metamanager;

/// Connections that say nothing; more than a module lets in at once.
const IDLERS: usize = 20;

fn start() -> Result<Rig> {
    Setup::new()?.with_seat(SEAT).with_seat(OTHER_SEAT).start()
}

/// Runs `fault` and checks that no module was touched and that [`HOST`] still serves.
fn nobody_notices(fault: impl FnOnce(&Rig) -> Result<()>) -> Result<()> {
    let rig = start()?;
    let before = rig.snapshot()?;
    fault(&rig)?;
    assert_answers(&mut Hostile::welcomed(&rig, SEAT, HOST)?)?;
    before.still_holds_but_for(&rig, &[])
}

/// Checks that the module answers.
fn assert_answers(peer: &mut Hostile) -> Result<()> {
    let answer = peer.ask(&ping())?;
    assert_eq!(answer.route.operation, Operation::Response);
    Ok(())
}

#[test]
fn rubbish_on_each_socket_ends_the_connection_and_nothing_else() -> Result<()> {
    let length = |bytes: u32| bytes.to_le_bytes().to_vec();
    let over_long = length(u32::try_from(MAX_FRAME)? + 1);
    let too_short = length(1);
    let wrong_version = [length(2), vec![frame::VERSION + 1, 1]].concat();
    let unknown_kind = [length(2), vec![frame::VERSION, 77]].concat();
    let no_hello = whole(1, &ping())?.to_vec();
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let rubbish = [over_long, too_short, wrong_version, unknown_kind, no_hello, http];
    nobody_notices(|rig| {
        for module in Module::ALL.into_iter().filter(|module| ![SEAT, OTHER_SEAT].contains(module))
        {
            for bytes in &rubbish {
                let mut peer = Hostile::dial(rig, module)?;
                peer.say(bytes)?;
                peer.wait_until_cut().with_context(|| format!("{module} {bytes:?}"))?;
            }
        }
        Ok(())
    })
}

#[test]
fn rubbish_after_a_good_hello_ends_the_connection_and_nothing_else() -> Result<()> {
    let over_long = (u32::try_from(MAX_FRAME)? + 1).to_le_bytes().to_vec();
    let wrong_version = vec![2, 0, 0, 0, frame::VERSION + 1, 4];
    let mut malformed = whole(1, &ping())?.to_vec();
    malformed.truncate(20);
    malformed[..4].copy_from_slice(&16_u32.to_le_bytes());
    let second_hello = hello(SEAT, HOST).to_vec();
    nobody_notices(|rig| {
        for bytes in [over_long, wrong_version, malformed, second_hello] {
            let mut peer = Hostile::welcomed(rig, SEAT, HOST)?;
            peer.say(&bytes)?;
            peer.wait_until_cut().with_context(|| format!("{bytes:?}"))?;
        }
        Ok(())
    })
}

#[test]
fn a_frame_cut_at_any_byte_is_no_message() -> Result<()> {
    let frame = whole(1, &echo(100))?;
    nobody_notices(|rig| {
        for cut in [1, 4, 5, 6, 14, frame.len() / 2, frame.len() - 1] {
            let mut peer = Hostile::welcomed(rig, SEAT, HOST)?;
            peer.say(&frame[..cut])?;
        }
        Ok(())
    })
}

#[test]
fn a_hello_of_somebody_who_does_not_dial_is_refused_by_name() -> Result<()> {
    nobody_notices(|rig| {
        let mut peer = Hostile::dial(rig, HOST)?;
        peer.say(&hello(Module::Edgestream, HOST))?;
        let reason = peer.refusal()?;
        assert!(reason.contains("edgestream"), "{reason}");
        let mut peer = Hostile::dial(rig, HOST)?;
        peer.say(&hello(SEAT, Module::Edged))?;
        let reason = peer.refusal()?;
        assert!(reason.contains("edged"), "{reason}");
        Ok(())
    })
}

#[test]
fn a_hello_of_an_unknown_module_ends_the_connection() -> Result<()> {
    let mut unknown = hello(SEAT, HOST).to_vec();
    // the sender is the body's first value: behind length, version and kind
    unknown[6] = 99;
    nobody_notices(|rig| {
        let mut peer = Hostile::dial(rig, HOST)?;
        peer.say(&unknown)?;
        peer.wait_until_cut()
    })
}

#[test]
fn a_peer_of_another_user_is_refused() -> Result<()> {
    if !root_or_skip()? {
        return Ok(());
    }
    nobody_notices(|rig| {
        let refused = thread::scope(|scope| {
            let stranger = scope.spawn(|| -> Result<String> {
                let (user, group) = (Uid::from_raw(12_345), Gid::from_raw(12_345));
                rustix::thread::set_thread_res_gid(group, group, group)?;
                rustix::thread::set_thread_res_uid(user, user, user)?;
                // the file system may already keep strangers out, else the module does
                let Ok(mut peer) = Hostile::dial(rig, HOST) else { return Ok("12345".into()) };
                peer.say(&hello(SEAT, HOST))?;
                peer.refusal()
            });
            stranger.join().expect("the stranger does not panic")
        })?;
        assert!(refused.contains("12345"), "{refused}");
        Ok(())
    })
}

#[test]
fn what_is_not_on_the_list_is_refused_and_the_connection_stays() -> Result<()> {
    nobody_notices(|rig| {
        let mut peer = Hostile::welcomed(rig, SEAT, HOST)?;
        let route = Route {
            source: Source::Metaserver,
            group: Group::Resource,
            operation: Operation::Delete,
            resource: Resource::object(Scope::Namespace("default".into()), Kind::Pod, "p"),
        };
        let outcome = peer.outcome(&message(route, Content::NULL))?;
        let Outcome::Refused(reason) = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("metaserver may not send 'delete default/pod/p'"), "{reason}");
        assert_answers(&mut peer)
    })
}

#[test]
fn a_peer_that_stops_reading_holds_up_nobody_but_itself() -> Result<()> {
    nobody_notices(|rig| {
        let mut deaf = Hostile::welcomed(rig, SEAT, HOST)?;
        // nearly what the module lets it have in flight, and far more than a socket holds
        let flood = (1..=60).map(|sequence| whole(sequence, &echo(64 * 1024)));
        let flood = flood.collect::<Result<Vec<_>>>()?.concat();
        deaf.push(&flood, Duration::from_millis(500))?;
        let mut other = Hostile::welcomed(rig, OTHER_SEAT, HOST)?;
        for _ in 0..50 {
            assert_answers(&mut other)?;
        }
        Ok(())
    })
}

#[test]
fn connections_that_say_nothing_do_not_keep_a_good_peer_out() -> Result<()> {
    nobody_notices(|rig| {
        let idlers: Result<Vec<_>> = (0..IDLERS).map(|_| Hostile::dial(rig, HOST)).collect();
        let _idlers = idlers?;
        assert_answers(&mut Hostile::welcomed(rig, SEAT, HOST)?)
    })
}

#[test]
fn a_newer_connection_of_the_same_module_replaces_the_older() -> Result<()> {
    nobody_notices(|rig| {
        let mut older = Hostile::welcomed(rig, SEAT, HOST)?;
        let mut newer = Hostile::welcomed(rig, SEAT, HOST)?;
        older.wait_until_cut()?;
        assert_answers(&mut newer)
    })
}

#[test]
fn the_supervisor_takes_rubbish_and_idlers_without_harm() -> Result<()> {
    nobody_notices(|rig| {
        let idlers: Result<Vec<_>> =
            (0..IDLERS).map(|_| control::connect(&rig.runtime_dir())).collect();
        let _idlers = idlers?;
        for line in ["\n", "rubbish\n", "{}\n", "{\"command\":\"frobnicate\"}\n", "\0\0\0\n"] {
            let mut stream = control::connect(&rig.runtime_dir())?;
            stream.write_all(line.as_bytes())?;
            let answer = control::read_response(&mut stream)?;
            assert!(matches!(answer, Response::Failed { .. }), "{line:?}: {answer:?}");
        }
        let mut endless = control::connect(&rig.runtime_dir())?;
        send_until_cut(&mut endless);
        rig.status().map(drop)
    })
}

/// Writes a line without end until the other side has had enough.
fn send_until_cut(stream: &mut UnixStream) {
    let chunk = [b'x'; 4096];
    for _ in 0..1024 {
        if stream.write_all(&chunk).is_err() {
            return;
        }
    }
    let mut rest = Vec::new();
    assert!(stream.read_to_end(&mut rest).is_ok(), "the supervisor took 4 MiB of one line");
}
