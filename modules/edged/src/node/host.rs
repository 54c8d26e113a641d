//! What the host tells about itself.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use crate::config::Config;

/// The host as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostFacts {
    /// The node's address, and one of the other family if the operator named one.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) cpus: u32,
    /// Bytes.
    pub(crate) memory: u64,
    /// Bytes of the file system of the pods' folder.
    pub(crate) disk: u64,
    pub(crate) machine: String,
    pub(crate) system: String,
    pub(crate) boot: String,
    pub(crate) kernel: String,
    pub(crate) os: String,
}

impl HostFacts {
    /// Reads everything; what cannot be read stays empty.
    pub(crate) fn read(config: &Config) -> Self {
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let machine = line("/etc/machine-id");
        let system = line("/sys/class/dmi/id/product_uuid");
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let uname = rustix::system::uname();
        Self {
            addresses: addresses(config),
            cpus: cpus(&line("/sys/devices/system/cpu/online")),
            memory: memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            disk: disk(config),
            system: if system.is_empty() { machine.clone() } else { system },
            machine,
            boot: line("/proc/sys/kernel/random/boot_id"),
            kernel: uname.release().to_string_lossy().into_owned(),
            os: os_name(&release),
        }
    }

    /// Looks again at what may change while the host runs.
    pub(crate) fn look_again(&mut self, config: &Config) {
        self.addresses = addresses(config);
        self.disk = disk(config);
    }
}

fn addresses(config: &Config) -> Vec<IpAddr> {
    if config.addresses.is_empty() {
        return route_address().into_iter().collect();
    }
    config.addresses.clone()
}

/// Returns the address that traffic to the outside leaves with. Nothing is sent.
fn route_address() -> Option<IpAddr> {
    let outside = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    outside.iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        let address = socket.local_addr().ok()?.ip();
        (!address.is_unspecified() && !address.is_loopback()).then_some(address)
    })
}

/// Tells whether the kernel confines processes with AppArmor.
pub(crate) fn has_armor() -> bool {
    let on = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    on.starts_with('Y') && Path::new("/sys/kernel/security/apparmor").exists()
}

/// Counts processors in a list such as `0-3,8`.
fn cpus(list: &str) -> u32 {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.split(',').filter_map(count).sum::<u32>().max(1)
}

/// Returns the bytes of memory that the kernel manages.
fn memory(table: &str) -> u64 {
    let line = table.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default().saturating_mul(1024)
}

fn disk(config: &Config) -> u64 {
    let mut folders = config.root.ancestors();
    let found = folders.find_map(|folder| rustix::fs::statvfs(folder).ok());
    found.map_or(0, |found| found.f_blocks.saturating_mul(found.f_frsize))
}

fn os_name(release: &str) -> String {
    let line = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("Linux").trim_matches('"').to_owned()
}

/// Returns the processor as Kubernetes names it.
pub(crate) const fn architecture() -> &'static str {
    match std::env::consts::ARCH.as_bytes() {
        b"x86_64" => "amd64",
        b"aarch64" => "arm64",
        b"x86" => "386",
        _ => std::env::consts::ARCH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_tables_are_read() {
        assert_eq!(cpus("0-3,8\n".trim()), 5);
        assert_eq!(cpus(""), 1);
        assert_eq!(memory("MemTotal:       24684084 kB\nMemFree: 1 kB\n"), 24_684_084 * 1024);
        assert_eq!(os_name("A=1\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
    }
}
