//! `edgectl mesh`: services and their endpoints, from the node's database; names and the tunnel, from
//! the running mesh. The agent's own program reads and asks.

mod tunnel;

mod trace;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use ipc_proto::Module;
use ipc_proto::control::{ModuleStatus, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::{Format, MeshCommand};
use crate::client::Client;
use crate::failure::Failure;
use crate::program;
use crate::screen::{Paint, Screen, Style};
use crate::table::{self, Cell};

/// Shows services, endpoints or what a name is.
pub(crate) fn run(
    command: &MeshCommand,
    client: &Client,
    screen: &mut Screen,
) -> Result<(), Failure> {
    match command {
        MeshCommand::Services(arguments) => {
            let services = Services::of(&read(&arguments.config)?);
            show(&services, arguments.output.format, screen, list)
        }
        MeshCommand::Endpoints { service, arguments } => {
            let mut services = Services::of(&read(&arguments.config)?);
            if let Some(wanted) = service {
                services.keep(wanted)?;
            }
            show(&services, arguments.output.format, screen, endpoints)
        }
        MeshCommand::Remove => remove(client),
        MeshCommand::Tunnel(output) => {
            show(&tunnel::of(client)?, output.format, screen, tunnel::text)
        }
        MeshCommand::Resolve { name, namespace, output } => {
            let found = resolve(client, namespace, name)?;
            show(&found, output.format, screen, answers)?;
            if found.answers.is_empty() {
                let Found { name, status, .. } = found;
                return Err(Failure::Failed(format!("{name} has no address here: {status}")));
            }
            Ok(())
        }
        MeshCommand::Trace { name, namespace, arguments } => {
            let trace = trace::of(client, &arguments.config, namespace, name)?;
            show(&trace, arguments.output.format, screen, trace::text)?;
            trace.outcome()
        }
    }
}

/// Has the agent's program remove what the mesh left, unless the mesh runs, which would make it again.
fn remove(client: &Client) -> Result<(), Failure> {
    let runs = |status: &Status| {
        let is_mesh = |module: &ModuleStatus| module.name == Module::Edgemesh;
        status.modules.iter().any(|module| is_mesh(module) && module.pid.is_some())
    };
    match client.status() {
        Ok(status) if runs(&status) => Err(Failure::Failed(
            "the mesh runs, and would make it again: 'edgectl stop edgemesh' first".to_owned(),
        )),
        Ok(_) | Err(Failure::Unreachable(_)) => {
            program::ask(["mesh", "remove"]).map(drop).map_err(Failure::Failed)
        }
        Err(failure) => Err(failure),
    }
}

fn show<T: Serialize>(
    shown: &T,
    format: Format,
    screen: &mut Screen,
    text: impl Fn(&T, Style) -> String,
) -> Result<(), Failure> {
    match format {
        Format::Json => screen.json(shown),
        Format::Text => Ok(screen.write_all(text(shown, screen.style()).as_bytes())?),
    }
}

/// What the database has.
#[derive(Debug, Default, Deserialize)]
struct Stored {
    services: Vec<Value>,
    slices: Vec<Value>,
    endpoints: Vec<Value>,
}

/// Has the agent's program read the database.
fn read(config: &Path) -> Result<Stored, Failure> {
    let words = ["mesh", "services", "--config"].map(OsStr::new);
    let words = words.into_iter().chain([config.as_os_str()]);
    let stored = program::ask(words)
        .and_then(|text| serde_json::from_slice(&text).map_err(|error| program::foreign(&error)));
    stored.map_err(|reason| Failure::Failed(format!("cannot read the services: {reason}")))
}

/// What the mesh says of a name.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    name: String,
    status: String,
    answers: Vec<Answer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    name: String,
    r#type: String,
    ttl: u32,
    data: String,
}

/// What the running mesh tells of itself.
struct Mesh {
    /// The node's name.
    node: String,
    report: Value,
}

impl Mesh {
    /// Asks for it.
    fn of(client: &Client) -> Result<Self, Failure> {
        let status = client.status()?;
        let mesh = status.modules.into_iter().find(|module| module.name == Module::Edgemesh);
        let report = mesh.and_then(|mesh| mesh.pid.and(mesh.report)).unwrap_or_default();
        Ok(Self { node: status.node, report })
    }

