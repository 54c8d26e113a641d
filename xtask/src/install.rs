//! Programs that the steps need beside cargo: found, or installed.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::ci::Note;
use crate::workspace::Workspace;

/// A program, by name or by its place outside of `PATH`, and the Debian package that brings it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

/// What the steps need of Debian. Whoever adds a step that needs more adds a line here.
const TOOLS: [Tool; 21] = [
    // cargo-deny clones the advisory database with it
    Tool { program: "git", package: "git" },
    // SQLite and the cryptography are built with it
    Tool { program: "cc", package: "gcc" },
    // edged's tests run pods in a private one, with images made of busybox
    Tool { program: "containerd", package: "containerd" },
    Tool { program: "runc", package: "runc" },
    Tool { program: "/usr/lib/cni/bridge", package: "containernetworking-plugins" },
    Tool { program: "busybox", package: "busybox-static" },
    Tool { program: "ip", package: "iproute2" },
    // edgemesh's tests program a packet filter in networks of their own
    Tool { program: "/usr/sbin/nft", package: "nftables" },
    // beside which the rules of others have to hold
    Tool { program: "/usr/sbin/iptables-nft", package: "iptables" },
    // eventbus's tests run a private broker, and clients
    Tool { program: "/usr/sbin/mosquitto", package: "mosquitto" },
    Tool { program: "mosquitto_pub", package: "mosquitto-clients" },
    // the local Kubernetes API is asked with it
    Tool { program: "kubectl", package: "kubernetes-client" },
    // the mesh's names are asked for with it
    Tool { program: "dig", package: "bind9-dnsutils" },
    // the mesh's proxy is measured beside it
    Tool { program: "/usr/sbin/nginx", package: "nginx" },
    Tool { program: "/usr/lib/nginx/modules/ngx_stream_module.so", package: "libnginx-mod-stream" },
    // packages are made, checked and tried with these
    Tool { program: "dpkg-shlibdeps", package: "dpkg-dev" },
    Tool { program: "objdump", package: "binutils" },
    Tool { program: "rpmbuild", package: "rpm" },
    Tool { program: "lintian", package: "lintian" },
    Tool { program: "rpmlint", package: "rpmlint" },
    Tool { program: "/usr/sbin/debootstrap", package: "debootstrap" },
];

/// Installs whatever is missing: Debian packages where `CI=true`, cargo-deny always.
pub(crate) fn all(workspace: &Workspace) -> Result<Note> {
    if env::var_os("CI").is_some_and(|value| value == "true") {
        packages(workspace)?;
    } else if let [_, ..] = missing()[..] {
        bail!(
            "not installed: {}; run 'apt-get install {0}', or as root 'cargo xtask ci --install'",
            missing().join(" ")
        );
    }
    cargo_deny(workspace)?;
    Ok(None)
}

/// Installs the Debian packages that are missing; needs root only if some are.
pub(crate) fn packages(workspace: &Workspace) -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!("not installed: {}; installing packages needs root", missing.join(" "));
    }
    workspace.run(&mut workspace.program("apt-get", "update"))?;
    let services = ["mosquitto", "nginx"].into_iter().filter(|it| missing.contains(it));
    let services: Vec<&str> = services.collect();
    let mut install = workspace.program("apt-get", "install --yes --no-install-recommends");
    workspace.run(install.args(missing).env("DEBIAN_FRONTEND", "noninteractive"))?;
    // Debian starts a service with its package. Nobody asked for these: what needs them starts its own.
    if exists("systemctl") && Path::new("/run/systemd/system").is_dir() {
        for service in services {
            workspace.run(workspace.program("systemctl", "disable --now").arg(service))?;
        }
    }
    Ok(())
}

fn missing() -> Vec<&'static str> {
    TOOLS.iter().filter(|tool| !exists(tool.program)).map(|tool| tool.package).collect()
}

/// Tells whether a program stands in one of the folders of `PATH`.
pub(crate) fn exists(program: &str) -> bool {
    find(program).is_some()
}

fn find(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Returns cargo-deny; builds it under the target folder, once, where the machine has none. That
/// takes some minutes.
pub(crate) fn cargo_deny(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(path) = find("cargo-deny") {
        return Ok(path);
    }
    let tools = workspace.target.join("tools");
    let path = tools.join("bin/cargo-deny");
    if !path.is_file() {
        let mut install = workspace.cargo("install --locked cargo-deny --root");
        workspace.run(install.arg(&tools)).context("cannot build cargo-deny")?;
    }
    Ok(path)
}
