//! What is found on this machine. Each fact is gathered by itself and bounded in time; what cannot be
//! found out is said in the fact.

use std::ffi::OsStr;
use std::fs;
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipc_proto::Module;
use ipc_proto::control::Status;
use rustix::fs::statvfs;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::Client;
use crate::program;
use crate::report::Cloud;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a trial came to: nothing, or why it failed.
pub(super) type Tried = Result<(), String>;

/// Room on a file system, in hundredths.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) folder: String,
    pub(super) bytes_free: u64,
    /// Nothing where the file system has no bound on files.
    pub(super) inodes_free: Option<u64>,
}

/// What a container runtime says of itself.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Runtime {
    pub(super) name: String,
    pub(super) version: String,
    /// Why it and the configuration do not go together.
    pub(super) clash: Option<String>,
}

/// All that the checks look at.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// What the converter says of both files, and whether it takes them.
    pub(super) configuration: (String, bool),
    /// Seconds since 1970.
    pub(super) now: u64,
    /// Nothing, as with the next ones, where no configuration says what is wanted.
    pub(super) resolved: Option<Tried>,
    /// The cloud's ports by what they are for.
    pub(super) ports: Vec<(String, Tried)>,
    /// Whether the cloud is the one that the token is of; nothing where there is no token.
    pub(super) token: Option<Tried>,
    /// From when until when the certificate holds, in seconds since 1970; nothing where there is none.
    pub(super) certificate: Result<Option<(u64, u64)>, String>,
    /// What the running agent says of the cloud; nothing when none runs.
    pub(super) cloud: Option<Cloud>,
    pub(super) runtime: Option<(String, Result<Runtime, String>)>,
    /// The controllers of the unified hierarchy; nothing where there is none.
    pub(super) controllers: Option<String>,
    /// Network configurations, and programs that make them so.
    pub(super) networks: (usize, usize),
    pub(super) forwarding: bool,
    pub(super) overlay: bool,
    pub(super) rooms: Vec<Room>,
    /// The database is whole; nothing when there is none yet.
    pub(super) database: Option<Tried>,
    /// The broker; nothing when none is wanted.
    pub(super) broker: Option<(String, Tried)>,
    /// Why mappers cannot come, as the running agent says.
    pub(super) mappers: Option<String>,
    /// The node's own port, which an agent that runs has taken itself.
    pub(super) own_port: Tried,
    /// Processes of other agents, by name and number.
    pub(super) rivals: Vec<String>,
    /// In KiB.
    pub(super) memory: Option<u64>,
}

/// Looks at the machine, as `edgecore.yaml` wants it.
pub(super) fn gather(config: &Path, client: &Client) -> Facts {
    let both = crate::configuration::both(config).unwrap_or_default();
    let tree = &both["effective"];
    let word = |pointer: &str| tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let hub = word("/modules/edgeHub/websocket/server");
    let https = word("/modules/edgeHub/httpServer").trim_start_matches("https://");
    let status = client.status().ok();
    let known = tree.is_object();
    let edged = "/modules/edged/tailoredKubeletConfig";
    let runtime = word(&format!("{edged}/containerRuntimeEndpoint"));
    let database = word("/database/dataSource");
    let has_token = !word("/modules/edgeHub/token").is_empty();
    Facts {
        configuration: configuration(config),
        now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        resolved: known.then(|| resolved(hub)),
        ports: if known {
            vec![("nodes".into(), dial(hub)), ("certificates".into(), dial(https))]
        } else {
            Vec::new()
        },
        token: has_token.then(|| {
            let words = ["config", "--check-cloud", "--config"].map(OsStr::new);
            program::ask(words.into_iter().chain([config.as_os_str()])).map(drop)
        }),
        certificate: if known { survey("certificate", config) } else { Ok(None) },
        cloud: status.as_ref().map(|status| Cloud::of(&status.modules)),
        runtime: known.then(|| (runtime.to_owned(), survey("runtime", config))),
        controllers: fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").ok(),
        networks: (files("/etc/cni/net.d"), files("/opt/cni/bin") + files("/usr/lib/cni")),
        forwarding: file_is("/proc/sys/net/ipv4/ip_forward", "1"),
        overlay: fs::read_to_string("/proc/filesystems").is_ok_and(|text| text.contains("overlay")),
        rooms: [database, word("/modules/edged/rootDirectory")]
            .map(room)
            .into_iter()
            .flatten()
            .collect(),
        database: Path::new(database)
            .exists()
            .then(|| survey::<Value>("database", config).map(drop)),
        broker: broker(tree),
        mappers: status.as_ref().and_then(mappers),
        own_port: match status {
            Some(_) => Ok(()),
            None => free(tree.pointer(&format!("{edged}/readOnlyPort"))),
        },
        rivals: rivals(status.is_some()),
        memory: memory(),
    }
}

