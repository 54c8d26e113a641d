//! As many pods as a node may have: how long they take to come up beside the bare calls for as many,
//! what the agent takes while they rest, how long a pod engine that died knows less than all of them;
//! and what a minute of pods that come and go leaves behind.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipc_proto::Module;
use rustix::process::Signal;
use serde_json::json;

use super::pods::{at_rest, by_hand, make, memory, processes, whole};
use super::{ROUNDS, Row};
use crate::rig::pods::{LONG, Node, sleeper};
use crate::rig::stream::Door;
use crate::rig::{Setup, process, wait_until};

/// How many pods a node may have unless it is told otherwise.
const ALL: usize = 110;

/// How long pods come and go.
const CHURN: Duration = Duration::from_secs(60);

/// The time between two pods that come: twenty a second, where the runtime is as fast.
const EVERY: Duration = Duration::from_millis(50);

/// How many pods there are at a time while they come and go, at most.
const AT_A_TIME: usize = 20;

/// Measures; no rows where the machine cannot run pods.
pub(super) fn run() -> Result<Vec<Row>> {
    let steady = |setup: &mut Setup| {
        whole(setup);
        // Each kill is the first one as far as the pause before the restart goes.
        setup.supervisor["restart"] = json!({"stableAfter": "1ms"});
    };
    let Some(node) = Node::start_with(steady)? else { return Ok(Vec::new()) };
    let names: Vec<_> = (0..ALL).map(|number| format!("full{number}")).collect();
    let bare = by_hand(&node, ALL)?.as_secs_f64();
    let begin = Instant::now();
    make(&node, &names)?;
    let told = begin.elapsed().as_secs_f64();
    let mut rows = vec![
        Row::of(format!("{ALL} pods at once, bare calls to the runtime"), "s", &[bare]),
        Row::of(format!("{ALL} pods at once, until the cloud sees all run"), "s", &[told]),
        Row::of(format!("{ALL} pods at once, ratio of the two"), "", &[told / bare]),
    ];
    rows.extend(at_rest(&node, ALL)?);
    rows.push(full_view(&node)?);
    for name in &names {
        node.delete(name)?;
    }
    node.wait_until_clean()?;
    rows.extend(churn(&node)?);
    Ok(rows)
}

/// Kills the pod engine, and looks when the node's API shows all pods at work again.
fn full_view(node: &Node) -> Result<Row> {
    let api = Door::of_node(node.rig.setup().api);
    let at_work =
        || api.page("/pods").is_ok_and(|page| page.matches("\"startedAt\"").count() >= ALL);
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        process::signal(node.rig.pid_of(Module::Edged)?, Signal::KILL)?;
        wait_until("all pods are shown at work", LONG, at_work).with_context(|| node.evidence())?;
        took.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    let name = format!("kill -9 of edged to a full view of {ALL} pods");
    Ok(Row::of(name, "ms", &took).target("≤ 2000"))
}

/// Has pods come and go.
fn churn(node: &Node) -> Result<[Row; 4]> {
    let begin = Instant::now();
    by_hand(node, AT_A_TIME)?;
    #[expect(clippy::cast_precision_loss, reason = "tens of pods")]
    let bare = AT_A_TIME as f64 / begin.elapsed().as_secs_f64();
    // What is taken for the first pods and kept is no growth.
    come_and_go(node, "first", CHURN / 6)?;
    let before = [memory(node)?, descriptors(node)?];
    let rate = come_and_go(node, "then", CHURN)?;
    let after = [memory(node)?, descriptors(node)?];
    let grown = "growth of the agent's PSS in a minute of pods that come and go";
    let opened = "growth of its open files in that minute";
    Ok([
        Row::of("pods that come and go, bare calls to the runtime", "a second", &[bare]),
        Row::of("pods that come and go", "a second", &[rate]),
        Row::of(grown, "MiB", &[after[0] - before[0]]),
        Row::of(opened, "", &[after[1] - before[1]]),
    ])
}

/// Makes pods at the rate wanted, each of which is deleted once it runs, until the time is over and
/// nothing is left of them; returns how many came and went in a second.
fn come_and_go(node: &Node, name: &str, time: Duration) -> Result<f64> {
    let (begin, mut made, mut there) = (Instant::now(), 0_u32, Vec::new());
    while begin.elapsed() < time {
        if there.len() < AT_A_TIME {
            let name = format!("{name}{made}");
            node.apply(sleeper(&name))?;
            there.push(name);
            made += 1;
        }
        there.retain(|name| match node.pod(name) {
            Ok(Some(pod)) if pod["metadata"]["deletionTimestamp"].is_string() => true,
            Ok(Some(pod)) if pod["status"]["phase"] == "Running" => node.delete(name).is_ok(),
            Ok(None) => false,
            _ => true,
        });
        std::thread::park_timeout(EVERY);
    }
    for name in &there {
        // It may have gone meanwhile.
        let _gone = node.delete(name);
    }
    node.wait_until_clean()?;
    Ok(f64::from(made) / begin.elapsed().as_secs_f64())
}

/// Counts the open files of the agent's processes.
fn descriptors(node: &Node) -> Result<f64> {
    let mut all = 0;
    for pid in processes(node) {
        all += u32::try_from(process::descriptors(pid)?.len())?;
    }
    Ok(all.into())
}
