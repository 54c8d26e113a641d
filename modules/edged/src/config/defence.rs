//! What the node keeps for itself, and what it does before it runs short: kubelet's keys.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::cgroup::Every;
use crate::duration;
use crate::gc::dead;
use crate::gc::images;
use crate::pod::amounts::Room;
use crate::pressure::threshold::{Signal, Tables, Threshold, thresholds};
use crate::quantity::Quantity;
use crate::rotate;
use crate::shutdown::core::{Turn, turns_of};

type Texts = BTreeMap<String, String>;

/// The keys, as they come.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Keys {
    eviction_hard: Option<Texts>,
    eviction_soft: Option<Texts>,
    eviction_soft_grace_period: Option<Texts>,
    eviction_minimum_reclaim: Option<Texts>,
    eviction_pressure_transition_period: Option<String>,
    eviction_max_pod_grace_period: Option<i64>,
    shutdown_grace_period: Option<String>,
    shutdown_grace_period_critical_pods: Option<String>,
    shutdown_grace_period_by_pod_priority: Option<Vec<Turn>>,
    local_storage_capacity_isolation: Option<bool>,
    volume_stats_agg_period: Option<String>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    image_gc_high: Option<i64>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    image_gc_low: Option<i64>,
    #[serde(rename = "imageMinimumGCAge")]
    image_least_age: Option<String>,
    #[serde(rename = "imageMaximumGCAge")]
    image_most_age: Option<String>,
    container_log_max_size: Option<String>,
    container_log_max_files: Option<i64>,
    container_log_monitor_interval: Option<String>,
    enforce_node_allocatable: Option<Vec<String>>,
    system_reserved: Option<Texts>,
    kube_reserved: Option<Texts>,
    pod_pids_limit: Option<i64>,
    #[serde(rename = "cpuCFSQuota")]
    quota: Option<bool>,
    #[serde(rename = "cpuCFSQuotaPeriod")]
    quota_period: Option<String>,
    fail_swap_on: Option<bool>,
}

/// Keys that stand beside kubelet's configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags {
    pub(super) dead_each: Option<i64>,
    pub(super) dead_all: Option<i64>,
    pub(super) dead_least_age: Option<String>,
    pub(super) sandbox_image: Option<String>,
}

/// What is kept of the node for others than pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// Thousandths of a core.
    pub(crate) cpu: i64,
    /// Bytes.
    pub(crate) memory: i64,
    /// Bytes of the disk.
    pub(crate) storage: i64,
    /// Processes and threads.
    pub(crate) pids: i64,
}

/// All of it, checked. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Defence {
    pub(crate) thresholds: Vec<Threshold>,
    /// For how long a pressure stays after it was seen last.
    pub(crate) transition: i64,
    /// The most seconds that a pod has to end when a soft threshold is met.
    pub(crate) most_grace: i64,
    /// Whether limits of volumes and containers on the disk are kept.
    pub(crate) limits_disk: bool,
    /// How often pods with such limits are measured.
    pub(crate) measure: i64,
    pub(crate) images: images::Policy,
    /// The image of sandboxes, which stays.
    pub(crate) sandbox_image: String,
    pub(crate) dead: dead::Kept,
    /// Nothing when logs are not rotated.
    pub(crate) logs: Option<rotate::Policy>,
    pub(crate) reserved: Reserved,
    /// Whether all pods together are bounded to what the node can give them.
    pub(crate) bounds_pods: bool,
    /// Which pods end when the host shuts down, and in how much time; the least important first.
    pub(crate) turns: Vec<Turn>,
    /// What bounds each pod.
    pub(crate) every: Every,
    pub(crate) fail_swap: bool,
}

/// What stands in `evictionHard` when the operator says nothing.
const HARD: [(&str, &str); 5] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

/// The longest turn in which pods end, in seconds: a day.
const LONGEST: u64 = 86_400;

/// Reads a duration in milliseconds.
fn time(key: &str, text: Option<&str>, default: i64, errors: &mut Vec<String>) -> i64 {
    let Some(text) = text else { return default };
    duration::parse(text).unwrap_or_else(|| {
        errors.push(format!("{key} is '{text}', expected a duration such as 1m30s"));
        default
    })
}

