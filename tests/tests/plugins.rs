//! Plug-ins of the node, through the shipped programs and a real container runtime: devices and
//! volumes come into containers, whatever dies; and who misbehaves hurts its own pods only.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use edgecore_tests::rig::cloud::NODE;
use edgecore_tests::rig::pods::{LONG, Node, page, pod, sleeper};
use edgecore_tests::rig::stream::Door;
use edgecore_tests::rig::{process, wait_until};
use fake_plugins::storage::NAME;
use ipc_proto::Module;
use rustix::process::Signal;
use serde_json::{Value, json};

/// A plug-in in a process of its own; it is killed when dropped.
struct PlugIn {
    words: Vec<String>,
    log: PathBuf,
    child: Child,
}

impl PlugIn {
    /// Starts one for a node; the words say which.
    fn start(node: &Node, words: &[&str]) -> Result<Self> {
        let root = node.containerd.path().join("kubelet").display().to_string();
        let log = node.containerd.path().join(format!("{}.log", words.join("-").replace('/', "_")));
        let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        all.insert(1, root);
        let child = Self::run(&all, &log)?;
        Ok(Self { words: all, log, child })
    }

    fn run(words: &[String], log: &PathBuf) -> Result<Child> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_plugin"));
        command.args(words).stdin(Stdio::null()).stdout(log);
        command.spawn().context("cannot run a plug-in")
    }

    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn start_again(&mut self) -> Result<()> {
        self.child = Self::run(&self.words, &self.log)?;
        Ok(())
    }

    /// Returns what it was asked in all its lives that begins with one of these.
    fn asked(&self, of: &[&str]) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let wanted = |line: &&str| of.iter().any(|word| line.starts_with(word));
        log.lines().filter(wanted).map(str::to_owned).collect()
    }
}

impl Drop for PlugIn {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// Returns the node as the cloud has it.
fn node_object(node: &Node) -> Option<Value> {
    let path = format!("null/node/{NODE}");
    node.cloud.with(|cloud| async move { cloud.object(&path).await }).ok()?
}

/// Waits until the cloud sees this many devices on the node, and this many that can be used.
fn wait_devices(node: &Node, resource: &str, all: &str, usable: &str) -> Result<()> {
    let seen = || {
        node_object(node).is_some_and(|object| {
            let status = &object["status"];
            status["capacity"][resource] == all && status["allocatable"][resource] == usable
        })
    };
    let what = format!("the cloud sees {usable} of {all} {resource}");
    wait_until(&what, LONG, seen).with_context(|| node.evidence())
}

fn kill_edged(node: &Node) -> Result<()> {
    process::signal(node.rig.pid_of(Module::Edged)?, Signal::KILL)
}

/// A pod that serves files on its port 80, which a script makes in `/www`.
fn server(name: &str, script: &str, file: &str) -> Value {
    let script = format!("mkdir -p /www; {script}; exec httpd -f -p 80 -h /www");
    let probe = json!({"httpGet": {"path": file, "port": 80}, "periodSeconds": 1});
    pod(
        name,
        json!({"containers": [{"name": "c", "command": ["sh", "-c", script], "readinessProbe": probe}]}),
    )
}

/// Has a pod want a device.
fn wanting(mut pod: Value, resource: &str) -> Value {
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {resource: "1"}});
    pod
}

fn address(status: &Value) -> Result<&str> {
    status["podIP"].as_str().context("no address")
}

