//! What a user of kubectl gets of a real pod, with everything real but the cloud: through its tunnel,
//! edgestream, edged's API, and a containerd.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use anyhow::{Context as _, Result, ensure};
use edgecore_tests::rig::cloud::NODE;
use edgecore_tests::rig::cri::Contained;
use edgecore_tests::rig::pods::{LONG, Node, pod};
use edgecore_tests::rig::spdy::{BOTH, OUTPUT, Streams};
use edgecore_tests::rig::stream::{Door, ends, read_all, read_until};
use edgecore_tests::rig::{process, wait_for};
use ipc_proto::Module;
use minicloud::core::nodes::TUNNEL_PORT;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Bytes of a bulk transfer each way, where the environment names no other number.
const BULK: u64 = 64 << 20;

/// A container that counts loudly, and one that says again what it hears.
fn speaker() -> Value {
    let count = "i=0; while true; do echo tick $i; i=$((i+1)); busybox usleep 50000; done";
    pod(
        "speaker",
        json!({"containers": [
            {"name": "c", "command": ["sh", "-c", count]},
            {"name": "parrot", "command": ["cat"], "stdin": true},
        ]}),
    )
}

/// A node with the tunnel, and the pod there.
struct Place {
    node: Node,
    door: Door,
    running: Vec<Contained>,
    session: u64,
}

impl Place {
    /// Nothing where the machine cannot run pods.
    fn start() -> Result<Option<Self>> {
        let with_tunnel = |setup: &mut edgecore_tests::rig::Setup| {
            let own = rustix::process::geteuid().as_raw();
            setup.supervisor["modules"]["edgestream"] = json!({"enabled": true, "user": own});
        };
        let Some(node) = Node::start_with(with_tunnel)? else { return Ok(None) };
        node.apply(speaker())?;
        node.wait_pod_ready("speaker")?;
        let door = Door::of_cloud(&node.cloud);
        let (running, session) = (node.cri.running()?, node.cloud.session()?);
        let place = Self { node, door, running, session };
        place.tunnel_after(0)?;
        Ok(Some(place))
    }

    /// Waits for a tunnel later than the one numbered `last`.
    fn tunnel_after(&self, last: u64) -> Result<u64> {
        let tunnel = || self.node.cloud.with(|cloud| async move { cloud.tunnel_of(NODE) });
        let found = wait_for("the tunnel stands", LONG, || tunnel().filter(|it| *it > last));
        found.with_context(|| self.node.rig.module_log(Module::Edgestream))
    }

    /// Follows the pod's log up to a line of it.
    fn follow(&self) -> Result<TcpStream> {
        let mut logs = self.door.logs("speaker", "c", "follow=true&tailLines=1")?;
        read_until(&mut logs, "tick ")?;
        Ok(logs)
    }

    /// Returns the number of the last message that told how the node is.
    fn last_status(&self) -> Result<u64> {
        let all = self.node.cloud.with(|cloud| async move { cloud.received(0).await })?;
        let told =
            all.iter().filter(|it| it.message.route.resource.to_string().contains("nodepatch"));
        Ok(told.last().map_or(0, |it| it.sequence))
    }

    /// Checks that neither pods nor the cloud's link were touched.
    fn is_untouched(&self) -> Result<()> {
        assert_eq!(self.node.cri.running()?, self.running, "containers were touched");
        assert_eq!(self.node.cloud.session()?, self.session, "the cloud link was touched");
        Ok(())
    }
}

fn bulk() -> u64 {
    std::env::var("EDGECORE_BULK_BYTES").ok().and_then(|it| it.parse().ok()).unwrap_or(BULK)
}