    fn name(&self, key: &str) -> String {
        self.report["names"][key].as_str().unwrap_or_default().to_owned()
    }

    /// Returns where names are answered, and what the cluster's end with.
    fn names(&self) -> Result<[String; 2], Failure> {
        if self.report["names"]["serving"] == true {
            return Ok(["address", "domain"].map(|key| self.name(key)));
        }
        let reason = match self.name("reason") {
            reason if reason.is_empty() => "the mesh does not run, see 'edgectl status'".to_owned(),
            reason => reason,
        };
        Err(Failure::Failed(format!("names are not answered: {reason}")))
    }
}

/// Asks the running mesh for a name.
fn resolve(client: &Client, namespace: &str, name: &str) -> Result<Found, Failure> {
    let [server, domain] = Mesh::of(client)?.names()?;
    let words = ["mesh", "resolve", &server, &domain, namespace, name];
    let found = program::ask(words)
        .and_then(|text| serde_json::from_slice(&text).map_err(|error| program::foreign(&error)));
    found.map_err(Failure::Failed)
}

fn answers(found: &Found, style: Style) -> String {
    let row = |answer: &Answer| {
        let Answer { name, r#type, ttl, data } = answer;
        [name.as_str().into(), r#type.as_str().into(), ttl.to_string().into(), data.as_str().into()]
    };
    let rows: Vec<[Cell; 4]> = found.answers.iter().map(row).collect();
    if rows.is_empty() {
        String::new()
    } else {
        table::render(["NAME", "TYPE", "TTL", "DATA"], &rows, style)
    }
}

/// All services as programs read them.
#[derive(Debug, Serialize)]
struct Services {
    services: Vec<Service>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    /// Namespace and name.
    id: String,
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `Headless` or `ExternalName`.
    #[serde(rename = "type")]
    kind: String,
    /// Its addresses, or the name that it stands for.
    addresses: Vec<String>,
    ports: Vec<String>,
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Serialize)]
struct Endpoint {
    address: String,
    ports: Vec<String>,
    node: Option<String>,
    target: Option<String>,
    ready: bool,
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// Writes ports as people do: `http 80/TCP`.
fn ports(value: &Value) -> Vec<String> {
    let port = |port: &Value| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let number = format!("{}/{protocol}", port["port"]);
        match port["name"].as_str().filter(|name| !name.is_empty()) {
            Some(name) => format!("{name} {number}"),
            None => number,
        }
    };
    value.as_array().into_iter().flatten().map(port).collect()
}

fn id(object: &Value, name: &str) -> String {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    format!("{namespace}/{name}")
}

impl Services {
    fn of(stored: &Stored) -> Self {
        let mut endpoints = BTreeMap::<String, Vec<Endpoint>>::new();
        for slice in &stored.slices {
            let labels = &slice["metadata"]["labels"];
            let Some(owner) = labels["kubernetes.io/service-name"].as_str() else { continue };
            let ports = ports(&slice["ports"]);
            let all = slice["endpoints"].as_array().into_iter().flatten();
            let of = all.flat_map(|endpoint| Endpoint::of_slice(endpoint, &ports));
            endpoints.entry(id(slice, owner)).or_default().extend(of);
        }
        for object in &stored.endpoints {
            let id = id(object, object["metadata"]["name"].as_str().unwrap_or_default());
            // Slices are what counts.
            endpoints.entry(id).or_insert_with(|| Endpoint::of_object(object));
        }
        let service = |object: &Value| {
            let id = id(object, object["metadata"]["name"].as_str().unwrap_or_default());
            let endpoints = endpoints.get(&id).cloned().unwrap_or_default();
            Service::of(id, object, endpoints)
        };
        let mut services: Vec<_> = stored.services.iter().map(service).collect();
        services.sort_by(|one, other| one.id.cmp(&other.id));
        Self { services }
    }

    /// Keeps the service that is wanted.
    fn keep(&mut self, wanted: &str) -> Result<(), Failure> {
        let wanted =
            if wanted.contains('/') { wanted.to_owned() } else { format!("default/{wanted}") };
        self.services.retain(|service| service.id == wanted);
        if self.services.is_empty() {
            let wanted = wanted.chars().take(256).collect::<String>();
            return Err(Failure::Failed(format!(
                "no service '{wanted}' on this node, see 'edgectl mesh services'"
            )));
        }
        Ok(())
    }
}

impl Service {
    fn of(id: String, object: &Value, endpoints: Vec<Endpoint>) -> Self {
        let spec = &object["spec"];
        let text = |key: &str| spec[key].as_str().unwrap_or_default().to_owned();
        let mut addresses = texts(&spec["clusterIPs"]);
        let mut kind = text("type");
        if kind == "ExternalName" {
            addresses = vec![text("externalName")];
        } else if text("clusterIP") == "None" {
            (kind, addresses) = ("Headless".to_owned(), Vec::new());
        } else {
            if addresses.is_empty() && !text("clusterIP").is_empty() {
                addresses = vec![text("clusterIP")];
            }
            if kind.is_empty() {
                "ClusterIP".clone_into(&mut kind);
            }
        }
        Self { id, kind, addresses, ports: ports(&spec["ports"]), endpoints }
    }
}

impl Endpoint {
    fn of_slice(endpoint: &Value, ports: &[String]) -> Vec<Self> {
        let one = |address: String| Self {
            address,
            ports: ports.to_vec(),
            node: endpoint["nodeName"].as_str().map(str::to_owned),
            target: endpoint["targetRef"]["name"].as_str().map(str::to_owned),
            ready: endpoint["conditions"]["ready"].as_bool().unwrap_or(true),
        };
        texts(&endpoint["addresses"]).into_iter().map(one).collect()
    }

    fn of_object(object: &Value) -> Vec<Self> {
        let mut all = Vec::new();
        for subset in object["subsets"].as_array().into_iter().flatten() {
            let ports = ports(&subset["ports"]);
            for (key, ready) in [("addresses", true), ("notReadyAddresses", false)] {
                let addresses = subset[key].as_array().into_iter().flatten();
                all.extend(addresses.map(|address| Self {
                    address: address["ip"].as_str().unwrap_or_default().to_owned(),
                    ports: ports.clone(),
                    node: address["nodeName"].as_str().map(str::to_owned),
                    target: address["targetRef"]["name"].as_str().map(str::to_owned),
                    ready,
                }));
            }
        }
        all
    }
}

fn joined(texts: &[String]) -> Cell {
    Cell::maybe((!texts.is_empty()).then(|| texts.join(", ")))
}

fn list(services: &Services, style: Style) -> String {
    let row = |service: &Service| {
        let ready = service.endpoints.iter().filter(|endpoint| endpoint.ready).count();
        let all = service.endpoints.len();
        let paint = if ready < all { Paint::Fair } else { Paint::Plain };
        [
            Cell::from(service.id.as_str()),
            Cell::from(service.kind.as_str()),
            joined(&service.addresses),
            joined(&service.ports),
            Cell::new(paint, format!("{ready}/{all}")),
        ]
    };
    let rows: Vec<_> = services.services.iter().map(row).collect();
    table::render(["NAME", "TYPE", "ADDRESS", "PORTS", "READY"], &rows, style)
}

fn endpoints(services: &Services, style: Style) -> String {
    let mut rows = Vec::new();
    let mut without = String::new();
    for service in &services.services {
        if service.endpoints.is_empty() {
            writeln!(without, "{} has none.", service.id).expect("a string takes what is written");
        }
        rows.extend(service.endpoints.iter().map(|endpoint| {
            let (paint, ready) =
                if endpoint.ready { (Paint::Good, "yes") } else { (Paint::Fair, "no") };
            [
                Cell::from(service.id.as_str()),
                Cell::from(endpoint.address.as_str()),
                joined(&endpoint.ports),
                Cell::maybe(endpoint.node.as_deref()),
                Cell::maybe(endpoint.target.as_deref()),
                Cell::new(paint, ready),
            ]
        }));
    }
    let headings = ["SERVICE", "ADDRESS", "PORTS", "NODE", "POD", "READY"];
    table::render(headings, &rows, style) + &without
}

#[cfg(test)]
mod tests;
