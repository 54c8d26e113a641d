//! `supervisor.yaml`: what KubeEdge's own file has no room for. Every key is optional; the file is
//! ours, so an unknown key is an error.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipc_proto::Module;
use ipc_proto::lifeline::{LogLevel, QueueBounds};
use serde_json::{Map, Value};
use supervisor::child::{Policy, Restart};

use super::mesh_yaml;
use super::reader::{Place, Reader};
use super::reference::below;

/// The longest duration that may be configured, in milliseconds: a day.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// The least memory that a module starts in, in bytes.
const LEAST_MEMORY: u64 = 4 << 20;

/// The greatest amount of memory that may be configured, in bytes.
const MOST_MEMORY: u64 = 1 << 40;

const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// The file, checked.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) log_level: LogLevel,
    pub(super) faults: bool,
    /// Who runs the modules that need no root.
    pub(super) user: Option<UserName>,
    /// Milliseconds.
    pub(super) beat_interval: u32,
    pub(super) policy: Policy,
    pub(super) queue: QueueBounds,
    /// Where metrics are served beside their Unix socket.
    pub(super) metrics: Option<SocketAddr>,
    /// By [`Module::index`].
    pub(super) modules: [ModuleSettings; Module::COUNT],
}

/// What the file says of one module.
#[derive(Debug, Default)]
pub(super) struct ModuleSettings {
    pub(super) enabled: Option<bool>,
    pub(super) user: Option<UserName>,
    pub(super) limits: Limits,
    pub(super) seccomp: Option<bool>,
    pub(super) landlock: Option<bool>,
    pub(super) log_level: Option<LogLevel>,
    pub(super) queue: Option<QueueBounds>,
    /// What it is told beside its sections of the other file.
    pub(super) own: Map<String, Value>,
}

/// Bounds on what a module may take of the machine.
#[derive(Debug, Default)]
pub(super) struct Limits {
    pub(super) memory_max: Option<u64>,
    pub(super) memory_high: Option<u64>,
    pub(super) cpu_weight: Option<u32>,
    pub(super) pids_max: Option<u32>,
    pub(super) open_files: Option<u64>,
}

/// A user as the operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UserName {
    Id(u32),
    Name(String),
}

/// Reads the file.
pub(super) fn read(file: &Value, reader: &mut Reader<'_>) -> Settings {
    let top = Place::default();
    let table = reader.table(&top, Some(file), &below(""));
    let get = |key: &str| table.and_then(|table| table.get(key));
    let (beat_interval, policy) = policy(&get, reader);
    Settings {
        log_level: reader.word(&top.key("logLevel"), get("logLevel"), LEVELS).unwrap_or_default(),
        faults: reader.boolean(&top.key("faults"), get("faults")).unwrap_or(false),
        user: user(&top.key("user"), get("user"), reader),
        beat_interval,
        policy,
        queue: queue(&top.key("queue"), get("queue"), reader).unwrap_or_default(),
        metrics: metrics(&top.key("metrics"), get("metrics"), reader),
        modules: modules(&top.key("modules"), get("modules"), reader),
    }
}

/// Reads how long the supervisor waits for what.
fn policy<'v>(get: &impl Fn(&str) -> Option<&'v Value>, reader: &mut Reader<'_>) -> (u32, Policy) {
    let top = Place::default();
    let place = top.key("beat");
    let beat = reader.table(&place, get("beat"), &below("beat"));
    let value = |key: &str| beat.and_then(|table| table.get(key));
    let interval = reader.duration(&place.key("interval"), value("interval"), 1..=DAY);
    let interval = interval.unwrap_or(3000);
    let least = interval.saturating_mul(2);
    let patience = reader.duration(&place.key("patience"), value("patience"), least..=DAY);

    let place = top.key("restart");
    let restart = reader.table(&place, get("restart"), &below("restart"));
    let value = |key: &str| restart.and_then(|table| table.get(key));
    let initial = reader.duration(&place.key("initial"), value("initial"), 1..=DAY).unwrap_or(1000);
    let ceiling = reader.duration(&place.key("ceiling"), value("ceiling"), initial..=DAY);
    let stable_after = reader.duration(&place.key("stableAfter"), value("stableAfter"), 0..=DAY);

    let mut wait = |key: &str| reader.duration(&top.key(key), get(key), 1..=DAY).unwrap_or(10_000);
    let policy = Policy {
        patience: patience.unwrap_or(least.max(10_000)),
        ready_timeout: wait("readyTimeout"),
        stop_timeout: wait("stopTimeout"),
        restart: Restart {
            initial,
            ceiling: ceiling.unwrap_or(initial.max(30_000)),
            stable_after: stable_after.unwrap_or(60_000),
        },
    };
    (u32::try_from(interval).unwrap_or(u32::MAX), policy)
}

fn queue(place: &Place, value: Option<&Value>, reader: &mut Reader<'_>) -> Option<QueueBounds> {
    let table = reader.table(place, value, &below("queue"))?;
    let default = QueueBounds::default();
    let most = u64::from(u32::MAX);
    let messages = reader.number(&place.key("messages"), table.get("messages"), 1..=1_000_000);
    let bytes = reader.quantity(&place.key("bytes"), table.get("bytes"), 4096..=most);
    let small = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
    Some(QueueBounds {
        messages: small(messages).unwrap_or(default.messages),
        bytes: small(bytes).unwrap_or(default.bytes),
    })
}

