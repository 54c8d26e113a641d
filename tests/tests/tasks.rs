//! Node jobs of the cloud: images fetched beforehand, another configuration, another version of the
//! agent; whatever dies meanwhile.

#[path = "tasks/killed.rs"]
mod killed;
#[path = "tasks/orders.rs"]
mod orders;
#[path = "tasks/place.rs"]
mod place;
#[path = "tasks/plant.rs"]
mod plant;

use std::fs;

use anyhow::{Result, ensure};
use data_encoding::BASE64;
use edgecore_tests::rig::cloud::NODE;
use edgecore_tests::rig::pods::{LONG, sleeper};
use edgecore_tests::rig::registry::{LOGIN, Registry};
use edgecore_tests::rig::wait_for;
use ipc_proto::Module;
use minicloud::fault::Fault;
use rustix::process::Signal;
use serde_json::{Value, json};

use orders::{order, push, reports, steps, wait_step, way};
use place::{CONFIG, Place};
use plant::{Plant, VERSION, with_pods};

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
    let new = plant.installed()?;
    ensure!(
        new[0] != old[0] && new[1] != old[1],
        "the new programs are installed: {old:?} {new:?}"
    );
    assert_eq!(rig.supervisor_pid(), supervisor);
    let kept = rig.setup().folder.path().join("backup").join(VERSION);
    assert_eq!(fs::read_dir(&kept)?.count(), 3, "programs and configuration are kept");
    plant.node.wait_until_ready()?;
    let after = plant.node.wait_pod_ready("web")?;
    assert_eq!(after["containerStatuses"], pod["containerStatuses"], "the container lived on");
    Ok(())
}

/// Programs that are not what they should be.
const FOREIGN: &str = "#!/bin/sh\necho 'KubeEdge v1.23.1'\n";
const BROKEN: &str = "#!/bin/sh\nexit 1\n";

/// Programs of this agent, of different versions.
const OURS: &str =
    "#!/bin/sh\n[ $1 = --version ] || exec PROGRAM \"$@\"\necho KubeEdge v1+edgecore.7.0.5\n";
const OTHER: &str = "#!/bin/sh\necho edgectl 7.0.6\n";

#[test]
fn what_is_not_our_program_is_never_installed() -> Result<()> {
    let others = [
        ("v7.0.1", [FOREIGN, OTHER]),
        ("v7.0.2", [BROKEN, OTHER]),
        ("v7.0.4", [OURS, ""]),
        ("v7.0.5", [OURS, OTHER]),
    ];
    let Some(plant) = Plant::new(&others)? else { return Ok(()) };
    let old = plant.installed()?;
    let sum = format!("sha256:{}", "00".repeat(32));
    let digest = json!({"imageDigestGatter": {"amd64": sum, "arm64": sum, "arm": sum}});
    for (job, version, more, why) in [
        ("foreign", "v7.0.1", json!({}), "another program"),
        ("broken", "v7.0.2", json!({}), "ended with"),
        ("missing", "v7.0.3", json!({}), "not found"),
        ("lone", "v7.0.4", json!({}), "the image lacks one of them"),
        ("mixed", "v7.0.5", json!({}), "holds 'edgectl 7.0.6', expected 'edgectl 7.0.5'"),
        ("digest", VERSION, digest, "digest"),
        ("shell", "v1.2.3;reboot", json!({}), "invalid version"),
        ("image", VERSION, json!({"image": "a/b$(reboot)"}), "invalid image"),
    ] {
        plant.order(job, version, more)?;
        let report = plant.wait(job, "Check")?;
        let reason = report["reason"].as_str().unwrap_or_default();
        ensure!(report["succ"] == false && reason.contains(why), "{report}");
    }
    assert_eq!((plant.installed()?, plant.running()?), (old, old[0]));
    Ok(())
}

#[test]
fn a_version_that_does_not_come_back_gives_way_to_the_old_one() -> Result<()> {
    let Some(plant) = Plant::new(&[])? else { return Ok(()) };
    let old = plant.installed()?;
    let rig = &plant.node.rig;
    rig.halt_at("Upgrade begins")?;
    plant.order("u", VERSION, json!({"timeoutSeconds": 12}))?;
    rig.wait_until_halted(Module::Taskmanager)?;
    // There is no link while the version is on trial, as for one that cannot speak to the cloud.
    plant.node.cloud.fault(Fault::Restart { down_millis: 20_000 })?;
    rig.signal(Module::Taskmanager, Signal::CONT)?;
    let report = plant.wait("u", "RollBack")?;
    ensure!(report["succ"] == true, "{report}");
    let upgrade = plant.wait("u", "Upgrade")?;
    ensure!(upgrade["succ"] == false, "{upgrade}");
    assert_eq!(plant.installed()?, old);
    plant.wait_until_at_rest()
}
