//! Reports of devices and messages while processes are killed and the cloud comes and goes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgecore_tests::chaos::{Options, devices};
use edgecore_tests::rig::bus::Place;
use edgecore_tests::rig::devices::{SENSOR, report_of_all};
use edgecore_tests::rig::mqtt::Writer;
use edgecore_tests::rig::wait_until;
use ipc_proto::Module;
use minicloud::fault::Fault;
use rustix::process::Signal;

/// How long blows fall here. `cargo xtask chaos --devices --seconds N` lets them fall for longer.
const STORM: Duration = Duration::from_secs(8);

/// How long the last reports may take once all is calm.
const REST: Duration = Duration::from_secs(120);

/// Reports while there is no cloud.
const REPORTS: u64 = 2000;

#[test]
fn what_the_brokers_and_the_twins_acknowledged_reaches_the_cloud_whatever_is_killed() -> Result<()>
{
    let options = Options { time: STORM, seed: 4 };
    let summary = devices::run(options, Path::new(env!("CARGO_BIN_EXE_chaos")))?;
    ensure!(summary.breaches.is_empty(), "{summary}");
    ensure!(summary.blows.iter().all(|(_, count)| *count > 0), "not every blow fell: {summary}");
    let [messages, reports] = summary.acknowledged;
    ensure!(messages > 1000 && reports > 100, "little was written: {summary}");
    Ok(())
}

#[test]
fn a_day_without_a_cloud_ends_with_the_last_values_in_few_messages() -> Result<()> {
    let place = Place::of_device()?;
    place.cloud.fault(Fault::Restart { down_millis: 5000 })?;
    let mut writer = Writer::new(place.port(), "writer");
    for number in 1..=REPORTS {
        writer.publish(&format!("{SENSOR}/twin/update"), &report_of_all(number));
    }
    wait_until("all is acknowledged", REST, || {
        writer.work();
        writer.is_idle()
    })?;
    place.rig.signal(Module::Devicetwin, Signal::KILL)?;
    wait_until("the cloud has the last values", REST, || place.has("sensor1", REPORTS))
        .with_context(|| format!("{:?}", place.status()))?;
    let received = place.cloud.received()?;
    let reports = received.iter().filter(|it| it.ends_with("twin/edge_updated")).count() as u64;
    // Each value twice, for the cloud loses the first report of a property; the rest is what went
    // before the cloud was away.
    ensure!(reports < REPORTS / 4, "{reports} reports");
    Ok(())
}
