//! The demonstration's node: the shipped programs in a folder of their own.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, process};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

use super::cloud::Cloud;

/// The node's name.
pub(super) const NAME: &str = "demo";

/// Short patience, so that a frozen module is found while the user looks, and faults allowed.
const SUPERVISOR_YAML: &str = "\
faults: true
stopTimeout: 3s
beat: { interval: 200ms, patience: 2s }
modules:
  edged: { enabled: true }
  edgehub: { enabled: true }
  edgemesh: { enabled: true }
  edgestream: { enabled: true }
  eventbus: { enabled: true }
  metamanager: { enabled: true }
  devicetwin: { enabled: true, memoryMax: 64Mi }
  metaserver: { enabled: true }
  servicebus: { enabled: true }
  taskmanager: { enabled: true }
";

/// The node's configuration. All that it has stands in its folder, so that the demonstration harms
/// nothing of an agent, of certificates or of containers that this host may have.
const EDGECORE_YAML: &str = "\
apiVersion: edgecore.config.kubeedge.io/v1alpha2
kind: EdgeCore
database:
  dataSource: @FOLDER@/store/edgecore.db
modules:
  deviceTwin:
    dmiSockPath: @FOLDER@/dmi/
  eventBus:
    mqttMode: 0
    mqttServerInternal: tcp://127.0.0.1:@BROKER@
  edgeHub:
    tlsCaFile: @FOLDER@/certs/rootCA.crt
    tlsCertFile: @FOLDER@/certs/server.crt
    tlsPrivateKeyFile: @FOLDER@/certs/server.key
    httpServer: https://@HTTPS@
    websocket: { server: @HUB@ }
    token: @TOKEN@
  edged:
    hostnameOverride: @NAME@
    rootDirectory: @PODS@/kubelet
    tailoredKubeletConfig:
      containerRuntimeEndpoint: unix://@PODS@/c.sock
      imageServiceEndpoint: unix://@PODS@/c.sock
      podLogsDir: @PODS@/pods
      staticPodPath: @FOLDER@/manifests
      imageGCHighThresholdPercent: 100
      evictionHard:
        nodefs.available: 0%
        nodefs.inodesFree: 0%
        imagefs.available: 0%
        imagefs.inodesFree: 0%
";

/// The agent's own time to stop its modules in order.
const STOP: Duration = Duration::from_secs(30);

/// A running agent and its folder; both go when it is dropped.
#[derive(Debug)]
pub(super) struct Node {
    agent: Child,
    command_line: String,
    config: String,
    broker: u16,
    edgectl: PathBuf,
    folder: PathBuf,
}

/// One module as `edgectl status -o json` shows it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) pid: Option<u64>,
    pub(super) last_exit: Option<String>,
    /// When the demonstration first saw this process.
    pub(super) first_seen: Instant,
}

impl Seen {
    fn of(module: &Value) -> Option<Self> {
        Some(Self {
            name: module["name"].as_str()?.to_owned(),
            state: module["state"].as_str()?.to_owned(),
            pid: module["pid"].as_u64(),
            last_exit: module["lastExit"]["reason"].as_str().map(str::to_owned),
            first_seen: Instant::now(),
        })
    }

    pub(super) fn runs(&self) -> bool {
        self.state == "running"
    }

    pub(super) fn shown_pid(&self) -> String {
        self.pid.map_or_else(|| "none".to_owned(), |pid| pid.to_string())
    }
}

impl Node {
    /// Starts the agent of the programs in `release`, which is to join this cloud. What pods have is
    /// in `pods`, also their runtime's socket; nothing where there is none.
    pub(super) fn start(release: &Path, cloud: &Cloud, pods: Option<&Path>) -> Result<Self> {
        let folder = env::temp_dir().join(format!("edgecore-demo-{}", process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let broker = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let places = [
            ("@FOLDER@", folder.to_string_lossy()),
            ("@PODS@", pods.unwrap_or(&folder).to_string_lossy()),
            ("@HUB@", cloud.hub.as_str().into()),
            ("@HTTPS@", cloud.https.as_str().into()),
            ("@TOKEN@", cloud.token.as_str().into()),
            ("@NAME@", NAME.into()),
            ("@BROKER@", broker.to_string().into()),
        ];
        let edgecore = places
            .iter()
            .fold(EDGECORE_YAML.to_owned(), |text, (place, value)| text.replace(place, value));
        let started = Self::start_in(&folder, release, &edgecore, broker);
        if started.is_err() {
            remove(&folder);
        }
        started
    }

    fn start_in(folder: &Path, release: &Path, edgecore: &str, broker: u16) -> Result<Self> {
        let config = folder.join("edgecore.yaml");
        let supervisor_config = folder.join("supervisor.yaml");
        fs::write(&config, edgecore)?;
        fs::write(&supervisor_config, SUPERVISOR_YAML)?;
        let mut command = Command::new(release.join("edgecore"));
        command
            .arg("--config")
            .arg(&config)
            .arg("--supervisor-config")
            .arg(supervisor_config)
            .arg("--runtime-dir")
            .arg(folder.join("run"));
        let words = command.get_args().map(|word| word.to_string_lossy()).collect::<Vec<_>>();
        let command_line = format!("edgecore {}", words.join(" "));
        let agent = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("edgecore.log"))?)
            // out of the terminal's foreground group: Ctrl-C is for the demonstration alone
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", release.join("edgecore").display()))?;
        let edgectl = release.join("edgectl");
        let config = config.to_string_lossy().into_owned();
        Ok(Self { agent, command_line, config, broker, edgectl, folder: folder.to_owned() })
    }

