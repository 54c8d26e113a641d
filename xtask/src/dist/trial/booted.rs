//! A Debian that systemd runs: the package brings its container runtime and broker, systemd starts,
//! watches and reloads the agent, and the machine is booted again without a cloud.

use std::env;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use private_containerd::{PAUSE, image};
use serde_json::{Value, json};

use super::bare::Bare;
use super::machine::Machine;
use super::place::{POD, Place, in_pod, join, modules, pids, untouched, upgraded, watch};
use super::{Trial, until};
use crate::demo::cloud::Cloud;

/// The agent's unit.
const UNIT: &str = "edgecore.service";

/// The supervisor is frozen for so long before systemd ends it: less than the half minute that is
/// shipped, because somebody waits for it here.
const WATCHDOG: &str = "[Service]\nWatchdogSec=10\n";

/// Every module runs, also those that the defaults leave out.
const ALL: [&str; 4] = [
    "modules.serviceBus.enable=true",
    "modules.taskManager.enable=true",
    "modules.edgeStream.enable=true",
    "modules.metaManager.metaServer.enable=true",
];

/// What an administrator would write for pods to have a network.
const NETWORK: &str = r#"{"cniVersion":"0.4.0","name":"pods","plugins":[{"type":"bridge","bridge":"cni0",
"isGateway":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.85.0.0/24"}]],
"routes":[{"dst":"0.0.0.0/0"}]}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;

/// Tries the package and its next revision; returns what the summary has to say.
pub(super) fn run(trial: &Trial<'_>, folder: &Path) -> Result<&'static str> {
    let say = |what: &str| trial.workspace.screen.line(what);
    prepare(trial, folder)?;
    say("boot");
    let machine = match Machine::boot(folder) {
        Ok(machine) => machine,
        // a machine of ours can do this; not every container of somebody's can
        Err(error) if env::var_os("CI").is_none_or(|value| value != "true") => {
            say(&trial.workspace.screen.bad(&format!("no systemd runs here: {error:#}")));
            return Ok("UNITS NOT TRIED under systemd");
        }
        Err(error) => return Err(error),
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // also the cloud is in there, so that nothing outside can have its ports
            machine.enter_network()?;
            let done = live(trial, &machine);
            let journal = |_| machine.run(&["journalctl", "--no-pager", "-n", "80"]);
            done.map_err(|error| error.context(journal(()).unwrap_or_default()))
        });
        thread.join().map_err(|_| anyhow::anyhow!("the trial has panicked"))?
    })?;
    say("cut the power, and boot without a cloud");
    drop(machine);
    let machine = Machine::boot(folder)?;
    until("the pod runs again", || runs_again(&machine).unwrap_or(false))?;
    say("reset, purge");
    leave(&machine)?;
    Ok("tried under systemd")
}

/// Fetches what the package wants, while there is a network.
fn prepare(trial: &Trial<'_>, folder: &Path) -> Result<()> {
    let root = Bare { folder: folder.to_owned(), shared: trial.folder.join("shared") };
    std::fs::create_dir_all(&root.shared)?;
    let package = root.take(&trial.first.deb)?;
    root.take(&trial.next.deb)?;
    root.take(&image(&root.shared)?)?;
    root.write(&format!("etc/systemd/system/{UNIT}.d/watchdog.conf"), WATCHDOG)?;
    root.run(&["apt-get", "install", "--yes", "--download-only", &package]).map(drop)
}

/// All that happens while there is a cloud.
fn live(trial: &Trial<'_>, machine: &Machine) -> Result<()> {
    let say = |what| trial.workspace.screen.line(what);
    let state = trial.folder.join("cloud-of-the-machine");
    let cloud = Cloud::start(&trial.programs.join("minicloud"), &state)?;
    say("install with what is recommended");
    install(machine, trial)?;
    say("join a cloud that is not there, and leave it");
    in_vain(machine, &cloud)?;
    say("join");
    machine.write(
        "etc/kubeedge/config/supervisor.yaml",
        "modules: { edgemesh: { enabled: true } }\n",
    )?;
    let more: Vec<_> = ALL.iter().flat_map(|setting| ["--set", setting]).collect();
    join(machine, &cloud, &more)?;
    let before = watch(machine, &cloud)?;
    // in a mount namespace of the unit's own it would be in the folder below
    let mounts = in_pod(machine, &["cat", "/proc/mounts"])?;
    ensure!(mounts.contains("tmpfs /memory "), "no memory is mounted in the pod: {mounts}");
    for module in modules(&machine.status()?) {
        ensure!(module["state"] == "running", "a module does not run under the unit: {module}");
    }
    say("upgrade");
    let next = machine.take(&trial.next.deb)?;
    machine.run(&["apt-get", "install", "--yes", &next])?;
    upgraded(machine, &cloud, &before)?;
    say("reload");
    reload(machine)?;
    untouched(machine, &cloud, &before)?;
    ensure!(restarts(machine)? == "0", "systemd has restarted the agent, expected nothing of it");
    for (signal, how) in [("KILL", "the supervisor is killed"), ("STOP", "the supervisor hangs")] {
        say(how);
        lose(machine, signal).context(how)?;
        untouched(machine, &cloud, &before).context(how)?;
    }
    say("stop and start");
    machine.run(&["systemctl", "restart", UNIT])?;
    untouched(machine, &cloud, &before)
}

