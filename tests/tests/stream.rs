//! Streams through the tunnel: logs, exec, attach and numbers, from a user of the cloud to the node's
//! API and back.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::stream::{Door, agreed, ends, read_all, read_until};
use edgecore_tests::rig::{Rig, SOON, Setup, node_api, process, wait_for, wait_until};
use ipc_proto::Module;
use minicloud::Config;
use minicloud::fault::Fault;
use minicloud::stream::TunnelFault;
use rustix::process::Signal;
use serde_json::json;

/// Bytes of a bulk transfer each way, where the environment names no other number.
const BULK: u64 = 16 << 20;

/// A node, its cloud, and a pod there.
struct Place {
    cloud: Cloud,
    rig: Rig,
}

impl Place {
    fn start() -> Result<Self> {
        let cloud = Cloud::start(Config::default())?;
        let mut setup = Setup::new()?.with(json!({"restart": {"stableAfter": "1ms"}}));
        cloud.lead(&mut setup);
        let api = node_api::start()?;
        setup.edgecore["modules"]["edged"]["tailoredKubeletConfig"]["readOnlyPort"] =
            json!(api.port());
        setup.edgecore["modules"]["edgeStream"]["readDeadline"] = json!(2);
        setup.edgecore["modules"]["edgeStream"]["writeDeadline"] = json!(2);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "i"}]},
        });
        cloud.with(|cloud| async move { cloud.apply(pod).await })?;
        let rig = setup.start()?;
        let place = Self { cloud, rig };
        place.tunnel_after(0)?;
        Ok(place)
    }

    fn tunnel(&self) -> u64 {
        self.cloud.with(|cloud| async move { cloud.tunnel_of(NODE) }).unwrap_or(0)
    }

    /// Waits for a tunnel later than the one numbered `last`.
    fn tunnel_after(&self, last: u64) -> Result<u64> {
        let found =
            wait_for("the tunnel stands", SOON, || Some(self.tunnel()).filter(|it| *it > last));
        found.with_context(|| self.rig.module_log(Module::Edgestream))
    }

    fn fault(&self, fault: TunnelFault) -> Result<()> {
        self.cloud.with(|cloud| async move { cloud.tunnel_fault(NODE, fault).await })
    }

    fn door(&self) -> Door {
        Door::of_cloud(&self.cloud)
    }

    fn logs(&self, container: &str) -> Result<TcpStream> {
        self.door().logs("p", container, "")
    }

    /// Asks for an upgrade and reads the head of the answer.
    fn exec(&self, container: &str) -> Result<TcpStream> {
        let mut stream = self.door().upgrade(&format!("/exec/default/p/{container}"))?;
        agreed(&mut stream)?;
        Ok(stream)
    }
}

fn bulk() -> u64 {
    std::env::var("EDGECORE_BULK_BYTES").ok().and_then(|it| it.parse().ok()).unwrap_or(BULK)
}

#[test]
fn logs_exec_and_numbers_come_through_and_failures_say_why() -> Result<()> {
    let place = Place::start()?;
    let mut logs = place.logs("follow")?;
    read_until(&mut logs, "line 1\n")?;
    let numbers = read_all(&mut place.door().get("/metrics/resource")?)?;
    assert!(numbers.contains("# HELP\n") && numbers.ends_with("0\r\n\r\n"), "{numbers}");
    let mut exec = place.exec("echo")?;
    exec.write_all(b"\x80\x03\xff\xfe")?;
    let mut answer = [0; 4];
    exec.read_exact(&mut answer)?;
    assert_eq!(&answer, b"\x80\x03\xff\xfe", "bytes that are no UTF-8");
    let unknown = read_all(&mut place.logs("unknown")?)?;
    assert!(unknown.contains("pod \"p\" not found\n"), "{unknown}");
    let mut unknown = place.door().upgrade("/exec/default/p/unknown")?;
    let text = read_until(&mut unknown, "not found\n")?;
    assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"), "{text}");
    // A user who goes is told of again and again, and answered once.
    drop((logs, exec));
    let removed = || place.cloud.with(|cloud| async move { cloud.removed() });
    wait_until("all are over", SOON, || removed().len() == 5)?;
    assert!(removed().values().all(|times| *times == 1), "{:?}", removed());
    Ok(())
}

#[test]
fn nothing_but_the_node_s_api_can_be_reached() -> Result<()> {
    let place = Place::start()?;
    let mut refused = place.door().upgrade("/exec/default/p/%2e%2e")?;
    let text = read_until(&mut refused, "serves\n")?;
    assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
    Ok(())
}

