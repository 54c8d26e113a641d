//! What eventbus is told by `edgecore.yaml` and `supervisor.yaml`, checked.

use std::path::PathBuf;
use std::time::Duration;

use module_runtime::tls::{Files, Identity};
use serde::Deserialize;

use crate::core::{Access, Bounds, Settings};
use crate::mqtt::Qos;

/// The sections of the files, as they come.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sections {
    #[serde(default)]
    event_bus: EventBus,
    /// Where the module keeps its journal.
    state_folder: PathBuf,
    /// The users of the internal broker.
    #[serde(default)]
    mqtt_users: Access,
    node: Box<str>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EventBus {
    mqtt_mode: u8,
    #[serde(rename = "mqttQOS")]
    mqtt_qos: u8,
    mqtt_retain: bool,
    mqtt_session_queue_size: i64,
    mqtt_server_external: String,
    mqtt_server_internal: String,
    #[serde(rename = "mqttSubClientID")]
    sub_client: String,
    mqtt_username: String,
    mqtt_password: String,
    #[serde(rename = "eventBusTLS")]
    tls: Tls,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Tls {
    enable: bool,
    #[serde(rename = "tlsMqttCAFile")]
    ca: PathBuf,
    #[serde(rename = "tlsMqttCertFile")]
    certificate: PathBuf,
    #[serde(rename = "tlsMqttPrivateKeyFile")]
    key: PathBuf,
}

impl Default for EventBus {
    fn default() -> Self {
        Self {
            mqtt_mode: 2,
            mqtt_qos: 0,
            mqtt_retain: false,
            mqtt_session_queue_size: 100,
            mqtt_server_external: "tcp://127.0.0.1:1883".to_owned(),
            mqtt_server_internal: "tcp://127.0.0.1:1884".to_owned(),
            sub_client: String::new(),
            mqtt_username: String::new(),
            mqtt_password: String::new(),
            tls: Tls::default(),
        }
    }
}

/// The external broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct External {
    /// Host, a name or an address.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
    /// How the connection is secured, if it is.
    pub(crate) tls: Option<Files>,
    /// This node's name at the broker.
    pub(crate) client: String,
    /// User and password.
    pub(crate) user: Option<(String, String)>,
}

/// The configuration, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where the internal broker listens, if there is one.
    pub(crate) internal: Option<(String, u16)>,
    /// The external broker, if there is one.
    pub(crate) external: Option<External>,
    /// The folder of the journal.
    pub(crate) folder: PathBuf,
    /// What the core is told.
    pub(crate) settings: Settings,
}

/// How long a message waits for the cloud, devicetwin or the external broker.
const AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a session outlives its connection, in seconds.
const SESSION_EXPIRY: u32 = 30 * 24 * 60 * 60;

impl Sections {
    /// Checks the configuration.
    ///
    /// # Errors
    /// All that is wrong with it, in one line.
    pub(crate) fn check(self) -> anyhow::Result<Config> {
        let mut errors = Vec::new();
        let Self { event_bus: bus, state_folder, mqtt_users, node } = self;
        if bus.mqtt_mode > 2 {
            errors.push(format!(
                "eventBus.mqttMode is {}, expected 0 (internal broker), 1 (both) or 2 (external)",
                bus.mqtt_mode
            ));
        }
        let qos = Qos::parse(bus.mqtt_qos).unwrap_or_else(|| {
            errors.push(format!("eventBus.mqttQOS is {}, expected 0, 1 or 2", bus.mqtt_qos));
            Qos::AtMostOnce
        });
        errors.extend(mqtt_users.trouble().map(|trouble| format!("mqttUsers: {trouble}")));
        let internal = (bus.mqtt_mode <= 1)
            .then(|| address("mqttServerInternal", &bus.mqtt_server_internal, &mut errors))
            .flatten();
        if let Some(place) = &internal
            && mqtt_users.is_open()
            && !is_loopback(&place.host)
        {
            errors.push(format!(
                "eventBus.mqttServerInternal is {}, expected a loopback address, or users in \
                 supervisor.yaml (modules.eventbus.mqttUsers)",
                bus.mqtt_server_internal
            ));
        }
        let external = (bus.mqtt_mode >= 1)
            .then(|| address("mqttServerExternal", &bus.mqtt_server_external, &mut errors))
            .flatten()
            .map(|place| external(&bus, place, &node, &mut errors));
        anyhow::ensure!(errors.is_empty(), "{}", errors.join("; "));
        let queue = usize::try_from(bus.mqtt_session_queue_size).unwrap_or(0);
        let settings = settings(qos, bus.mqtt_retain, queue, external.is_some(), mqtt_users);
        let internal = internal.map(|place| (place.host, place.port));
        Ok(Config { internal, external, folder: state_folder, settings })
    }
}

fn settings(qos: Qos, retain: bool, queue: usize, external: bool, access: Access) -> Settings {
    const MIB: usize = 1024 * 1024;
    Settings {
        node: Bounds { messages: 50_000, bytes: 32 * MIB, flying: 512 },
        age: AGE,
        session: Bounds { messages: queue.clamp(1000, 20_000), bytes: 4 * MIB, flying: 64 },
        sessions: 512,
        subscriptions: 256,
        retained: 2048,
        session_expiry: SESSION_EXPIRY,
        qos,
        retain,
        external,
        access,
    }
}

fn external(bus: &EventBus, place: Place, node: &str, errors: &mut Vec<String>) -> External {
    // Without `enable` this node shows no certificate; that of the broker is checked all the same.
    let identity = if bus.tls.enable {
        let keys = ["eventBusTLS.tlsMqttCertFile", "eventBusTLS.tlsMqttPrivateKeyFile"];
        Identity::configured(keys, bus.tls.certificate.clone(), bus.tls.key.clone())
    } else {
        Ok(None)
    };
    let identity = identity.unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    let tls = (place.secure || bus.tls.enable).then(|| Files { ca: bus.tls.ca.clone(), identity });
    if tls.as_ref().is_some_and(|tls| tls.ca.as_os_str().is_empty()) {
        errors.push(
            "eventBusTLS.tlsMqttCAFile is '', expected the file of the broker's authority".into(),
        );
    }
    let client = match bus.sub_client.as_str() {
        "" => format!("edgecore-{node}"),
        name => name.to_owned(),
    };
    let user = (!bus.mqtt_username.is_empty())
        .then(|| (bus.mqtt_username.clone(), bus.mqtt_password.clone()));
    External { host: place.host, port: place.port, tls, client, user }
}

/// A place to listen or to dial.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
    secure: bool,
}

fn address(key: &str, url: &str, errors: &mut Vec<String>) -> Option<Place> {
    let place = parse_address(url);
    if place.is_none() {
        errors.push(format!(
            "eventBus.{key} is '{url}', expected tcp://HOST:PORT or ssl://HOST:PORT"
        ));
    }
    place
}

fn parse_address(url: &str) -> Option<Place> {
    let (scheme, rest) = url.split_once("://")?;
    let secure = match scheme {
        "tcp" | "mqtt" => false,
        "ssl" | "tls" | "mqtts" | "tcps" => true,
        _ => return None,
    };
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then_some(())?;
    Some(Place { host: host.to_owned(), port: port.parse().ok()?, secure })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests;
