//! KubeEdge's `edgecore.yaml` (v1alpha2), read over KubeEdge's defaults as the Go edgecore reads it:
//! what is missing or null keeps its default, keys match without regard to case, and an unknown key
//! is ignored with a warning. What has the wrong type is an error.
//!
//! Every module is handed its own sections of the file, defaults filled in, under the file's own
//! names. Each checks what only it can judge.

use ipc_proto::Module;
use serde_json::{Map, Value, json};

use crate::config::host;
use crate::config::section::{Errors, show};

/// The version of the file that is read.
const API_VERSION: &str = "edgecore.config.kubeedge.io/v1alpha2";

/// The kind of the file that is read.
const KIND: &str = "EdgeCore";

/// Where keadm leaves a token for the first start, beside the folder of the configuration.
const TOKEN_FILE: &str = "/etc/kubeedge/bootstrap-edgecore.conf";

/// Mappings that hold keys of the operator's own, or Kubernetes' own: their reader judges them.
const OPEN: [&str; 3] =
    ["featureGates", "modules.edged.nodeLabels", "modules.edged.tailoredKubeletConfig"];

/// The file over the defaults.
#[derive(Debug)]
pub(crate) struct EdgecoreYaml {
    /// The node's name.
    pub(crate) node: String,
    merged: Value,
}

impl EdgecoreYaml {
    /// Lays a file over the defaults and checks it. `name` is the file's.
    pub(crate) fn read(
        name: &str,
        defaults: Value,
        file: Value,
        errors: &mut Errors,
        warnings: &mut Vec<String>,
    ) -> Self {
        let mut merged = defaults;
        let mut overlay = Overlay { name, errors, warnings };
        overlay.mapping("", &mut merged, file);
        overlay.expect(&merged["apiVersion"], "apiVersion", API_VERSION);
        overlay.expect(&merged["kind"], "kind", KIND);
        let node = merged["modules"]["edged"]["hostnameOverride"].as_str().unwrap_or_default();
        let node = if node.is_empty() { host::node_name() } else { node.to_owned() };
        if !host::is_dns_subdomain(&node) {
            errors.push(format!(
                "{name}: modules.edged.hostnameOverride is \"{node}\", expected a DNS subdomain: \
                 lower-case letters, digits, '-' and '.'"
            ));
        }
        let hub = &merged["modules"]["edgeHub"];
        if hub["websocket"]["enable"] == hub["quic"]["enable"] {
            let both = &hub["quic"]["enable"];
            errors.push(format!(
                "{name}: modules.edgeHub.websocket.enable and quic.enable are both {both}, \
                 expected one of them to be true"
            ));
        }
        Self { node, merged }
    }

    /// Tells whether the file wants a module to run. KubeEdge has no edgemesh of its own.
    pub(crate) fn enables(&self, module: Module) -> bool {
        let on = |pointer: &str| self.merged.pointer(pointer) == Some(&Value::Bool(true));
        let enable = |section: &str| on(&format!("/modules/{section}/enable"));
        match module {
            Module::Metamanager => enable("metaManager"),
            Module::Devicetwin => enable("deviceTwin"),
            Module::Edgehub => enable("edgeHub"),
            Module::Edged => enable("edged"),
            Module::Eventbus => enable("eventBus"),
            Module::Servicebus => enable("serviceBus"),
            Module::Taskmanager => enable("taskManager"),
            Module::Metaserver => enable("metaManager") && enable("metaManager/metaServer"),
            Module::Edgestream => enable("edgeStream"),
            Module::Edgemesh => false,
        }
    }

    /// Returns a module's own configuration: the node's name and the sections that it acts on.
    pub(crate) fn of(&self, module: Module) -> Value {
        let sections: &[&str] = match module {
            Module::Metamanager => &["database", "metaManager", "featureGates"],
            Module::Devicetwin => &["deviceTwin", "database"],
            Module::Edgehub => &["edgeHub"],
            Module::Edged => &["edged", "featureGates"],
            Module::Eventbus => &["eventBus"],
            Module::Servicebus => &["serviceBus"],
            Module::Taskmanager => &["taskManager", "database", "edged", "featureGates"],
            Module::Metaserver => &["metaManager", "database", "edged", "featureGates"],
            Module::Edgestream => &["edgeStream", "edged"],
            Module::Edgemesh => &[],
        };
        let mut config = Map::new();
        config.insert("node".to_owned(), json!(self.node));
        if module == Module::Edgehub {
            config.insert("tokenFile".to_owned(), json!(TOKEN_FILE));
        }
        for section in sections {
            let value = self.merged.get(section).or_else(|| self.merged["modules"].get(section));
            config.insert((*section).to_owned(), value.cloned().unwrap_or(Value::Null));
        }
        Value::Object(config)
    }