#[test]
fn a_pod_has_its_device_whatever_dies_and_bad_plug_ins_hurt_their_own_pods() -> Result<()> {
    let Some(node) = Node::start()? else { return Ok(()) };
    let mut good = PlugIn::start(&node, &["device", "x.org/good", "good"])?;
    let mut hangs = PlugIn::start(&node, &["device", "x.org/hangs", "hangs"])?;
    let _lies = PlugIn::start(&node, &["device", "x.org/lies", "lies"])?;
    let _floods = PlugIn::start(&node, &["device", "x.org/floods", "floods"])?;
    for resource in ["x.org/good", "x.org/hangs", "x.org/lies", "x.org/floods"] {
        wait_devices(&node, resource, "2", "2")?;
    }
    let script = "{ echo $DEVICES; cat /plugin/file; echo; head -c 3 /dev/of-the-plugin | wc -c; } \
                  > /www/seen";
    node.apply(wanting(server("user", script, "/seen"), "x.org/good"))?;
    for name in ["hangs", "lies", "floods"] {
        node.apply(wanting(sleeper(name), &format!("x.org/{name}")))?;
    }
    let status = node.wait_pod_ready("user")?;
    let (ip, seen) = (address(&status)?, "two\nof the plug-in\n3\n");
    assert_eq!(page(ip, "/seen"), seen);
    node.wait_pod_ready("floods")?;
    let fails = |status: &Value, why: &str| {
        status["reason"] == "UnexpectedAdmissionError"
            && status["message"].as_str().is_some_and(|text| text.contains(why))
    };
    let why = "no containers return in allocation response";
    node.wait_pod("lies", "fails", |status| fails(status, why))?;
    wait_until("it hangs", LONG, || !hangs.asked(&["Allocate"]).is_empty())?;
    hangs.kill()?;
    node.wait_pod("hangs", "fails", |status| fails(status, "Allocate failed due to"))?;
    wait_devices(&node, "x.org/hangs", "2", "0")?;

    good.kill()?;
    wait_devices(&node, "x.org/good", "2", "0")?;
    kill_edged(&node)?;
    good.start_again()?;
    wait_devices(&node, "x.org/good", "2", "2")?;
    node.apply(wanting(sleeper("other"), "x.org/good"))?;
    node.wait_pod_ready("other")?;
    assert_eq!(good.asked(&["Allocate"]), ["Allocate two", "Allocate one"]);
    let later = node.wait_pod_ready("user")?;
    assert_eq!(later["containerStatuses"], status["containerStatuses"], "it was touched");
    assert_eq!(page(ip, "/seen"), seen);
    Ok(())
}

/// A volume, its claim, and that it is attached to the node.
fn volume(node: &Node, name: &str, mode: &str, size: &str) -> Result<()> {
    let claim = format!("{name}-claim");
    node.apply(json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "csi": {"driver": NAME, "volumeHandle": name}, "claimRef": {"name": claim},
            "accessModes": ["ReadWriteOnce"], "volumeMode": mode, "capacity": {"storage": size},
        },
    }))?;
    node.apply(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "namespace": "default"},
        "spec": {"volumeName": name, "volumeMode": mode},
        "status": {"phase": "Bound", "capacity": {"storage": "1Mi"}},
    }))
}

/// Has a pod use a volume.
fn using(mut pod: Value, name: &str, place: &str, how: &Value) -> Value {
    let claim = json!({"claimName": format!("{name}-claim")});
    pod["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": claim}]);
    pod["spec"]["containers"][0][place] = json!([how]);
    pod
}

fn pages(text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "pages", "namespace": "default"}, "data": {"TEXT": text},
    })
}

/// Waits until the cloud sees that these volumes are in use.
fn wait_in_use(node: &Node, names: &[&str]) -> Result<()> {
    let names: Vec<_> =
        names.iter().map(|name| format!("kubernetes.io/csi/{NAME}^{name}")).collect();
    let seen = || node_object(node).is_some_and(|it| it["status"]["volumesInUse"] == json!(names));
    wait_until(&format!("in use: {names:?}"), LONG, seen).with_context(|| node.evidence())
}

/// Makes a volume larger, and waits until its driver was asked to make use of it.
fn grow(node: &Node, driver: &PlugIn) -> Result<()> {
    volume(node, "files", "Filesystem", "2Mi")?;
    let mut number = 0;
    let grown = || {
        // The pod looks at all that it refers to when something of it changes.
        number += 1;
        node.apply(pages(&number.to_string())).is_ok()
            && driver.asked(&["expand"]) == ["expand files 2097152"]
    };
    wait_until("the volume grows", LONG, grown).with_context(|| node.evidence())
}

