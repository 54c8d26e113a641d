//! What wears a node's flash out: the bytes that the agent writes while nothing happens, and for each
//! thing that does. They are counted by the kernel as pages are made dirty, so a file that is on no
//! disk counts nothing: the folder of temporary files has to be on one.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Row;
use super::pods::{make, processes, whole};
use super::store::as_f64;
use crate::rig::pods::Node;

/// How long nothing happens; a day is reckoned from it.
const IDLE: Duration = Duration::from_secs(120);

/// How many pods rest meanwhile, and how many come and go then.
const PODS: usize = 10;

const SECONDS_OF_A_DAY: f64 = 86_400.0;

/// Measures; no rows where the machine cannot run pods.
pub(super) fn run() -> Result<Vec<Row>> {
    let Some(node) = Node::start_with(whole)? else { return Ok(Vec::new()) };
    let names: Vec<_> = (0..PODS).map(|number| format!("rest{number}")).collect();
    let before = written(&node)?;
    make(&node, &names)?;
    let made = written(&node)? - before;
    ensure!(made > 0.0, "nothing is counted: {} is on no disk", std::env::temp_dir().display());
    // What the pods' coming leaves to be written later is no idle time's.
    std::thread::park_timeout(IDLE / 12);
    let before = written(&node)?;
    std::thread::park_timeout(IDLE);
    let idle = (written(&node)? - before) / IDLE.as_secs_f64() * SECONDS_OF_A_DAY;
    let (before, told) = (written(&node)?, statuses(&node)?);
    for name in &names {
        node.delete(name)?;
    }
    make(&node, &names.iter().map(|name| format!("next-{name}")).collect::<Vec<_>>())?;
    node.wait_pod_gone(&names[0])?;
    let (changed, statuses) = (written(&node)? - before, statuses(&node)? - told);
    let (mib, kib) = (1024.0 * 1024.0, 1024.0);
    Ok(vec![
        Row::of(format!("bytes written with {PODS} pods, per idle day"), "MiB", &[idle / mib])
            .target("≤ 50"),
        Row::of("bytes written per pod that comes", "KiB", &[made / as_f64(PODS) / kib]),
        Row::of("bytes written per change of a pod's status", "KiB", &[changed / statuses / kib])
            .target("≤ 64"),
    ])
}

/// Counts the reports of pods' states that the cloud has had so far.
fn statuses(node: &Node) -> Result<f64> {
    let received = node.cloud.received()?;
    let reports = received.iter().filter(|line| line.contains("/podpatch/"));
    Ok(as_f64(reports.count()))
}

/// Counts the bytes that the agent's processes have had written to disks.
fn written(node: &Node) -> Result<f64> {
    processes(node).into_iter().map(written_by).sum()
}

fn written_by(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/io");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let mut fields = text.lines().filter_map(|line| line.split_once(": "));
    let field = fields.find(|(name, _)| *name == "write_bytes");
    let (_, bytes) = field.with_context(|| format!("{path} has no field write_bytes"))?;
    Ok(bytes.parse()?)
}