fn install(machine: &Machine, trial: &Trial<'_>) -> Result<()> {
    let package = machine.take(&trial.first.deb)?;
    machine.run(&["apt-get", "install", "--yes", &package])?;
    for (unit, state) in [(UNIT, "inactive"), ("containerd.service", "active")] {
        let is = property(machine, unit, "ActiveState")?;
        ensure!(is == state, "{unit} is {is} after the installation, expected {state}");
    }
    let verified = machine.command(&["systemd-analyze", "verify", "--man=no", UNIT]).output()?;
    let said = String::from_utf8_lossy(&verified.stderr);
    ensure!(verified.status.success() && said.is_empty(), "systemd finds fault: {said}");
    // of a hundred; what is left is what pods need: root, mounts, the network's administration
    machine.run(&["systemd-analyze", "security", "--threshold=65", "--no-pager", UNIT])?;
    // what an administrator brings: images, a network, and leave to run where root may not lower
    // the chance that the kernel picks a process
    machine.run(&["ctr", "-n", "k8s.io", "images", "import", "/srv/image.tar"])?;
    machine.write("etc/cni/net.d/10-pods.conflist", NETWORK)?;
    let runtime = format!(
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{PAUSE}\"\n\
         restrict_oom_score_adj = true\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
         bin_dir = \"/usr/lib/cni\"\n"
    );
    machine.write("etc/containerd/config.toml", &runtime)?;
    machine.run(&["systemctl", "restart", "containerd.service"]).map(drop)
}

/// Has the node join where nobody is: that is said in time, and can be undone.
fn in_vain(machine: &Machine, cloud: &Cloud) -> Result<()> {
    let words = ["edgectl", "join", "--cloud", "127.0.0.1:1", "--token", &cloud.token];
    let more = ["--no-check", "--timeout", "2"];
    let joined = machine.command(&[&words[..], &more].concat()).output()?;
    let said = String::from_utf8_lossy(&joined.stderr);
    ensure!(joined.status.code() == Some(1) && said.contains("within 2 s: "), "{said}");
    let state = property(machine, UNIT, "ActiveState")?;
    ensure!(state == "active", "the unit is {state} after a join, expected active");
    gone(machine)
}

/// Makes it no node, which stops the unit.
fn gone(machine: &Machine) -> Result<()> {
    machine.run(&["edgectl", "reset", "--force"])?;
    let state = property(machine, UNIT, "ActiveState")?;
    ensure!(state == "inactive", "the unit is {state} after a reset, expected inactive");
    Ok(())
}

fn property(machine: &Machine, unit: &str, name: &str) -> Result<String> {
    let said = machine.run(&["systemctl", "show", "--value", "--property", name, unit])?;
    Ok(said.trim().to_owned())
}

fn restarts(machine: &Machine) -> Result<String> {
    property(machine, UNIT, "NRestarts")
}

/// Has systemd reload the agent: the same processes go on.
fn reload(machine: &Machine) -> Result<()> {
    let before = machine.status()?;
    machine.run(&["systemctl", "reload", UNIT])?;
    let now = machine.status()?;
    ensure!(now["supervisor"]["reloads"] == 2, "the supervisor was not reloaded");
    ensure!(pids(&now) == pids(&before), "{:?} were {:?}", pids(&now), pids(&before));
    let main = property(machine, UNIT, "MainPID")?;
    ensure!(now["supervisor"]["pid"] == json!(main.parse::<u64>()?), "systemd watches {main}");
    let state = property(machine, UNIT, "ActiveState")?;
    ensure!(state == "active", "the unit is {state} after a reload, expected active");
    let status = property(machine, UNIT, "StatusText")?;
    let expected = format!("{} modules run", pids(&now).len() - 1);
    ensure!(status == expected, "systemd was told '{status}', expected '{expected}'");
    Ok(())
}

/// Sends the supervisor a signal that it does not survive, and waits until all runs again.
fn lose(machine: &Machine, signal: &str) -> Result<()> {
    let before = restarts(machine)?;
    let old = pids(&machine.status()?);
    machine.run(&["systemctl", "kill", "--kill-who=main", "--signal", signal, UNIT])?;
    until("systemd has started the agent again", || {
        let active = property(machine, UNIT, "ActiveState").is_ok_and(|state| state == "active");
        active && restarts(machine).is_ok_and(|count| count != before)
    })?;
    until("every module runs again", || {
        machine.status().is_ok_and(|now| pids(&now).len() == old.len())
    })?;
    let now = pids(&machine.status()?);
    match now.iter().find(|pid| old.contains(pid)) {
        Some(pid) => bail!("process {pid} has outlived its supervisor"),
        None => Ok(()),
    }
}

/// Looks whether the agent has been started, without a cloud, and the pod with it.
fn runs_again(machine: &Machine) -> Result<bool> {
    let pods: Value = serde_json::from_str(&machine.run(&["edgectl", "pods", "-o", "json"])?)?;
    let pods = pods["items"].as_array().context("a list of pods")?;
    let pod = pods.iter().find(|pod| pod["metadata"]["name"] == POD);
    let status = &pod.context("the pod is not known")?["status"]["containerStatuses"][0];
    Ok(!status["state"]["running"].is_null())
}

fn leave(machine: &Machine) -> Result<()> {
    gone(machine)?;
    machine.run(&["apt-get", "purge", "--yes", "edgecore"])?;
    let known = property(machine, UNIT, "LoadState")?;
    // our own drop-in is still there
    ensure!(known == "not-found" || known == "bad-setting", "{UNIT} is {known} after a purge");
    let running = machine.run(&["ctr", "-n", "k8s.io", "tasks", "list"])?;
    ensure!(running.contains("RUNNING"), "no container is left: {running}");
    Ok(())
}
