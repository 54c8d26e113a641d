//! Node jobs of the cloud: images fetched beforehand, another configuration, another version of the
//! agent; whatever dies meanwhile.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::pods::{LONG, Node, sleeper};
use edgecore_tests::rig::registry::{LOGIN, Registry};
use edgecore_tests::rig::{Rig, SOON, Setup, wait_for, wait_until};
use ipc_proto::Module;
use minicloud::Config;
use minicloud::core::Push;
use minicloud::fault::Fault;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The version that the programs of this repository have.
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Where the program is in the images of upgrades; the test's registry has it there.
const PACKAGE: &str = "open/installation-package";

/// Has the cloud send something to the node's taskmanager.
fn push(cloud: &Cloud, resource: String, operation: &str, content: Value) -> Result<()> {
    let push = Push {
        source: "taskmanager".to_owned(),
        group: "taskmanager".to_owned(),
        operation: operation.to_owned(),
        resource,
        version: String::new(),
        content,
    };
    cloud.with(|cloud| async move { cloud.push(NODE, push).await })
}

/// Orders a job of the newer API, as the cloud does: its first step.
fn order(cloud: &Cloud, kind: &str, job: &str, spec: Value) -> Result<()> {
    push(cloud, format!("operations.kubeedge.io/v1alpha2/{kind}/{job}/node/{NODE}"), "Check", spec)
}

/// Returns what the node reported about a resource.
fn reports(cloud: &Cloud, resource: &str) -> Result<Vec<Value>> {
    let received = cloud.with(|cloud| async move { cloud.received(0).await })?;
    let about = received.iter().filter(|it| it.message.route.resource.to_string() == resource);
    about.map(|it| Ok(it.message.content.decode::<Value>()?)).collect()
}

/// Waits for a job's report about a step, and returns it.
fn wait_step(cloud: &Cloud, kind: &str, job: &str, step: &str) -> Result<Value> {
    let resource = format!("operations.kubeedge.io/v1alpha2/{kind}/{job}/node/{NODE}");
    wait_for(&format!("{job} reports {step}"), LONG, || {
        let all = reports(cloud, &resource).ok()?;
        all.into_iter().rev().find(|it| it["action"] == step)
    })
    .with_context(|| format!("{:?}", reports(cloud, &resource)))
}

