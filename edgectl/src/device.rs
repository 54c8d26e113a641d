//! `edgectl device`: the node's devices, from its database; their mappers, from the running agent.
//!
//! The agent's own program reads the database: it knows where that is and what stands in it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use ipc_proto::Module;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::{DeviceArguments, DeviceCommand, Format};
use crate::client::Client;
use crate::clock::rfc3339;
use crate::failure::Failure;
use crate::program;
use crate::screen::{Paint, Screen, Style, harmless};
use crate::status;
use crate::table::{self, Cell};

/// Shows devices.
pub(crate) fn run(
    command: &DeviceCommand,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let (arguments, device, watch) = match command {
        DeviceCommand::List(arguments) => (arguments, None, arguments.watch),
        DeviceCommand::Get { device, arguments } => (arguments, Some(device), arguments.watch),
        DeviceCommand::Watch { device, arguments } => (arguments, device.as_ref(), true),
    };
    let wanted = device.map(|device| full_name(device));
    let look = || look(arguments, wanted.as_deref(), client);
    let text = |devices: &Devices, style| match wanted {
        None => list(devices, style),
        Some(_) => devices.devices.iter().map(|device| details(device, style)).collect(),
    };
    let first = look()?;
    if watch {
        return status::watch(first, look, text, arguments.output.format, screen);
    }
    match (arguments.output.format, wanted.is_some(), &first.devices[..]) {
        (Format::Json, true, [device]) => screen.json(device),
        (Format::Json, ..) => screen.json(&first),
        (Format::Text, ..) => Ok(screen.write_all(text(&first, screen.style()).as_bytes())?),
    }
}

fn full_name(device: &str) -> String {
    if device.contains('/') { device.to_owned() } else { format!("default/{device}") }
}

/// Reads all devices, or the one that is wanted.
fn look(
    arguments: &DeviceArguments,
    wanted: Option<&str>,
    client: &Client,
) -> Result<Devices, Failure> {
    let mut devices = Devices::of(read(&arguments.config)?, report(client).as_ref());
    if let Some(wanted) = wanted {
        devices.devices.retain(|device| device.id == wanted);
        if devices.devices.is_empty() {
            let wanted = wanted.chars().take(256).collect::<String>();
            return Err(Failure::Failed(format!(
                "no device '{wanted}' on this node, see 'edgectl device list'"
            )));
        }
    }
    Ok(devices)
}

/// What devicetwin says of itself; nothing when it or the agent is down.
fn report(client: &Client) -> Option<Value> {
    let status = client.status().ok()?;
    let module = status.modules.into_iter().find(|module| module.name == Module::Devicetwin)?;
    module.pid.and(module.report)
}

/// Has the agent's program read the database.
fn read(config: &Path) -> Result<Stored, Failure> {
    let words = [OsStr::new("devices"), OsStr::new("--config"), config.as_os_str()];
    let stored = program::ask(words)
        .and_then(|text| serde_json::from_slice(&text).map_err(|error| program::foreign(&error)));
    stored.map_err(|reason| Failure::Failed(format!("cannot read the devices: {reason}")))
}

