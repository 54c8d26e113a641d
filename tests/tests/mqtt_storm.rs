//! 500 messages a second with QoS 1 while processes are killed and the cloud comes and goes: what
//! was acknowledged arrives in the cloud, and in order on each topic.
//!
//! Some seconds by default; `EDGECORE_STORM_SECONDS` says for how many.

#[path = "mqtt/place.rs"]
#[expect(dead_code, reason = "the file serves other tests too")]
mod place;

use std::collections::BTreeMap;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::mqtt::Writer;
use edgecore_tests::rig::wait_until;
use edgecore_tests::storm::{Dice, seconds};
use ipc_proto::{Module, Operation};
use minicloud::fault::Fault;
use place::{Mode, Place};
use rustix::process::Signal;
use serde_json::json;

/// Messages a second.
const RATE: u32 = 500;

/// Topics that they are on, in turn.
const TOPICS: u64 = 4;

/// The pause between two faults.
const CALM: Duration = Duration::from_millis(400);

/// How long the last messages may take once all is calm.
const REST: Duration = Duration::from_secs(120);

/// The modules that are killed.
const VICTIMS: [Module; 4] =
    [Module::Eventbus, Module::Edgehub, Module::Metamanager, Module::Devicetwin];

/// What has arrived in the cloud.
#[derive(Default)]
struct Ledger {
    looked: u64,
    /// The numbers of each topic, in the order of their first arrival.
    arrived: BTreeMap<String, Vec<u64>>,
    again: u64,
}

impl Ledger {
    fn look(&mut self, place: &Place) -> Result<()> {
        let since = self.looked;
        let new = place.cloud.with(|cloud| async move { cloud.received(since).await })?;
        for received in new {
            ensure!(received.sequence == self.looked + 1, "the cloud's log was not read in time");
            self.looked = received.sequence;
            if received.message.route.operation != Operation::Upload {
                continue;
            }
            let topic = received.message.route.resource.to_string();
            let number: u64 = received.message.content.decode::<String>()?.parse()?;
            let numbers = self.arrived.entry(topic.clone()).or_default();
            if numbers.binary_search(&number).is_ok() {
                self.again += 1;
                continue;
            }
            let last = numbers.last().copied();
            ensure!(last.is_none_or(|last| last < number), "{number} after {last:?} on {topic}");
            numbers.push(number);
        }
        Ok(())
    }

    fn count(&self) -> usize {
        self.arrived.values().map(Vec::len).sum()
    }
}

fn do_harm(place: &mut Place, dice: &mut Dice) -> Result<()> {
    match dice.below(6) {
        4 => {
            let fault = Fault::Restart { down_millis: 300 + dice.below(1500) };
            place.cloud.with(|cloud| async move { cloud.fault(None, fault).await })
        }
        5 => match &mut place.mosquitto {
            Some(mosquitto) => {
                mosquitto.end()?;
                mosquitto.start_again()
            }
            None => Ok(()),
        },
        victim => {
            let victim = VICTIMS[usize::try_from(victim)? % VICTIMS.len()];
            // It may be dead still from the last time.
            if let Ok(pid) = place.rig.pid_of(victim) {
                drop(edgecore_tests::rig::process::signal(pid, Signal::KILL));
            }
            Ok(())
        }
    }
}

#[expect(clippy::print_stdout, reason = "who let it blow for minutes wants to know")]
fn storm(mode: Mode, seed: u64) -> Result<()> {
    let mut place = Place::with(mode, json!({}), |setup| {
        setup.supervisor["restart"] = json!({"stableAfter": "1ms"});
        Ok(())
    })?;
    let mut writer = Writer::new(place.port(), "writer");
    let (mut dice, mut ledger) = (Dice(seed), Ledger::default());
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds());
    let (mut published, mut harm) = (0_u64, start + CALM);
    while Instant::now() < end {
        let due = u64::try_from(start.elapsed().as_millis())? * u64::from(RATE) / 1000;
        while published < due {
            let topic = format!("default/user/t{}", published % TOPICS);
            writer.publish(&topic, &published.to_string());
            published += 1;
        }
        writer.work();
        ledger.look(&place)?;
        if Instant::now() >= harm {
            do_harm(&mut place, &mut dice)?;
            harm = Instant::now() + CALM;
        }
        park_timeout(Duration::from_millis(2));
    }
    let mut failed = Ok(());
    let all = |writer: &mut Writer, ledger: &mut Ledger| {
        writer.work();
        failed = ledger.look(&place);
        failed.is_err() || writer.is_idle() && ledger.count() as u64 >= published
    };
    let mut all = all;
    let done = wait_until("all has arrived", REST, || all(&mut writer, &mut ledger));
    failed?;
    done.with_context(|| {
        let (sure, arrived) = (writer.acknowledged(), ledger.count());
        let report = place::report(&place.rig);
        format!("{published} published, {sure} acknowledged, {arrived} arrived; {report:?}")
    })?;
    ensure!(writer.acknowledged() == published, "not all was acknowledged");
    println!("{mode:?}: {published} arrived, {} of them more than once", ledger.again);
    Ok(())
}

#[test]
fn what_the_internal_broker_acknowledged_arrives() -> Result<()> {
    storm(Mode::Internal, 1)
}

#[test]
fn what_an_external_broker_acknowledged_arrives() -> Result<()> {
    storm(Mode::External, 2)
}