/// Reads where metrics are served: nowhere but on their socket without a port, and on the loopback
/// without an address.
fn metrics(place: &Place, value: Option<&Value>, reader: &mut Reader<'_>) -> Option<SocketAddr> {
    let table = reader.table(place, value, &below("metrics"))?;
    let port = reader.number(&place.key("port"), table.get("port"), 1..=65_535);
    let address = match table.get("address") {
        None => IpAddr::from(Ipv4Addr::LOCALHOST),
        Some(value) => match value.as_str().and_then(|text| text.parse().ok()) {
            Some(address) => address,
            None => {
                reader.wrong(&place.key("address"), value, "an IP address");
                return None;
            }
        },
    };
    Some(SocketAddr::new(address, u16::try_from(port?).ok()?))
}

fn modules(
    place: &Place,
    value: Option<&Value>,
    reader: &mut Reader<'_>,
) -> [ModuleSettings; Module::COUNT] {
    let names = Module::ALL.map(Module::name);
    let table = reader.table(place, value, &names);
    Module::ALL.map(|module| {
        let name = module.name();
        let own = table.and_then(|table| table.get(name));
        module_settings(module, &place.key(name), own, reader)
    })
}

fn module_settings(
    module: Module,
    place: &Place,
    value: Option<&Value>,
    reader: &mut Reader<'_>,
) -> ModuleSettings {
    let own = own_keys(module);
    let mut known = below("modules.NAME");
    known.extend(own.iter().map(|(key, _)| *key));
    let Some(table) = reader.table(place, value, &known) else { return ModuleSettings::default() };
    let at = |key: &str| (place.key(key), table.get(key));
    let mut memory = |key: &str| {
        let (place, value) = at(key);
        reader.quantity(&place, value, LEAST_MEMORY..=MOST_MEMORY)
    };
    let (memory_max, memory_high) = (memory("memoryMax"), memory("memoryHigh"));
    let mut number = |key: &str, range| {
        let (place, value) = at(key);
        reader.number(&place, value, range)
    };
    let small = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
    let limits = Limits {
        memory_max,
        memory_high,
        cpu_weight: small(number("cpuWeight", 1..=10_000)),
        pids_max: small(number("pidsMax", 1..=4_194_304)),
        open_files: number("openFiles", 16..=1_048_576),
    };
    let mut boolean = |key: &str| {
        let (place, value) = at(key);
        reader.boolean(&place, value)
    };
    ModuleSettings {
        limits,
        enabled: boolean("enabled"),
        seccomp: boolean("seccomp"),
        landlock: boolean("landlock"),
        user: user(&place.key("user"), table.get("user"), reader),
        log_level: reader.word(&place.key("logLevel"), table.get("logLevel"), LEVELS),
        queue: queue(&place.key("queue"), table.get("queue"), reader),
        own: own
            .iter()
            .filter_map(|(key, read)| {
                Some(((*key).to_owned(), read(&place.key(key), table.get(*key), reader)?))
            })
            .collect(),
    }
}

/// How the value of a module's own key is read.
type Read = fn(&Place, Option<&Value>, &mut Reader<'_>) -> Option<Value>;

/// Returns the keys that a module has for itself.
const fn own_keys(module: Module) -> &'static [(&'static str, Read)] {
    match module {
        Module::Eventbus => &[("mqttUsers", mqtt_users)],
        Module::Edgemesh => &[
            ("dns", mesh_yaml::dns),
            ("traffic", mesh_yaml::traffic),
            ("tunnel", mesh_yaml::tunnel),
        ],
        Module::Metamanager
        | Module::Devicetwin
        | Module::Edgehub
        | Module::Edged
        | Module::Servicebus
        | Module::Taskmanager
        | Module::Metaserver
        | Module::Edgestream => &[],
    }
}

/// Reads the users of the internal MQTT broker: a password, and filters of topics.
fn mqtt_users(place: &Place, value: Option<&Value>, reader: &mut Reader<'_>) -> Option<Value> {
    let users = value?;
    let Some(table) = users.as_object() else {
        reader.wrong(place, users, "a table of users");
        return None;
    };
    for (name, user) in table {
        let place = place.key(name);
        let Some(user) = reader.table(&place, Some(user), &["password", "publish", "subscribe"])
        else {
            continue;
        };
        // A password is not repeated, not even a wrong one.
        if !user.get("password").is_some_and(Value::is_string) {
            reader.error(format_args!("{} is missing, expected a text", place.key("password")));
        }
        for key in ["publish", "subscribe"] {
            let list = user.get(key);
            let is_texts = |list: &Value| {
                list.as_array().is_some_and(|filters| filters.iter().all(Value::is_string))
            };
            if let Some(list) = list.filter(|list| !is_texts(list)) {
                reader.wrong(&place.key(key), list, "a list of topic filters");
            }
        }
    }
    Some(users.clone())
}

fn user(place: &Place, value: Option<&Value>, reader: &mut Reader<'_>) -> Option<UserName> {
    let value = value?;
    let number = value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX);
    let user = match value.as_str() {
        Some(name) if !name.is_empty() => Some(UserName::Name(name.to_owned())),
        Some(_) | None => number.map(UserName::Id),
    };
    if user.is_none() {
        reader.wrong(place, value, "a user name or id");
    }
    user
}