impl Keys {
    /// Checks the keys; what is wrong goes to `errors`.
    pub(super) fn check(self, flags: Flags, errors: &mut Vec<String>) -> Defence {
        let enforced = self.enforce_node_allocatable.clone();
        let enforced = enforced.unwrap_or_else(|| vec!["pods".to_owned()]);
        let bounds_pods = enforced.iter().any(|it| it == "pods");
        let thresholds = self.thresholds(bounds_pods, errors);
        let images = self.images(errors);
        let logs = self.logs(errors);
        let turns = self.turns(errors);
        let mut time =
            |key, text: &Option<String>, default| time(key, text.as_deref(), default, errors);
        let transition = time(
            "evictionPressureTransitionPeriod",
            &self.eviction_pressure_transition_period,
            300_000,
        );
        let measure = time("volumeStatsAggPeriod", &self.volume_stats_agg_period, 60_000);
        let least_age = time("minimumGCAge", &flags.dead_least_age, 0);
        let period = time("cpuCFSQuotaPeriod", &self.quota_period, 100);
        Defence {
            thresholds,
            // As kubelet, which takes nothing for its default.
            transition: if transition == 0 { 300_000 } else { transition },
            most_grace: self.eviction_max_pod_grace_period.unwrap_or(0).max(0),
            limits_disk: self.local_storage_capacity_isolation.unwrap_or(true),
            measure: measure.max(1000),
            images,
            sandbox_image: flags.sandbox_image.unwrap_or_default(),
            dead: dead::Kept {
                each: flags.dead_each.unwrap_or(1),
                all: flags.dead_all.unwrap_or(-1),
                least_age,
            },
            logs,
            reserved: self.reserved(errors),
            bounds_pods,
            turns,
            every: Every {
                pids: self.pod_pids_limit.filter(|limit| *limit > 0),
                quota_period: self.quota.unwrap_or(true).then_some(period.clamp(1, 1000) * 1000),
            },
            fail_swap: self.fail_swap_on.unwrap_or(false),
        }
    }

