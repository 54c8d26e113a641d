//! How busy the host is, as jobs want to know it beforehand: none of processor, memory and disk may
//! be used by more than 80 %.

use std::time::Duration;

use crate::spec::Item;

/// The most that may be in use, in percent.
const MOST: f64 = 80.0;

/// How long the processors are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Looks at what a job wants to have looked at.
///
/// # Errors
/// What there is too little of.
pub(crate) async fn look(items: &[Item]) -> Result<(), String> {
    for item in items {
        let (what, used) = match item {
            Item::Cpu => {
                let before = ticks(&read("/proc/stat")?)?;
                tokio::time::sleep(LOOK).await;
                ("cpu", busy(before, ticks(&read("/proc/stat")?)?))
            }
            Item::Memory => ("mem", memory(&read("/proc/meminfo")?)?),
            Item::Disk => ("disk", disk("/")?),
        };
        if used > MOST {
            return Err(format!(
                "current {what} usage is {used:.2}, which exceeds the maximum allowed usage {MOST:.2}"
            ));
        }
    }
    Ok(())
}

fn read(file: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))
}

/// The processors' time so far: all of it, and the idle part.
type Ticks = (f64, f64);

fn ticks(stat: &str) -> Result<Ticks, String> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let parts: Option<Vec<f64>> =
        line.map(|line| line.split_whitespace().filter_map(|part| part.parse().ok()).collect());
    // User, nice, system, idle, iowait, irq, softirq, steal; guests are counted in the first two.
    match parts.as_deref() {
        Some(parts @ [_, _, _, idle, wait, ..]) => Ok((parts.iter().take(8).sum(), idle + wait)),
        Some(_) | None => Err("/proc/stat has no line of all processors".to_owned()),
    }
}

/// Returns how busy the processors were in between, in percent.
fn busy((all, idle): Ticks, (all_then, idle_then): Ticks) -> f64 {
    let passed = all_then - all;
    if passed <= 0.0 { 0.0 } else { 100.0 * (1.0 - (idle_then - idle) / passed).clamp(0.0, 1.0) }
}

/// Returns how much of the memory is used, in percent.
fn memory(meminfo: &str) -> Result<f64, String> {
    let amount = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
            .ok_or_else(|| format!("/proc/meminfo has no {key}"))
    };
    let (total, available) = (amount("MemTotal:")?, amount("MemAvailable:")?);
    if total > 0.0 { Ok(100.0 * (total - available) / total) } else { Ok(0.0) }
}

/// Returns how much of the disk of a path is used, in percent of what ordinary users may use.
fn disk(path: &str) -> Result<f64, String> {
    let found = rustix::fs::statvfs(path)
        .map_err(|error| format!("cannot look at the disk of {path}: {error}"))?;
    let used = found.f_blocks.saturating_sub(found.f_bfree);
    let all = used.saturating_add(found.f_bavail).max(1);
    // In thousandths, which a float holds exactly.
    let share = u32::try_from(u128::from(used) * 100_000 / u128::from(all)).unwrap_or(u32::MAX);
    Ok(f64::from(share) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_kernel_s_numbers() {
        let before = ticks("cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 1 2 3 4\n").unwrap();
        let after = ticks("cpu  55 0 10 130 5 0 0 0 0 0\n").unwrap();
        assert!((busy(before, after) - 45.0).abs() < 1e-9);
        assert!(busy(before, before).abs() < 1e-9);
        let half = memory("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable:  50 kB\n").unwrap();
        assert!((half - 50.0).abs() < 1e-9);
        assert!(ticks("").is_err() && memory("").is_err());
        assert!((0.0..=100.0).contains(&disk("/").unwrap()));
    }

    #[tokio::test]
    async fn this_host_can_be_looked_at() {
        // Whether it is busy is its own affair.
        match look(&[Item::Cpu, Item::Memory, Item::Disk]).await {
            Ok(()) => {}
            Err(why) => assert!(why.contains("exceeds the maximum allowed usage 80.00"), "{why}"),
        }
    }
}
