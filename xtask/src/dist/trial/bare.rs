//! A Debian in which nothing runs: the agent is started by hand, and pods by this machine's containerd.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use private_containerd::Containerd;

use super::place::{POD, Place, join, upgraded, watch};
use super::{Trial, foreign, until};
use crate::demo::cloud::Cloud;

/// Runs a program in the root. The mounts are in a namespace of that program's own, so that nobody
/// who removes the folder reaches through them.
const INSIDE: &str = r#"for part in proc sys dev; do mount --rbind "/$part" "$0/$part"; done
mkdir -p "$0$1"; mount --bind "$1" "$0$1"
root="$0"; shift; exec chroot "$root" "$@""#;

/// A Debian in a folder.
pub(super) struct Bare {
    pub(super) folder: PathBuf,
    /// A folder that is at the same place inside and outside: the container runtime's and the pods'.
    pub(super) shared: PathBuf,
}

/// The agent that runs in the root; it is ended when dropped.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Place for Bare {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", INSIDE]);
        command.arg(&self.folder).arg(&self.shared).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command
    }
}

/// Tries the package and its next revision.
pub(super) fn run(trial: &Trial<'_>, folder: PathBuf) -> Result<()> {
    let say = |what| trial.workspace.screen.line(what);
    let state = trial.folder.join("cloud");
    let cloud = Cloud::start(&trial.programs.join("minicloud"), &state)?;
    let containerd = Containerd::start()?;
    let root = Bare { folder, shared: containerd.path().to_owned() };
    say("install");
    install(&root, &trial.first.deb)?;
    say("join");
    join_here(&root, &cloud)?;
    let log = trial.folder.join("log");
    let agent = start(&root, &log)?;
    let watched = watch(&root, &cloud);
    let done = watched.and_then(|before| {
        say("upgrade");
        root.run(&["dpkg", "--install", &root.take(&trial.next.deb)?])?;
        upgraded(&root, &cloud, &before)
    });
    let log = || fs::read_to_string(&log).unwrap_or_default();
    done.with_context(|| format!("the agent's log: {}", log()))?;
    say("end, reset, remove, purge");
    cloud.delete(POD)?;
    until("the pod is gone", || cloud.pod(POD).is_none())?;
    drop(agent);
    leave(&root)?;
    say("the package for rpm");
    foreign::run(trial, &root)
}

fn install(root: &Bare, package: &Path) -> Result<()> {
    root.run(&["dpkg", "--install", &root.take(package)?])?;
    let version = root.run(&["/usr/local/bin/edgecore", "--version"])?;
    ensure!(version.starts_with("KubeEdge v"), "edgecore says '{version}'");
    root.run(&["getent", "passwd", "edgecore"]).context("no user for the modules")?;
    ensure!(root.has("etc/systemd/system/multi-user.target.wants/edgecore.service"), "not enabled");
    ensure!(!root.has("etc/kubeedge"), "the package has brought a configuration");
    Ok(())
}

fn join_here(root: &Bare, cloud: &Cloud) -> Result<()> {
    let shared = root.shared.display();
    let settings = [
        format!("modules.edged.rootDirectory={shared}/kubelet"),
        format!("modules.edged.tailoredKubeletConfig.podLogsDir={shared}/pods"),
        format!("modules.edged.tailoredKubeletConfig.readOnlyPort={}", free_port()?),
        // this machine has no broker
        "modules.eventBus.enable=false".to_owned(),
    ];
    let runtime = format!("unix://{shared}/c.sock");
    let mut words = vec!["--runtime-endpoint", &runtime];
    words.extend(settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
    join(root, cloud, &words)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn start(root: &Bare, log: &Path) -> Result<Agent> {
    let log = File::create(log)?;
    let mut command = root.command(&["edgecore"]);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(Agent(command.spawn().context("cannot start the agent")?))
}

fn leave(root: &Bare) -> Result<()> {
    let own = "etc/kubeedge/config/supervisor.yaml";
    root.write(own, "logLevel: info\n")?;
    root.run(&["edgectl", "reset", "--force"])?;
    root.run(&["dpkg", "--remove", "edgecore"])?;
    for gone in ["usr/bin/edgecore", "usr/local/bin/edgecore", "var/lib/kubeedge/edgecore.db"] {
        ensure!(!root.has(gone), "{gone} is still there");
    }
    root.run(&["dpkg", "--purge", "edgecore"])?;
    let link = "etc/systemd/system/multi-user.target.wants/edgecore.service";
    ensure!(!root.has(link) && !root.has("run/edgecore"), "a purge has left something");
    ensure!(root.has(own), "the operator's {own} is gone");
    Ok(())
}
