//! `edgectl sandbox`: how each module is locked in, as it found it itself.

use std::fmt::Write as _;
use std::io::Write as _;

use ipc_proto::control::{ModuleStatus, Status};
use ipc_proto::lifeline::Confinement;
use ipc_proto::{Module, ModuleState};
use serde::Serialize;

use crate::cli::{Format, Output};
use crate::client::Client;
use crate::failure::Failure;
use crate::screen::{Paint, Screen, Style, harmless};
use crate::table::{self, Cell, size};

/// The capabilities' names by their number (capabilities(7)), without the `cap_` before each.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

const HEADINGS: [&str; 9] = [
    "NAME",
    "UID",
    "NO-NEW-PRIVS",
    "SECCOMP",
    "LANDLOCK",
    "MEMORY MAX",
    "OPEN FILES",
    "CGROUP",
    "CAPABILITIES",
];

/// Shows the confinement of every module.
pub(crate) fn run(output: &Output, client: &Client, screen: &mut Screen) -> Result<(), Failure> {
    let status = client.status()?;
    match output.format {
        Format::Json => screen.json(&Sandbox::of(&status)),
        Format::Text => Ok(screen.write_all(text(&status, screen.style()).as_bytes())?),
    }
}

fn text(status: &Status, style: Style) -> String {
    let rows: Vec<_> = status.modules.iter().map(row).collect();
    let mut text = table::render(HEADINGS, &rows, style);
    if !status.not_in_force.is_empty() {
        writeln!(text, "\n{}", style.paint(Paint::Strong, "Not in force:"))
            .expect("a string takes what is written");
        for sentence in &status.not_in_force {
            writeln!(text, "  {}", harmless(sentence)).expect("a string takes what is written");
        }
    }
    text
}

fn row(module: &ModuleStatus) -> [Cell; 9] {
    let name = module.name.name().into();
    let Some(found) = &module.confinement else {
        let none = [(); 8].map(|()| Cell::none());
        let [a, b, c, d, e, f, g, h] = none;
        return [name, a, b, c, d, e, f, g, h];
    };
    [
        name,
        found.uid.to_string().into(),
        in_force(found.no_new_privileges),
        in_force(found.seccomp),
        match found.landlock_abi {
            0 => in_force(false),
            abi => Cell::new(Paint::Good, format!("ABI {abi}")),
        },
        Cell::maybe(memory_bound(module, found)),
        Cell::maybe(found.open_files),
        Cell::maybe(module.cgroup.as_deref()),
        capabilities(found.capabilities).into(),
    ]
}

fn in_force(whether: bool) -> Cell {
    if whether { Cell::new(Paint::Good, "yes") } else { Cell::new(Paint::Fair, "no") }
}

/// Returns the bound on memory and what enforces it.
fn memory_bound(module: &ModuleStatus, found: &Confinement) -> Option<String> {
    let group = module.memory_max.filter(|_| module.cgroup.is_some());
    let by_group = group.map(|bytes| format!("{} (cgroup)", size(bytes)));
    by_group.or_else(|| Some(format!("{} (address space)", size(found.address_space?))))
}

/// Returns the names of capabilities, or of those that are missing where these are fewer.
fn capabilities(mask: u64) -> String {
    let missing = names(!mask & ((1 << CAPABILITIES.len()) - 1));
    match (names(mask), missing) {
        (held, _) if held.is_empty() => String::from("none"),
        (_, missing) if missing.is_empty() => String::from("all"),
        (held, missing) if missing.len() < held.len() => format!("all but {}", missing.join(",")),
        (held, _) => held.join(","),
    }
}

fn names(mask: u64) -> Vec<String> {
    let set = (0..u64::BITS).filter(|bit| mask & 1 << bit != 0);
    let name = |bit: u32| {
        let known = CAPABILITIES.get(bit as usize).map(|&name| name.to_owned());
        // A kernel newer than this table.
        known.unwrap_or_else(|| bit.to_string())
    };
    set.map(name).collect()
}

/// The whole as programs read it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sandbox {
    modules: Vec<Confined>,
    not_in_force: Vec<String>,
}

/// One module as programs read it; nothing of it but name and state when it has no process.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Confined {
    name: Module,
    state: ModuleState,
    pid: Option<u32>,
    uid: Option<u32>,
    capabilities: Option<Vec<String>>,
    no_new_privileges: Option<bool>,
    seccomp: Option<bool>,
    landlock_abi: Option<u8>,
    address_space: Option<u64>,
    open_files: Option<u64>,
    memory_max: Option<u64>,
    cgroup: Option<String>,
    not_in_force: Vec<String>,
}

impl Sandbox {
    fn of(status: &Status) -> Self {
        Self {
            modules: status.modules.iter().map(Confined::from).collect(),
            not_in_force: status.not_in_force.clone(),
        }
    }
}

impl From<&ModuleStatus> for Confined {
    fn from(module: &ModuleStatus) -> Self {
        let found = module.confinement.as_ref();
        Self {
            name: module.name,
            state: module.state,
            pid: module.pid,
            uid: found.map(|found| found.uid),
            capabilities: found.map(|found| names(found.capabilities)),
            no_new_privileges: found.map(|found| found.no_new_privileges),
            seccomp: found.map(|found| found.seccomp),
            landlock_abi: found.map(|found| found.landlock_abi),
            address_space: found.and_then(|found| found.address_space),
            open_files: found.and_then(|found| found.open_files),
            memory_max: module.memory_max,
            cgroup: module.cgroup.clone(),
            not_in_force: found
                .map(|found| found.not_in_force.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
