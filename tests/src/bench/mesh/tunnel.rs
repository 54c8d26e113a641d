//! The tunnel between networks, beside TCP without it over as many links: throughput, answers, memory,
//! and how long nobody is served when one of its processes is killed.

use std::time::Instant;

use anyhow::{Result, ensure};
use ipc_proto::Module;
use rustix::process::Signal;

use super::load::{self, Manner, Rate};
use super::{kib, millis};
use crate::bench::{ROUNDS, Row};
use crate::rig::tunnel::{CLUSTER, Node, Place, SERVED, serve};
use crate::rig::{SOON, wait_until};

/// The service's port behind which the load's server is, and that server's.
const LOAD: &str = "10.96.0.7:81";
const LOAD_SERVED: u16 = SERVED + 1;

/// How much is sent there and back in a round.
const MUCH: u32 = 32 << 20;

/// Measures; no rows where the machine cannot have networks.
pub(super) fn rows() -> Result<Vec<Row>> {
    let Some(place) = Place::with(2, false)? else { return Ok(Vec::new()) };
    wait_until("the service is reached", SOON, || place.http().is_ok())?;
    let mut rows = beside_direct(&place)?;
    for (who, node) in [("near", &place.near), ("far", &place.far), ("relay", &place.relays[0])] {
        let pss = kib(node.rig.pid_of(Module::Edgemesh)?, &["Pss"])? / 1024.0;
        rows.push(Row::of(format!("tunnel, PSS of edgemesh after that, {who}"), "MiB", &[pss]));
    }
    rows.extend(killed(&place)?);
    Ok(rows)
}

/// Asks a server on the relay's host without the tunnel, and one behind it.
fn beside_direct(place: &Place) -> Result<Vec<Row>> {
    let host = &place.relays[0].network;
    serve(host)?;
    load::serve(host, LOAD_SERVED)?;
    load::serve(&place.server, LOAD_SERVED)?;
    let from = &place.near.network;
    let ways = [
        (format!("10.99.0.2:{SERVED}"), format!("10.99.0.2:{LOAD_SERVED}")),
        (CLUSTER.to_owned(), LOAD.to_owned()),
    ];
    let mut poured: [Vec<f64>; 2] = Default::default();
    let mut rates: [Vec<Rate>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (way, (pour, load)) in ways.iter().enumerate() {
            poured[way].push(throughput(place, pour)?);
            rates[way].push(load::round(from, load, Manner::Kept)?);
        }
    }
    let mut rows = Vec::new();
    for (what, poured, rates) in
        [("direct", &poured[0], &rates[0]), ("tunnel", &poured[1], &rates[1])]
    {
        let answers: Vec<f64> = rates.iter().map(|rate| rate.answers).collect();
        let p99: Vec<f64> = rates.iter().map(|rate| rate.p99).collect();
        rows.push(Row::of(format!("networks apart, there and back, {what}"), "MiB/s", poured));
        rows.push(Row::of(format!("networks apart, {what}"), "req/s", &answers));
        rows.push(Row::of(format!("networks apart, {what}, p99"), "ms", &p99));
    }
    let ratio = |of: &dyn Fn(usize) -> f64| (0..ROUNDS).map(of).collect::<Vec<f64>>();
    for (what, ratios) in [
        ("throughput", ratio(&|it| poured[1][it] / poured[0][it])),
        ("requests", ratio(&|it| rates[1][it].answers / rates[0][it].answers)),
        ("p99", ratio(&|it| rates[0][it].p99 / rates[1][it].p99)),
    ] {
        rows.push(Row::of(format!("networks apart, tunnel beside direct, {what}"), "", &ratios));
    }
    Ok(rows)
}

/// Returns how many MiB pass in a second, each way.
fn throughput(place: &Place, to: &str) -> Result<f64> {
    let talk = Place::connect_from(&place.near.network, to)?;
    let begin = Instant::now();
    let much = usize::try_from(MUCH)?;
    ensure!(talk.pour(much)? == much, "not all comes back");
    Ok(f64::from(MUCH) / f64::from(1 << 20) / begin.elapsed().as_secs_f64())
}

/// Kills each process of the way; returns how long it takes until the service is reached.
fn killed(place: &Place) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let all = [("the client's", &place.near), ("the server's", &place.far)];
    for (whose, node) in all {
        let mut took = Vec::new();
        for _ in 0..ROUNDS {
            kill(node)?;
            let begin = Instant::now();
            wait_until("the service is reached again", SOON, || place.http().is_ok())?;
            took.push(millis(begin));
            wait_until("both ends are connected", SOON, || {
                let count = |node: &Node| node.tunnel().is_ok_and(|it| it["nodes"] == 2);
                place.relays.iter().all(count)
            })?;
        }
        let what = format!("tunnel, edgemesh killed on {whose} node: to an answer");
        rows.push(Row::of(what, "ms", &took));
    }
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let mut talk = place.connect()?;
        talk.echo("before")?;
        let begin = Instant::now();
        place.relays.iter().try_for_each(kill)?;
        talk.echo("after")?;
        took.push(millis(begin));
        ensure!(place.http().is_ok(), "the service is not reached in round {round}");
    }
    let what = "tunnel, edgemesh killed on all relays: to an echo on a connection that stood";
    rows.push(Row::of(what, "ms", &took));
    Ok(rows)
}

fn kill(node: &Node) -> Result<()> {
    node.rig.signal(Module::Edgemesh, Signal::KILL)
}
