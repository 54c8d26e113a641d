//! Tables for people: the columns that kubectl shows.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::path::Target;

mod pod;

/// How the objects of a resource are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Pods,
    Nodes,
    ConfigMaps,
    Secrets,
    Services,
    Others,
}

/// Name, type, and whether it is shown without being asked for.
type Column = (&'static str, &'static str, bool);

const NAME: Column = ("Name", "string", true);
const AGE: Column = ("Age", "string", true);

impl Table {
    pub(crate) fn of(target: &Target) -> Self {
        match (&*target.group, &*target.plural) {
            ("", "pods") => Self::Pods,
            ("", "nodes") => Self::Nodes,
            ("", "configmaps") => Self::ConfigMaps,
            ("", "secrets") => Self::Secrets,
            ("", "services") => Self::Services,
            _ => Self::Others,
        }
    }

    const fn list(self) -> &'static [Column] {
        match self {
            Self::Pods => &[
                NAME,
                ("Ready", "string", true),
                ("Status", "string", true),
                ("Restarts", "string", true),
                AGE,
                ("IP", "string", false),
                ("Node", "string", false),
                ("Nominated Node", "string", false),
                ("Readiness Gates", "string", false),
            ],
            Self::Nodes => &[
                NAME,
                ("Status", "string", true),
                ("Roles", "string", true),
                AGE,
                ("Version", "string", true),
                ("Internal-IP", "string", false),
                ("OS-Image", "string", false),
                ("Kernel-Version", "string", false),
                ("Container-Runtime", "string", false),
            ],
            Self::ConfigMaps => &[NAME, ("Data", "integer", true), AGE],
            Self::Secrets => &[NAME, ("Type", "string", true), ("Data", "integer", true), AGE],
            Self::Services => &[
                NAME,
                ("Type", "string", true),
                ("Cluster-IP", "string", true),
                ("External-IP", "string", true),
                ("Port(s)", "string", true),
                AGE,
            ],
            Self::Others => &[NAME, AGE],
        }
    }

    /// Returns the definitions of the columns as JSON.
    pub(crate) fn columns(self) -> Value {
        let column = |(name, kind, shown): &Column| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({"name": name, "type": kind, "format": format, "description": "",
                "priority": i32::from(!shown)})
        };
        self.list().iter().map(column).collect()
    }

    /// Returns the cells of an object as JSON.
    pub(crate) fn cells(self, object: &RawValue) -> Value {
        let object: Value = serde_json::from_str(object.get()).unwrap_or_default();
        let age = age(&object["metadata"]["creationTimestamp"]);
        let name = &object["metadata"]["name"];
        match self {
            Self::Pods => pod::cells(&object, &age),
            Self::Nodes => nodes(&object, &age),
            Self::ConfigMaps => {
                json!([name, count(&object["data"]) + count(&object["binaryData"]), age])
            }
            Self::Secrets => json!([name, object["type"], count(&object["data"]), age]),
            Self::Services => services(&object, &age),
            Self::Others => json!([name, age]),
        }
    }
}

fn count(map: &Value) -> usize {
    map.as_object().map_or(0, Map::len)
}

/// Returns a text that says something.
fn word(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

/// Returns a text, or what kubectl shows for none.
fn or_none(value: &Value) -> &str {
    word(value).unwrap_or("<none>")
}

/// Returns the elements of a list; what is none has none.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn nodes(node: &Value, age: &str) -> Value {
    let mut conditions = list(&node["status"]["conditions"]).iter();
    let ready = conditions.find(|condition| condition["type"] == "Ready");
    let mut status = match ready.map(|ready| &ready["status"]) {
        Some(ready) if ready == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let labels = node["metadata"]["labels"].as_object().into_iter().flat_map(Map::keys);
    let mut roles: Vec<_> =
        labels.filter_map(|key| key.strip_prefix("node-role.kubernetes.io/")).collect();
    roles.sort_unstable();
    let roles = if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") };
    let mut addresses = list(&node["status"]["addresses"]).iter();
    let internal = addresses.find(|address| address["type"] == "InternalIP");
    let info = &node["status"]["nodeInfo"];
    json!([
        node["metadata"]["name"],
        status,
        roles,
        age,
        info["kubeletVersion"],
        internal.map_or("<none>", |address| or_none(&address["address"])),
        or_none(&info["osImage"]),
        or_none(&info["kernelVersion"]),
        or_none(&info["containerRuntimeVersion"]),
    ])
}

fn services(service: &Value, age: &str) -> Value {
    let spec = &service["spec"];
    let port = |port: &Value| {
        let node = port["nodePort"].as_u64().map_or(String::new(), |node| format!(":{node}"));
        format!("{}{node}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP"))
    };
    let ports: Vec<_> = list(&spec["ports"]).iter().map(port).collect();
    let ports = if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") };
    let external = match (spec["externalName"].as_str(), &spec["externalIPs"]) {
        (Some(name), _) if !name.is_empty() => name.to_owned(),
        (_, Value::Array(ips)) if !ips.is_empty() => {
            ips.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        }
        _ => "<none>".to_owned(),
    };
    json!([
        service["metadata"]["name"],
        spec["type"].as_str().unwrap_or("ClusterIP"),
        or_none(&spec["clusterIP"]),
        external,
        ports,
        age,
    ])
}

/// Returns how long ago a time was, as kubectl shows it.
fn age(time: &Value) -> String {
    let parsed = time.as_str().and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
    let Some(time) = parsed else { return "<unknown>".to_owned() };
    let now = module_runtime::unix_millis() / 1000;
    duration(u64::try_from(now - time.unix_timestamp()).unwrap_or(0))
}

/// Writes a time in seconds with the two units that matter.
fn duration(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => match seconds % 60 {
            0 => format!("{minutes}m"),
            rest => format!("{minutes}m{rest}s"),
        },
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => match minutes % 60 {
            0 => format!("{hours}h"),
            rest => format!("{hours}h{rest}m"),
        },
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => match hours % 24 {
            0 => format!("{days}d"),
            rest => format!("{days}d{rest}h"),
        },
        _ if days < 730 => format!("{days}d"),
        _ if years < 8 => match days % 365 {
            0 => format!("{years}y"),
            rest => format!("{years}y{rest}d"),
        },
        _ => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests;
