//! Jobs whose processes are killed at every point of their way: taskmanager alone, or everything at
//! once, as by a power cut. Afterwards the old version or the new one runs, whole.

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::Rig;
use edgecore_tests::rig::pods::sleeper;
use edgecore_tests::rig::registry::Registry;
use ipc_proto::Module;
use rustix::process::Signal;
use serde_json::json;

use super::orders::{order, wait_step, way};
use super::place::Place;
use super::plant::{Plant, VERSION, with_pods};

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    /// taskmanager, which the supervisor starts again.
    Taskmanager,
    /// The supervisor, and all modules with it.
    All,
}

/// Kills at the point that taskmanager was to come to.
fn kill(rig: &mut Rig, victim: Victim) -> Result<()> {
    let pid = rig.wait_until_halted(Module::Taskmanager)?;
    match victim {
        Victim::Taskmanager => {
            rig.signal(Module::Taskmanager, Signal::KILL)?;
            rig.wait_until_back(Module::Taskmanager, pid)?;
        }
        Victim::All => {
            rig.end(Signal::KILL)?;
            rig.start_again()?;
        }
    }
    Ok(())
}

/// What a job comes to after a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing was changed yet, and it waits for somebody to agree.
    Waits,
    /// The new version runs.
    New,
    /// The old version runs on, and the job says that the new one did not hold.
    Old,
}

/// The points of an upgrade, and what a death there comes to: of taskmanager, of everything.
const UPGRADE: [(&str, End, End); 15] = [
    ("Check begins", End::Waits, End::Waits),
    ("cleared", End::Waits, End::Waits),
    ("in the box", End::Waits, End::Waits),
    ("fetched", End::Waits, End::Waits),
    ("Check ends", End::Waits, End::Waits),
    ("BackUp begins", End::New, End::New),
    ("BackUp ends", End::New, End::New),
    ("Upgrade begins", End::New, End::New),
    ("named", End::Old, End::Old),
    ("tried", End::New, End::Old),
    ("on trial", End::New, End::Old),
    ("proved", End::New, End::Old),
    ("installed", End::New, End::New),
    ("settled", End::New, End::New),
    ("Upgrade ends", End::New, End::New),
];

fn upgrades_are_killed(victim: Victim) -> Result<()> {
    let Some(mut plant) = Plant::new(&[])? else { return Ok(()) };
    plant.node.apply(sleeper("web"))?;
    let pod = plant.node.wait_pod_ready("web")?;
    for (number, (point, of_module, of_all)) in UPGRADE.into_iter().enumerate() {
        let end = if matches!(victim, Victim::Taskmanager) { of_module } else { of_all };
        let old = plant.installed()?;
        let job = format!("job{number}");
        plant.node.rig.halt_at(point)?;
        plant.order(&job, VERSION, json!({"requireConfirmation": end == End::Waits}))?;
        kill(&mut plant.node.rig, victim).with_context(|| point)?;
        check(&plant, &job, end, old).with_context(|| format!("killed at '{point}'"))?;
    }
    let after = plant.node.wait_pod_ready("web")?;
    assert_eq!(after["containerStatuses"], pod["containerStatuses"], "the container lived on");
    Ok(())
}

fn check(plant: &Plant, job: &str, end: End, old: [u64; 2]) -> Result<()> {
    if end == End::Waits {
        plant.wait(job, "WaitingConfirmation")?;
        ensure!((plant.installed()?, plant.running()?) == (old, old[0]), "nothing was agreed to");
        return Ok(());
    }
    let report = plant.wait(job, "Upgrade")?;
    ensure!((report["succ"] == true) == (end == End::New), "{report}");
    if end == End::Old {
        ensure!(plant.wait(job, "RollBack")?["succ"] == true, "{:?}", plant.steps(job)?);
    }
    plant.wait_until_at_rest()?;
    let new = plant.installed()?;
    let changed = [new[0] != old[0], new[1] != old[1]];
    ensure!(changed == [end == End::New; 2], "edgecore and edgectl changed: {changed:?}");
    plant.node.wait_until_ready()
}

#[test]
fn taskmanager_may_die_at_every_point_of_an_upgrade() -> Result<()> {
    upgrades_are_killed(Victim::Taskmanager)
}

#[test]
fn everything_may_die_at_every_point_of_an_upgrade() -> Result<()> {
    upgrades_are_killed(Victim::All)
}

/// Answers questions as our programs do, and ends at once as a supervisor.
const DYING: [&str; 2] = [
    "#!/bin/sh\ncase $1 in --version) echo KubeEdge v1+edgecore.7.0.7;; config) exec PROGRAM \"$@\";; \
     *) exit 1;; esac\n",
    "#!/bin/sh\necho edgectl 7.0.7\n",
];

