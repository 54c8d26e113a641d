//! A node with a cloud and MQTT, with `mosquitto_pub` and `mosquitto_sub` as its clients.

use anyhow::{Context, Result, ensure};
use ipc_proto::{Message, Module, Operation};
use minicloud::Config;
use minicloud::core::Push;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use super::cloud::{Cloud, NODE};
use super::mosquitto::{Mosquitto, free_port};
use super::{Rig, SOON, Setup, wait_for, wait_until};

/// The modules that have nothing to do with MQTT.
const OTHERS: [Module; 6] = [
    Module::Edged,
    Module::Servicebus,
    Module::Taskmanager,
    Module::Metaserver,
    Module::Edgestream,
    Module::Edgemesh,
];

/// Which brokers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// eventbus's own.
    Internal,
    /// Its own and mosquitto.
    Both,
    /// mosquitto.
    External,
}

/// The node and its surroundings.
#[derive(Debug)]
pub struct Place {
    /// The node.
    pub rig: Rig,
    /// Its cloud.
    pub cloud: Cloud,
    /// The external broker.
    pub mosquitto: Option<Mosquitto>,
    /// The port of the internal broker.
    pub internal: u16,
}

impl Place {
    /// Starts a node.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn new(mode: Mode) -> Result<Self> {
        Self::with(mode, json!({}), |_| Ok(()))
    }

    /// Starts a node; `patch` is laid over the section `eventBus`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn with(
        mode: Mode,
        patch: Value,
        change: impl FnOnce(&mut Setup) -> Result<()>,
    ) -> Result<Self> {
        Self::by(mode, "", patch, change)
    }

    /// As [`Self::with`], with `settings` added to mosquitto's.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn by(
        mode: Mode,
        settings: &str,
        patch: Value,
        change: impl FnOnce(&mut Setup) -> Result<()>,
    ) -> Result<Self> {
        let cloud = Cloud::start(Config::default())?;
        let mut setup = Setup::new()?;
        cloud.lead(&mut setup);
        let hub = &mut setup.edgecore["modules"]["edgeHub"];
        hub["messageQPS"] = json!(100_000);
        hub["messageBurst"] = json!(100_000);
        for module in OTHERS {
            setup = setup.with(json!({"modules": {module.name(): {"enabled": false}}}));
        }
        let mosquitto = match mode {
            Mode::Internal => None,
            Mode::Both | Mode::External => {
                let folder = setup.folder.path().join("mosquitto");
                Some(Mosquitto::start(&folder, settings)?)
            }
        };
        let internal = free_port()?;
        let external = mosquitto.as_ref().map_or(1, Mosquitto::port);
        let mut bus = json!({
            "enable": true,
            "mqttMode": mode as u8,
            "mqttQOS": 1,
            "mqttServerInternal": format!("tcp://127.0.0.1:{internal}"),
            "mqttServerExternal": format!("tcp://127.0.0.1:{external}"),
        });
        if let (Value::Object(bus), Value::Object(patch)) = (&mut bus, patch) {
            bus.extend(patch);
        }
        setup.edgecore["modules"]["eventBus"] = bus;
        change(&mut setup)?;
        let rig = setup.start()?;
        let place = Self { rig, cloud, mosquitto, internal };
        wait_until("the node joins", SOON, || place.cloud.session().is_ok_and(|it| it > 0))
            .with_context(|| place.rig.module_log(Module::Edgehub))?;
        place.wait_until_open()?;
        Ok(place)
    }

    /// Waits until the node takes part in MQTT.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_until_open(&self) -> Result<()> {
        self.wait_for_report("MQTT is there", |report| {
            let (external, internal) = (&report["external"], &report["internal"]);
            report.is_object()
                && (external.is_null() || external["state"] == "connected")
                && (internal.is_null() || internal["state"] == "listening")
        })?;
        Ok(())
    }

    /// Returns the port that clients use: the external broker's, where there is one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.mosquitto.as_ref().map_or(self.internal, Mosquitto::port)
    }

    /// Waits until eventbus says of itself what is wanted.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_for_report(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let found = wait_for(what, SOON, || {
            last = report(&self.rig).unwrap_or_default();
            wanted(&last).then(|| last.clone())
        });
        found.with_context(|| format!("the report is {last}\n{}", self.log()))
    }

    /// Returns eventbus's log.
    #[must_use]
    pub fn log(&self) -> String {
        self.rig.module_log(Module::Eventbus)
    }

    /// Sends a message of the cloud's router to the node.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub fn push(&self, operation: &str, resource: &str, content: Value) -> Result<()> {
        let push = Push {
            source: "router_eventbus".into(),
            group: "user".into(),
            operation: operation.into(),
            resource: resource.into(),
            version: String::new(),
            content,
        };
        self.cloud.with(|cloud| async move { cloud.push(NODE, push).await })
    }

    /// Returns what came up from the clients: topics and bodies, in order.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub fn uploads(&self) -> Result<Vec<(String, String)>> {
        let received = self.cloud.with(|cloud| async move { cloud.received(0).await })?;
        received.iter().map(|it| &it.message).filter(|it| is_upload(it)).map(read).collect()
    }

    /// Waits until something came up.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn wait_for_upload(&self, topic: &str, body: &str) -> Result<()> {
        let wanted = (topic.to_owned(), body.to_owned());
        let found = wait_for(&format!("{body} on {topic} is in the cloud"), SOON, || {
            self.uploads().is_ok_and(|uploads| uploads.contains(&wanted)).then_some(())
        });
        found.with_context(|| format!("uploads: {:?}\n{}", self.uploads(), self.log()))
    }

    /// Subscribes the node to a topic of a rule, and waits until it is known to the store.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn subscribe_rule(&self, topic: &str) -> Result<()> {
        self.push("subscribe", topic, Value::Null)?;
        self.wait_for_topic(topic, true)
    }

    /// Waits until the store keeps a topic, or no longer.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn wait_for_topic(&self, topic: &str, wanted: bool) -> Result<()> {
        let database = self.rig.setup().folder.path().join("store/edgecore.db");
        wait_for(&format!("{topic} is in sub_topics: {wanted}"), SOON, || {
            (topics(&database).ok()?.iter().any(|it| it == topic) == wanted).then_some(())
        })
        .with_context(|| {
            let logs = [Module::Eventbus, Module::Edgehub, Module::Metamanager];
            logs.map(|module| self.rig.module_log(module)).concat()
        })
    }
}

fn topics(database: &std::path::Path) -> Result<Vec<String>> {
    let store = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut query = store.prepare("SELECT topic FROM sub_topics")?;
    let topics = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(topics)
}

/// Returns what eventbus says of itself.
///
/// # Errors
/// When it says nothing.
pub fn report(rig: &Rig) -> Result<Value> {
    let module = rig.module(Module::Eventbus)?;
    module.report.context("eventbus reports nothing")
}

fn is_upload(message: &Message) -> bool {
    message.route.operation == Operation::Upload
}

fn read(message: &Message) -> Result<(String, String)> {
    let route = &message.route;
    ensure!(
        (route.source.as_str(), route.group.as_str()) == ("bus", "user"),
        "an upload has source and group {route:?}"
    );
    Ok((route.resource.to_string(), message.content.decode()?))
}