    /// Returns the folders that a module writes in.
    pub(crate) fn writable(&self, module: Module) -> Vec<Box<str>> {
        let text = |pointer: &str| self.merged.pointer(pointer).and_then(Value::as_str);
        let folder = |pointer: &str| {
            let parent = std::path::Path::new(text(pointer)?).parent()?;
            Some(parent.to_string_lossy().into_owned())
        };
        let itself = |pointer: &str| text(pointer).map(str::to_owned);
        let database = || folder("/database/dataSource");
        let found: Vec<Option<String>> = match module {
            Module::Metamanager => vec![database()],
            // The database's journal of a reader stands beside it.
            Module::Metaserver => vec![database()],
            Module::Devicetwin => vec![itself("/modules/deviceTwin/dmiSockPath")],
            Module::Edgehub => ["tlsCaFile", "tlsCertFile", "tlsPrivateKeyFile"]
                .map(|file| folder(&format!("/modules/edgeHub/{file}")))
                .into(),
            Module::Edged => vec![
                itself("/modules/edged/rootDirectory"),
                itself("/modules/edged/tailoredKubeletConfig/podLogsDir"),
            ],
            Module::Taskmanager => vec![Some("/etc/kubeedge".to_owned())],
            Module::Eventbus | Module::Servicebus | Module::Edgestream | Module::Edgemesh => {
                Vec::new()
            }
        };
        let mut folders: Vec<Box<str>> = found
            .into_iter()
            .flatten()
            .filter(|folder| folder.starts_with('/'))
            .map(Box::from)
            .collect();
        folders.sort_unstable();
        folders.dedup();
        folders
    }
}

/// Lays one tree over another and notes what does not fit.
struct Overlay<'a> {
    name: &'a str,
    errors: &'a mut Errors,
    warnings: &'a mut Vec<String>,
}

impl Overlay<'_> {
    fn mapping(&mut self, path: &str, base: &mut Value, over: Value) {
        let Value::Object(over) = over else {
            if !over.is_null() {
                self.wrong(path, &over, "a mapping of keys to values");
            }
            return;
        };
        let Value::Object(base) = base else { return };
        let open = OPEN.iter().any(|open| path.starts_with(open));
        for (key, value) in over {
            let known = base.keys().find(|known| known.eq_ignore_ascii_case(&key)).cloned();
            let below = join(path, known.as_deref().unwrap_or(&key));
            match known.and_then(|known| base.get_mut(&known)) {
                Some(default) => self.value(&below, default, value),
                None if open => {
                    base.insert(key, value);
                }
                None => {
                    let name = self.name;
                    self.warnings.push(format!("{name}: {below} is unknown and ignored"));
                }
            }
        }
    }

    fn value(&mut self, path: &str, base: &mut Value, over: Value) {
        let over = as_boolean(base, over);
        let expected = match (&*base, &over) {
            (_, Value::Null)
            | (Value::Null, _)
            | (Value::Bool(_), Value::Bool(_))
            | (Value::String(_), Value::String(_))
            | (Value::Array(_), Value::Array(_))
            | (Value::Object(_), _) => None,
            (Value::Number(base), Value::Number(over)) if base.is_f64() || over.is_u64() => None,
            (Value::Number(base), Value::Number(over)) => {
                // A default below nothing says that KubeEdge means something by it.
                (!over.is_i64() || base.is_u64()).then_some("a whole number, 0 or more")
            }
            (Value::Bool(_), _) => Some("true or false"),
            (Value::String(_), _) => Some("a text, in quotes if it looks like something else"),
            (Value::Array(_), _) => Some("a list"),
            (Value::Number(_), _) => Some("a number"),
        };
        match expected {
            Some(expected) => self.wrong(path, &over, expected),
            None if base.is_object() => self.mapping(path, base, over),
            None if over.is_null() => {}
            None => *base = over,
        }
    }

    fn expect(&mut self, value: &Value, path: &str, expected: &str) {
        if value != expected {
            self.wrong(path, value, expected);
        }
    }

    fn wrong(&mut self, path: &str, value: &Value, expected: &str) {
        let (name, value) = (self.name, show(value));
        let path = if path.is_empty() { "the document" } else { path };
        self.errors.push(format!("{name}: {path} is {value}, expected {expected}"));
    }
}

/// KubeEdge's reader takes the words of YAML 1.1 for booleans.
fn as_boolean(base: &Value, over: Value) -> Value {
    match (base, over.as_str()) {
        (Value::Bool(_), Some("yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y")) => {
            Value::Bool(true)
        }
        (Value::Bool(_), Some("no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N")) => {
            Value::Bool(false)
        }
        (_, Some(_) | None) => over,
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests;
