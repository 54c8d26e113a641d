//! What devices cost: from a mapper's report to the word that it is stored, beside SQLite alone with
//! the same rows; how many reports a second reach the cloud; memory and start with many devices.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;
use eventbus::mqtt::{Options, Packet, Qos};
use hdrhistogram::Histogram;
use ipc_proto::Module;
use metamanager::store::measure_twins;
use minicloud::Config;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::link::{self, millis};
use super::store::{as_f64, record, with};
use super::{ROUNDS, Row};
use crate::rig::cloud::Cloud;
use crate::rig::mapper::Mapper;
use crate::rig::mosquitto::free_port;
use crate::rig::mqtt::{Link, message};
use crate::rig::process::kib;
use crate::rig::{Rig, SOON, process, wait_until};

/// Devices that report.
const DEVICES: usize = 1000;

/// Devices of a node that has many.
const MANY: usize = 10_000;

/// Properties of each.
const PROPERTIES: usize = 5;

/// Reports of a round that are made one by one, and as many that SQLite alone is measured with.
const SINGLE: usize = 500;

/// Reports of a round that are made as fast as they are taken.
const BURST: usize = 5000;

/// Reports under way at a time in a burst: what one connection may have.
const WIDTH: usize = 16;

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let cloud = Cloud::start(Config::default())?;
    let mut setup = link::setup(&cloud)?;
    let hub = &mut setup.edgecore["modules"]["edgeHub"];
    hub["messageQPS"] = json!(1_000_000);
    hub["messageBurst"] = json!(1_000_000);
    let port = free_port()?;
    let server = format!("tcp://127.0.0.1:{port}");
    setup.edgecore["modules"]["eventBus"] =
        json!({"enable": true, "mqttMode": 0, "mqttServerInternal": server});
    let node = setup.start()?;
    wait_until("the node joins", SOON, || cloud.session().is_ok_and(|it| it > 0))?;
    let empty = vec![pss(&node)?];
    populate(&cloud, &node, 0..DEVICES)?;
    let folder = node.setup().folder.path();
    let mapper = Mapper::start(&folder.join("mapper.sock"), &folder.join("dmi/dmi.sock"))?;
    let mut rounds = Rounds::default();
    for round in 0..ROUNDS {
        rounds.add(&cloud, &node, &mapper, round)?;
    }
    let mut rows = rounds.rows();
    rows.extend(deltas(port)?);
    rows.push(Row::of("PSS of devicetwin, no devices", "MiB", &empty));
    populate(&cloud, &node, DEVICES..MANY)?;
    let all = (0..MANY).map(|number| report(number, number)).collect();
    mapper.burst("ReportDeviceStatus", all, WIDTH)?;
    let what = format!("{MANY} devices × {PROPERTIES} properties");
    rows.push(Row::of(format!("PSS of devicetwin, {what}"), "MiB", &[pss(&node)?]).target("≤ 30"));
    let starts = (0..ROUNDS).map(|_| restart(&node)).collect::<Result<Vec<_>>>()?;
    rows.push(
        Row::of(format!("kill of devicetwin to {what} loaded"), "ms", &starts).target("≤ 2000"),
    );
    let again = [pss(&node)?];
    rows.push(
        Row::of(format!("PSS of devicetwin, {what}, started again"), "MiB", &again).target("≤ 30"),
    );
    Ok(rows)
}

fn pss(node: &Rig) -> Result<f64> {
    Ok(kib(node.pid_of(Module::Devicetwin)?, &["Pss"])? / 1024.0)
}

fn name(number: usize) -> String {
    format!("d{number}")
}

/// Measures from a client's update, of a property that is not as expected, to the word of that.
fn deltas(port: u16) -> Result<Vec<Row>> {
    let topic = format!("$hw/events/device/default/{}/twin/update", name(0));
    let mut link = Link::connect(port, "bench")?;
    let options = Options { qos: Qos::AtMostOnce, ..Options::default() };
    let filters = vec![(format!("{topic}/delta").into(), options)];
    link.send(&Packet::Subscribe { id: 1, identified: false, filters })?;
    link.next()?;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let mut round = Histogram::new(3)?;
        for number in 0..SINGLE {
            let (wanted, number) =
                (json!({"value": "wanted"}), json!({"value": number.to_string()}));
            let update = json!({"twin": {"p0": {"expected": wanted, "actual": number}}});
            let begin = Instant::now();
            link.send(&Packet::Publish(message(&topic, update.to_string().as_bytes(), 2)))?;
            while !matches!(link.next()?, Packet::Publish(_)) {}
            record(&mut round, begin.elapsed())?;
        }
        for (times, share) in times.iter_mut().zip([0.5, 0.99]) {
            times.push(millis(Duration::from_micros(round.value_at_quantile(share))));
        }
    }
    let row = |(share, times): (&str, &Vec<f64>)| {
        Row::of(format!("twin update by MQTT, stored, to its delta, {share}"), "ms", times)
    };
    Ok(["p50", "p99"].into_iter().zip(&times).map(row).collect())
}

/// Makes devices and waits until devicetwin has all of them.
fn populate(cloud: &Cloud, node: &Rig, numbers: Range<usize>) -> Result<()> {
    let api = "devices.kubeedge.io/v1beta1";
    let property = |number: usize| json!({"name": format!("p{number}"), "type": "STRING"});
    let properties: Vec<_> = (0..PROPERTIES).map(property).collect();
    let model = json!({"apiVersion": api, "kind": "DeviceModel",
        "metadata": {"name": "m", "namespace": "default"}, "spec": {"properties": properties}});
    cloud.with(|cloud| async move { cloud.apply(model).await })?;
    let count = numbers.end;
    for number in numbers {
        let device = json!({"apiVersion": api, "kind": "Device",
            "metadata": {"name": name(number), "namespace": "default"},
            "spec": {"nodeName": crate::rig::cloud::NODE, "deviceModelRef": {"name": "m"},
                "protocol": {"protocolName": "bench"}, "properties": properties}});
        cloud.with(|cloud| async move { cloud.apply(device).await })?;
    }
    wait_until("devicetwin has all devices", SOON * 9, || has(node, count))
}