#[test]
fn logs_exec_attach_and_numbers_of_a_pod() -> Result<()> {
    let Some(place) = Place::start()? else { return Ok(()) };
    let door = place.door;
    let mut logs = place.follow()?;
    for _ in 0..3 {
        read_until(&mut logs, "tick ")?;
    }
    let first = read_all(&mut door.logs("speaker", "c", "limitBytes=7")?)?;
    assert!(first.ends_with("\r\n\r\n7\r\ntick 0\n\r\n0\r\n\r\n"), "{first}");

    let script = "cat; echo wrong >&2; exit 3";
    let exec = door.exec("speaker", &["sh", "-c", script], BOTH)?;
    let mut stdin = exec.stdin()?;
    stdin.write_all(b"\x80\x03\xff no text\n")?;
    stdin.close()?;
    let outcome = exec.finish()?;
    assert_eq!(outcome.stdout, b"\x80\x03\xff no text\n");
    assert_eq!((outcome.exit_code(), &*outcome.stderr), (Some(3), &b"wrong\n"[..]));
    let good = door.exec("speaker", &["true"], OUTPUT)?.finish()?;
    assert_eq!(good.exit_code(), Some(0));
    let terminal = Streams { stdin: true, tty: true };
    let mut shell = door.exec("speaker", &["sh"], terminal)?;
    shell.stdin()?.write_all(b"busybox tty; exit 4\n")?;
    shell.read_until("/dev/pts/")?;
    assert_eq!(shell.finish()?.exit_code(), Some(4));

    let mut parrot = door.attach("speaker", "parrot", BOTH)?;
    parrot.stdin()?.write_all(b"hello\n")?;
    parrot.read_until("hello\n")?;

    let summary = door.page("/stats/summary")?;
    assert!(summary.contains("\"speaker\"") && summary.contains("workingSetBytes"), "{summary}");
    let resource = door.page("/metrics/resource")?;
    assert!(resource.contains("container_cpu_usage_seconds_total{"), "{resource}");
    place.is_untouched()
}

#[test]
fn a_websocket_passes_through_as_it_is() -> Result<()> {
    let Some(place) = Place::start()? else { return Ok(()) };
    let target = "/exec/default/speaker/c?command=echo&command=hello&output=1&error=1";
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n";
    let mut stream = place.door.ask("GET", target, headers)?;
    let head = read_until(&mut stream, "\r\n\r\n")?;
    // The answer to this very key, by the standard.
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert!(head.contains("v4.channel.k8s.io"), "{head}");
    // A binary frame of seven bytes for the channel of the output.
    read_until(&mut stream, "\x01hello\n")?;
    read_until(&mut stream, "\"Success\"")?;
    Ok(())
}

#[test]
fn a_killed_tunnel_ends_its_streams_and_touches_no_pod() -> Result<()> {
    let Some(place) = Place::start()? else { return Ok(()) };
    let rig = &place.node.rig;
    let snapshot = rig.snapshot()?;
    let mut logs = place.follow()?;
    let mut exec = place.door.exec("speaker", &["cat"], BOTH)?;
    exec.stdin()?.write_all(b"here\n")?;
    exec.read_until("here\n")?;
    let (tunnel, pid) = (place.tunnel_after(0)?, rig.pid_of(Module::Edgestream)?);
    process::signal(pid, Signal::KILL)?;
    ends(&mut logs)?;
    // No status says that the command ended, so its user is told that it was cut off.
    assert_eq!(exec.finish()?.status, None);
    rig.wait_until_back(Module::Edgestream, pid)?;
    place.tunnel_after(tunnel)?;
    place.follow()?;
    snapshot.still_holds_but_for(rig, &[Module::Edgestream])?;
    place.is_untouched()
}

#[test]
fn a_killed_pod_engine_ends_its_streams_and_says_so() -> Result<()> {
    let Some(place) = Place::start()? else { return Ok(()) };
    let rig = &place.node.rig;
    let snapshot = rig.snapshot()?;
    let mut logs = place.follow()?;
    let exec = place.door.exec("speaker", &["cat"], BOTH)?;
    let (tunnel, pid) = (place.tunnel_after(0)?, rig.pid_of(Module::Edged)?);
    let last = place.last_status()?;
    process::signal(pid, Signal::KILL)?;
    let end = read_all(&mut logs)?;
    assert!(end.contains("the node's API (edged) broke off"), "{end}");
    assert_eq!(exec.finish()?.status, None);
    rig.wait_until_back(Module::Edged, pid)?;
    wait_for("the log is there again", LONG, || place.follow().ok())?;
    assert_eq!(place.tunnel_after(0)?, tunnel, "the tunnel was touched");
    // Where Kubernetes' API server asks was set by the cloud and is not the node's to change.
    wait_for("the node's state is told", LONG, || {
        place.last_status().ok().filter(|it| *it > last)
    })?;
    let path = format!("null/node/{NODE}");
    let object = place.node.cloud.with(|cloud| async move { cloud.object(&path).await })?;
    let endpoint = object.context("no node")?["status"]["daemonEndpoints"].take();
    assert_eq!(endpoint, json!({"kubeletEndpoint": {"Port": TUNNEL_PORT}}));
    snapshot.still_holds_but_for(rig, &[Module::Edged])?;
    place.is_untouched()
}

