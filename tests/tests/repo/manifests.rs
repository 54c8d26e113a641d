//! Checks of `Cargo.toml` and `Cargo.lock`.

use super::{Complaints, File};

/// Our crates by folder, with those of ours that each may use. A module's row is `modules/`.
const DIRECTION: [(&str, &[&str]); 11] = [
    ("ipc-proto", &[]),
    ("supervisor", &["ipc-proto"]),
    ("edgectl", &["ipc-proto"]),
    ("modules/runtime", &["ipc-proto"]),
    ("modules/", &["ipc-proto", "module-runtime"]),
    ("edgecore", ALL),
    ("tests", ALL),
    ("tests/containerd", &[]),
    ("tests/minicloud", ALL),
    ("tests/plugins", &["edged"]),
    ("xtask", ALL),
];

const ALL: &[&str] = &[
    "ipc-proto",
    "supervisor",
    "module-runtime",
    "edgehub",
    "metamanager",
    "edged",
    "devicetwin",
    "eventbus",
    "servicebus",
    "edgestream",
    "edgemesh",
    "taskmanager",
    "metaserver",
    "edgecore",
    "edgectl",
    "edgecore-tests",
    "minicloud",
    "private-containerd",
    "fake-plugins",
];

/// How many crates that are not ours a crate may use itself, by folder.
const FEW: [(&str, usize); 11] = [
    // bytes, serde with its two encodings, and errors
    ("ipc-proto", 5),
    // signals, descriptors, sd_notify and the control protocol; all of it stays in memory for ever
    ("supervisor", 7),
    // beside tokio and tracing a crate for each way to confine a process
    ("modules/runtime", 15),
    // TLS, HTTP, websocket and certificates are crates of their own
    ("modules/edgehub", 20),
    // gRPC to the runtime, HTTP and TLS for probes, YAML for static pods, gzip for old logs, the
    // hashes in the names of storage drivers' folders
    ("modules/edged", 20),
    // TLS, HTTP to the node and the handshake of the tunnel
    ("modules/edgestream", 13),
    // gRPC with mappers in both directions; devices are packed while they rest
    ("modules/devicetwin", 13),
    // HTTP and its bodies; TLS, certificates and signatures, where clients say who they are; the
    // cloud's protobuf
    ("modules/metaserver", 16),
    ("modules/", 12),
    ("edgecore", 12),
    ("edgectl", 12),
];

/// How many packages the whole workspace may lock.
const PACKAGES: usize = 300;

/// A line `name = …` of a section of dependencies.
struct Dependency<'a> {
    name: &'a str,
    line: &'a str,
    dev: bool,
}

/// Returns the crate's folder; nothing for the workspace's own manifest, and for those of the fuzz
/// targets and of the informer, which are workspaces of their own.
fn folder(file: &File) -> Option<&str> {
    file.path
        .strip_suffix("/Cargo.toml")
        .filter(|folder| !["fuzz", "tests/informer"].contains(folder))
}

/// Finds the row for a folder: its own, or that of the folder above it.
fn row<'a, T>(table: &'a [(&str, T)], folder: &str) -> Option<&'a T> {
    let own = table.iter().find(|(name, _)| *name == folder);
    let above = || table.iter().find(|(name, _)| name.ends_with('/') && folder.starts_with(name));
    own.or_else(above).map(|(_, value)| value)
}

fn dependencies(file: &File) -> Vec<Dependency<'_>> {
    let mut found = Vec::new();
    let mut section = "";
    for line in file.text.lines() {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
        } else if section.ends_with("dependencies")
            && let Some((left, _)) = line.split_once('=')
        {
            let name = left.split('.').next().unwrap_or(left).trim();
            let dev = section.ends_with("dev-dependencies");
            found.push(Dependency { name, line, dev });
        }
    }
    found
}

/// Dependencies between our crates run one way.
pub fn direction(file: &File) -> Complaints {
    let Some(folder) = folder(file) else { return Vec::new() };
    let Some(allowed) = row(&DIRECTION, folder) else {
        return vec![format!("{}: a new crate: say in DIRECTION what it may use", file.path)];
    };
    let ours = dependencies(file).into_iter().filter(|dependency| ALL.contains(&dependency.name));
    // a module may be tested against the cloud's stand-in and a containerd, which use no module, and
    // edged against plug-ins, which speak its words
    let around = ["minicloud", "private-containerd", "fake-plugins"];
    let wrong = ours.filter(|dependency| {
        let tested_with = dependency.dev && around.contains(&dependency.name);
        !(allowed.contains(&dependency.name) || tested_with)
    });
    wrong
        .map(|dependency| {
            let (path, name) = (&file.path, dependency.name);
            format!("{path}: may not use {name}; let them talk in messages of ipc-proto")
        })
        .collect()
}