fn has(node: &Rig, count: usize) -> bool {
    let report = node.module(Module::Devicetwin).ok().and_then(|module| module.report);
    report.is_some_and(|report| report["devices"] == count)
}

/// Makes a mapper's report of all properties of a device.
fn report(number: usize, value: usize) -> Value {
    let twin = |property: usize| json!({"propertyName": format!("p{property}"), "reported": {"value": value.to_string()}});
    let twins: Vec<_> = (0..PROPERTIES).map(twin).collect();
    json!({"deviceName": name(number), "deviceNamespace": "default",
        "reportedDevice": {"twins": twins}})
}

/// One value for each round.
#[derive(Default)]
struct Rounds {
    /// From the report to the word that it is stored, and SQLite alone: at p50 and p99.
    single: [Vec<f64>; 2],
    sqlite: [Vec<f64>; 2],
    /// Reports a second of a burst: until all are stored, and until the cloud has the last of each
    /// device.
    stored: Vec<f64>,
    told: Vec<f64>,
    /// Commits a second of SQLite alone.
    alone: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, cloud: &Cloud, node: &Rig, mapper: &Mapper, round: usize) -> Result<()> {
        let [mut single, mut alone] = [Histogram::new(3)?, Histogram::new(3)?];
        let base = (round + 1) * 1_000_000;
        let one = |number| report(number % DEVICES, base + number);
        let reports = (0..SINGLE).map(one).collect();
        for time in mapper.burst("ReportDeviceStatus", reports, 1)? {
            record(&mut single, time)?;
        }
        let folder = node.setup().folder.path().join(format!("alone-{round}"));
        std::fs::create_dir(&folder)?;
        for time in measure_twins(&folder, DEVICES, PROPERTIES, SINGLE)? {
            record(&mut alone, time)?;
        }
        for (index, share) in [0.5, 0.99].into_iter().enumerate() {
            let at = |times: &Histogram<u64>| {
                millis(Duration::from_micros(times.value_at_quantile(share)))
            };
            self.single[index].push(at(&single));
            self.sqlite[index].push(at(&alone));
        }
        self.alone.push(1e6 / alone.mean());
        let reports: Vec<_> = (SINGLE..SINGLE + BURST).map(one).collect();
        // The last report of each device is one of the last so many.
        let last = base + SINGLE + BURST - DEVICES;
        let before = cloud.with(|cloud| async move { cloud.received(0).await })?;
        let looked = before.last().map_or(0, |it| it.sequence);
        let begin = Instant::now();
        mapper.burst("ReportDeviceStatus", reports, WIDTH)?;
        self.stored.push(as_f64(BURST) / begin.elapsed().as_secs_f64());
        wait_until_told(cloud, looked, last)?;
        self.told.push(as_f64(BURST) / begin.elapsed().as_secs_f64());
        Ok(())
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for ((name, single), sqlite) in ["p50", "p99"].iter().zip(&self.single).zip(&self.sqlite) {
            let text = |what: &str| format!("report of {PROPERTIES} properties, {what}, {name}");
            rows.push(Row::of(text("by a mapper, to stored"), "ms", single));
            rows.push(Row::of(text("commit by SQLite alone"), "ms", sqlite));
            let ratio = with(single, sqlite, |a, b| a / b);
            rows.push(Row::of(text("ratio to SQLite alone"), "×", &ratio));
        }
        rows.extend([
            Row::of("commits of a device by SQLite alone", "reports/s", &self.alone),
            Row::of("reports of a mapper, to stored", "reports/s", &self.stored),
            Row::of("reports of a mapper, to the cloud", "reports/s", &self.told)
                .go("1, its limit"),
            Row::of(
                "reports to the cloud, ratio to SQLite alone",
                "×",
                &with(&self.told, &self.alone, |a, b| a / b),
            ),
        ]);
        rows
    }
}

/// Waits until the cloud has heard of every device a value of at least `last`.
fn wait_until_told(cloud: &Cloud, mut looked: u64, last: usize) -> Result<()> {
    let mut missing: BTreeSet<_> = (0..DEVICES).map(name).collect();
    wait_until("the cloud has heard of all devices", SOON * 6, || {
        let new = cloud.with(|cloud| async move { cloud.received(looked).await });
        for received in new.unwrap_or_default() {
            looked = received.sequence;
            let resource = received.message.route.resource.to_string();
            let device = resource.strip_prefix("device/default/");
            let device = device.and_then(|rest| rest.strip_suffix("/twin/edge_updated"));
            let content = received.message.content.decode::<Value>().unwrap_or_default();
            let value = content["twin"]["p0"]["actual"]["value"].as_str();
            let is_last = value.and_then(|value| value.parse().ok()) >= Some(last);
            if let Some(device) = device.filter(|_| is_last) {
                missing.remove(device);
            }
        }
        missing.is_empty()
    })
}

/// Kills devicetwin and returns how long it takes until it has its devices again.
fn restart(node: &Rig) -> Result<f64> {
    let old = node.pid_of(Module::Devicetwin)?;
    let begin = Instant::now();
    process::signal(old, Signal::KILL)?;
    node.wait_until_back(Module::Devicetwin, old)?;
    wait_until("devicetwin has all devices again", SOON, || has(node, MANY))?;
    Ok(millis(begin.elapsed()))
}
