//! Pods: how long the cloud waits for them beside the bare calls to the same container runtime, and
//! what the agent takes of the machine while they run.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use edged::cri::{Runtime, Trouble, words as w};
use futures_util::future::join_all;
use ipc_proto::Module;
use minicloud::core::key::Key;
use serde_json::json;

use super::footprint::cpu_over;
use super::{ROUNDS, Row};
use crate::rig::pods::{LONG, Node, sleeper};
use crate::rig::process::kib;
use crate::rig::{Setup, process, wait_until};

/// How many pods are made at once.
const CROWD: usize = 20;

/// How many pods a node has that is rebooted.
const FEW: usize = 10;

/// With how many pods the idle agent is measured, and what it may take then: memory in MiB,
/// processor time in ms a minute; and what KubeEdge's own takes.
const IDLE: [(usize, [&str; 2], [&str; 2]); 3] = [
    (0, ["≤ 14", "≤ 50"], ["87", "430"]),
    (10, ["≤ 17", "≤ 100"], ["100", "930"]),
    (50, ["≤ 25", "≤ 300"], ["114", "2140"]),
];

/// How long processor time is watched.
const SAMPLE: Duration = Duration::from_secs(20);

/// Measures; no rows where the machine cannot run pods.
pub(super) fn run() -> Result<Vec<Row>> {
    let mut rows = idle()?;
    rows.extend(creation()?);
    rows.extend(reboot()?);
    Ok(rows)
}

/// What an agent takes while its pods run and nothing happens.
fn idle() -> Result<Vec<Row>> {
    let Some(node) = Node::start_with(whole)? else { return Ok(Vec::new()) };
    let mut rows = Vec::new();
    let mut made = 0;
    for (count, [memory, time], [go_memory, go_time]) in IDLE {
        let names: Vec<_> = (made..count).map(|number| format!("idle{number}")).collect();
        make(&node, &names)?;
        made = count;
        let [used, spent] = at_rest(&node, count)?;
        rows.push(used.target(memory).go(go_memory));
        rows.push(spent.target(time).go(go_time));
    }
    Ok(rows)
}

/// Has all modules run that KubeEdge's own agent has; edgemesh is none of them, and off unless a node
/// asks for it.
pub(super) fn whole(setup: &mut Setup) {
    for module in Module::ALL.into_iter().filter(|module| *module != Module::Edgemesh) {
        setup.supervisor["modules"][module.name()]["enabled"] = true.into();
    }
    setup.supervisor["faults"] = json!(false);
}

/// Measures what the agent takes of memory and of processor time while so many pods do nothing.
pub(super) fn at_rest(node: &Node, count: usize) -> Result<[Row; 2]> {
    let minute = cpu_over(&processes(node), SAMPLE)?;
    let spent = format!("processor time with {count} pods, per idle minute");
    Ok([
        Row::of(format!("PSS of the agent with {count} pods"), "MiB", &[memory(node)?]),
        Row::of(spent, "ms", &[minute * 1e3]),
    ])
}

/// Returns the proportional memory of the agent's processes, in MiB.
pub(super) fn memory(node: &Node) -> Result<f64> {
    let pss = processes(node).iter().map(|&pid| kib(pid, &["Pss"])).sum::<Result<f64>>()?;
    Ok(pss / 1024.0)
}

/// Lists the agent's processes.
pub(super) fn processes(node: &Node) -> Vec<u32> {
    let supervisor = node.rig.supervisor_pid();
    let mut processes = process::children(supervisor);
    processes.push(supervisor);
    processes
}

/// How long the cloud waits for pods that it makes, beside the bare calls for as many.
fn creation() -> Result<Vec<Row>> {
    let Some(node) = Node::start()? else { return Ok(Vec::new()) };
    let mut rows = Vec::new();
    for (count, what, go) in [(1, "a pod", "1.17 s"), (CROWD, "20 pods at once", "7.1 s")] {
        let (mut bare, mut told, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let by_hand = by_hand(&node, count)?.as_secs_f64();
            let by_cloud = by_cloud(&node, count)?.as_secs_f64();
            bare.push(by_hand * 1e3);
            told.push(by_cloud * 1e3);
            ratio.push(by_cloud / by_hand);
        }
        rows.push(Row::of(format!("{what}, bare calls to the runtime"), "ms", &bare));
        rows.push(Row::of(format!("{what}, until the cloud sees it run"), "ms", &told).go(go));
        rows.push(Row::of(format!("{what}, ratio of the two"), "", &ratio).target("≤ 1.1"));
    }
    Ok(rows)
}

/// Reboots a node without a cloud, and looks how long its pods are gone beside the bare calls for
/// as many.
fn reboot() -> Result<Vec<Row>> {
    let Some(mut node) = Node::start()? else { return Ok(Vec::new()) };
    let names: Vec<_> = (0..FEW).map(|number| format!("few{number}")).collect();
    make(&node, &names)?;
    let (mut bare, mut back) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(by_hand(&node, FEW)?.as_secs_f64() * 1e3);
        let up = node.reboot_without_cloud()?;
        let all = || node.cri.running().is_ok_and(|running| running.len() == FEW);
        wait_until("every pod runs again", LONG, all).with_context(|| node.evidence())?;
        back.push(up.elapsed().as_secs_f64() * 1e3);
    }
    Ok(vec![
        Row::of("10 pods, bare calls to the runtime", "ms", &bare),
        Row::of("10 pods, back after a reboot without a cloud", "ms", &back).target("≤ 3000"),
    ])
}

