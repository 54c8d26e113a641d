//! What the whole takes of the machine when nothing happens, in the configuration that is shipped.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use super::Row;
use crate::rig::process::{self, kib};
use crate::rig::{Setup, binaries};

/// How long processor time is watched.
const SAMPLE: Duration = Duration::from_secs(20);

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let rig = Setup::new()?.with(json!({"faults": false})).start()?;
    let supervisor = rig.supervisor_pid();
    let mut all = process::children(supervisor);
    all.push(supervisor);
    let minute = cpu_over(&all, SAMPLE)?;
    // memory comes last: what was taken for the start has been given back by then, or never is
    let pss = all.iter().map(|&pid| kib(pid, &["Pss"])).sum::<Result<f64>>()?;
    let private = |pid| kib(pid, &["Private_Clean", "Private_Dirty"]);
    let modules = all.iter().filter(|&&pid| pid != supervisor).map(|&pid| private(pid));
    let modules = modules.collect::<Result<Vec<_>>>()?;
    let mut rows = vec![
        Row::of(format!("PSS of all {} processes, idle", all.len()), "MiB", &[pss / 1024.0])
            .target("≤ 8"),
        Row::of("private memory of the supervisor", "MiB", &[private(supervisor)? / 1024.0])
            .target("≤ 0.6"),
        Row::of("private memory of a module", "KiB", &modules),
        Row::of("processor time of all, per idle minute", "ms", &[minute * 1e3]),
    ];
    for program in ["edgecore", "edgectl"] {
        let length = fs::metadata(binaries::program(program)?)?.len();
        let kib = f64::from(u32::try_from(length / 1024).context("a program of 4 TiB")?);
        rows.push(Row::of(format!("size of {program}"), "MiB", &[kib / 1024.0]));
    }
    Ok(rows)
}

/// How often the watched threads are looked at: what one uses after the last look before its end
/// is not seen.
const LOOK: Duration = Duration::from_secs(1);

/// Watches processes for a while and returns the seconds of processor time that they use in a
/// minute, all together.
pub(super) fn cpu_over(processes: &[u32], sample: Duration) -> Result<f64> {
    let mut times = BTreeMap::new();
    let mut look = || -> Result<u64> {
        for &pid in processes {
            times.extend(process::thread_times(pid)?);
        }
        Ok(times.values().sum())
    };
    let (begin, before) = (Instant::now(), look()?);
    let mut after = before;
    while begin.elapsed() < sample {
        std::thread::park_timeout(LOOK.min(sample.saturating_sub(begin.elapsed())));
        after = look()?;
    }
    let used = Duration::from_nanos(after - before);
    Ok(used.as_secs_f64() * 60.0 / begin.elapsed().as_secs_f64())
}
