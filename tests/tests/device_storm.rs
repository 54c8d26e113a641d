//! Reports of devices while processes are killed and the cloud comes and goes: the cloud's last view
//! is what was reported last, versions never go back, and the mapper is told what is wanted last.
//!
//! Some seconds by default; `EDGECORE_STORM_SECONDS` says for how many.

#[path = "device/place.rs"]
#[expect(dead_code, reason = "the file serves other tests too")]
mod place;

use std::collections::BTreeMap;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::mqtt::Writer;
use edgecore_tests::rig::{process, wait_until};
use edgecore_tests::storm::{Dice, seconds};
use ipc_proto::{Module, Operation};
use minicloud::fault::Fault;
use place::{Place, SENSOR, device};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Reports a second.
const RATE: u32 = 200;

/// The pause between two faults.
const CALM: Duration = Duration::from_millis(400);

/// How long the last reports may take once all is calm.
const REST: Duration = Duration::from_secs(120);

/// Reports while there is no cloud.
const REPORTS: u64 = 2000;

/// The modules that are killed.
const VICTIMS: [Module; 4] =
    [Module::Devicetwin, Module::Eventbus, Module::Metamanager, Module::Edgehub];

/// The reported properties, each with the type that its values have.
const PROPERTIES: [&str; 2] = ["temperature", "enable"];

/// What the cloud was told.
#[derive(Default)]
struct Ledger {
    looked: u64,
    reports: u64,
    /// The last version of each property, and its value.
    versions: BTreeMap<String, (i64, String)>,
}

impl Ledger {
    fn look(&mut self, place: &Place) -> Result<()> {
        let since = self.looked;
        let new = place.cloud.with(|cloud| async move { cloud.received(since).await })?;
        for received in new {
            ensure!(received.sequence == self.looked + 1, "the cloud's log was not read in time");
            self.looked = received.sequence;
            let route = &received.message.route;
            let is_report = route.resource.to_string().ends_with("twin/edge_updated");
            if route.operation == Operation::Update && is_report {
                self.reports += 1;
                let report: Value = received.message.content.decode()?;
                for (name, twin) in report["twin"].as_object().into_iter().flatten() {
                    self.note(name, twin)?;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, name: &str, twin: &Value) -> Result<()> {
        let version = twin["actual_version"]["edge"].as_i64().context("a version")?;
        let value = twin["actual"]["value"].as_str().context("a value")?.to_owned();
        if let Some((last, of_last)) = self.versions.get(name) {
            ensure!(*last <= version, "{name}: version {version} after {last}");
            ensure!(
                *last != version || *of_last == value,
                "{name}: version {version} was '{of_last}' and is '{value}'"
            );
        }
        self.versions.insert(name.to_owned(), (version, value));
        Ok(())
    }
}

fn do_harm(place: &Place, dice: &mut Dice, wanted: &mut u64) -> Result<()> {
    match dice.below(6) {
        4 => {
            let fault = Fault::Restart { down_millis: 300 + dice.below(1500) };
            place.cloud.with(|cloud| async move { cloud.fault(None, fault).await })
        }
        5 => {
            *wanted += 1;
            let mut object = device();
            object["spec"]["properties"][0]["desired"]["value"] = json!(wanted.to_string());
            place.apply(object)
        }
        victim => {
            let victim = VICTIMS[usize::try_from(victim)? % VICTIMS.len()];
            // It may be dead still from the last time.
            if let Ok(pid) = place.rig.pid_of(victim) {
                drop(process::signal(pid, Signal::KILL));
            }
            Ok(())
        }
    }
}

/// Tells whether the cloud's view of each property is what was reported last.
fn is_told(status: &Value, last: u64) -> bool {
    let last = last.to_string();
    let twins = status["twins"].as_array().map(Vec::as_slice).unwrap_or_default();
    PROPERTIES.iter().all(|property| {
        let twin = twins.iter().find(|twin| twin["propertyName"] == *property);
        twin.is_some_and(|twin| twin["reported"]["value"].as_str() == Some(&*last))
    })
}

#[test]
fn what_a_device_reported_last_is_what_the_cloud_has_after_a_storm_of_kills() -> Result<()> {
    let place = Place::new()?;
    let mapper = place.mapper("m")?;
    mapper.register("toy", "modbus", true)?;
    let mut writer = Writer::new(place.port, "writer");
    let (mut dice, mut ledger, mut wanted) = (Dice(7), Ledger::default(), 100);
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds());
    let (mut published, mut harm) = (0_u64, start + CALM);
    while Instant::now() < end {
        let due = u64::try_from(start.elapsed().as_millis())? * u64::from(RATE) / 1000;
        while published < due {
            published += 1;
            let twin =
                |name: &str| (name.to_owned(), json!({"actual": {"value": published.to_string()}}));
            let twins: serde_json::Map<_, _> = PROPERTIES.map(twin).into_iter().collect();
            writer.publish(&format!("{SENSOR}/twin/update"), &json!({"twin": twins}).to_string());
        }
        writer.work();
        ledger.look(&place)?;
        if Instant::now() >= harm {
            do_harm(&place, &mut dice, &mut wanted)?;
            harm = Instant::now() + CALM;
        }
        park_timeout(Duration::from_millis(2));
    }
    let mut failed = Ok(());
    let done = wait_until("the cloud has what was reported last", REST, || {
        writer.work();
        failed = ledger.look(&place);
        let status = place.status().unwrap_or_default();
        failed.is_err() || writer.is_idle() && is_told(&status, published)
    });
    failed?;
    done.with_context(|| {
        let (sure, status) = (writer.acknowledged(), place.status());
        format!("{published} published, {sure} acknowledged, {status:?}; {:?}", place.report())
    })?;
    ensure!(writer.acknowledged() == published, "not all was acknowledged");
    let mut last = String::new();
    wait_until("the mapper is told what is wanted last", REST, || {
        while let Some((_, request)) = mapper.look() {
            let property = &request["device"]["spec"]["properties"][0]["desired"]["value"];
            if let Some(property) = property.as_str() {
                property.clone_into(&mut last);
            }
        }
        wanted == 100 || last == wanted.to_string()
    })?;
    ensure!(ledger.reports < published, "{} reports of {published}", ledger.reports);
    println!("{published} reports of a device came to {} of the cloud's", ledger.reports);
    Ok(())
}

#[test]
fn a_day_without_a_cloud_ends_with_the_last_values_in_few_messages() -> Result<()> {
    let place = Place::new()?;
    let fault = Fault::Restart { down_millis: 5000 };
    let mut ledger = Ledger::default();
    ledger.look(&place)?;
    place.cloud.with(|cloud| async move { cloud.fault(None, fault).await })?;
    let mut writer = Writer::new(place.port, "writer");
    for number in 1..=REPORTS {
        let twin = json!({"actual": {"value": number.to_string()}});
        let twins = json!({"temperature": twin, "enable": twin});
        writer.publish(&format!("{SENSOR}/twin/update"), &json!({"twin": twins}).to_string());
    }
    wait_until("all is acknowledged", REST, || {
        writer.work();
        writer.is_idle()
    })?;
    place.rig.signal(Module::Devicetwin, Signal::KILL)?;
    wait_until("the cloud has the last values", REST, || {
        place.status().is_ok_and(|status| is_told(&status, REPORTS))
    })
    .with_context(|| format!("{:?}", place.status()))?;
    ledger.look(&place)?;
    // Each value twice, for the cloud loses the first report of a property; the rest is what went
    // before the cloud was away.
    ensure!(ledger.reports < REPORTS / 4, "{} reports", ledger.reports);
    Ok(())
}