/// Makes pods by the calls that it takes at the least, with the same words as the agent, all at once;
/// they are removed then. Returns how long it took until all ran.
pub(super) fn by_hand(node: &Node, count: usize) -> Result<Duration> {
    let pods = (0..count).map(|number| bare(node, number)).collect::<Result<Vec<_>>>()?;
    let one = |runtime: Runtime, (sandbox, container): Bare| async move {
        let config = Some(sandbox.clone());
        let request = w::RunPodSandboxRequest { config, runtime_handler: String::new() };
        let pod_sandbox_id = runtime.run_sandbox(request).await?.pod_sandbox_id;
        let request = w::CreateContainerRequest {
            pod_sandbox_id: pod_sandbox_id.clone(),
            config: Some(container),
            sandbox_config: Some(sandbox),
        };
        let container_id = runtime.create_container(request).await?.container_id;
        runtime.start_container(w::StartContainerRequest { container_id }).await?;
        Ok::<_, Trouble>(pod_sandbox_id)
    };
    let begin = Instant::now();
    let made = node.cri.ask(|runtime| {
        join_all(pods.into_iter().map(|pod| one(runtime.clone(), pod)).collect::<Vec<_>>())
    });
    let took = begin.elapsed();
    let end = |runtime: Runtime, made: Result<String, Trouble>| async move {
        let pod_sandbox_id = made?;
        let stop = w::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        runtime.stop_sandbox(stop).await?;
        runtime.remove_sandbox(w::RemovePodSandboxRequest { pod_sandbox_id }).await
    };
    let ended = node.cri.ask(|runtime| {
        join_all(made.into_iter().map(|made| end(runtime.clone(), made)).collect::<Vec<_>>())
    });
    ended.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(took)
}

/// A pod's sandbox and its container.
type Bare = (w::PodSandboxConfig, w::ContainerConfig);

/// Makes the words for the same pod as the cloud's, which no agent is to take for one of its own; and
/// the files that each container of a pod has.
fn bare(node: &Node, number: usize) -> Result<Bare> {
    let name = format!("bare{number}");
    let mut pod = sleeper(&name);
    pod["metadata"]["uid"] = name.as_str().into();
    let logs = node.containerd.path().join("bare");
    let folder = logs.join(&name);
    fs::create_dir_all(&folder)?;
    let mount = |(inside, file): (&str, &str)| {
        let path = folder.join(file);
        fs::write(&path, "")?;
        let (container_path, host_path) = (inside.to_owned(), path.display().to_string());
        Ok(w::Mount { container_path, host_path, ..w::Mount::default() })
    };
    let mounts = [("/etc/hosts", "hosts"), ("/dev/termination-log", "said")].map(mount);
    let mounts = mounts.into_iter().collect::<Result<Vec<_>>>()?;
    let words = edged::bare::configs(&serde_json::to_vec(&pod)?, &logs, &mounts)?;
    let (mut sandbox, mut containers) = words;
    let mut container = containers.pop().context("a pod without a container")?;
    (sandbox.labels, container.labels) = <_>::default();
    // As deep as a pod's group, and under a name that is none of a pod that is left over.
    let group = private_containerd::group(node.containerd.path());
    let linux = sandbox.linux.get_or_insert_default();
    linux.cgroup_parent = format!("{group}/kubepods/besteffort/{name}");
    Ok((sandbox, container))
}

/// Makes pods in the cloud, all at once; they are deleted then. Returns how long it took until the
/// cloud saw all of them run.
fn by_cloud(node: &Node, count: usize) -> Result<Duration> {
    let names: Vec<_> = (0..count).map(|number| format!("p{number}")).collect();
    let begin = Instant::now();
    make(node, &names)?;
    let took = begin.elapsed();
    for name in &names {
        node.delete(name)?;
    }
    for name in &names {
        node.wait_pod_gone(name)?;
    }
    node.wait_until_clean()?;
    Ok(took)
}

/// Makes pods, and waits until the cloud sees all of them run.
pub(super) fn make(node: &Node, names: &[String]) -> Result<()> {
    for name in names {
        node.apply(sleeper(name))?;
    }
    let parse = |name: &String| Key::parse(&format!("default/pod/{name}"));
    let keys = names.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let run = move |cloud: &minicloud::core::Cloud, _| {
        let runs = |key: &Key| {
            let pod = cloud.cluster().get(key);
            pod.is_some_and(|pod| pod["status"]["phase"] == "Running")
        };
        keys.iter().all(runs)
    };
    let seen = node.cloud.with(|cloud| async move { cloud.wait_for(LONG, run).await });
    seen.with_context(|| node.evidence())
}