#[test]
fn a_killed_tunnel_is_back_and_touches_nothing_else() -> Result<()> {
    let place = Place::start()?;
    let session = place.cloud.session()?;
    let snapshot = place.rig.snapshot()?;
    let (mut logs, mut exec) = (place.logs("follow")?, place.exec("echo")?);
    read_until(&mut logs, "line 1\n")?;
    let (tunnel, pid) = (place.tunnel(), place.rig.pid_of(Module::Edgestream)?);
    place.rig.signal(Module::Edgestream, Signal::KILL)?;
    ends(&mut logs)?;
    ends(&mut exec)?;
    place.rig.wait_until_back(Module::Edgestream, pid)?;
    place.tunnel_after(tunnel)?;
    read_until(&mut place.logs("follow")?, "line 1\n")?;
    assert_eq!(place.cloud.session()?, session, "the cloud link was touched");
    snapshot.still_holds_but_for(&place.rig, &[Module::Edgestream])
}

#[test]
fn a_tunnel_that_is_cut_silent_or_rubbish_is_made_anew() -> Result<()> {
    let place = Place::start()?;
    let pid = place.rig.pid_of(Module::Edgestream)?;
    for fault in [
        TunnelFault::Cut,
        TunnelFault::HalfOpen,
        TunnelFault::Raw(b"this is no frame".to_vec()),
        TunnelFault::Raw([&[0x81, 127][..], &[0xff; 8]].concat()),
        TunnelFault::Message(b"\x00\x05failed to Update KubeletEndpoint Port".to_vec()),
    ] {
        let mut logs = place.logs("follow")?;
        read_until(&mut logs, "line 1\n")?;
        let last = place.tunnel();
        place.fault(fault.clone())?;
        place.tunnel_after(last).with_context(|| format!("after {fault:?}"))?;
        // A cloud that reads nothing does not see the end either.
        if fault != TunnelFault::HalfOpen {
            ends(&mut logs)?;
        }
    }
    // Messages that mean nothing are passed over.
    let last = place.tunnel();
    for nothing in [&b""[..], b"\x80", b"\x05\x63", b"\x05\x03data", b"\x05\x04", b"\x07\x00null"] {
        place.fault(TunnelFault::Message(nothing.to_vec()))?;
    }
    read_until(&mut place.logs("follow")?, "line 1\n")?;
    assert_eq!((place.tunnel(), place.rig.pid_of(Module::Edgestream)?), (last, pid));
    Ok(())
}

#[test]
fn a_cloud_that_restarts_gets_its_tunnel() -> Result<()> {
    let place = Place::start()?;
    let last = place.tunnel();
    let restart = Fault::Restart { down_millis: 1500 };
    place.cloud.with(|cloud| async move { cloud.fault(None, restart).await })?;
    place.tunnel_after(last)?;
    read_until(&mut place.logs("follow")?, "line 1\n")?;
    Ok(())
}

#[test]
fn a_hundred_follow_at_once() -> Result<()> {
    let place = Place::start()?;
    let mut followers = (0..100).map(|_| place.logs("follow")).collect::<Result<Vec<_>>>()?;
    for follower in &mut followers {
        read_until(follower, "line 1\n")?;
    }
    let status = place.rig.wait("all are counted", |status| {
        let module = status.modules.iter().find(|module| module.name == Module::Edgestream);
        module.is_some_and(|module| format!("{module:?}").contains("100"))
    });
    status.map(drop)
}

#[test]
fn a_pipe_carries_all_bytes_both_ways_in_full_frames() -> Result<()> {
    let place = Place::start()?;
    let length = bulk();
    let before = place.cloud.with(|cloud| async move { cloud.frames() });
    let mut down = place.exec(&format!("source?{length}"))?;
    let came = std::io::copy(&mut down, &mut std::io::sink())?;
    assert_eq!(came, length);
    let after = place.cloud.with(|cloud| async move { cloud.frames() });
    let filled = (after.1 - before.1) / (after.0 - before.0);
    assert!(filled > 2048, "frames of {filled} bytes in the middle");
    let up_length = length / 4;
    let mut up = place.exec(&format!("sink?{up_length}"))?;
    let mut writer = up.try_clone()?;
    let writing = std::thread::Builder::new()
        .spawn(move || std::io::copy(&mut std::io::repeat(0xfe).take(up_length), &mut writer))?;
    assert_eq!(read_until(&mut up, "\n")?, format!("{up_length}\n"));
    writing.join().map_err(|_| anyhow::anyhow!("the writer failed"))??;
    Ok(())
}

