//! How long it takes until a cloud has the node: from a blank start, from a restart, and after the
//! cloud itself was away. Of so few runs the greatest is what a p99 would be.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipc_proto::Module;
use minicloud::Config;
use minicloud::fault::Fault;
use rustix::process::Signal;
use serde_json::json;

use super::Row;
use crate::rig::cloud::Cloud;
use crate::rig::{Rig, Setup};

/// Starts of a blank node, and restarts of one that has its certificate.
const STARTS: usize = 10;

/// For how long the cloud is away, in turn: from a blink to where the pauses between two dials have
/// grown to their longest. CloudCore's own restart takes some 9 s.
const ABSENCES: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_millis(1300),
    Duration::from_secs(3),
    Duration::from_millis(5600),
    Duration::from_secs(9),
];

/// How often each of them.
const ABSENCE_ROUNDS: usize = 3;

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let cloud = Cloud::start(Config::default())?;
    let (blank, mut node) = blank_starts(&cloud)?;
    let again = restarts(&cloud, &mut node)?;
    let (absences, leases) = absences(&cloud)?;
    Ok(vec![
        Row::of(format!("{STARTS} blank starts, to connected"), "ms", &blank)
            .go("560 ms (560-700), to Ready"),
        Row::of(format!("{STARTS} restarts, to connected"), "ms", &again)
            .go("170 ms (160-230), to the lease"),
        Row::of("cloud restart, from listening to connected", "ms", &absences)
            .target("≤ 2000")
            .go("30-39 s after the loss, 60 s if the cloud was not back by then"),
        Row::of("cloud restart, from connected to the lease", "ms", &leases)
            .target("≤ 2000")
            .go("up to 10 s"),
    ])
}

/// Makes a node that is to join a cloud. Its edgehub is of the caller's user, whose folder the
/// certificates are in.
pub(super) fn setup(cloud: &Cloud) -> Result<Setup> {
    let own = rustix::process::geteuid().as_raw();
    let mut setup = Setup::new()?.with(json!({
        "restart": {"stableAfter": "1ms"},
        "modules": {"edgehub": {"user": own}},
    }));
    cloud.lead(&mut setup);
    Ok(setup)
}

/// Starts a node and waits until the cloud has it.
pub(super) fn start(cloud: &Cloud) -> Result<Rig> {
    let joined = cloud.next_session(cloud.session()?);
    let rig = setup(cloud)?.start()?;
    joined.done().with_context(|| rig.module_log(Module::Edgehub))?;
    Ok(rig)
}

/// Starts blank nodes, from the supervisor's start to the cloud's session, and returns the last.
fn blank_starts(cloud: &Cloud) -> Result<(Vec<f64>, Rig)> {
    let mut took = Vec::new();
    let mut last = None;
    let mut session = 0;
    for _ in 0..STARTS {
        drop(last.take());
        let setup = setup(cloud)?;
        let joined = cloud.next_session(session);
        let begin = Instant::now();
        let rig = setup.launch()?;
        took.push(millis(joined.done()?.duration_since(begin)));
        rig.wait_until_whole()?;
        session = cloud.session()?;
        last = Some(rig);
    }
    Ok((took, last.context("no node was started")?))
}

/// Ends the whole and starts it again.
fn restarts(cloud: &Cloud, node: &mut Rig) -> Result<Vec<f64>> {
    let restart = |_| {
        let last = cloud.session()?;
        node.end(Signal::TERM)?;
        let joined = cloud.next_session(last);
        let begin = Instant::now();
        node.start_again()?;
        Ok(millis(joined.done()?.duration_since(begin)))
    };
    (0..STARTS).map(restart).collect()
}

/// Lets the cloud be away: from the moment it listens again to the node's next session, and from
/// there to its lease.
fn absences(cloud: &Cloud) -> Result<(Vec<f64>, Vec<f64>)> {
    let node = start(cloud)?;
    let [mut took, mut leases] = [const { Vec::new() }; 2];
    cloud.next_lease(None).done()?;
    for away in ABSENCES.into_iter().cycle().take(ABSENCES.len() * ABSENCE_ROUNDS) {
        let down_millis = u64::try_from(away.as_millis())?;
        // A link that is lost again and again is dialled ever more slowly; here each is the first.
        let joined = cloud.next_session(cloud.session()?);
        let old = node.pid_of(Module::Edgehub)?;
        node.signal(Module::Edgehub, Signal::KILL)?;
        node.wait_until_back(Module::Edgehub, old)?;
        joined.done()?;
        let joined = cloud.next_session(cloud.session()?);
        let renewed = cloud.next_lease(cloud.lease()?);
        cloud
            .with(|cloud| async move { cloud.fault(None, Fault::Restart { down_millis }).await })?;
        let listens = Instant::now() + away;
        let joined = joined.done().with_context(|| node.module_log(Module::Edgehub))?;
        took.push(millis(joined.duration_since(listens)));
        leases.push(millis(renewed.done()?.saturating_duration_since(joined)));
    }
    Ok((took, leases))
}

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
