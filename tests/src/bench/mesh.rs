//! The mesh: what a service's address costs beside the way without it, what the proxy does beside
//! nginx, how long services wait when edgemesh is killed, what a thousand services take, and what the
//! tunnel between networks costs.

mod load;
mod nginx;
mod tunnel;

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipc_proto::Module;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{ROUNDS, Row};
use crate::rig::mesh::{CLUSTER, PODS, Place};
use crate::rig::process::kib;
use crate::rig::{SOON, wait_until};
use load::{Manner, Rate};
use nginx::Nginx;

/// The port of the server that is asked, the one at which it is asked directly, and where nginx
/// listens for it. A client that comes to one port both ways is another to the server each time,
/// with a clock of its own, and is taken for its own past where its ports are the same.
const PORT: u16 = 8090;
const DIRECT: u16 = 8092;
const NGINX: &str = "10.244.1.1:8091";

/// The services in front of it: in the kernel, and through the proxy.
const KERNEL: &str = "10.96.1.1";
const PROXY: &str = "10.96.1.2";

/// How many services there are in the end, and the endpoints of each.
const SERVICES: usize = 1000;
const ENDPOINTS: usize = 10;

/// How long the cloud may take to tell of them: it waits for the store each time.
const LONG: Duration = Duration::from_secs(300);

/// How often edgemesh is killed, and an endpoint changed.
const KILLS: usize = 10;
const CHANGES: usize = 21;

/// Measures; no rows where the machine cannot have networks.
pub(super) fn run() -> Result<Vec<Row>> {
    // the thread moves into another network
    std::thread::scope(|scope| {
        let measured = scope.spawn(measure).join();
        measured.map_err(|_| anyhow::anyhow!("the measurement has panicked"))?
    })
}

fn measure() -> Result<Vec<Row>> {
    let more = json!({"restart": {"stableAfter": "1ms"}, "faults": false});
    let Some(place) = Place::with(&more)? else { return Ok(Vec::new()) };
    place.service(&json!({}), &[])?;
    let mut rows = ways(&place)?;
    rows.extend(killed(&place)?);
    rows.extend(many(&place)?);
    drop(place);
    rows.extend(tunnel::rows()?);
    Ok(rows)
}

/// Makes a service and where it is served.
fn serve(place: &Place, name: &str, ip: &str, annotations: &Value, ends: &[String]) -> Result<()> {
    place.cloud.apply(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "load", "annotations": annotations},
        "spec": {"clusterIP": ip, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
    }))?;
    ends_of(place, name, ends)
}

fn ends_of(place: &Place, name: &str, ends: &[String]) -> Result<()> {
    let end = |address: &String| json!({"addresses": [address], "conditions": {"ready": true}});
    let ends: Vec<Value> = ends.iter().map(end).collect();
    place.cloud.apply(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{name}-1"), "namespace": "load",
            "labels": {"kubernetes.io/service-name": name}},
        "endpoints": ends, "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
    }))?;
    Ok(())
}

/// Measures each way to one server, in turns.
fn ways(place: &Place) -> Result<Vec<Row>> {
    let [client, server, _] = &place.pods;
    load::serve(server, PORT)?;
    load::serve(server, DIRECT)?;
    let end = [PODS[1].to_owned()];
    serve(place, "kernel", KERNEL, &json!({}), &end)?;
    let turns = json!({"service.edgemesh.kubeedge.io/load-balancing": "round-robin"});
    serve(place, "proxy", PROXY, &turns, &end)?;
    // what has ended is forgotten soon: many connections are made
    place.node.run(|| {
        let path = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait";
        std::fs::write(path, "1").with_context(|| format!("cannot write {path}"))
    })?;
    let direct = format!("{}:{DIRECT}", PODS[1]);
    let served = format!("{}:{PORT}", PODS[1]);
    let nginx = Nginx::start(&place.node, NGINX, &served)?.context("nginx is not installed")?;
    let all = [direct, format!("{KERNEL}:80"), format!("{PROXY}:80"), NGINX.to_owned()];
    wait_until("the proxied service is reached", SOON, || {
        load::round(client, &all[2], Manner::Each).is_ok()
    })?;
    let mut rows = Vec::new();
    for (manner, what) in [(Manner::Kept, "kept connections"), (Manner::Each, "connection each")] {
        let mut rates: [Vec<Rate>; 4] = Default::default();
        for round in 0..2 * ROUNDS {
            // each way comes first in its turn: what else the machine does favours none
            for way in (0..all.len()).map(|it| (it + round) % all.len()) {
                rates[way].push(load::round(client, &all[way], manner)?);
            }
        }
        rows.extend(compared(what, &rates));
    }
    drop(nginx);
    Ok(rows)
}

