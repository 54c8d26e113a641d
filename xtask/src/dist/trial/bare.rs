//! The package's life on a machine that has nothing else: a minimal Debian is made in a folder, the
//! package is installed there, the machine joins a cloud and runs a pod, the package is upgraded
//! under it, and goes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use private_containerd::{Containerd, IMAGE};
use serde_json::{Value, json};

use super::output;
use crate::demo::cloud::Cloud;
use crate::workspace::Workspace;

/// The node's name, and its pod's.
const NODE: &str = "trial";
const POD: &str = "page";

/// What the package needs beyond the least that Debian is.
const NEEDED: &str = "systemd-standalone-sysusers,init-system-helpers";

/// Runs a program in the root. The mounts are in a namespace of that program's own, so that nobody
/// who removes the folder reaches through them.
const INSIDE: &str = r#"for part in proc sys dev; do mount --rbind "/$part" "$0/$part"; done
mkdir -p "$0$1"; mount --bind "$1" "$0$1"
root="$0"; shift; exec chroot "$root" "$@""#;

/// How long a node may take to do what it does in seconds.
const LIMIT: Duration = Duration::from_secs(90);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// A minimal Debian in a folder.
struct Root {
    folder: PathBuf,
    /// A folder that is at the same place inside and outside: the container runtime's and the pods'.
    shared: PathBuf,
}

/// The agent that runs in the root; it is ended when dropped.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Tries a package and its next revision; `programs` has a cloud among them.
pub(super) fn run(workspace: &Workspace, programs: &Path, first: &Path, next: &Path) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a folder for a Debian")?;
    let cloud = Cloud::start(&programs.join("minicloud"), &folder.path().join("cloud"))?;
    let containerd = Containerd::start()?;
    let root = Root { folder: folder.path().join("root"), shared: containerd.path().to_owned() };
    workspace.screen.line("a minimal Debian");
    bootstrap(workspace, &root.folder)?;
    workspace.screen.line("install");
    install(&root, first)?;
    workspace.screen.line("join");
    join(&root, &cloud)?;
    let agent = start(&root, &folder.path().join("log"))?;
    let watched = watch(&root, &cloud);
    let done = watched.and_then(|before| {
        workspace.screen.line("upgrade");
        root.run(&["dpkg", "--install", &root.take(next)?])?;
        upgraded(&root, &cloud, &before)
    });
    let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    done.with_context(|| format!("the agent's log: {}", log()))?;
    workspace.screen.line("end, reset, remove, purge");
    cloud.delete(POD)?;
    until("the pod is gone", || cloud.pod(POD).is_none())?;
    drop(agent);
    leave(&root)
}

/// Makes the Debian that this machine's own sources name.
fn bootstrap(workspace: &Workspace, folder: &Path) -> Result<()> {
    let format = "$(REPO_URI) $(CODENAME) $(SUITE) $(LABEL)";
    let mut apt = workspace.program("apt-get", "indextargets --format");
    let targets = output(apt.arg(format).arg("Created-By: Packages"))?;
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let of_debian =
        |words: &Vec<String>| words.len() == 4 && words[3] == "Debian" && !words[2].contains('-');
    let chosen = targets.lines().map(words).find(of_debian);
    let chosen = chosen.context("apt's sources name no Debian; run 'apt-get update'")?;
    let mut debootstrap = workspace.program("debootstrap", "--variant=minbase");
    debootstrap.arg(format!("--include={NEEDED}")).arg(&chosen[1]).arg(folder).arg(&chosen[0]);
    output(&mut debootstrap).map(drop)
}

impl Root {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", INSIDE]);
        command.arg(&self.folder).arg(&self.shared).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs a program inside.
    fn run(&self, words: &[&str]) -> Result<String> {
        output(&mut self.command(words))
    }

    /// Puts a package inside; returns its path there.
    fn take(&self, package: &Path) -> Result<String> {
        let name = package.file_name().context("a package has a name")?.to_string_lossy();
        fs::copy(package, self.folder.join(&*name))?;
        Ok(format!("/{name}"))
    }

    fn has(&self, path: &str) -> bool {
        self.folder.join(path).symlink_metadata().is_ok()
    }

    fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.run(&["edgectl", "status", "-o", "json"])?)?)
    }
}

fn install(root: &Root, package: &Path) -> Result<()> {
    root.run(&["dpkg", "--install", &root.take(package)?])?;
    let version = root.run(&["/usr/local/bin/edgecore", "--version"])?;
    ensure!(version.starts_with("KubeEdge v"), "edgecore says '{version}'");
    root.run(&["getent", "passwd", "edgecore"]).context("no user for the modules")?;
    ensure!(root.has("etc/systemd/system/multi-user.target.wants/edgecore.service"), "not enabled");
    ensure!(!root.has("etc/kubeedge"), "the package has brought a configuration");
    Ok(())
}

