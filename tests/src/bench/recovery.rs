//! How long a module is away when it is killed: from the signal until the status says that its next
//! process is ready.

use std::time::Instant;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use ipc_proto::Module;
use rustix::process::Signal;
use serde_json::json;

use super::Row;
use crate::rig::{Setup, process};

/// Kills, each the first one as far as the pause before the restart goes.
const KILLS: usize = 100;

/// Measures.
pub(super) fn run() -> Result<Vec<Row>> {
    let rig = Setup::new()?.with(json!({"restart": {"stableAfter": "1ms"}})).start()?;
    let mut took = Histogram::<u64>::new(3)?;
    for module in Module::ALL.into_iter().cycle().take(KILLS) {
        let old = rig.pid_of(module)?;
        let begin = Instant::now();
        process::signal(old, Signal::KILL)?;
        rig.wait_until_back(module, old).with_context(|| format!("{module} was killed"))?;
        took.record(u64::try_from(begin.elapsed().as_micros())?)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "microseconds of seconds")]
    let millis = [0.0, 0.5, 0.99, 1.0].map(|at| took.value_at_quantile(at) as f64 / 1e3);
    let [least, half, most, all] = millis;
    let row = |name: &str, median: f64| Row {
        median,
        ..Row::of(format!("{KILLS} kills to ready, {name}"), "ms", &[least, all])
    };
    Ok(vec![row("p50", half), row("p99", most).target("≤ 100")])
}
