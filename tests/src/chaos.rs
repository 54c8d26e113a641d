//! Chaos: faults at random while messages flow, for as long as asked, and the promises checked all
//! the while. The faults and their times are a pure function of the seed ([`mod@schedule`]).

pub mod devices;
pub mod pods;
pub mod schedule;
mod summary;
mod watch;
pub mod whole;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipc_proto::Module;
use ipc_proto::control::Request;
use ipc_proto::lifeline::Fault;
use rustix::process::Signal;
use serde_json::json;

use crate::rig::hostile::Hostile;
use crate::rig::{Rig, Setup, control, process, wait_for};
use crate::traffic::{self, Pace, SCRIBE, SENDER, Traffic, check};
use schedule::{Blow, schedule};
use watch::Watch;

pub use summary::{Deaths, Recoveries, Summary};

/// How long everything may take to come through and to come back after the last blow.
const IN_TIME: Duration = Duration::from_secs(60);

/// The traffic: some 1,400 messages a second, which leaves the processors room for the deaths.
const PACE: Pace = Pace::Bursts(10, Duration::from_millis(50));

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long blows fall.
    pub time: Duration,
    /// What blows fall when.
    pub seed: u64,
}

/// Runs it. What was promised and did not hold stands in the summary's breaches.
///
/// # Errors
/// When the rig cannot be set up, or does not end.
pub fn run(options: Options) -> Result<Summary> {
    let setup = traffic::with_places(Setup::new()?).with(json!({
        // every restart is the first one, and hangs are found fast
        "restart": {"stableAfter": "1ms"},
        "beat": {"interval": "200ms", "patience": "3s"},
    }));
    let mut rig = setup.start()?;
    let traffic = Traffic::start(&rig, PACE, 1024)?;
    let mut watch = Watch::start(&rig)?;
    traffic.send(u64::MAX);
    strike_on(&rig, &traffic, &mut watch, options);
    traffic.stop();
    settle_down(&rig, &traffic, &mut watch);
    let summary = watch.summary(options, traffic.tally());
    drop(traffic);
    let ended = rig.end(Signal::TERM)?;
    ensure!(ended.success(), "the supervisor ended with {ended}: {}", rig.log());
    Ok(summary)
}

/// Lets the schedule's blows fall until the time is over or a promise is broken.
fn strike_on(rig: &Rig, traffic: &Traffic, watch: &mut Watch, options: Options) {
    let begin = Instant::now();
    let victims: Vec<Module> =
        Module::ALL.into_iter().filter(|module| ![SENDER, SCRIBE].contains(module)).collect();
    let connections: Vec<_> = Traffic::connections().collect();
    for (at, blow) in schedule(options.seed, &victims, connections.len()) {
        let due = at.min(options.time);
        while begin.elapsed() < due && !watch.is_broken() {
            watch.look(rig);
            watch.hold(check(&traffic.tally()));
            std::thread::park_timeout(Duration::from_millis(2));
        }
        if begin.elapsed() >= options.time || watch.is_broken() {
            return;
        }
        if blow.victim().is_some_and(|victim| watch.is_down(victim)) {
            watch.passed_over();
            continue;
        }
        // noted before it falls, so that the death is no surprise
        watch.struck(blow);
        if let Err(error) = strike(rig, traffic, &connections, blow) {
            watch.hold(Err(error.context(format!("cannot strike {blow:?}"))));
        }
    }
}

/// Lets one blow fall.
fn strike(
    rig: &Rig,
    traffic: &Traffic,
    connections: &[(Module, Module)],
    blow: Blow,
) -> Result<()> {
    match blow {
        Blow::Kill(module) => process::signal(rig.pid_of(module)?, Signal::KILL),
        Blow::Stop(module) => rig.fault(module, Fault::Stop),
        Blow::Segv(module) => rig.fault(module, Fault::Segv),
        Blow::Panic(module) => rig.fault(module, Fault::Panic),
        Blow::Hang(module) => rig.fault(module, Fault::Hang),
        Blow::CloseLifeline(module) => rig.fault(module, Fault::CloseLifeline),
        Blow::Reload => rig.demand(&Request::Reload),
        Blow::Cut(at) => {
            let &(place, module) = connections.get(at).context("no such connection")?;
            // a module that is down or turns strangers away cuts nothing, which is as well
            drop(traffic.cut(place, module));
            Ok(())
        }
        Blow::Garbage(module) => {
            let mut peer = Hostile::dial(rig, module)?;
            drop(peer.say(b"\xff\xff\xff\xffrubbish"));
            Ok(())
        }
        Blow::GarbageToSupervisor => {
            let mut stream = control::connect(&rig.runtime_dir())?;
            drop(stream.write_all(b"{\"command\":\"rubbish\"}\n\0\xff"));
            Ok(())
        }
    }
}

/// Waits until everyone is back and everything is settled.
fn settle_down(rig: &Rig, traffic: &Traffic, watch: &mut Watch) {
    let through = wait_for("everyone is back and everything is settled", IN_TIME, || {
        watch.look(rig);
        let tally = traffic.tally();
        (!watch.is_anyone_down() && tally.settled == tally.sent).then_some(())
    });
    watch.hold(through.with_context(|| format!("{:?}", traffic.tally())));
    watch.hold(check(&traffic.tally()));
    watch.hold(rig.wait_until_whole().map(drop));
}