fn compared(what: &str, [direct, kernel, proxy, nginx]: &[Vec<Rate>; 4]) -> Vec<Row> {
    let mut rows = Vec::new();
    let ways = [("direct", direct), ("kernel", kernel), ("proxy", proxy), ("nginx", nginx)];
    for (way, rates) in ways {
        let answers: Vec<f64> = rates.iter().map(|rate| rate.answers).collect();
        let p99: Vec<f64> = rates.iter().map(|rate| rate.p99).collect();
        rows.push(Row::of(format!("{what}, {way}"), "req/s", &answers));
        rows.push(Row::of(format!("{what}, {way}, p99"), "ms", &p99));
    }
    for (name, ours, theirs, target) in [
        ("kernel beside direct", kernel, direct, "≥ 0.95"),
        ("proxy beside nginx", proxy, nginx, "≥ 0.5"),
    ] {
        let both = || ours.iter().zip(theirs);
        let answers: Vec<f64> = both().map(|(one, other)| one.answers / other.answers).collect();
        // the other way round, so that more is better here too
        let p99: Vec<f64> = both().map(|(one, other)| other.p99 / one.p99).collect();
        rows.push(Row::of(format!("{what}, {name}, requests"), "", &answers).target(target));
        rows.push(Row::of(format!("{what}, {name}, p99"), "", &p99).target(target));
    }
    rows
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Kills edgemesh while connections stand and new ones are made.
fn killed(place: &Place) -> Result<Vec<Row>> {
    let client = &place.pods[0];
    let mut talk = place.connect(client, CLUSTER)?;
    talk.line()?;
    let (mut through_kernel, mut through_proxy) = (Vec::new(), Vec::new());
    for round in 0..KILLS {
        let old = place.rig.pid_of(Module::Edgemesh)?;
        place.rig.signal(Module::Edgemesh, Signal::KILL)?;
        let begin = Instant::now();
        let mut most = 0.0_f64;
        let (mut asked, mut proxied) = (0, None);
        while proxied.is_none() || asked < 20 {
            let one = Instant::now();
            place.ask(client, CLUSTER)?;
            most = most.max(millis(one));
            asked += 1;
            if proxied.is_none() && load::once(client, &format!("{PROXY}:80")).is_ok() {
                proxied = Some(millis(begin));
            }
            ensure!(begin.elapsed() < SOON, "the proxy does not come back");
        }
        through_kernel.push(most);
        through_proxy.extend(proxied);
        talk.echo(&format!("round {round}")).context("a connection has ended")?;
        place.rig.wait_until_back(Module::Edgemesh, old)?;
    }
    let name = "edgemesh killed: the slowest new connection through the kernel";
    Ok(vec![
        Row::of(name, "ms", &through_kernel).target("≤ 200"),
        Row::of("edgemesh killed: to an answer through its proxy", "ms", &through_proxy)
            .target("≤ 200"),
    ])
}

/// Measures a thousand services.
fn many(place: &Place) -> Result<Vec<Row>> {
    let ends = |last: usize| -> Vec<String> {
        (0..ENDPOINTS)
            .map(|end| format!("10.{}.{}.{}", 10 + end, last / 250, last % 250 + 1))
            .collect()
    };
    for number in 0..SERVICES {
        let ip = format!("10.97.{}.{}", number / 250, number % 250 + 1);
        serve(place, &format!("s{number}"), &ip, &json!({}), &ends(number))?;
    }
    let carried = || -> Result<u64> {
        let report = place.rig.module(Module::Edgemesh)?.report.unwrap_or_default();
        Ok(report["traffic"]["carried"].as_u64().unwrap_or_default())
    };
    let expected = u64::try_from(SERVICES + 3)?;
    wait_until("all services are carried", LONG, || carried().is_ok_and(|it| it == expected))
        .with_context(|| format!("{:?} of {expected} are", carried()))?;
    let kernel = Commits::begin()?;
    let mut changes = Vec::new();
    for round in 0..CHANGES {
        let mut ends = ends(7);
        ends[0] = format!("10.9.9.{}", round + 1);
        kernel.forget();
        let begin = Instant::now();
        ends_of(place, "s7", &ends)?;
        kernel.hear()?;
        changes.push(millis(begin));
    }
    let memory = |field: &str| -> Result<f64> {
        Ok(kib(place.rig.pid_of(Module::Edgemesh)?, &[field])? / 1024.0)
    };
    let mut pss = vec![memory("Pss")?];
    let mut anew = Vec::new();
    for _ in 0..ROUNDS {
        let old = place.rig.pid_of(Module::Edgemesh)?;
        kernel.forget();
        let begin = Instant::now();
        place.rig.signal(Module::Edgemesh, Signal::KILL)?;
        kernel.hear()?;
        anew.push(millis(begin));
        place.rig.wait_until_back(Module::Edgemesh, old)?;
        wait_until("all are carried again", SOON, || carried().is_ok_and(|it| it == expected))?;
        pss.push(memory("Pss")?);
    }
    let what = format!("{SERVICES} services × {ENDPOINTS} endpoints");
    let change = "one endpoint's change, from the cloud to the kernel";
    Ok(vec![
        Row::of(format!("{what}: from a kill to the kernel"), "ms", &anew).target("≤ 1000"),
        Row::of(format!("{what}: {change}"), "ms", &changes).target("≤ 20"),
        Row::of(format!("{what}: PSS of edgemesh"), "MiB", &pss).target("≤ 15"),
    ])
}

/// The kernel's news of changes of its packet filter, in the network where it was made.
struct Commits(OwnedFd);

impl Commits {
    fn begin() -> Result<Self> {
        let (protocol, flags) = (Some(netlink::NETFILTER), SocketFlags::CLOEXEC);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        // the group of nf_tables
        bind(&socket, &SocketAddrNetlink::new(0, 1 << 6))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(10)))?;
        Ok(Self(socket))
    }

    fn read(&self, flags: RecvFlags) -> Result<(), ErrorKind> {
        let mut news = [0; 8192];
        match recv(&self.0, &mut news, flags).map_err(std::io::Error::from) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error.kind()),
            // that there was more than it can hold is news too
            Err(_) => Ok(()),
        }
    }

    /// Forgets what was heard.
    fn forget(&self) {
        while self.read(RecvFlags::DONTWAIT).is_ok() {}
    }

    /// Waits for a change.
    fn hear(&self) -> Result<()> {
        let heard = self.read(RecvFlags::empty());
        heard.map_err(|_| anyhow::anyhow!("nothing changes in the kernel"))
    }
}