    /// Returns the command line that started the agent.
    pub(super) fn command_line(&self) -> &str {
        &self.command_line
    }

    /// Returns the path of edgecore.yaml.
    pub(super) fn config(&self) -> &str {
        &self.config
    }

    /// Returns the port of the node's own MQTT broker.
    pub(super) const fn broker(&self) -> u16 {
        self.broker
    }

    /// Returns the beginning of each edgectl command line for this node.
    pub(super) fn edgectl_line(&self) -> String {
        format!("{} --runtime-dir {}", self.edgectl.display(), self.folder.join("run").display())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.edgectl);
        command.arg("--runtime-dir").arg(self.folder.join("run")).args(arguments);
        // a Ctrl-C must not cut a command short either
        command.process_group(0).stdin(Stdio::null());
        command
    }

    /// Runs edgectl before the user's eyes.
    pub(super) fn show(&self, arguments: &[&str]) -> Result<()> {
        let status = self.command(arguments).status().context("cannot run edgectl")?;
        if !status.success() {
            bail!("edgectl {} ended with {status}", arguments.join(" "));
        }
        Ok(())
    }

    /// Runs edgectl and returns what it says.
    pub(super) fn edgectl(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let output = self.command(arguments).output().context("cannot run edgectl")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("edgectl {} ended with {}: {said}", arguments.join(" "), output.status);
        }
        Ok(output.stdout)
    }

    /// Returns the modules as they are now.
    pub(super) fn look(&self) -> Result<Vec<Seen>> {
        let status: Value = serde_json::from_slice(&self.edgectl(&["status", "-o", "json"])?)
            .context("edgectl status -o json wrote no JSON")?;
        let modules = status["modules"].as_array().map_or(&[][..], Vec::as_slice);
        let seen = modules.iter().map(Seen::of).collect::<Option<Vec<_>>>();
        seen.filter(|seen| !seen.is_empty()).context("edgectl status -o json shows no modules")
    }

    /// Returns the end of the agent's log, for a failure's message.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.join("edgecore.log")).unwrap_or_default();
        let lines = log.lines().collect::<Vec<_>>();
        let tail = &lines[lines.len().saturating_sub(20)..];
        if tail.is_empty() {
            String::new()
        } else {
            format!("; its log ends:\n{}\n", tail.join("\n"))
        }
    }

    /// Asks the agent to end and waits for it.
    pub(super) fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if let Some(status) = self.agent.try_wait()? {
            bail!("the agent had ended already, with {status}{}", self.last_words());
        }
        let pid = Pid::from_child(&self.agent);
        let process = pidfd_open(pid, PidfdFlags::empty()).context("cannot open a pidfd")?;
        kill_process(pid, Signal::TERM).context("cannot signal the agent")?;
        let ready =
            poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&Timespec::try_from(STOP)?));
        if !ready.is_ok_and(|count| count > 0) {
            self.agent.kill()?;
            self.agent.wait()?;
            bail!("the agent did not end within {} s of SIGTERM", STOP.as_secs());
        }
        let status = self.agent.wait()?;
        if !status.success() {
            bail!("the agent ended with {status}{}", self.last_words());
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if matches!(self.agent.try_wait(), Ok(None)) {
            // its modules see their lifelines close, and end
            drop(self.end());
        }
        remove(&self.folder);
    }
}

/// Removes the demonstration's folder; what cannot be removed is left to the system's own cleaning
/// of temporary files.
fn remove(folder: &Path) {
    drop(fs::remove_dir_all(folder));
}