fn configuration(config: &Path) -> (String, bool) {
    let words = [OsStr::new("config"), OsStr::new("--config"), config.as_os_str()];
    match program::run(words) {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            (said, output.status.success())
        }
        Err(reason) => (reason, false),
    }
}

fn resolved(address: &str) -> Tried {
    match address.to_socket_addrs() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("'{address}': {error}")),
    }
}

fn dial(address: &str) -> Tried {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let mut addresses = address.to_socket_addrs().map_err(failed)?;
    let first = addresses.next().ok_or_else(|| format!("{address} has no address"))?;
    TcpStream::connect_timeout(&first, PATIENCE).map(drop).map_err(failed)
}

/// Has the agent's program look at something of the node.
fn survey<T: DeserializeOwned>(what: &str, config: &Path) -> Result<T, String> {
    let words = ["survey", what, "--config"].map(OsStr::new);
    let text = program::ask(words.into_iter().chain([config.as_os_str()]))?;
    serde_json::from_slice(&text).map_err(|error| program::foreign(&error))
}

fn files(folder: &str) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

fn file_is(path: &str, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|found| found.trim() == text)
}

/// Looks at the file system of a path, or of the folder above it that exists.
fn room(path: &str) -> Option<Room> {
    let folder: PathBuf = Path::new(path).ancestors().find(|path| path.is_dir())?.to_owned();
    let found = statvfs(&folder).ok()?;
    let share = |free: u64, all: u64| free.saturating_mul(100).checked_div(all);
    Some(Room {
        folder: folder.display().to_string(),
        bytes_free: share(found.f_bavail, found.f_blocks)?,
        inodes_free: share(found.f_favail, found.f_files),
    })
}

fn broker(tree: &Value) -> Option<(String, Tried)> {
    let bus = &tree["modules"]["eventBus"];
    let wanted = bus["enable"] == true && bus["mqttMode"].as_u64().is_some_and(|mode| mode >= 1);
    let url = bus["mqttServerExternal"].as_str().filter(|_| wanted)?;
    let address = url.split_once("://").map_or(url, |(_, address)| address);
    Some((url.to_owned(), dial(address.trim_end_matches('/'))))
}

fn mappers(status: &Status) -> Option<String> {
    let twin = status.modules.iter().find(|module| module.name == Module::Devicetwin)?;
    twin.report.as_ref()?["mapperSocket"].as_str().map(str::to_owned)
}

fn free(port: Option<&Value>) -> Tried {
    let port = port.and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let Some(port) = port else { return Ok(()) };
    let bound = TcpListener::bind(("127.0.0.1", port));
    bound.map(drop).map_err(|error| format!("port {port} of 127.0.0.1: {error}"))
}

/// Finds a kubelet, and an edgecore that does not answer as ours does.
fn rivals(ours_runs: bool) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let name = |process: fs::DirEntry| {
        let number = process.file_name().to_str()?.parse::<u32>().ok()?;
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        let rival = match name.trim() {
            "kubelet" => true,
            "edgecore" => !ours_runs,
            _ => false,
        };
        rival.then(|| format!("{} (process {number})", name.trim()))
    };
    processes.filter_map(name).collect()
}

fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse().ok()
}
