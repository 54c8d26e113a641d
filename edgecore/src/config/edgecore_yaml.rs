//! `edgecore.yaml`: KubeEdge's own file (v1alpha2), read over KubeEdge's defaults. A key that is not
//! known is passed over with a warning, as KubeEdge does; a value of the wrong type is an error.

use std::path::Path;

use ipc_proto::{Module, ModuleSet};
use serde_json::{Map, Value, json};

use super::reader::{Findings, Place, Reader};
use super::{defaults, spent_token};

const API_VERSION: &str = "edgecore.config.kubeedge.io/v1alpha2";
const KIND: &str = "EdgeCore";

/// Where keadm leaves a token for the first start (WIRE.md §3.4).
const TOKEN_FILE: &str = "/etc/kubeedge/bootstrap-edgecore.conf";

/// Where the file has one.
const TOKEN: &str = "/modules/edgeHub/token";

/// The node's identity, which edgehub keeps.
const HUB_FILES: &[&str] = &[
    "/modules/edgeHub/tlsCaFile",
    "/modules/edgeHub/tlsCertFile",
    "/modules/edgeHub/tlsPrivateKeyFile",
];

/// The file over the defaults, checked as far as the frame needs it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// The modules that the file enables.
    pub(super) enabled: ModuleSet,
    tree: Value,
}

/// Reads the file.
pub(super) fn read(file: Value, reader: &mut Reader<'_>) -> Node {
    let mut tree = defaults::tree();
    let top = Place::default();
    for (key, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match file.get(key) {
            Some(Value::String(text)) if text == expected => {}
            Some(other) => reader.wrong(&top.key(key), other, format_args!("\"{expected}\"")),
            None => reader.error(format_args!("{key} is missing, expected \"{expected}\"")),
        }
    }
    merge(&top, &mut tree, file, reader);
    check(&tree, reader);
    let name = text(&tree, "/modules/edged/hostnameOverride").to_owned();
    let enabled = Module::ALL.into_iter().filter(|module| is_enabled(&tree, *module)).collect();
    Node { name, enabled, tree }
}

/// Lays `over` onto `base`, key by key.
fn merge(place: &Place, base: &mut Value, over: Value, reader: &mut Reader<'_>) {
    match (base, over) {
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(over)) => {
            let open = is_open(place);
            for (key, value) in over {
                let place = place.key(&key);
                match spelling(base, &key).and_then(|key| base.get_mut(&key)) {
                    Some(known) => merge(&place, known, value, reader),
                    None if open => drop(base.insert(key, value)),
                    None => reader.warn(format_args!("{place} is unknown and passed over")),
                }
            }
        }
        (base, over) if is_like(base, &over) => *base = over,
        (base, over) => match (&*base, over.as_str().and_then(truth)) {
            (Value::Bool(_), Some(truth)) => *base = truth.into(),
            _ => reader.wrong(place, &over, type_name(base)),
        },
    }
}

/// Returns how a key is spelled in the defaults: KubeEdge's reader takes it in any letter case, the
/// exact one before others.
pub(super) fn spelling(known: &Map<String, Value>, key: &str) -> Option<String> {
    if known.contains_key(key) {
        return Some(key.to_owned());
    }
    known.keys().find(|known| known.eq_ignore_ascii_case(key)).cloned()
}