#[test]
fn a_hundred_follow_a_log_at_once() -> Result<()> {
    let Some(place) = Place::start()? else { return Ok(()) };
    let mut followers = (0..100).map(|_| place.follow()).collect::<Result<Vec<_>>>()?;
    for follower in &mut followers {
        read_until(follower, "tick ")?;
        read_until(follower, "tick ")?;
    }
    drop(followers);
    let removed = || place.node.cloud.with(|cloud| async move { cloud.removed() });
    let all = wait_for("all are over", LONG, || Some(removed()).filter(|it| it.len() >= 100))?;
    assert!(all.values().all(|times| *times == 1), "closed more than once: {all:?}");
    place.is_untouched()
}

#[test]
fn a_pipe_carries_all_bytes_out_of_a_container_and_into_it() -> Result<()> {
    let Some(place) = Place::start()? else { return Ok(()) };
    let length = bulk();
    let script = format!("busybox head -c {length} /dev/zero");
    let mut out = place.door.exec("speaker", &["sh", "-c", &script], OUTPUT)?;
    assert_eq!(out.count()?, length);
    let into = place.door.exec("speaker", &["busybox", "wc", "-c"], BOTH)?;
    let mut stdin = into.stdin()?;
    let writing = std::thread::Builder::new().spawn(move || {
        std::io::copy(&mut std::io::repeat(0xfe).take(length), &mut stdin)?;
        stdin.close()
    })?;
    let outcome = into.finish()?;
    writing.join().ok().context("the writer failed")??;
    assert_eq!(String::from_utf8_lossy(&outcome.stdout).trim(), length.to_string());
    Ok(())
}

#[test]
fn what_is_not_there_is_said_in_kubelet_s_words() -> Result<()> {
    let Some(place) = Place::start()? else { return Ok(()) };
    let door = place.door;
    // The cloud finds a tunnel by the node's address, too, but there is no node of that name that
    // it could send the pod to. So a request for the pod reaches this node, and the pod never does.
    let mut nobody = pod("nobody", json!({"containers": [{"name": "c"}]}));
    nobody["spec"]["nodeName"] = json!("127.0.0.1");
    place.node.apply(nobody)?;
    for (pod, container, words) in [
        ("nobody", "c", "pod \"nobody\" does not exist"),
        ("speaker", "x", "container \"x\" not found in pod \"speaker\""),
    ] {
        let text = read_all(&mut door.logs(pod, container, "")?)?;
        ensure!(text.contains(words), "{text}");
    }
    let bad = read_all(&mut door.logs("speaker", "c", "tailLines=-1")?)?;
    ensure!(bad.contains("Invalid request."), "{bad}");
    let mut refused = door.upgrade("/exec/default/speaker/x?command=true&output=1")?;
    let text = read_until(&mut refused, "container not found (\"x\")")?;
    ensure!(text.starts_with("HTTP/1.1 500 Internal Server Error\r\n"), "{text}");
    // Kubernetes' own port-forward is not offered by CloudCore, nor is anything else.
    let none = door.page("/portForward/default/speaker")?;
    ensure!(none.starts_with("HTTP/1.1 404 Not Found\r\n"), "{none}");
    Ok(())
}

#[test]
fn users_who_ask_hugely_or_hang_up_half_way_are_ended_and_nobody_else() -> Result<()> {
    let Some(place) = Place::start()? else { return Ok(()) };
    let mut others = place.follow()?;
    // Within the cloud's own bound, and beyond the node's.
    let huge = format!("X: {}\r\n", "x".repeat(200 << 10));
    let mut huge = place.door.ask("GET", "/containerLogs/default/speaker/c", &huge)?;
    let text = read_all(&mut huge)?;
    ensure!(text.contains("the node's API"), "{text}");
    // The cloud takes one who writes no more for one who has gone.
    let half = place.door.exec("speaker", &["cat"], BOTH)?;
    half.stream().shutdown(Shutdown::Write)?;
    assert_eq!(half.finish()?.status, None);
    read_until(&mut others, "tick ")?;
    place.is_untouched()
}