fn join(root: &Root, cloud: &Cloud) -> Result<()> {
    let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
    let shared = root.shared.display();
    let settings = [
        format!("modules.edged.rootDirectory={shared}/kubelet"),
        format!("modules.edged.tailoredKubeletConfig.podLogsDir={shared}/pods"),
        format!("modules.edged.tailoredKubeletConfig.readOnlyPort={}", free_port()?),
        // how full this machine's disk is makes no difference
        "modules.edged.tailoredKubeletConfig.imageGCHighThresholdPercent=100".to_owned(),
        "modules.edged.tailoredKubeletConfig.evictionHard={\"nodefs.available\":\"0%\",\"nodefs.inodesFree\":\"0%\",\
            \"imagefs.available\":\"0%\",\"imagefs.inodesFree\":\"0%\"}"
            .to_owned(),
        // this machine has no broker
        "modules.eventBus.enable=false".to_owned(),
    ];
    let (runtime, certificates) = (format!("unix://{shared}/c.sock"), port(&cloud.https));
    let mut words = vec!["edgectl", "join", "--cloud", &cloud.hub, "--cert-port", &certificates];
    words.extend(["--token", &cloud.token, "--node-name", NODE, "--runtime-endpoint", &runtime]);
    words.extend(settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
    root.run(&words).map(drop)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn start(root: &Root, log: &Path) -> Result<Agent> {
    let log = File::create(log)?;
    let mut command = root.command(&["edgecore"]);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(Agent(command.spawn().context("cannot start the agent")?))
}

/// Waits until a pod runs on the node; returns what must stay.
fn watch(root: &Root, cloud: &Cloud) -> Result<Value> {
    until("the cloud finds the node ready", || cloud.finds_ready(NODE))?;
    cloud.apply(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": POD, "namespace": "default"},
        "spec": {
            "nodeName": NODE, "automountServiceAccountToken": false, "enableServiceLinks": false,
            "containers": [{"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "3600"]}],
        },
    }))?;
    until("the pod runs", || container(cloud).is_some())?;
    let users: Vec<_> = pids(&root.status()?).into_iter().skip(1).map(user).collect();
    ensure!(users.iter().any(|user| *user != 0), "every module runs as root: {users:?}");
    Ok(json!({ "container": container(cloud), "pids": pids(&root.status()?) }))
}

/// Returns who runs a process.
fn user(pid: u64) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(format!("/proc/{pid}")).map_or(0, |process| process.uid())
}

/// Returns the running container, and how often it was restarted.
fn container(cloud: &Cloud) -> Option<Value> {
    let status = &cloud.pod(POD)?["status"]["containerStatuses"][0];
    let running = !status["state"]["running"].is_null();
    running.then(|| json!([status["containerID"], status["restartCount"]]))
}

/// Returns the agent's processes, the supervisor's first.
fn pids(status: &Value) -> Vec<u64> {
    let modules = status["modules"].as_array().into_iter().flatten();
    let modules = modules.filter_map(|module| module["pid"].as_u64());
    status["supervisor"]["pid"].as_u64().into_iter().chain(modules).collect()
}

/// Looks whether all is as before, but that every module is the new program.
fn upgraded(root: &Root, cloud: &Cloud, before: &Value) -> Result<()> {
    let status = root.status()?;
    let (now, old) = (pids(&status), before["pids"].as_array().context("they were counted")?);
    ensure!(status["supervisor"]["reloads"] == 1, "the supervisor is not the new program");
    ensure!(now.first().map(|pid| json!(pid)).as_ref() == old.first(), "the supervisor has ended");
    ensure!(now.len() == old.len(), "{} processes, expected {}", now.len(), old.len());
    ensure!(!now[1..].iter().any(|pid| old.contains(&json!(pid))), "a module is the old program");
    until("the cloud hears the node again", || {
        root.status().is_ok_and(|status| status["cloud"]["state"] == "connected")
    })?;
    ensure!(cloud.finds_ready(NODE), "the node is not ready");
    let container = json!(container(cloud));
    ensure!(container == before["container"], "{container} was {} before", before["container"]);
    Ok(())
}

fn leave(root: &Root) -> Result<()> {
    let own = "etc/kubeedge/config/supervisor.yaml";
    fs::write(root.folder.join(own), "logLevel: info\n")?;
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

fn until(what: &str, mut reached: impl FnMut() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !reached() {
        if begin.elapsed() > LIMIT {
            bail!("waited {} s and not: {what}", LIMIT.as_secs());
        }
        park_timeout(LOOK);
    }
    Ok(())
}