/// Returns what a word of YAML 1.1, which KubeEdge's reader speaks, means where a truth is expected.
fn truth(word: &str) -> Option<bool> {
    match word {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// Tells whether a table's keys are the operator's own.
fn is_open(place: &Place) -> bool {
    place.to_string().ends_with(".evictionHard")
}

/// Tells whether a value may stand where the default is `base`; no default takes anything.
const fn is_like(base: &Value, value: &Value) -> bool {
    matches!(
        (base, value),
        (Value::Null, _)
            | (Value::Bool(_), Value::Bool(_))
            | (Value::Number(_), Value::Number(_))
            | (Value::String(_), Value::String(_))
            | (Value::Array(_), Value::Array(_))
    )
}

const fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "anything",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn flag(tree: &Value, pointer: &str) -> bool {
    tree.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// Checks the values that the frame itself relies on, and the ranges of numbers.
fn check(tree: &Value, reader: &mut Reader<'_>) {
    let top = Place::default().key("modules");
    let name = text(tree, "/modules/edged/hostnameOverride");
    if !defaults::is_node_name(name) {
        let place = top.key("edged").key("hostnameOverride");
        let expected = "a DNS subdomain: lower-case letters, digits, '-' and '.'";
        reader.wrong(&place, &name.into(), expected);
    }
    let hub = top.key("edgeHub");
    let websocket = flag(tree, "/modules/edgeHub/websocket/enable");
    let quic = flag(tree, "/modules/edgeHub/quic/enable");
    if websocket == quic {
        let both = format!("{websocket} and {quic}");
        let expected = "exactly one of websocket.enable and quic.enable to be true";
        reader.error(format_args!("{hub} has websocket and quic at {both}, expected {expected}"));
    }
    let seconds = 1..=86_400;
    let ranges = [
        ("edgeHub", "heartbeat", seconds.clone()),
        ("edgeHub", "messageQPS", 0..=1_000_000),
        ("edgeHub", "messageBurst", 0..=1_000_000),
        ("eventBus", "mqttQOS", 0..=2),
        ("eventBus", "mqttMode", 0..=2),
        ("metaManager", "remoteQueryTimeout", seconds.clone()),
        ("serviceBus", "port", 1..=65_535),
        ("serviceBus", "timeout", seconds),
    ];
    for (section, key, range) in ranges {
        let value = tree.pointer(&format!("/modules/{section}/{key}"));
        reader.number(&top.key(section).key(key), value, range);
    }
}

fn is_enabled(tree: &Value, module: Module) -> bool {
    let section = match module {
        Module::Metamanager => "metaManager",
        Module::Devicetwin => "deviceTwin",
        Module::Edgehub => "edgeHub",
        Module::Edged => "edged",
        Module::Eventbus => "eventBus",
        Module::Servicebus => "serviceBus",
        Module::Taskmanager => "taskManager",
        Module::Metaserver => "metaManager/metaServer",
        Module::Edgestream => "edgeStream",
        // KubeEdge's file has no room for it; supervisor.yaml enables it.
        Module::Edgemesh => return false,
    };
    flag(tree, &format!("/modules/{section}/enable"))
}

impl Node {
    /// Returns what a module is told: its own sections of the file, and nothing of the others.
    pub(super) fn section(&self, module: Module) -> Value {
        let sections: &[&str] = match module {
            Module::Metamanager => &["database", "metaManager"],
            Module::Devicetwin => &["deviceTwin"],
            Module::Edgehub => &["edgeHub"],
            Module::Edged => &["edged", "metaManager", "featureGates"],
            Module::Eventbus => &["eventBus"],
            Module::Servicebus => &["serviceBus"],
            Module::Taskmanager => &["taskManager", "featureGates"],
            Module::Metaserver => &["metaManager", "featureGates"],
            Module::Edgestream => &["edgeStream"],
            Module::Edgemesh => &[],
        };
        let get = |name: &str| {
            self.tree.get(name).or_else(|| self.tree.get("modules")?.get(name)).cloned()
        };
        let mut config: Map<String, Value> = sections
            .iter()
            .map(|name| ((*name).to_owned(), get(name).unwrap_or(Value::Null)))
            .collect();
        config.insert("node".to_owned(), json!(self.name));
        if module == Module::Edgehub {
            config.insert("tokenFile".to_owned(), json!(TOKEN_FILE));
        }
        if module == Module::Edgestream {
            let of_edged = |key: &str| self.tree.pointer(&format!("/modules/edged/{key}")).cloned();
            let api = json!({
                "address": of_edged("tailoredKubeletConfig/address"),
                "port": of_edged("tailoredKubeletConfig/readOnlyPort"),
            });
            config.insert("nodeApi".to_owned(), api);
            let ips = of_edged("nodeIP");
            // Of the node's addresses the cloud reaches its streams by the first.
            let first = ips.as_ref().and_then(|ips| Some(ips.as_str()?.split(',').next()?.trim()));
            config.insert("nodeIP".to_owned(), json!(first));
        }
        if module == Module::Eventbus {
            config.insert("stateFolder".to_owned(), json!(self.folder_of_state("mqtt")));
        }
        if module == Module::Metaserver {
            config.insert("stateFolder".to_owned(), json!(self.folder_of_state("metaserver")));
        }
        Value::Object(config)
    }

    /// Takes a token that has done its work out of the file, and out of what edgehub is told.
    pub(super) fn forget_token(&mut self, file: &Path, findings: &mut Findings) {
        let token = text(&self.tree, TOKEN).trim();
        let certificate = Path::new(text(&self.tree, "/modules/edgeHub/tlsCertFile"));
        if token.is_empty() {
            return;
        }
        match spent_token::forget(file, certificate, token) {
            Ok(true) => {
                if let Some(token) = self.tree.pointer_mut(TOKEN) {
                    *token = "".into();
                }
            }
            Ok(false) => {}
            Err(error) => findings.warnings.push(format!(
                "{}: modules.edgeHub.token has done its work and cannot be taken out: {error}",
                file.display()
            )),
        }
    }

    /// Returns what the names of services end with.
    pub(super) fn cluster_domain(&self) -> &str {
        text(&self.tree, "/modules/edged/tailoredKubeletConfig/clusterDomain")
    }

    /// Returns the file over the defaults.
    pub(super) const fn tree(&self) -> &Value {
        &self.tree
    }

    /// Returns where the database is.
    pub(super) fn database(&self) -> &str {
        text(&self.tree, "/database/dataSource")
    }

    /// Returns a folder of a module's own state: beside the database, so that both are on a disk
    /// that the operator chose to keep.
    fn folder_of_state(&self, name: &str) -> String {
        format!("{}/{name}", self.database().rsplit_once('/').map_or("", |(folder, _)| folder))
    }

    /// Tells whether clients of the local API have to say who they are.
    fn requires_authorization(&self) -> bool {
        flag(&self.tree, "/featureGates/requireAuthorization")
    }

    /// Returns the folders that a module writes in.
    pub(super) fn writable(&self, module: Module) -> Vec<Box<str>> {
        let files: &[&str] = match module {
            Module::Metamanager => &["/database/dataSource"],
            Module::Devicetwin => &["/modules/deviceTwin/dmiSockPath"],
            Module::Edgehub => HUB_FILES,
            Module::Eventbus => return vec![self.folder_of_state("mqtt").into()],
            Module::Metaserver if self.requires_authorization() => {
                return vec![self.folder_of_state("metaserver").into()];
            }
            Module::Edged
            | Module::Servicebus
            | Module::Taskmanager
            | Module::Metaserver
            | Module::Edgestream
            | Module::Edgemesh => &[],
        };
        self.folders(files)
    }

    /// Returns the folders of others that a module reads.
    pub(super) fn readable(&self, module: Module) -> Vec<Box<str>> {
        let files: &[&str] = match module {
            Module::Edgestream => &[
                "/modules/edgeStream/tlsTunnelCAFile",
                "/modules/edgeStream/tlsTunnelCertFile",
                "/modules/edgeStream/tlsTunnelPrivateKeyFile",
            ],
            // with which the mesh's tunnel shows who it is
            Module::Edgemesh => HUB_FILES,
            Module::Eventbus => &[
                "/modules/eventBus/eventBusTLS/tlsMqttCAFile",
                "/modules/eventBus/eventBusTLS/tlsMqttCertFile",
                "/modules/eventBus/eventBusTLS/tlsMqttPrivateKeyFile",
            ],
            Module::Servicebus => {
                &["/modules/serviceBus/tlsCertFile", "/modules/serviceBus/tlsPrivateKeyFile"]
            }
            Module::Metaserver => {
                let list = "/modules/metaManager/metaServer/serviceAccountKeyFiles";
                let files = self.tree.pointer(list).and_then(Value::as_array);
                let places: Vec<_> =
                    (0..files.map_or(0, Vec::len)).map(|it| format!("{list}/{it}")).collect();
                let places: Vec<_> = places.iter().map(String::as_str).collect();
                return self.folders(&places);
            }
            Module::Metamanager
            | Module::Devicetwin
            | Module::Edgehub
            | Module::Edged
            | Module::Taskmanager => &[],
        };
        self.folders(files)
    }

    /// Returns the folders that these keys' files are in.
    fn folders(&self, files: &[&str]) -> Vec<Box<str>> {
        let folder = |pointer: &&str| {
            let (folder, _) = text(&self.tree, pointer).rsplit_once('/')?;
            (!folder.is_empty()).then(|| folder.into())
        };
        let mut folders: Vec<Box<str>> = files.iter().filter_map(folder).collect();
        folders.dedup();
        folders
    }
}