#[test]
fn a_reader_that_stops_does_not_hold_up_the_others_for_ever() -> Result<()> {
    let place = Place::start()?;
    let mut others = (0..49).map(|_| place.exec("echo")).collect::<Result<Vec<_>>>()?;
    let deaf = place.exec("deaf")?;
    let tunnel = place.tunnel();
    let mut feeder = deaf.try_clone()?;
    feeder.set_write_timeout(Some(Duration::from_secs(1)))?;
    // More than sockets and windows hold; who reads nothing makes the writer wait.
    let _stalled = std::io::copy(&mut std::io::repeat(7).take(64 << 20), &mut feeder);
    for other in &mut others {
        other.write_all(b"still here")?;
        let mut answer = [0; 10];
        other.set_read_timeout(Some(2 * SOON))?;
        other.read_exact(&mut answer)?;
        assert_eq!(&answer, b"still here");
    }
    deaf.shutdown(Shutdown::Both).unwrap_or_default();
    assert_eq!(place.tunnel(), tunnel, "the tunnel itself stood");
    Ok(())
}

#[test]
fn a_cloud_that_takes_a_tunnel_and_serves_it_later_is_waited_for() -> Result<()> {
    let place = Place::start()?;
    let last = place.tunnel();
    // Longer than a cloud that served it might be silent. One that was dialled again meanwhile
    // would let the old tunnel take the place of the new one.
    let hesitation = Duration::from_secs(5);
    place.cloud.with(|cloud| async move { cloud.hesitate(hesitation) });
    place.fault(TunnelFault::Cut)?;
    assert_eq!(place.tunnel_after(last)?, last + 1, "it was dialled again");
    read_until(&mut place.logs("follow")?, "line 1\n")?;
    Ok(())
}

#[test]
fn a_user_who_stops_reading_grows_no_memory_and_others_go_on() -> Result<()> {
    let place = Place::start()?;
    let resident = || -> Result<u64> {
        let pid = place.rig.pid_of(Module::Edgestream)?;
        let text = process::status_field(pid, "VmRSS")?;
        Ok(text.trim_end_matches(" kB").parse()?)
    };
    let (pid, before, last) = (place.rig.pid_of(Module::Edgestream)?, resident()?, place.tunnel());
    // CloudCore passes on what comes one after the other, so it holds up all that is behind it; the
    // tunnel is then given up, and the next one has no such user.
    let mut stopped = place.exec(&format!("source?{}", 1_u64 << 40))?;
    let mut first = [0; 4096];
    stopped.read_exact(&mut first)?;
    place.tunnel_after(last)?;
    read_until(&mut place.logs("follow")?, "line 1\n")?;
    let grown = resident()?.saturating_sub(before);
    assert!(grown < 4096, "it grew by {grown} KiB");
    assert_eq!(place.rig.pid_of(Module::Edgestream)?, pid, "it was not replaced");
    Ok(())
}

#[test]
fn a_cloud_that_floods_is_answered_within_bounds() -> Result<()> {
    let place = Place::start()?;
    let (pid, tunnel) = (place.rig.pid_of(Module::Edgestream)?, place.tunnel());
    let url =
        json!({"Scheme": "http", "Host": "127.0.0.1:10350", "Path": "/containerLogs/d/p/follow"});
    let open = json!({"url": url}).to_string();
    // Numbers that the cloud has not used itself.
    let heads = || (8..11).flat_map(|high| (0..128).map(move |low| [0x80 | low, high]));
    let message = |head: [u8; 2], kind: u8, data: &str| {
        let message = [&head[..], &[kind], data.as_bytes()].concat();
        place.fault(TunnelFault::Message(message))
    };
    let before = place.cloud.with(|cloud| async move { cloud.removed() }).len();
    let ended = || place.cloud.with(|cloud| async move { cloud.removed() }).len() - before;
    for head in heads() {
        message(head, 0, &open)?;
        message([0xff, 0x7f], 4, "")?;
    }
    wait_until("those over the bound of 256 are refused", SOON, || ended() == 3 * 128 - 256)?;
    for head in heads() {
        message(head, 4, "")?;
        message(head, 4, "")?;
    }
    wait_until("the others end", SOON, || ended() == 3 * 128)?;
    let removed = place.cloud.with(|cloud| async move { cloud.removed() });
    assert!(removed.values().all(|times| *times == 1), "closed more than once: {removed:?}");
    read_until(&mut place.logs("follow")?, "line 1\n")?;
    assert_eq!((place.tunnel(), place.rig.pid_of(Module::Edgestream)?), (tunnel, pid));
    Ok(())
}
