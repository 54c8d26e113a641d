//! Streams: what logs and exec through the tunnel carry beside the same asked of the node's API
//! directly, and what edgestream takes of memory while many stand.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipc_proto::Module;
use serde_json::json;

use super::{ROUNDS, Row};
use crate::rig::pods::{LONG, Node, pod};
use crate::rig::process::kib;
use crate::rig::spdy::{BOTH, OUTPUT};
use crate::rig::stream::{Door, read_until};
use crate::rig::{Setup, process, wait_until};

/// Bytes of a round.
const LENGTH: u64 = 64 << 20;

/// Bytes of the long pipe.
const LONG_LENGTH: u64 = 1 << 30;

/// Bytes of a frame that a cloud with full frames would send.
const FULL: usize = 32 * 1024;

/// Streams that stand while memory is measured: half of them logs.
const STREAMS: usize = 50;

/// Measures; no rows where the machine cannot run pods.
pub(super) fn run() -> Result<Vec<Row>> {
    let with_tunnel = |setup: &mut Setup| {
        let own = rustix::process::geteuid().as_raw();
        setup.supervisor["modules"]["edgestream"] = json!({"enabled": true, "user": own});
        setup.supervisor["faults"] = json!(false);
    };
    let Some(node) = Node::start_with(with_tunnel)? else { return Ok(Vec::new()) };
    node.apply(speaker())?;
    node.wait_pod_ready("speaker")?;
    let cloud = Door::of_cloud(&node.cloud);
    wait_until("the log is written and the tunnel stands", LONG, || {
        let last = |door: Door| door.logs("speaker", "c", "tailLines=1");
        last(cloud).is_ok_and(|mut logs| read_until(&mut logs, "the end\n").is_ok())
    })?;
    let mut rows = vec![memory(&node, cloud)?];
    let ways: [(&str, Carry); 3] =
        [("a log", log), ("exec, out of a container", out), ("exec, into a container", into)];
    for (what, carry) in ways {
        rows.extend(compare(what, carry, &node)?);
    }
    let [.., last] = ways;
    node.cloud.minicloud().fill_frames(FULL);
    rows.extend(compare("exec, into a container in full frames", last.1, &node)?);
    node.cloud.minicloud().fill_frames(minicloud::stream::PIECE);
    for (what, carry) in &ways[1..] {
        let rate = carry(cloud, LONG_LENGTH)?;
        rows.push(Row::of(format!("{what}, 1 GiB through the tunnel"), "MiB/s", &[rate]));
    }
    Ok(rows)
}

/// Carries so many bytes; returns how many MiB in a second.
type Carry = fn(Door, u64) -> Result<f64>;

/// Measures a way directly and through the tunnel, in turns, and what edgestream takes for it.
fn compare(what: &str, carry: Carry, node: &Node) -> Result<[Row; 4]> {
    let cloud = Door::of_cloud(&node.cloud);
    let direct = Door::of_node(node.rig.setup().api);
    let pid = node.rig.pid_of(Module::Edgestream)?;
    let used = || -> Result<u64> { Ok(process::thread_times(pid)?.values().sum()) };
    let [mut bare, mut told, mut ratio, mut cost] = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let direct = carry(direct, LENGTH)?;
        let before = used()?;
        let through = carry(cloud, LENGTH)?;
        let nanos = Duration::from_nanos(used()? - before);
        cost.push(nanos.as_secs_f64() * 1e3 / mib(LENGTH));
        bare.push(direct);
        told.push(through);
        ratio.push(through / direct);
    }
    Ok([
        Row::of(format!("{what}, from the node's API"), "MiB/s", &bare),
        Row::of(format!("{what}, through the tunnel"), "MiB/s", &told),
        Row::of(format!("{what}, ratio of the two"), "", &ratio).target("≥ 0.8"),
        Row::of(format!("{what}, processor time of edgestream"), "ms/MiB", &cost),
    ])
}