/// Versions and lints stand in the workspace's manifest alone.
pub fn inherits(file: &File) -> Complaints {
    if folder(file).is_none() {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for Dependency { name, line, .. } in dependencies(file) {
        let words = line.split_whitespace().collect::<String>();
        if !words.contains("workspace=true") {
            let path = &file.path;
            complaints.push(format!("{path}: give {name}'s version in the root's Cargo.toml"));
        }
    }
    if !file.text.contains("[lints]\nworkspace = true") {
        complaints.push(format!("{}: add '[lints] workspace = true'", file.path));
    }
    complaints
}

/// A crate uses few others; one more is argued for here.
pub fn few_dependencies(file: &File) -> Complaints {
    let Some((folder, bound)) = folder(file).and_then(|folder| Some((folder, row(&FEW, folder)?)))
    else {
        return Vec::new();
    };
    let foreign = |dependency: &Dependency<'_>| !dependency.dev && !ALL.contains(&dependency.name);
    let count = dependencies(file).iter().filter(|dependency| foreign(dependency)).count();
    if count <= *bound {
        return Vec::new();
    }
    vec![format!(
        "{folder} uses {count} crates, expected at most {bound}: drop one, or argue in FEW"
    )]
}

/// The whole workspace locks few packages.
pub fn few_packages(lock: &File) -> Complaints {
    let count = lock.text.lines().filter(|line| line.starts_with("source = ")).count();
    if count <= PACKAGES || lock.path != "Cargo.lock" {
        return Vec::new();
    }
    vec![format!("{count} packages are locked, expected at most {PACKAGES}: who brought the last?")]
}

/// ipc-proto uses no crate that does IO.
pub fn no_io(file: &File) -> Complaints {
    const IO: [&str; 9] =
        ["tokio", "rustix", "nix", "libc", "mio", "time", "rand", "getrandom", "tracing"];
    if folder(file) != Some("ipc-proto") {
        return Vec::new();
    }
    dependencies(file)
        .iter()
        .filter(|dependency| !dependency.dev && IO.contains(&dependency.name))
        .map(|dependency| {
            format!("ipc-proto may not use {}: bytes in, values out", dependency.name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(folder: &str, dependencies: &str) -> File {
        let text = format!("[lints]\nworkspace = true\n\n{dependencies}");
        File::new(&format!("{folder}/Cargo.toml"), &text)
    }

    #[test]
    fn a_module_may_not_use_another_nor_the_supervisor() {
        let good = "[dependencies]\nipc-proto.workspace = true\n[dev-dependencies]\nminicloud = {}";
        assert_eq!(direction(&manifest("modules/edged", good)), [""; 0]);
        for other in ["metamanager.workspace = true", "supervisor = { workspace = true }"] {
            let bad = manifest("modules/edged", &format!("[dev-dependencies]\n{other}"));
            assert_eq!(direction(&bad).len(), 1, "{other}");
        }
        let runtime = manifest("modules/runtime", "[dependencies]\nedged.workspace = true");
        assert_eq!(direction(&runtime).len(), 1);
        assert_eq!(direction(&manifest("newcomer", "")).len(), 1);
    }

    #[test]
    fn a_version_or_missing_lints_are_found() {
        let versions = "[dependencies]\nserde = \"1\"\nbytes = { version = \"1\" }";
        assert_eq!(inherits(&manifest("edgectl", versions)).len(), 2);
        assert_eq!(inherits(&File::new("edgectl/Cargo.toml", "[dependencies]\n")).len(), 1);
        let features = "[dependencies]\nrustix = { workspace = true, features = [\"fs\"] }";
        assert_eq!(inherits(&manifest("edgectl", features)), [""; 0]);
    }

    #[test]
    fn too_many_dependencies_are_counted() {
        let six = ["a", "b", "c", "d", "e", "f"].map(|name| format!("{name}.workspace = true"));
        let six = format!("[dependencies]\n{}", six.join("\n"));
        assert_eq!(few_dependencies(&manifest("ipc-proto", &six)).len(), 1);
        assert_eq!(few_dependencies(&manifest("modules/edged", &six)), [""; 0]);
    }

    #[test]
    fn too_many_packages_are_counted() {
        let lock = |count| File::new("Cargo.lock", &"source = \"registry\"\n".repeat(count));
        assert_eq!(few_packages(&lock(PACKAGES)), [""; 0]);
        assert_eq!(few_packages(&lock(PACKAGES + 1)).len(), 1);
    }

    #[test]
    fn a_crate_that_does_io_is_found() {
        let tokio = "[dependencies]\ntokio.workspace = true";
        assert_eq!(no_io(&manifest("ipc-proto", tokio)).len(), 1);
        assert_eq!(no_io(&manifest("modules/runtime", tokio)), [""; 0]);
    }
}