/// Returns a job's steps and whether they worked, each once.
fn steps(cloud: &Cloud, kind: &str, job: &str) -> Result<Vec<(String, bool)>> {
    let resource = format!("operations.kubeedge.io/v1alpha2/{kind}/{job}/node/{NODE}");
    let mut steps: Vec<(String, bool)> = Vec::new();
    for report in reports(cloud, &resource)? {
        let step = report["action"].as_str().context("a step has a name")?.to_owned();
        let step = (step, report["succ"] == true);
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    Ok(steps)
}

fn way(steps: &[(&str, bool)]) -> Vec<(String, bool)> {
    steps.iter().map(|(step, worked)| ((*step).to_owned(), *worked)).collect()
}

/// Starts a node that has pods and takes jobs; nothing where the machine cannot run pods.
fn with_pods(change: impl FnOnce(&mut Setup)) -> Result<Option<Node>> {
    Node::start_with(|setup| {
        setup.supervisor["modules"]["taskmanager"]["enabled"] = true.into();
        change(setup);
    })
}

#[test]
fn images_are_there_before_the_pods() -> Result<()> {
    let Some(node) = with_pods(|_| {})? else { return Ok(()) };
    let registry = Registry::start(node.containerd.path())?;
    let name = registry.name();
    let auth = json!({"auths": {name.as_str(): {"auth": BASE64.encode(LOGIN.as_bytes())}}});
    node.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "login", "namespace": "default"},
        "data": {".dockerconfigjson": BASE64.encode(auth.to_string().as_bytes())},
    }))?;
    let kind = "imageprepulljob";
    let (open, closed) = (format!("{name}/open/box:1"), format!("{name}/closed/box:1"));
    let template = |images: &[&str]| {
        json!({"imagePrePullTemplate": {"images": images, "imageSecrets": "default/login",
            "nodeNames": [NODE], "retryTimes": 1, "timeoutSeconds": 60}})
    };
    order(&node.cloud, kind, "good", template(&[&open, &closed]))?;
    let pulled = wait_step(&node.cloud, kind, "good", "Pull")?;
    let images: Value = serde_json::from_str(pulled["extend"].as_str().unwrap_or_default())?;
    ensure!(pulled["succ"] == true && images[0]["image"] == open, "{pulled}");
    ensure!(images[0]["status"] == "True" && images[1]["status"] == "True", "{pulled}");
    assert_eq!(steps(&node.cloud, kind, "good")?, way(&[("Check", true), ("Pull", true)]));

    // What is no image, or not there, says so and hinders no other.
    let hostile = "a/b:1; touch /pwned";
    order(&node.cloud, kind, "mixed", template(&[hostile, &format!("{name}/open/none:7"), &open]))?;
    let pulled = wait_step(&node.cloud, kind, "mixed", "Pull")?;
    let images: Value = serde_json::from_str(pulled["extend"].as_str().unwrap_or_default())?;
    ensure!(pulled["succ"] == false && images[2]["status"] == "True", "{pulled}");
    let reason = |index: usize| images[index]["reason"].as_str().unwrap_or_default().to_owned();
    ensure!(reason(0).contains("invalid image") && reason(1).contains("not found"), "{pulled}");

    // The older API: the cloud orders each step.
    for (state, item, event) in [
        ("Init", json!({}), "Init"),
        ("Checking", json!({"CheckItem": []}), "Check"),
        ("Pulling", json!({"Images": [open], "Secret": "", "RetryTimes": 0}), "Pull"),
    ] {
        let content = json!({"TaskID": "p", "Type": "prepull", "State": state, "Item": item});
        push(&node.cloud, format!("prepull/p/node/{NODE}"), "prepull", content)?;
        let told = wait_for(event, LONG, || {
            let told = reports(&node.cloud, &format!("task/p/node/{NODE}")).ok()?;
            told.into_iter().find(|it| it["Event"] == event)
        })?;
        ensure!(told["Action"] == "Success" && told["NodeName"] == NODE, "{told}");
    }
    Ok(())
}

#[test]
fn a_pull_outlives_edged_and_taskmanager() -> Result<()> {
    let Some(node) = with_pods(|_| {})? else { return Ok(()) };
    let registry = Registry::start(node.containerd.path())?;
    let images: Vec<String> =
        (0..20).map(|number| format!("{}/open/box{number}:1", registry.name())).collect();
    let spec = json!({"imagePrePullTemplate": {"images": images}});
    order(&node.cloud, "imageprepulljob", "many", spec)?;
    wait_step(&node.cloud, "imageprepulljob", "many", "Check")?;
    for module in [Module::Edged, Module::Taskmanager] {
        let old = node.rig.pid_of(module)?;
        node.rig.signal(module, Signal::KILL)?;
        node.rig.wait_until_back(module, old)?;
    }
    let pulled = wait_step(&node.cloud, "imageprepulljob", "many", "Pull")?;
    ensure!(pulled["succ"] == true, "{pulled}\n{}", node.rig.module_log(Module::Taskmanager));
    Ok(())
}

/// A node without pods that takes jobs, and its cloud.
struct Place {
    rig: Rig,
    cloud: Cloud,
}

impl Place {
    fn new() -> Result<Self> {
        let cloud = Cloud::start(Config::default())?;
        let mut setup = Setup::new()?;
        let own = rustix::process::geteuid().as_raw();
        setup = setup.with(json!({"modules": {"edgehub": {"user": own}}}));
        for module in Module::ALL {
            let wanted = [Module::Metamanager, Module::Edgehub, Module::Taskmanager];
            let enabled = wanted.contains(&module);
            setup = setup.with(json!({"modules": {module.name(): {"enabled": enabled}}}));
        }
        cloud.lead(&mut setup);
        let rig = setup.start()?;
        wait_until("the node joins", SOON, || cloud.session().is_ok_and(|it| it > 0))?;
        Ok(Self { rig, cloud })
    }

    fn file(&self) -> PathBuf {
        self.rig.setup().folder.path().join("edgecore.yaml")
    }

    fn configuration(&self) -> Result<Value> {
        Ok(serde_json::from_str(&fs::read_to_string(self.file())?)?)
    }