/// Checks that the node's API tells how large the volume is.
fn check_told(node: &Node) -> Result<()> {
    let api = Door::of_node(node.rig.setup().api);
    let told = "kubelet_volume_stats_capacity_bytes{namespace=\"default\",\
                persistentvolumeclaim=\"files-claim\"} 2097152";
    wait_until("it is told how large it is", LONG, || {
        api.page("/metrics").is_ok_and(|page| page.contains(told))
    })?;
    let page = api.page("/stats/summary")?;
    let (_, body) = page.split_once("\r\n\r\n").context("no body")?;
    let summary: Value = serde_json::from_str(body).with_context(|| body.to_owned())?;
    let pods = summary["pods"].as_array().context("no pods")?;
    let mut volumes = pods.iter().filter_map(|it| it["volume"].as_array()).flatten();
    let found = volumes.find(|it| it["pvcRef"]["name"] == "files-claim");
    let found = found.with_context(|| format!("{summary:#}"))?;
    assert_eq!((&found["name"], &found["capacityBytes"]), (&json!("v"), &json!(2 << 20)));
    Ok(())
}

/// A pod that writes into a volume, and one that has another as a device.
fn users() -> [Value; 2] {
    let mount = json!({"name": "v", "mountPath": "/www"});
    let writer = server("writer", "echo word > /www/word", "/word");
    let mut writer = using(writer, "files", "volumeMounts", &mount);
    writer["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "pages"}}]);
    let device = json!({"name": "v", "devicePath": "/dev/volume"});
    let holder = server("holder", "stat -c %t:%T /dev/volume > /www/kind", "/kind");
    [writer, using(holder, "raw", "volumeDevices", &device)]
}

#[test]
fn a_driver_s_volumes_come_grow_and_go_whatever_dies() -> Result<()> {
    let Some(node) = Node::start()? else { return Ok(()) };
    let mut driver = PlugIn::start(&node, &["storage"])?;
    let named = || {
        let object = node_object(&node).unwrap_or_default();
        let ids = &object["metadata"]["annotations"]["csi.volume.kubernetes.io/nodeid"];
        ids.as_str().is_some_and(|ids| ids.contains("memory-of-n"))
    };
    wait_until("the cloud knows the driver", LONG, named).with_context(|| node.evidence())?;
    node.apply(pages("0"))?;
    volume(&node, "files", "Filesystem", "1Mi")?;
    volume(&node, "raw", "Block", "1Mi")?;
    for user in users() {
        node.apply(user)?;
    }
    let (writer, holder) = (node.wait_pod_ready("writer")?, node.wait_pod_ready("holder")?);
    assert_eq!(page(address(&writer)?, "/word"), "word\n");
    assert_eq!(page(address(&holder)?, "/kind"), "7:0\n");
    wait_in_use(&node, &["files", "raw"])?;

    driver.kill()?;
    kill_edged(&node)?;
    driver.start_again()?;
    grow(&node, &driver)?;
    check_told(&node)?;
    assert_eq!(driver.asked(&["stage", "publish"]).len(), 4, "something was done twice");
    let later = node.wait_pod_ready("writer")?;
    assert_eq!(later["containerStatuses"], writer["containerStatuses"], "it was touched");

    node.delete("holder")?;
    node.wait_pod_gone("holder")?;
    wait_in_use(&node, &["files"])?;
    driver.kill()?;
    node.delete("writer")?;
    let waits =
        || node.rig.module_log(Module::Edged).contains("cannot remove the volumes of a pod");
    wait_until("the pod waits for its driver", LONG, waits)?;
    driver.start_again()?;
    node.wait_pod_gone("writer")?;
    node.wait_until_clean()?;
    wait_in_use(&node, &[])?;
    let mut last = driver.asked(&["un"]);
    last.sort();
    assert_eq!(last, ["unpublish files", "unpublish raw", "unstage files", "unstage raw"]);
    Ok(())
}