    fn thresholds(&self, bounded: bool, errors: &mut Vec<String>) -> Vec<Threshold> {
        fn texts(table: Option<&Texts>) -> impl Iterator<Item = (&str, &str)> {
            table.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()))
        }
        let tables = Tables {
            hard: HARD.into_iter().chain(texts(self.eviction_hard.as_ref())).collect(),
            soft: texts(self.eviction_soft.as_ref()).collect(),
            grace: texts(self.eviction_soft_grace_period.as_ref()).collect(),
            reclaim: texts(self.eviction_minimum_reclaim.as_ref()).collect(),
            bounded,
        };
        thresholds(&tables, errors)
    }

    /// Reads in which order pods end when the host shuts down.
    fn turns(&self, errors: &mut Vec<String>) -> Vec<Turn> {
        let mut seconds = |key: &str, text: &Option<String>| {
            let millis = time(key, text.as_deref(), 0, errors);
            if millis > 0 && millis < 1000 {
                errors.push(format!("{key} is {millis} ms, expected 0 or 1 s and more"));
            }
            u64::try_from(millis / 1000).unwrap_or_default()
        };
        let all = seconds("shutdownGracePeriod", &self.shutdown_grace_period);
        let key = "shutdownGracePeriodCriticalPods";
        let critical = seconds(key, &self.shutdown_grace_period_critical_pods);
        if critical > all {
            errors.push(format!(
                "{key} is {critical} s, expected no more than shutdownGracePeriod, which is {all} s"
            ));
        }
        let mut turns = self.shutdown_grace_period_by_pod_priority.clone().unwrap_or_default();
        if turns.is_empty() {
            return turns_of(all, critical);
        }
        let key = "shutdownGracePeriodByPodPriority";
        if all > 0 {
            errors.push(format!("{key} and shutdownGracePeriod are set, expected one of them"));
        }
        turns.sort_by_key(|turn| turn.priority);
        if let Some(long) = turns.iter().find(|turn| turn.seconds > LONGEST) {
            let seconds = long.seconds;
            errors.push(format!("{key} has {seconds} s, expected {LONGEST} at the most"));
        }
        if let Some(twice) = turns.windows(2).find(|pair| pair[0].priority == pair[1].priority) {
            errors.push(format!("{key} has priority {} twice", twice[0].priority));
        }
        turns
    }

    fn images(&self, errors: &mut Vec<String>) -> images::Policy {
        let mut percent = |key: &str, value: Option<i64>, default: u64| {
            let Some(value) = value else { return default };
            u64::try_from(value).ok().filter(|it| *it <= 100).unwrap_or_else(|| {
                errors.push(format!("{key} is {value}, expected 0 to 100"));
                default
            })
        };
        let high = percent("imageGCHighThresholdPercent", self.image_gc_high, 85);
        let low = percent("imageGCLowThresholdPercent", self.image_gc_low, 80);
        if low >= high {
            errors.push(format!(
                "imageGCLowThresholdPercent is {low}, expected less than imageGCHighThresholdPercent, \
                which is {high}"
            ));
        }
        let mut time =
            |key, text: &Option<String>, default| time(key, text.as_deref(), default, errors);
        let least_age = time("imageMinimumGCAge", &self.image_least_age, 120_000);
        let most_age = time("imageMaximumGCAge", &self.image_most_age, 0);
        images::Policy { high, low, least_age, most_age }
    }

    fn logs(&self, errors: &mut Vec<String>) -> Option<rotate::Policy> {
        let text = self.container_log_max_size.as_deref().unwrap_or("10Mi");
        let files = self.container_log_max_files.unwrap_or(5);
        let interval = self.container_log_monitor_interval.as_deref().unwrap_or("10s");
        let Some(size) = Quantity::parse(text).map(|it| it.units()) else {
            errors.push(format!("containerLogMaxSize is '{text}', expected 10Mi or the like"));
            return None;
        };
        let Some(files) = usize::try_from(files).ok().filter(|files| *files > 1) else {
            errors.push(format!("containerLogMaxFiles is {files}, expected 2 or more"));
            return None;
        };
        let Some(interval) = duration::parse(interval).filter(|it| *it >= 1000) else {
            errors.push(format!(
                "containerLogMonitorInterval is '{interval}', expected a duration of 1s or more"
            ));
            return None;
        };
        // Below 0 there is no rotation.
        u64::try_from(size).ok().map(|size| rotate::Policy { size, files, interval })
    }

    fn reserved(&self, errors: &mut Vec<String>) -> Reserved {
        let mut sum = Reserved::default();
        for (table, texts) in
            [("systemReserved", &self.system_reserved), ("kubeReserved", &self.kube_reserved)]
        {
            for (key, text) in texts.iter().flatten() {
                let quantity = Quantity::parse(text).filter(|it| it.milli() >= 0);
                let place = match key.as_str() {
                    "cpu" => &mut sum.cpu,
                    "memory" => &mut sum.memory,
                    "ephemeral-storage" => &mut sum.storage,
                    "pid" => &mut sum.pids,
                    _ => {
                        errors.push(format!(
                            "{table} has '{key}', expected cpu, memory, ephemeral-storage or pid"
                        ));
                        continue;
                    }
                };
                let Some(quantity) = quantity else {
                    errors.push(format!("{table} {key} is '{text}', expected 100m or 64Mi"));
                    continue;
                };
                let amount = if key == "cpu" { quantity.milli() } else { quantity.units() };
                *place = place.saturating_add(amount);
            }
        }
        sum
    }
}

impl Defence {
    /// Checks that swap is off, where it has to be. `swaps` is the kernel's table.
    ///
    /// # Errors
    /// Which swap is on.
    pub(crate) fn check_swap(&self, swaps: &str) -> anyhow::Result<()> {
        let on: Vec<_> =
            swaps.lines().skip(1).filter_map(|it| it.split_whitespace().next()).collect();
        anyhow::ensure!(
            !self.fail_swap || on.is_empty(),
            "failSwapOn is true, but swap is on: {}; switch it off (swapoff -a) or set failSwapOn to false",
            on.join(", ")
        );
        Ok(())
    }

    /// Returns what pods may have together of a node with so many cores and bytes.
    pub(super) fn room(&self, cpus: u32, memory: u64, disk: u64, pods: u32) -> Room {
        let left = |capacity: u64, signal, reserved: i64| {
            let left = capacity.saturating_sub(self.kept(signal, capacity));
            i64::try_from(left).unwrap_or(i64::MAX).saturating_sub(reserved).max(0)
        };
        Room {
            cpu: (i64::from(cpus) * 1000).saturating_sub(self.reserved.cpu).max(0),
            memory: left(memory, Signal::Memory, self.reserved.memory),
            storage: left(disk, Signal::NodeFs, self.reserved.storage),
            pods: pods.into(),
        }
    }

    /// Returns what a hard threshold keeps of something.
    fn kept(&self, signal: Signal, capacity: u64) -> u64 {
        let hard = self.thresholds.iter().find(|it| it.signal == signal && it.is_hard());
        hard.map_or(0, |it| it.value.amount(capacity))
    }
}

#[cfg(test)]
mod tests;