    fn order(&self, job: &str, fields: &Value) -> Result<()> {
        let spec = json!({"nodeNames": [NODE], "updateFields": fields, "timeoutSeconds": 20});
        order(&self.cloud, CONFIG, job, spec)
    }

    /// Waits until a job's last step is told, and returns all of them.
    fn end(&self, job: &str, step: &str) -> Result<Vec<(String, bool)>> {
        wait_step(&self.cloud, CONFIG, job, step)
            .with_context(|| self.rig.module_log(Module::Taskmanager))?;
        steps(&self.cloud, CONFIG, job)
    }
}

const CONFIG: &str = "configupdatejob";

#[test]
fn a_configuration_is_changed_and_taken_only_when_the_link_comes_back() -> Result<()> {
    let place = Place::new()?;
    let before = place.configuration()?;
    let hub = place.rig.pid_of(Module::Edgehub)?;
    place.order("good", &json!({"modules.edgeHub.heartbeat": "7"}))?;
    let good = way(&[("Check", true), ("BackUp", true), ("Update", true)]);
    assert_eq!(place.end("good", "Update")?, good);
    let after = place.configuration()?;
    assert_eq!(after["modules"]["edgeHub"]["heartbeat"], 7);
    assert_eq!(after["modules"]["edgeHub"]["websocket"], before["modules"]["edgeHub"]["websocket"]);
    ensure!(place.rig.pid_of(Module::Edgehub)? != hub, "edgehub takes the new configuration");

    // What does not make sense never gets into the file.
    for (job, fields, why) in [
        ("unknown", json!({"modules.edgeHub.hartbeat": "7"}), "there is no key 'hartbeat'"),
        ("wrong", json!({"modules.edgeHub.heartbeat": "often"}), "expected"),
        ("shell", json!({"modules.edgeHub.$(reboot)": "7"}), "words with dots"),
        ("own", json!({"modules.taskManager.enable": "false"}), "not for jobs"),
    ] {
        place.order(job, &fields)?;
        let report = wait_step(&place.cloud, CONFIG, job, "Check")?;
        let reason = report["reason"].as_str().unwrap_or_default();
        ensure!(report["succ"] == false && reason.contains(why), "{report}");
    }
    assert_eq!(place.configuration()?, after);

    // A place where no cloud is: the node comes back to where it was.
    place.order("away", &json!({"modules.edgeHub.websocket.server": "127.0.0.1:1"}))?;
    let way_back = way(&[("Check", true), ("BackUp", true), ("Update", false), ("RollBack", true)]);
    assert_eq!(place.end("away", "RollBack")?, way_back);
    assert_eq!(place.configuration()?, after);
    Ok(())
}

#[test]
fn a_configuration_job_goes_on_over_deaths() -> Result<()> {
    let place = Place::new()?;
    for (number, step) in ["Check", "BackUp"].into_iter().enumerate() {
        let job = format!("job{number}");
        let heartbeat = 20 + number;
        place.order(&job, &json!({"modules.edgeHub.heartbeat": heartbeat.to_string()}))?;
        wait_step(&place.cloud, CONFIG, &job, step)?;
        let old = place.rig.pid_of(Module::Taskmanager)?;
        place.rig.signal(Module::Taskmanager, Signal::KILL)?;
        place.rig.wait_until_back(Module::Taskmanager, old)?;
        let end = place.end(&job, "Update")?;
        assert_eq!(end, way(&[("Check", true), ("BackUp", true), ("Update", true)]));
        assert_eq!(place.configuration()?["modules"]["edgeHub"]["heartbeat"], heartbeat);
    }
    Ok(())
}

const UPGRADE: &str = "nodeupgradejob";

/// A node with pods whose program may be replaced, and a registry with new ones.
struct Plant {
    node: Node,
    registry: Registry,
}

