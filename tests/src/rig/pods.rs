//! A whole node with pods: a cloud, the shipped agent, and a containerd of its own.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipc_proto::Module;
use minicloud::Config;
use minicloud::fault::Fault;
use private_containerd::{Containerd, IMAGE, Lack};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::cloud::{Cloud, NODE};
use super::cri::Cri;
use super::privilege::had_or_skip;
use super::{Rig, Setup, wait_for};

/// How long anything may take that containers are part of. Wide: a busy machine with two cores
/// starts twenty of them at once.
pub const LONG: Duration = Duration::from_secs(120);

/// The modules that take part; the others are off.
const PRESENT: [Module; 3] = [Module::Metamanager, Module::Edgehub, Module::Edged];

/// The node. Its parts end in this order.
#[derive(Debug)]
pub struct Node {
    /// The agent.
    pub rig: Rig,
    /// The cloud that it joined.
    pub cloud: Cloud,
    /// The container runtime, from the test's side.
    pub cri: Cri,
    /// The container runtime; the pods' folders are in its folder and go with it.
    pub containerd: Containerd,
}

/// Tells whether this machine can run pods; says what it lacks.
///
/// # Errors
/// In CI (`CI=true`), where a test that cannot run is a failure.
pub fn can_run_or_skip() -> Result<bool> {
    let lacks: Vec<_> = private_containerd::lacks().iter().map(Lack::to_string).collect();
    had_or_skip(lacks.is_empty(), &lacks.join(", "))
}

impl Node {
    /// Starts a node and waits until its cloud finds it ready. Nothing where the machine cannot run
    /// pods.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start() -> Result<Option<Self>> {
        Self::start_with(|_| {})
    }

    /// Starts a node whose configuration `change` had its hands on.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_with(change: impl FnOnce(&mut Setup)) -> Result<Option<Self>> {
        if !can_run_or_skip()? {
            return Ok(None);
        }
        let containerd = Containerd::start()?;
        let node = Self::launch(containerd, change)?;
        node.wait_until_ready()?;
        Ok(Some(node))
    }

    /// Starts a node on this containerd, which may be dead, and waits until its modules run.
    ///
    /// # Errors
    /// When they do not.
    pub fn launch(containerd: Containerd, change: impl FnOnce(&mut Setup)) -> Result<Self> {
        let cloud = Cloud::start(Config::default())?;
        let mut setup = Setup::new()?;
        // It writes its certificates into the test's own folder.
        let own = rustix::process::geteuid().as_raw();
        setup = setup.with(json!({"modules": {"edgehub": {"user": own}}}));
        setup = setup.with(json!({"restart": {"stableAfter": "1ms"}}));
        for module in Module::ALL {
            let enabled = PRESENT.contains(&module);
            setup = setup.with(json!({"modules": {module.name(): {"enabled": enabled}}}));
        }
        let runtime = format!("unix://{}", containerd.socket().display());
        let edged = &mut setup.edgecore["modules"]["edged"];
        edged["rootDirectory"] = json!(containerd.path().join("kubelet"));
        let kubelet = &mut edged["tailoredKubeletConfig"];
        kubelet["containerRuntimeEndpoint"] = json!(runtime);
        kubelet["imageServiceEndpoint"] = json!(runtime);
        kubelet["podLogsDir"] = json!(containerd.path().join("pods"));
        kubelet["cgroupRoot"] = json!(private_containerd::group(containerd.path()));
        cloud.lead(&mut setup);
        change(&mut setup);
        let cri = Cri::new(containerd.socket())?;
        Ok(Self { rig: setup.start()?, cloud, cri, containerd })
    }

    /// Waits until the cloud finds the node ready.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_until_ready(&self) -> Result<()> {
        let ready = self.cloud.with(|cloud| async move { cloud.wait_ready(LONG, NODE).await });
        ready.with_context(|| self.evidence())
    }

    /// Reboots the machine while the cloud is away for an hour: what lives in memory is gone.
    /// Returns when the container runtime was up again; the agent is started right behind it.
    ///
    /// # Errors
    /// When one of them cannot be ended or started.
    pub fn reboot_without_cloud(&mut self) -> Result<Instant> {
        let away = Fault::Restart { down_millis: 3_600_000 };
        self.cloud.with(|cloud| async move { cloud.fault(None, away).await })?;
        self.rig.end(Signal::KILL)?;
        self.containerd.reboot()?;
        fs::remove_dir_all(self.rig.runtime_dir())?;
        self.containerd.start_again()?;
        let up = Instant::now();
        self.rig.start_again()?;
        Ok(up)
    }

    /// Makes an object what is given, as `kubectl apply` would.
    ///
    /// # Errors
    /// When the cloud refuses it.
    pub fn apply(&self, object: Value) -> Result<()> {
        self.cloud.with(|cloud| async move { cloud.apply(object).await }).map(drop)
    }

    /// Deletes a pod, as `kubectl delete` would.
    ///
    /// # Errors
    /// When there is none such.
    pub fn delete(&self, pod: &str) -> Result<()> {
        let path = path(pod);
        self.cloud.with(|cloud| async move { cloud.delete(&path, false).await })
    }

    /// Returns a pod as the cloud has it.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub fn pod(&self, pod: &str) -> Result<Option<Value>> {
        let path = path(pod);
        self.cloud.with(|cloud| async move { cloud.object(&path).await })
    }

    /// Waits until a pod is in the cloud's eyes as wanted, and returns its status.
    ///
    /// # Errors
    /// When that takes too long; what is known stands in the text.
    pub fn wait_pod(
        &self,
        pod: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let found = wait_for(&format!("{pod} {what}"), LONG, || {
            let status = self.pod(pod).ok()??["status"].take();
            wanted(&status).then_some(status)
        });
        found.with_context(|| {
            let pod = self.pod(pod).ok().flatten().unwrap_or_default();
            format!("status: {:#}\n{}", pod["status"], self.evidence())
        })
    }

    /// Waits until a pod is ready.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn wait_pod_ready(&self, pod: &str) -> Result<Value> {
        self.wait_pod(pod, "is ready", |status| condition(status, "Ready") == "True")
    }

    /// Waits until the cloud has a pod no more.
    ///
    /// # Errors
    /// When it still has it.
    pub fn wait_pod_gone(&self, pod: &str) -> Result<()> {
        wait_for(&format!("{pod} is gone"), LONG, || self.pod(pod).ok()?.is_none().then_some(()))
            .with_context(|| self.evidence())
    }

    /// Waits until nothing is left on the host: no container, namespace, mount, address or folder.
    ///
    /// # Errors
    /// When something stays; the text says what.
    pub fn wait_until_clean(&self) -> Result<()> {
        let mut left = String::new();
        let clean = wait_for("nothing is left of the pods", LONG, || {
            left = self.left().unwrap_or_else(|error| format!("{error:#}"));
            left.is_empty().then_some(())
        });
        clean.with_context(|| format!("left: {left}\n{}", self.evidence()))
    }

    /// Says what is left of pods on the host.
    fn left(&self) -> Result<String> {
        let mut left = String::new();
        let (sandboxes, containers) = self.cri.list()?;
        for id in sandboxes.iter().map(|it| &it.id).chain(containers.iter().map(|it| &it.id)) {
            write!(left, "{id} in the runtime; ")?;
        }
        let host = self.containerd.leftovers()?;
        if !host.is_empty() {
            write!(left, "{host:?}; ")?;
        }
        for folder in ["kubelet/pods", "pods"] {
            let folder = self.containerd.path().join(folder);
            for entry in folder.read_dir().into_iter().flatten() {
                write!(left, "{}; ", entry?.path().display())?;
            }
        }
        Ok(left)
    }

    /// Returns the folder of a pod's volumes and files.
    ///
    /// # Errors
    /// When the cloud has no such pod.
    pub fn folder(&self, pod: &str) -> Result<PathBuf> {
        let object = self.pod(pod)?.with_context(|| format!("the cloud has no pod {pod}"))?;
        let uid = object["metadata"]["uid"].as_str().context("a pod without a uid")?;
        Ok(self.containerd.path().join("kubelet/pods").join(uid))
    }

    /// Tells what is known, for the message of a failure.
    #[must_use]
    pub fn evidence(&self) -> String {
        let mut evidence = String::new();
        for module in PRESENT {
            let log = self.rig.module_log(module);
            let lines: Vec<_> = log.lines().collect();
            let end = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n");
            let report = self.rig.module(module).ok().and_then(|module| module.report);
            // Writing to a string cannot fail.
            writeln!(evidence, "{module}: {report:?}\n{end}").ok();
        }
        evidence
    }
}

