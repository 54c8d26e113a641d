//! `edgectl mesh trace`: what a connection to a service goes through.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::tunnel::{self, Tunnel, Way};
use super::{Found, Mesh};
use crate::client::Client;
use crate::failure::Failure;
use crate::program;
use crate::screen::{Paint, Style};
use crate::table::{self, Cell};

/// After how long the mesh has reported what an attempt has changed.
const REPORTED: Duration = Duration::from_millis(1500);

/// What a connection goes through, as the agent's program tells it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Trace {
    found: Found,
    address: Option<String>,
    service: Option<String>,
    port: Option<String>,
    policy: Option<String>,
    path: String,
    endpoints: Vec<Endpoint>,
    connection: Option<Attempt>,
    trouble: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Endpoint {
    address: String,
    node: Option<String>,
    tunnel: bool,
    /// What is known of the way through the tunnel, where it goes that way.
    #[serde(skip_deserializing)]
    way: Option<Way>,
    excluded: Option<String>,
    connection: Option<Attempt>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Attempt {
    to: String,
    millis: f64,
    error: Option<String>,
}

impl Attempt {
    fn words(&self) -> String {
        let Self { millis, error, .. } = self;
        match error {
            Some(error) => format!("fails after {millis:.1} ms: {error}"),
            None => format!("connected in {millis:.1} ms"),
        }
    }

    const fn paint(&self) -> Paint {
        if self.error.is_some() { Paint::Bad } else { Paint::Good }
    }
}

impl Trace {
    /// Returns what the command ends with.
    pub(super) fn outcome(self) -> Result<(), Failure> {
        self.trouble.map_or(Ok(()), |trouble| Err(Failure::Failed(trouble)))
    }
}

/// Has the agent's program follow a connection.
pub(super) fn of(
    client: &Client,
    config: &Path,
    namespace: &str,
    name: &str,
) -> Result<Trace, Failure> {
    let mesh = Mesh::of(client)?;
    let [server, domain] = mesh.names()?;
    let (name, port) = split(name)?;
    let traffic = &mesh.report["traffic"];
    let asked = json!({
        "server": server, "domain": domain, "namespace": namespace, "name": name, "port": port,
        "node": mesh.node, "preferSameNode": traffic["preferSameNode"] == true,
        "zone": traffic["zone"], "carries": traffic.is_object(), "tunnel": tunnel::asked(&mesh.report["tunnel"]),
    });
    let asked = asked.to_string();
    let words = ["mesh", "trace", "--config"].map(OsStr::new);
    let words = words.into_iter().chain([config.as_os_str(), OsStr::new(&asked)]);
    let trace = program::ask(words)
        .and_then(|text| serde_json::from_slice(&text).map_err(|error| program::foreign(&error)));
    let mut trace: Trace = trace.map_err(Failure::Failed)?;
    if trace.endpoints.iter().any(|endpoint| endpoint.tunnel) {
        // the attempt has made the tunnel to these nodes, or has failed
        pause();
        let tunnel = tunnel::of(client)?;
        trace.endpoints.iter_mut().for_each(|endpoint| endpoint.look(&tunnel));
    }
    Ok(trace)
}

#[expect(clippy::disallowed_methods, reason = "one pause, after which it is as it is")]
fn pause() {
    std::thread::sleep(REPORTED);
}

impl Endpoint {
    /// Looks what the tunnel says of the node.
    fn look(&mut self, tunnel: &Tunnel) {
        let node = self.node.as_deref().filter(|_| self.tunnel && self.excluded.is_none());
        self.way = node.map(|node| tunnel.way(node));
    }
}

/// Takes the port from a name that has one. An address of IPv6 that has one stands in brackets.
fn split(text: &str) -> Result<(&str, Option<u16>), Failure> {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, "")) => return Ok((name, None)),
        Some((name, port)) => (name, port.trim_start_matches(':')),
        None if text.matches(':').count() == 1 => text.split_once(':').unwrap_or((text, "")),
        None => return Ok((text, None)),
    };
    let wrong = |_| Failure::Failed(format!("the port is '{port}', expected 1 to 65535"));
    port.parse().map(|port| (name, Some(port))).map_err(wrong)
}

/// Writes it for people, a line for each step.
pub(super) fn text(trace: &Trace, style: Style) -> String {
    let mut text = String::new();
    let mut line = |step: &str, words: &str| {
        let step = style.paint(Paint::Strong, step);
        writeln!(text, "{step}  {words}").expect("a string takes what is written");
    };
    let Found { name, status, .. } = &trace.found;
    line("name      ", &format!("{name} ({status})"));
    for (step, words) in [
        ("address   ", &trace.address),
        ("service   ", &trace.service),
        ("port      ", &trace.port),
        ("policy    ", &trace.policy),
    ] {
        if let Some(words) = words {
            line(step, words);
        }
    }
    line("path      ", &trace.path);
    if let Some(attempt) = &trace.connection {
        let words = format!("{}: {}", attempt.to, attempt.words());
        line("connection", &style.paint(attempt.paint(), &words));
    }
    let row = |endpoint: &Endpoint| {
        let fate = match (&endpoint.excluded, &endpoint.connection, &endpoint.way) {
            (Some(reason), ..) => Cell::new(Paint::Fair, format!("not taken: {reason}")),
            (None, Some(attempt), _) => Cell::new(attempt.paint(), attempt.words()),
            (None, None, Some(way)) => way.cell(),
            (None, None, None) => Cell::from("taken, not tried"),
        };
        [Cell::from(endpoint.address.as_str()), Cell::maybe(endpoint.node.as_deref()), fate]
    };
    let rows: Vec<_> = trace.endpoints.iter().map(row).collect();
    if !rows.is_empty() {
        text.push_str(&table::render(["ENDPOINT", "NODE", "FROM HERE"], &rows, style));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_stands_behind_names_and_addresses() {
        let split = |text| split(text).map_err(|_| ());
        assert_eq!(split("web.shop:80"), Ok(("web.shop", Some(80))));
        assert_eq!(split("web.shop"), Ok(("web.shop", None)));
        assert_eq!(split("fd00::7"), Ok(("fd00::7", None)));
        assert_eq!(split("[fd00::7]:80"), Ok(("fd00::7", Some(80))));
        assert_eq!(split("web:http"), Err(()));
    }
}