impl Plant {
    /// Starts one; nothing where the machine cannot run pods. The registry has our own program under
    /// its version, and others under the tags given.
    fn new(others: &[(&str, &str)]) -> Result<Option<Self>> {
        let Some(node) = with_pods(|setup| {
            let folder = setup.folder.path().join("bin");
            let copy = folder.join("edgecore");
            fs::create_dir(&folder).and_then(|()| fs::copy(&setup.program, &copy)).expect("a copy");
            setup.program = copy;
            setup.supervisor["modules"]["metaserver"]["enabled"] = true.into();
            let server = &mut setup.edgecore["modules"]["metaManager"]["metaServer"];
            (server["enable"], server["dummyServer"]) = (true.into(), "".into());
        })?
        else {
            return Ok(None);
        };
        let scripts = tempfile::tempdir()?;
        let mut programs = vec![(VERSION.to_owned(), node.rig.setup().program.clone())];
        for (tag, script) in others {
            let file = scripts.path().join(tag);
            fs::write(&file, script)?;
            programs.push(((*tag).to_owned(), file));
        }
        let programs: Vec<(&str, &Path)> =
            programs.iter().map(|(tag, file)| (tag.as_str(), file.as_path())).collect();
        let registry = Registry::start_with(node.containerd.path(), &programs)?;
        Ok(Some(Self { node, registry }))
    }

    fn order(&self, job: &str, version: &str, more: Value) -> Result<()> {
        let image = format!("{}/{PACKAGE}", self.registry.name());
        let mut spec = json!({"version": version, "image": image, "timeoutSeconds": 40});
        if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
            spec.extend(more);
        }
        order(&self.node.cloud, UPGRADE, job, spec)
    }

    fn wait(&self, job: &str, step: &str) -> Result<Value> {
        wait_step(&self.node.cloud, UPGRADE, job, step).with_context(|| {
            format!("{}\n{}", self.node.rig.module_log(Module::Taskmanager), self.node.rig.log())
        })
    }

    fn steps(&self, job: &str) -> Result<Vec<(String, bool)>> {
        steps(&self.node.cloud, UPGRADE, job)
    }

    /// Returns the file that is installed, by its number.
    fn installed(&self) -> Result<u64> {
        Ok(fs::metadata(&self.node.rig.setup().program)?.ino())
    }

    /// Tells which file the supervisor runs, by its number.
    fn running(&self) -> Result<u64> {
        let pid = self.node.rig.supervisor_pid();
        Ok(fs::metadata(format!("/proc/{pid}/exe"))?.ino())
    }

    /// Waits until the supervisor and all modules run the program that is installed, and nothing is
    /// left beside it.
    fn wait_until_at_rest(&self) -> Result<()> {
        let folder = self.node.rig.setup().program.with_file_name("");
        wait_until("the installed program runs, alone", LONG, || {
            let alone = fs::read_dir(&folder).is_ok_and(|all| all.count() == 1);
            alone && self.installed().ok() == self.running().ok()
        })
        .with_context(|| self.node.rig.log())?;
        self.node.rig.wait_until_whole()?;
        Ok(())
    }
}

#[test]
fn another_version_is_tried_and_installed_and_no_container_notices() -> Result<()> {
    let Some(plant) = Plant::new(&[])? else { return Ok(()) };
    let rig = &plant.node.rig;
    plant.node.apply(sleeper("web"))?;
    let pod = plant.node.wait_pod_ready("web")?;
    let (old, supervisor) = (plant.installed()?, rig.supervisor_pid());
    let said = rig.edgectl(&["confirm-upgrade"])?;
    ensure!(said.code == 1 && said.err.contains("no upgrade waits"), "{said:?}");

    let machine = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let digest = json!({machine: plant.registry.digest(VERSION)});
    plant.order("u", VERSION, json!({"requireConfirmation": true, "imageDigestGatter": digest}))?;
    plant.wait("u", "WaitingConfirmation")?;
    assert_eq!(plant.installed()?, old, "nobody has agreed yet");
    let confirmed = rig.edgectl(&["confirm-upgrade"])?;
    ensure!(confirmed.code == 0, "{confirmed:?}");
    let report = plant.wait("u", "Upgrade")?;
    ensure!(report["succ"] == true, "{report}\n{}", rig.module_log(Module::Taskmanager));
    assert_eq!(report["extend"], format!("{VERSION},{VERSION}"));
    let names = ["Check", "WaitingConfirmation", "BackUp", "Upgrade"].map(|step| (step, true));
    assert_eq!(plant.steps("u")?, way(&names));
    plant.wait_until_at_rest()?;
    ensure!(plant.installed()? != old, "the new program is installed");
    assert_eq!(rig.supervisor_pid(), supervisor);
    let kept = rig.setup().folder.path().join("backup").join(VERSION);
    assert_eq!(fs::read_dir(&kept)?.count(), 2, "program and configuration are kept");
    plant.node.wait_until_ready()?;
    let after = plant.node.wait_pod_ready("web")?;
    assert_eq!(after["containerStatuses"], pod["containerStatuses"], "the container lived on");
    Ok(())
}