fn path(pod: &str) -> String {
    format!("default/pod/{pod}")
}

/// Makes a pod of this node; each container that says no image gets the local one.
#[must_use]
pub fn pod(name: &str, mut spec: Value) -> Value {
    spec["nodeName"] = NODE.into();
    if spec["terminationGracePeriodSeconds"].is_null() {
        spec["terminationGracePeriodSeconds"] = 1.into();
    }
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            if container["image"].is_null() {
                container["image"] = IMAGE.into();
            }
            if container["imagePullPolicy"].is_null() {
                container["imagePullPolicy"] = "IfNotPresent".into();
            }
        }
    }
    // A list that was only looked for is not to be sent.
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    })
}

/// Makes a pod with one container that sleeps.
#[must_use]
pub fn sleeper(name: &str) -> Value {
    pod(name, json!({"containers": [{"name": "c", "command": ["sleep", "1000000"]}]}))
}

/// Returns the status of one of a pod's conditions: `True`, `False` or nothing.
#[must_use]
pub fn condition<'a>(status: &'a Value, kind: &str) -> &'a str {
    let all = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let one = all.iter().find(|condition| condition["type"] == kind);
    one.and_then(|condition| condition["status"].as_str()).unwrap_or_default()
}

/// Fetches a page over HTTP; empty where nobody serves it.
#[must_use]
pub fn page(address: &str, path: &str) -> String {
    let fetch = || -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&format!("{address}:80").parse()?, LONG)?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
        Ok(if head.contains(" 200 ") { body.to_owned() } else { String::new() })
    };
    fetch().unwrap_or_default()
}