/// What the database has: rows of the twin tables and objects of the cloud's.
#[derive(Debug, Default, Deserialize)]
struct Stored {
    rows: Vec<Row>,
    objects: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Row {
    id: String,
    state: String,
    last_online: String,
    twins: Vec<TwinRow>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TwinRow {
    name: String,
    expected: String,
    actual: String,
    expected_meta: String,
    actual_meta: String,
    expected_version: String,
    actual_version: String,
    attr_type: String,
}

/// All devices as programs read them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Devices {
    devices: Vec<Device>,
    /// Devices of which the cloud has not confirmed everything; nothing while devicetwin is down.
    unconfirmed: Option<u64>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    id: String,
    state: Option<String>,
    last_online: Option<String>,
    last_report: Option<String>,
    /// Whether the cloud's object is here; else only its word that the device is this node's.
    has_object: bool,
    model: Option<String>,
    protocol: Option<String>,
    mapper: Option<Mapper>,
    properties: Vec<Property>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Mapper {
    name: String,
    protocol: String,
    state: String,
    reason: Option<String>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Property {
    name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    /// What the cloud's object wants.
    desired: Option<String>,
    /// What it is to be, as the node knows it.
    expected: Option<Side>,
    reported: Option<Side>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Side {
    value: String,
    time: Option<String>,
    version: Version,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Version {
    cloud: i64,
    edge: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Meta {
    timestamp: i64,
}

impl Side {
    fn of(value: String, meta: &str, version: &str) -> Option<Self> {
        let Meta { timestamp } = serde_json::from_str(meta).ok()?;
        let time = (timestamp > 0).then(|| rfc3339(timestamp.saturating_mul(1000)));
        Some(Self { value, time, version: serde_json::from_str(version).unwrap_or_default() })
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl Devices {
    fn of(stored: Stored, report: Option<&Value>) -> Self {
        let mut devices = BTreeMap::<String, Device>::new();
        for row in stored.rows {
            let properties = row.twins.into_iter().filter(|twin| twin.attr_type != "deleted");
            let device = Device {
                id: row.id.clone(),
                state: some(&row.state),
                last_online: some(&row.last_online),
                properties: properties.map(Property::of).collect(),
                ..Device::default()
            };
            devices.insert(row.id, device);
        }
        let mappers = report.map(|report| &report["mappers"]);
        let mappers = mappers.and_then(|all| Vec::<Mapper>::deserialize(all).ok());
        for object in &stored.objects {
            let part = |name| object["metadata"][name].as_str().unwrap_or_default();
            let id = format!("{}/{}", part("namespace"), part("name"));
            let device = devices.entry(id.clone()).or_default();
            device.id = id;
            device.take(&object["spec"], mappers.as_deref().unwrap_or_default());
        }
        let mut devices: Vec<_> = devices.into_values().collect();
        for device in &mut devices {
            let times =
                device.properties.iter().filter_map(|it| it.reported.as_ref()?.time.clone());
            device.last_report = times.max();
        }
        Self { devices, unconfirmed: report.and_then(|report| report["unconfirmed"].as_u64()) }
    }
}

impl Device {
    /// Takes what the cloud's object says.
    fn take(&mut self, spec: &Value, mappers: &[Mapper]) {
        self.has_object = true;
        self.model = spec["deviceModelRef"]["name"].as_str().map(str::to_owned);
        self.protocol = spec["protocol"]["protocolName"].as_str().map(str::to_owned);
        let own = |mapper: &&Mapper| Some(&mapper.protocol) == self.protocol.as_ref();
        self.mapper = mappers.iter().find(own).cloned();
        for wanted in spec["properties"].as_array().into_iter().flatten() {
            let Some(name) = wanted["name"].as_str() else { continue };
            let place = self.properties.iter().position(|property| property.name == name);
            let place = place.unwrap_or_else(|| {
                self.properties.push(Property { name: name.to_owned(), ..Property::default() });
                self.properties.len() - 1
            });
            self.properties[place].desired = wanted["desired"]["value"].as_str().map(str::to_owned);
        }
    }
}

impl Property {
    fn of(twin: TwinRow) -> Self {
        Self {
            name: twin.name,
            kind: some(&twin.attr_type),
            desired: None,
            expected: Side::of(twin.expected, &twin.expected_meta, &twin.expected_version),
            reported: Side::of(twin.actual, &twin.actual_meta, &twin.actual_version),
        }
    }

    /// Returns what is wanted of it: by the cloud, or else as the node knows it.
    fn wanted(&self) -> Option<&str> {
        self.desired.as_deref().or_else(|| Some(self.expected.as_ref()?.value.as_str()))
    }
}

fn list(devices: &Devices, style: Style) -> String {
    let row = |device: &Device| {
        let reported = device.properties.iter().filter(|property| property.reported.is_some());
        let (reported, all) = (reported.count(), device.properties.len());
        [
            Cell::from(device.id.as_str()),
            Cell::maybe(device.state.as_deref()),
            Cell::maybe(device.protocol.as_deref()),
            mapper(device),
            format!("{reported}/{all}").into(),
            Cell::maybe(device.last_report.as_deref()),
        ]
    };
    let rows: Vec<_> = devices.devices.iter().map(row).collect();
    let headings = ["NAME", "STATE", "PROTOCOL", "MAPPER", "REPORTED", "LAST REPORT"];
    let mut text = table::render(headings, &rows, style);
    if let Some(count @ 1..) = devices.unconfirmed {
        let devices = table::counted(count, "device", "devices");
        writeln!(text, "\nThe cloud has not confirmed all of {devices}.")
            .expect("a string takes what is written");
    }
    text
}

fn mapper(device: &Device) -> Cell {
    let Some(Mapper { name, state, .. }) = &device.mapper else { return Cell::none() };
    let paint = if state == "ok" { Paint::Good } else { Paint::Bad };
    Cell::new(paint, format!("{name} ({state})"))
}

fn details(device: &Device, style: Style) -> String {
    let mut text = String::new();
    let mapper = device.mapper.as_ref().map(|mapper| match &mapper.reason {
        None => format!("{} ({})", mapper.name, mapper.state),
        Some(reason) => format!("{} ({}): {reason}", mapper.name, mapper.state),
    });
    let membership = if device.has_object { "object" } else { "membership only, no object yet" };
    for (name, value) in [
        ("Device", Some(device.id.as_str())),
        ("Known by", Some(membership)),
        ("State", device.state.as_deref()),
        ("Last online", device.last_online.as_deref()),
        ("Last report", device.last_report.as_deref()),
        ("Model", device.model.as_deref()),
        ("Protocol", device.protocol.as_deref()),
        ("Mapper", mapper.as_deref()),
    ] {
        let name = style.paint(Paint::Strong, &format!("{name}:")).into_owned();
        writeln!(text, "{name} {}", harmless(value.unwrap_or("-")))
            .expect("a string takes what is written");
    }
    let row = |property: &Property| {
        let reported = property.reported.as_ref();
        let value = reported.map(|side| side.value.as_str());
        let paint = if property.wanted().is_none_or(|wanted| Some(wanted) == value) {
            Paint::Plain
        } else {
            Paint::Fair
        };
        [
            Cell::from(property.name.as_str()),
            Cell::maybe(property.kind.as_deref()),
            Cell::maybe(property.wanted()),
            value.map_or_else(Cell::none, |value| Cell::new(paint, value)),
            Cell::maybe(reported.map(|side| side.version.edge)),
            Cell::maybe(reported.and_then(|side| side.time.as_deref())),
        ]
    };
    let rows: Vec<_> = device.properties.iter().map(row).collect();
    let headings = ["PROPERTY", "TYPE", "DESIRED", "REPORTED", "VERSION", "TIME"];
    text + "\n" + &table::render(headings, &rows, style)
}

#[cfg(test)]
mod tests;
