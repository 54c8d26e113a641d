//! Whether an agent works, as far as that can be seen from the node.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipc_proto::control::Status;
use ipc_proto::{Module, ModuleState};

use super::containers::{self, touched};
use super::course::Agent;
use super::journal::{Journal, Site};
use super::place::Place;
use crate::client::Client;
use crate::failure::Failure;
use crate::report::{Cloud, LinkState};
use crate::screen::pause;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// How long an agent has to work without a break before it is believed: long enough for the first
/// look at all pods.
const STEADY: Duration = Duration::from_secs(5);

/// How long an agent that is put back may take, at least: there is nothing better to go to.
const PUT_BACK: Duration = Duration::from_secs(120);

/// An established connection, in the words of `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

/// Waits until the wanted agent works, and then looks whether the containers ran on.
///
/// # Errors
/// With a sentence when it does not work in time, or a container did not run on.
pub(super) fn verify(
    journal: &Journal,
    client: &Client,
    patience: Duration,
) -> Result<(), Failure> {
    let Journal { course, site, .. } = journal;
    let patience = if course.turned.is_some() { patience.max(PUT_BACK) } else { patience };
    let deadline = Instant::now() + patience;
    let mut since = None;
    loop {
        let amiss = match course.wanted {
            Agent::Ours => ours(site, client),
            Agent::Kubeedge => kubeedge(site, client),
        };
        let now = Instant::now();
        match amiss {
            Ok(()) if now - *since.get_or_insert(now) >= STEADY => break,
            Ok(()) => {}
            Err(reason) if now >= deadline => {
                return Err(Failure::Failed(format!(
                    "{} does not work within {} s: {reason}",
                    course.wanted.name(),
                    patience.as_secs()
                )));
            }
            Err(_) => since = None,
        }
        pause(LOOK)?;
    }
    // What is turned round knows already which containers did not run on; a boot ended them all.
    if course.turned.is_some() || journal.boot != boot() {
        return Ok(());
    }
    let after = containers::running(&site.config).map_err(Failure::Failed)?;
    touched(&journal.containers, &after).map_or(Ok(()), |said| Err(Failure::Failed(said)))
}

/// Returns what tells one life of this host from another.
pub(super) fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Our agent works when all its modules run, the cloud hears the node and has taken its state and
/// its lease, and the container runtime is ready.
fn ours(site: &Site, client: &Client) -> Result<(), String> {
    if let Some(pid) = process(&site.program) {
        return Err(format!("{} still runs (process {pid})", Agent::Kubeedge.name()));
    }
    let Status { modules, .. } = client.status().map_err(|failure| failure.to_string())?;
    let amiss = modules.iter().find(|module| match module.state {
        ModuleState::Running | ModuleState::Disabled => false,
        ModuleState::Stopped | ModuleState::Starting | ModuleState::Backoff | ModuleState::Held => {
            true
        }
    });
    if let Some(module) = amiss {
        let exit = module.last_exit.as_ref().map(|exit| format!(" after {}", exit.reason));
        return Err(format!("{} does not run{}", module.name, exit.unwrap_or_default()));
    }
    let cloud = Cloud::of(&modules);
    if cloud.state != LinkState::Connected {
        let reason = cloud.reason.unwrap_or_else(|| "no answer yet".to_owned());
        return Err(format!("the cloud does not hear this node: {reason}"));
    }
    let engine = modules.iter().find(|module| module.name == Module::Edged);
    let Some(engine) = engine.filter(|it| it.state == ModuleState::Running) else { return Ok(()) };
    let report = engine.report.as_ref().ok_or("edged has said nothing yet")?;
    if report["runtime"]["state"] != "ready" {
        return Err(format!("the container runtime is not ready: {}", report["runtime"]["reason"]));
    }
    if report["acknowledged"] != true {
        return Err("the cloud has not taken the node's state and lease yet".to_owned());
    }
    Ok(())
}

/// The other agent works, as far as can be seen from outside, when its process has a connection to
/// the cloud's hub.
fn kubeedge(site: &Site, client: &Client) -> Result<(), String> {
    if client.status().is_ok() {
        return Err(format!("{} still runs", Agent::Ours.name()));
    }
    let pid = process(&site.program).ok_or("it has no process")?;
    let port = hub_port(&site.config)?;
    if is_connected(pid, port) {
        return Ok(());
    }
    Err(format!("process {pid} has no connection to the cloud's port {port}"))
}

/// Returns the process that runs KubeEdge's program.
pub(super) fn process(program: &Place) -> Option<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    numbers.into_iter().find(|number| program.is_run_by(&PathBuf::from(format!("/proc/{number}"))))
}

fn hub_port(config: &Path) -> Result<u16, String> {
    let effective = crate::join::effective(config).map_err(|failure| failure.to_string())?;
    let hub = &effective["modules"]["edgeHub"];
    let way = if hub["websocket"]["enable"] == true { "websocket" } else { "quic" };
    let server = hub[way]["server"].as_str().unwrap_or_default();
    let port = server.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.ok_or_else(|| format!("the cloud's address is '{server}', expected a host and a port"))
}

fn is_connected(pid: u32, port: u16) -> bool {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let own = sockets(&folder.join("fd"));
    let tables = ["net/tcp", "net/tcp6"].map(|name| fs::read_to_string(folder.join(name)));
    let tables: String = tables.into_iter().flatten().collect();
    tables.lines().filter_map(|line| connection(line, port)).any(|inode| own.contains(&inode))
}

/// Returns the inodes of the sockets among open descriptors.
fn sockets(folder: &Path) -> BTreeSet<u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode =
        |link: PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    links.filter_map(inode).collect()
}

/// Returns the inode of an established connection to a port.
fn connection(line: &str, port: u16) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, remote) = fields.get(2)?.rsplit_once(':')?;
    let there = u16::from_str_radix(remote, 16).ok()? == port && *fields.get(3)? == ESTABLISHED;
    if there { fields.get(9)?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_of_a_process_is_seen_while_it_stands() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = std::process::id();
        assert!(!is_connected(own, port), "who listens is not connected");
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert!(is_connected(own, port));
        drop(stream);
        assert!(!is_connected(own, port));
    }
}