/// Programs that are not what they should be.
const FOREIGN: &str = "#!/bin/sh\necho 'KubeEdge v1.23.1'\n";
const BROKEN: &str = "#!/bin/sh\nexit 1\n";

#[test]
fn what_is_not_our_program_is_never_installed() -> Result<()> {
    let others = [("v7.0.1", FOREIGN), ("v7.0.2", BROKEN)];
    let Some(plant) = Plant::new(&others)? else { return Ok(()) };
    let old = plant.installed()?;
    let sum = format!("sha256:{}", "00".repeat(32));
    let digest = json!({"imageDigestGatter": {"amd64": sum, "arm64": sum, "arm": sum}});
    for (job, version, more, why) in [
        ("foreign", "v7.0.1", json!({}), "another program"),
        ("broken", "v7.0.2", json!({}), "ended with"),
        ("missing", "v7.0.3", json!({}), "not found"),
        ("digest", VERSION, digest, "digest"),
        ("shell", "v1.2.3;reboot", json!({}), "invalid version"),
        ("image", VERSION, json!({"image": "a/b$(reboot)"}), "invalid image"),
    ] {
        plant.order(job, version, more)?;
        let report = plant.wait(job, "Check")?;
        let reason = report["reason"].as_str().unwrap_or_default();
        ensure!(report["succ"] == false && reason.contains(why), "{report}");
    }
    assert_eq!((plant.installed()?, plant.running()?), (old, old));
    Ok(())
}

#[test]
fn a_version_that_does_not_come_back_gives_way_to_the_old_one() -> Result<()> {
    let Some(plant) = Plant::new(&[])? else { return Ok(()) };
    let old = plant.installed()?;
    plant.order("u", VERSION, json!({"requireConfirmation": true}))?;
    plant.wait("u", "WaitingConfirmation")?;
    // There is no link while the version is on trial, as for one that cannot speak to the cloud.
    plant.node.cloud.fault(Fault::Restart { down_millis: 35_000 })?;
    let confirmed = plant.node.rig.edgectl(&["confirm-upgrade"])?;
    ensure!(confirmed.code == 0, "{confirmed:?}");
    let report = plant.wait("u", "RollBack")?;
    ensure!(report["succ"] == true, "{report}");
    let upgrade = plant.wait("u", "Upgrade")?;
    ensure!(upgrade["succ"] == false, "{upgrade}");
    assert_eq!(plant.installed()?, old);
    plant.wait_until_at_rest()
}

#[test]
fn a_supervisor_or_module_that_dies_on_trial_leaves_the_old_or_the_new_version() -> Result<()> {
    let Some(mut plant) = Plant::new(&[])? else { return Ok(()) };
    for (job, step) in [("one", "Check"), ("two", "BackUp")] {
        let known = [plant.installed()?, 0];
        plant.order(job, VERSION, json!({}))?;
        plant.wait(job, step)?;
        plant.node.rig.end(Signal::KILL)?;
        plant.node.rig.start_again()?;
        let upgrade = plant.wait(job, "Upgrade")?;
        if upgrade["succ"] == false {
            plant.wait(job, "RollBack")?;
            assert_eq!(plant.installed()?, known[0], "{job}");
        }
        plant.wait_until_at_rest()?;
        plant.node.wait_until_ready()?;
    }
    for (job, step) in [("three", "Check"), ("four", "BackUp")] {
        plant.order(job, VERSION, json!({}))?;
        plant.wait(job, step)?;
        plant.node.rig.signal(Module::Taskmanager, Signal::KILL)?;
        let upgrade = plant.wait(job, "Upgrade")?;
        ensure!(upgrade["succ"] == true, "{upgrade}");
        plant.wait_until_at_rest()?;
    }
    Ok(())
}
