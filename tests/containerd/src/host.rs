//! What is asked of the host: the programs that containerd needs, what its kernel can do.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// Where Debian has the network plug-ins.
pub(crate) const PLUGINS: &str = "/usr/lib/cni";

/// Something that this machine lacks for running pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// A program, and the Debian package that brings it.
    Program(&'static str, &'static str),
    /// Root's powers.
    Root,
    /// Something of the kernel, and what was said when it was tried.
    Kernel(&'static str, String),
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Program(program, package) => {
                write!(f, "{program} (Debian package {package})")
            }
            Self::Root => f.write_str("root's powers"),
            Self::Kernel(what, said) => write!(f, "{what} in the kernel ({said})"),
        }
    }
}

/// Programs by name or place, and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 6] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("busybox", "busybox-static"),
    ("ip", "iproute2"),
];

/// Returns what this machine lacks for running pods. As root the kernel is tried, once, with links of
/// unlikely names that are gone when this returns.
#[must_use]
pub fn lacks() -> Vec<Lack> {
    static TRIED: OnceLock<Vec<Lack>> = OnceLock::new();
    let missing = PROGRAMS.iter().filter(|(program, _)| find(program).is_none());
    let mut lacks: Vec<_> =
        missing.map(|&(program, package)| Lack::Program(program, package)).collect();
    if !rustix::process::geteuid().is_root() {
        lacks.push(Lack::Root);
    } else if find("ip").is_some() {
        lacks.extend(TRIED.get_or_init(kernel).iter().cloned());
    }
    lacks
}

/// Tries what the network of pods is made of.
fn kernel() -> Vec<Lack> {
    let name = format!("cdtry{}", std::process::id());
    let mut lacks = Vec::new();
    for (kind, what) in [("bridge", "network bridges"), ("veth", "pairs of network links")] {
        let add = ["link", "add", "name", &name, "type", kind];
        let tried = output(Command::new("ip").args(add));
        delete_link(&name);
        if let Err(error) = tried {
            lacks.push(Lack::Kernel(what, format!("{error:#}")));
        }
    }
    let cgroups = Path::new("/sys/fs/cgroup").read_dir();
    if cgroups.is_ok_and(|mut entries| entries.next().is_none()) {
        lacks.push(Lack::Kernel("control groups", "/sys/fs/cgroup is empty".to_owned()));
    }
    lacks
}

/// Removes a network link, if it is there.
pub(crate) fn delete_link(name: &str) {
    let mut command = Command::new("ip");
    drop(command.args(["link", "delete", name]).stderr(Stdio::null()).status());
}

fn find(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut places = env::split_paths(&folders).chain(system).map(|folder| folder.join(program));
    places.find(|path| path.is_file())
}

/// Returns the full path of a program.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    find(name).with_context(|| format!("this machine has no {name}"))
}

/// Runs a program to its end and returns what it wrote.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