/// A container that has written a long log.
fn speaker() -> serde_json::Value {
    let line = "0123456789".repeat(12);
    let script =
        format!("busybox yes {line} | busybox head -c {LENGTH}; echo; echo the end; sleep 1000000");
    pod("speaker", json!({"containers": [{"name": "c", "command": ["sh", "-c", script]}]}))
}

#[expect(clippy::cast_precision_loss, reason = "MiB need no more")]
fn mib(length: u64) -> f64 {
    length as f64 / f64::from(1 << 20)
}

fn rate(begin: Instant, length: u64) -> f64 {
    mib(length) / begin.elapsed().as_secs_f64()
}

/// Reads the log, which is as long as `length` says.
fn log(door: Door, length: u64) -> Result<f64> {
    let begin = Instant::now();
    let mut logs = door.get("/containerLogs/default/speaker/c")?;
    let (mut count, mut part, mut end) = (0, vec![0; 64 * 1024], Vec::new());
    // The connection to the node's own API stays open at the end.
    while !end.ends_with(b"\r\n0\r\n\r\n") {
        let read = logs.read(&mut part).context("the log does not come")?;
        ensure!(read > 0, "the log ended after {count} bytes");
        count += read as u64;
        end.extend_from_slice(&part[..read]);
        let kept = end.len().saturating_sub(16);
        end.drain(..kept);
    }
    ensure!(count >= length, "a log of {count} bytes, expected {length}");
    Ok(rate(begin, count))
}

/// Has a command write bytes.
fn out(door: Door, length: u64) -> Result<f64> {
    let command = ["busybox", "head", "-c", &length.to_string(), "/dev/zero"];
    let mut session = door.exec("speaker", &command, OUTPUT)?;
    let begin = Instant::now();
    let count = session.count()?;
    ensure!(count == length, "{count} bytes came, expected {length}");
    Ok(rate(begin, length))
}

/// Has a command read bytes.
fn into(door: Door, length: u64) -> Result<f64> {
    let session = door.exec("speaker", &["busybox", "wc", "-c"], BOTH)?;
    let mut stdin = session.stdin()?;
    session.stream().set_read_timeout(Some(LONG * 5))?;
    let begin = Instant::now();
    let writing = std::thread::Builder::new().spawn(move || {
        std::io::copy(&mut std::io::repeat(0xfe).take(length), &mut stdin)?;
        stdin.close()
    })?;
    let outcome = session.finish()?;
    let rate = rate(begin, length);
    writing.join().ok().context("the writer failed")??;
    let count = String::from_utf8_lossy(&outcome.stdout).trim().to_owned();
    ensure!(count == length.to_string(), "{count} bytes arrived, expected {length}");
    Ok(rate)
}

/// Has many streams stand, each of which carried something.
fn memory(node: &Node, door: Door) -> Result<Row> {
    let follow = || -> Result<TcpStream> {
        let mut logs = door.logs("speaker", "c", "follow=true&tailLines=1000")?;
        read_until(&mut logs, "the end\n")?;
        Ok(logs)
    };
    let logs = (0..STREAMS / 2).map(|_| follow()).collect::<Result<Vec<_>>>()?;
    let shell = || {
        let mut session = door.exec("speaker", &["cat"], BOTH)?;
        let mut stdin = session.stdin()?;
        std::io::copy(&mut std::io::repeat(b'x').take(256 * 1024), &mut stdin)?;
        std::io::Write::write_all(&mut stdin, b"the end\n")?;
        session.read_until("the end\n")?;
        Ok(session)
    };
    let shells = (0..STREAMS / 2).map(|_| shell()).collect::<Result<Vec<_>>>()?;
    let pss = kib(node.rig.pid_of(Module::Edgestream)?, &["Pss"])?;
    drop((logs, shells));
    let name = format!("PSS of edgestream with {STREAMS} streams");
    Ok(Row::of(name, "MiB", &[pss / 1024.0]).target("≤ 8"))
}
