//! Messages under way while things go wrong: nothing settled is lost, order is kept, nothing takes
//! effect twice, and a full queue pushes back.

use std::time::Duration;

use anyhow::{Context, Result};
use edgecore_tests::chaos::schedule::Dice;
use edgecore_tests::rig::{Rig, SOON, Setup, process, wait_until};
use edgecore_tests::traffic::{PATHS, Pace, SCRIBE, SENDER, Tally, Traffic, check, with_places};
use ipc_proto::Module;
use ipc_proto::control::Request;
use rustix::process::Signal;
use serde_json::json;

/// How long everything may take to come through after the last kill.
const IN_TIME: Duration = Duration::from_secs(60);

/// Messages for each path; ten thousand in all.
const EACH: u64 = 10_000_u64.div_ceil(PATHS.len() as u64);

/// Room for all of them.
const WIDE: u32 = 10_000;

/// A rig with traffic in which every restart is the first one.
fn start() -> Result<Rig> {
    with_places(Setup::new()?).with(json!({"restart": {"stableAfter": "1ms"}})).start()
}

/// The modules that messages pass.
fn victims() -> Vec<Module> {
    Module::ALL.into_iter().filter(|module| ![SENDER, SCRIBE].contains(module)).collect()
}

#[test]
fn in_peace_every_message_arrives_once_and_is_settled() -> Result<()> {
    let rig = start()?;
    let traffic = Traffic::start(&rig, Pace::Full, WIDE)?;
    traffic.send(500);
    let tally = traffic.wait_until_settled(500, IN_TIME)?;
    check(&tally)?;
    let Tally { sent, arrived, repeated, asked, .. } = tally;
    assert_eq!((arrived, repeated), (sent, 0));
    wait_until("all requests are answered", SOON, || traffic.tally().answered == asked)
}

#[test]
fn ten_thousand_messages_survive_random_kills() -> Result<()> {
    let rig = start()?;
    let traffic = Traffic::start(&rig, Pace::Full, WIDE)?;
    let victims = victims();
    let mut dice = Dice(20_260);
    traffic.send(EACH);
    let mut kills = 0;
    while kills < 40 && traffic.tally().settled < EACH * PATHS.len() as u64 {
        let victim = victims[dice.index(victims.len())];
        let old = rig.pid_of(victim)?;
        process::signal(old, Signal::KILL)?;
        rig.wait_until_back(victim, old)?;
        kills += 1;
    }
    let tally = traffic.wait_until_settled(EACH, IN_TIME).context("after the last kill")?;
    check(&tally)?;
    assert_eq!(tally.arrived, tally.sent);
    assert!(kills > 5, "all was over after {kills} kills");
    rig.wait_until_whole().map(drop)
}

#[test]
fn cut_connections_repeat_nothing() -> Result<()> {
    let rig = start()?;
    let before = rig.snapshot()?;
    let traffic = Traffic::start(&rig, Pace::Full, WIDE)?;
    traffic.send(EACH);
    let connections: Vec<_> = Traffic::connections().collect();
    for round in 0..20 {
        let mark = traffic.tally().settled;
        for &(place, module) in &connections {
            traffic.cut(place, module)?;
        }
        wait_until(&format!("messages flow after cut {round}"), SOON, || {
            let tally = traffic.tally();
            tally.settled > mark || tally.settled == EACH * PATHS.len() as u64
        })?;
    }
    let tally = traffic.wait_until_settled(EACH, IN_TIME)?;
    check(&tally)?;
    assert_eq!(tally.repeated, 0, "no process died, so nothing comes twice: {tally:?}");
    before.still_holds_but_for(&rig, &[])
}

#[test]
fn a_reload_under_load_is_not_noticed() -> Result<()> {
    let rig = start()?;
    let before = rig.snapshot()?;
    let traffic = Traffic::start(&rig, Pace::Full, WIDE)?;
    traffic.send(EACH);
    for reload in 1..=5 {
        rig.demand(&Request::Reload)?;
        rig.wait("the reload is through", |status| status.reloads == reload)?;
    }
    let tally = traffic.wait_until_settled(EACH, IN_TIME)?;
    check(&tally)?;
    assert_eq!((tally.repeated, tally.unanswered), (0, 0), "{tally:?}");
    before.still_holds_but_for(&rig, &[])
}

#[test]
fn a_frozen_module_pushes_back_and_nothing_is_dropped() -> Result<()> {
    const QUEUE: u32 = 64;
    let rig = start()?;
    let traffic = Traffic::start(&rig, Pace::Full, QUEUE)?;
    let frozen = SENDER.dials().iter().map(|&module| rig.pid_of(module));
    let frozen = frozen.collect::<Result<Vec<_>>>()?;
    for &pid in &frozen {
        process::signal(pid, Signal::STOP)?;
    }
    traffic.send(EACH);
    // each stream hands over what its queue holds, and one more that waits for room; a few places
    // are taken by requests
    let bound = SENDER.dials().len() as u64 * u64::from(QUEUE) + PATHS.len() as u64;
    wait_until("the queues are full", SOON, || traffic.tally().sent >= bound * 4 / 5)
        .with_context(|| format!("{:?}, expected some {bound} sent", traffic.tally()))?;
    assert!(traffic.tally().sent <= bound, "{:?}, expected at most {bound}", traffic.tally());
    assert_eq!(traffic.tally().settled, 0);
    for &pid in &frozen {
        process::signal(pid, Signal::CONT)?;
    }
    let tally = traffic.wait_until_settled(EACH, IN_TIME)?;
    check(&tally)?;
    assert_eq!((tally.arrived, tally.repeated), (tally.sent, 0));
    Ok(())
}

#[test]
fn a_slow_module_delays_and_does_not_disturb() -> Result<()> {
    let rig = start()?;
    let before = rig.snapshot()?;
    let traffic = Traffic::start(&rig, Pace::Full, WIDE)?;
    rig.fault(Module::Servicebus, ipc_proto::lifeline::Fault::SlowIpc)?;
    traffic.send(20);
    let tally = traffic.wait_until_settled(20, IN_TIME)?;
    check(&tally)?;
    before.still_holds_but_for(&rig, &[])
}

#[test]
fn queues_are_shown_to_the_operator() -> Result<()> {
    let beat = json!({"beat": {"interval": "50ms"}});
    let rig = with_places(Setup::new()?).with(beat).start()?;
    let traffic = Traffic::start(&rig, Pace::Full, WIDE)?;
    let frozen = rig.pid_of(Module::Devicetwin)?;
    process::signal(frozen, Signal::STOP)?;
    traffic.send(30);
    rig.wait("metamanager tells what it holds for the frozen module", |status| {
        let load = status.modules[Module::Metamanager.index()].load;
        load.waiting + load.unsettled >= 30
    })?;
    process::signal(frozen, Signal::CONT)?;
    check(&traffic.wait_until_settled(30, IN_TIME)?)?;
    rig.wait("nothing is held any more", |status| {
        let load = status.modules[Module::Metamanager.index()].load;
        load.waiting + load.unsettled == 0
    })?;
    Ok(())
}