#[test]
fn a_version_that_ends_at_once_gives_way_and_the_way_back_may_be_killed() -> Result<()> {
    let Some(mut plant) = Plant::new(&[("v7.0.7", DYING)])? else { return Ok(()) };
    let old = plant.installed()?;
    let points = [None, Some("RollBack begins"), Some("back"), Some("cleared away")];
    let victims = [Victim::Taskmanager, Victim::All];
    for (number, point) in points.into_iter().enumerate() {
        let job = format!("job{number}");
        plant.order(&job, "v7.0.7", json!({}))?;
        plant.node.rig.wait_until_ended().context("the new version ends")?;
        point.map_or(Ok(()), |point| plant.node.rig.halt_at(point))?;
        plant.node.rig.start_again()?;
        if let Some(point) = point {
            kill(&mut plant.node.rig, victims[number % 2]).with_context(|| point)?;
        }
        let report = plant.wait(&job, "Upgrade")?;
        let reason = report["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains("version v7.0.7 did not hold"), "{report}");
        check(&plant, &job, End::Old, old)?;
    }
    Ok(())
}

/// The points of a change of the configuration that works, and of one that does not.
const CHANGE: [&str; 8] = [
    "Check begins",
    "Check ends",
    "BackUp ends",
    "staged",
    "published",
    "reloaded",
    "restarted",
    "Update ends",
];
const WAY_BACK: [&str; 3] = ["RollBack begins", "put back", "RollBack ends"];

#[test]
fn a_change_of_the_configuration_outlives_deaths_at_every_point() -> Result<()> {
    let mut place = Place::new()?;
    let victims = [Victim::Taskmanager, Victim::All];
    for (number, point) in CHANGE.into_iter().enumerate() {
        for (more, victim) in victims.into_iter().enumerate() {
            let (job, heartbeat) = (format!("job{number}{more}"), 20 + 2 * number + more);
            place.rig.halt_at(point)?;
            place.order(&job, &json!({"modules.edgeHub.heartbeat": heartbeat.to_string()}))?;
            kill(&mut place.rig, victim).with_context(|| point)?;
            let end = place.end(&job, "Update").with_context(|| point)?;
            assert_eq!(end, way(&[("Check", true), ("BackUp", true), ("Update", true)]), "{point}");
            assert_eq!(place.configuration()?["modules"]["edgeHub"]["heartbeat"], heartbeat);
            place.rig.wait_until_whole()?;
        }
    }
    let before = place.configuration()?;
    for (number, point) in WAY_BACK.into_iter().enumerate() {
        let job = format!("away{number}");
        place.rig.halt_at(point)?;
        // A place where no cloud is.
        let away = json!({"modules.edgeHub.websocket.server": "127.0.0.1:1"});
        place.order_within(&job, &away, 10)?;
        kill(&mut place.rig, victims[number % 2]).with_context(|| point)?;
        let steps = [("Check", true), ("BackUp", true), ("Update", false), ("RollBack", true)];
        assert_eq!(place.end(&job, "RollBack").with_context(|| point)?, way(&steps), "{point}");
        assert_eq!(place.configuration()?, before, "{point}");
        place.rig.wait_until_whole()?;
    }
    Ok(())
}

#[test]
fn a_pull_outlives_edged_and_taskmanager() -> Result<()> {
    let Some(mut node) = with_pods(|_| {})? else { return Ok(()) };
    let registry = Registry::start(node.containerd.path())?;
    let kind = "imageprepulljob";
    let images: Vec<String> =
        (0..20).map(|number| format!("{}/open/box{number}:1", registry.name())).collect();
    let spec = json!({"imagePrePullTemplate": {"images": images}});
    order(&node.cloud, kind, "many", spec.clone())?;
    wait_step(&node.cloud, kind, "many", "Check")?;
    for module in [Module::Edged, Module::Taskmanager] {
        let old = node.rig.pid_of(module)?;
        node.rig.signal(module, Signal::KILL)?;
        node.rig.wait_until_back(module, old)?;
    }
    let pulled = wait_step(&node.cloud, kind, "many", "Pull")?;
    ensure!(pulled["succ"] == true, "{pulled}\n{}", node.rig.module_log(Module::Taskmanager));
    for (job, point) in [("begins", "Pull begins"), ("ends", "Pull ends")] {
        node.rig.halt_at(point)?;
        order(&node.cloud, kind, job, spec.clone())?;
        kill(&mut node.rig, Victim::All).with_context(|| point)?;
        ensure!(wait_step(&node.cloud, kind, job, "Pull")?["succ"] == true, "killed at '{point}'");
    }
    Ok(())
}
