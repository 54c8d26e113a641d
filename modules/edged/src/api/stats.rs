//! What the node, its pods and their containers use: from the runtime and from the host's tables.
//! Everything is looked at when somebody asks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::amounts::{Cpu, Memory};
use super::pods::{Found, containers};
use super::reply::{Refusal, without_nulls};
use super::{Site, cgroups, off_thread};
use crate::cri::words as w;
use crate::csi::shown::{Fill, Filled, fill};
use crate::pod::names;
use crate::status::rfc3339;

/// Nanoseconds of one of the kernel's ticks, of which a second has a hundred.
const TICK: u64 = 10_000_000;

/// Processor time at a moment, both in nanoseconds, by who used it: from two of them comes a rate.
#[derive(Debug)]
pub(crate) struct Rates(watch::Sender<BTreeMap<String, (i64, u64)>>);

impl Rates {
    pub(crate) fn new() -> Self {
        Self(watch::channel(BTreeMap::new()).0)
    }

    /// Takes a moment and returns the thousand millionths of a core since the last.
    fn rate(&self, who: &str, cpu: Cpu) -> Option<u64> {
        let mut before = None;
        self.0.send_modify(|known| before = known.insert(who.to_owned(), (cpu.at, cpu.total)));
        let (at, total) = before?;
        let span = u64::try_from(cpu.at.checked_sub(at)?).ok().filter(|span| *span > 0)?;
        let used = u128::from(cpu.total.checked_sub(total)?) * 1_000_000_000;
        u64::try_from(used / u128::from(span)).ok()
    }

    /// Forgets who is not there any more.
    fn retain(&self, known: &[Used]) {
        self.0.send_modify(|rates| {
            rates.retain(|who, _| who.is_empty() || known.iter().any(|it| it.found.id == *who));
        });
    }
}

/// What a container uses.
#[derive(Clone, Debug)]
pub(crate) struct Used {
    pub(crate) found: Found,
    pub(crate) cpu: Option<Cpu>,
    pub(crate) memory: Option<Memory>,
    pub(crate) layer: Option<w::FilesystemUsage>,
}

impl Used {
    pub(crate) fn label(&self, key: &str) -> &str {
        self.found.labels.get(key).map_or("", String::as_str)
    }
}

/// What all use at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    node: String,
    pub(crate) cores: u64,
    pub(crate) cpu: Cpu,
    pub(crate) memory: Memory,
    pub(crate) memory_total: u64,
    pub(crate) swap: u64,
    boot: i64,
    disk: Option<Fill>,
    pub(crate) used: Vec<Used>,
    /// What went through a pod's network, by uid.
    pub(crate) networks: BTreeMap<String, w::NetworkInterfaceUsage>,
    volumes: Vec<Filled>,
}

fn value(number: Option<w::UInt64Value>) -> Option<u64> {
    number.map(|number| number.value)
}

/// Looks at everything, and shows it as kubelet's summary.
///
/// # Errors
/// When the runtime does not answer.
pub(crate) async fn summary(site: &Arc<Site>, small: bool) -> Result<Value, Refusal> {
    let mut look = look(site).await?;
    if !small {
        look.volumes = site.sources.csi.filled().await;
    }
    Ok(look.summary(small))
}

/// Looks at everything but volumes.
///
/// # Errors
/// When the runtime does not answer.
pub(crate) async fn look(site: &Arc<Site>) -> Result<Look, Refusal> {
    let broken = |trouble: crate::cri::Trouble| Refusal::broken(trouble.to_string());
    let found = containers(site, "").await?;
    let stats = match site.runtime.container_stats(w::ListStatsRequest {}).await {
        Err(trouble) if !trouble.is_unimplemented() => return Err(broken(trouble)),
        told => told.unwrap_or_default().stats,
    };
    let stats: BTreeMap<String, w::ContainerStats> =
        stats.into_iter().filter_map(|it| Some((it.attributes.as_ref()?.id.clone(), it))).collect();
    // It is younger than the other; without it there is no network to show.
    let sandboxes = site.runtime.sandbox_stats(w::ListStatsRequest {}).await.unwrap_or_default();
    let running = found.into_iter().filter(|it| it.state == w::ContainerState::Running);
    let used: Vec<_> = running.map(|found| used(found, &stats)).collect();
    let network = |it: w::PodSandboxStats| {
        let uid = it.attributes?.metadata?.uid;
        Some((uid, it.linux?.network?.default_interface?))
    };
    let networks = sandboxes.stats.into_iter().filter_map(network).collect();
    let (node, root) = (site.node.clone(), site.config.root.clone());
    let mut look = off_thread(move || {
        let mut look = Look { node, used, networks, ..Look::default() };
        look.host(&root);
        look.fill_in();
        look
    })
    .await;
    for used in &mut look.used {
        if let Some(cpu) = used.cpu.as_mut().filter(|cpu| cpu.rate.is_none()) {
            cpu.rate = site.rates.rate(&used.found.id, *cpu);
        }
    }
    look.cpu.rate = site.rates.rate("", look.cpu);
    site.rates.retain(&look.used);
    Ok(look)
}

fn used(found: Found, stats: &BTreeMap<String, w::ContainerStats>) -> Used {
    let Some(stats) = stats.get(&found.id) else {
        return Used { found, cpu: None, memory: None, layer: None };
    };
    let (cpu, memory) = figures(stats);
    Used { found, cpu, memory, layer: stats.writable_layer }
}

/// Returns what the runtime says a container uses.
pub(super) fn figures(stats: &w::ContainerStats) -> (Option<Cpu>, Option<Memory>) {
    let cpu = stats.cpu.and_then(|cpu| {
        let total = value(cpu.usage_core_nano_seconds)?;
        Some(Cpu { at: cpu.timestamp, total, rate: value(cpu.usage_nano_cores) })
    });
    let memory = stats.memory.and_then(|memory| {
        Some(Memory {
            at: memory.timestamp,
            working_set: value(memory.working_set_bytes)?,
            usage: value(memory.usage_bytes),
            available: value(memory.available_bytes),
            rss: value(memory.rss_bytes),
        })
    });
    (cpu, memory)
}

impl Look {
    /// Reads the host's tables.
    fn host(&mut self, root: &Path) {
        let table = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let at = module_runtime::unix_millis() * 1_000_000;
        let (total, cores, boot) = processors(&table("/proc/stat"));
        (self.cpu, self.cores, self.boot) = (Cpu { at, total, rate: None }, cores, boot);
        let memory = table("/proc/meminfo");
        let of = |key: &str| kibibytes(&memory, key);
        let total = of("MemTotal:");
        let usage = total.saturating_sub(of("MemFree:"));
        let working_set = usage.saturating_sub(of("Inactive(file):"));
        self.memory = Memory {
            at,
            working_set,
            usage: Some(usage),
            available: Some(total.saturating_sub(working_set)),
            rss: Some(of("AnonPages:")),
        };
        self.memory_total = total;
        self.swap = of("SwapTotal:").saturating_sub(of("SwapFree:"));
        self.disk = root.ancestors().find_map(fill);
    }

    /// Asks the kernel for what the runtime did not tell of containers.
    fn fill_in(&mut self) {
        let lacks = |it: &&mut Used| it.cpu.is_none() || it.memory.is_none();
        let ids: Vec<_> =
            self.used.iter_mut().filter(lacks).map(|it| it.found.id.clone()).collect();
        if ids.is_empty() {
            return;
        }
        let read = cgroups::read(&ids, self.memory.at);
        for used in self.used.iter_mut().filter(lacks) {
            if let Some((cpu, memory)) = read.get(&used.found.id) {
                used.cpu.get_or_insert(*cpu);
                used.memory.get_or_insert(*memory);
            }
        }
    }

    fn show_fill(&self, fill: Fill) -> Value {
        let [available, capacity, used, free, inodes, inodes_used] = fill;
        json!({
            "time": rfc3339(self.memory.at / 1_000_000), "availableBytes": available,
            "capacityBytes": capacity, "usedBytes": used, "inodesFree": free,
            "inodes": inodes, "inodesUsed": inodes_used,
        })
    }

    /// Shows a pod's claimed volumes.
    fn show_volumes(&self, uid: &str) -> Vec<Value> {
        let of_pod = self.volumes.iter().filter(|it| it.uid == uid);
        let show = |Filled { kept, fill, .. }: &Filled| {
            let mut shown = self.show_fill(*fill);
            shown["name"] = kept.name.as_str().into();
            shown["pvcRef"] = json!({"name": kept.claim, "namespace": kept.namespace});
            shown
        };
        of_pod.map(show).collect()
    }

    /// Shows it as kubelet's summary; without what is not processor and memory if `small`.
    fn summary(&self, small: bool) -> Value {
        let mut node = json!({
            "nodeName": self.node,
            "startTime": rfc3339(self.boot * 1000),
            "cpu": show_cpu(self.cpu),
            "memory": show_memory(self.memory),
            "swap": {"time": rfc3339(self.memory.at / 1_000_000), "swapUsageBytes": self.swap},
        });
        if let Some(disk) = self.disk.filter(|_| !small) {
            node["fs"] = self.show_fill(disk);
        }
        let mut pods = BTreeMap::<&str, Vec<&Used>>::new();
        for used in &self.used {
            pods.entry(used.label(names::POD_UID)).or_default().push(used);
        }
        let pods: Vec<_> = pods.into_iter().map(|(uid, it)| self.pod(uid, &it, small)).collect();
        json!({"node": node, "pods": pods})
    }

    fn pod(&self, uid: &str, all: &[&Used], small: bool) -> Value {
        let label = |key: &str| all.first().map_or("", |it| it.label(key));
        let containers: Vec<_> = all
            .iter()
            .map(|it| {
                let mut shown = json!({
                    "name": it.found.name,
                    "startTime": rfc3339(it.found.created / 1_000_000),
                });
                if let Some(cpu) = it.cpu {
                    shown["cpu"] = show_cpu(cpu);
                }
                if let Some(memory) = it.memory {
                    shown["memory"] = show_memory(memory);
                }
                if let Some(layer) = it.layer.filter(|_| !small) {
                    shown["rootfs"] = json!({
                        "time": rfc3339(layer.timestamp / 1_000_000),
                        "usedBytes": value(layer.used_bytes),
                        "inodesUsed": value(layer.inodes_used),
                    });
                }
                shown
            })
            .collect();
        let (cpu, memory) = sum(all);
        let started = all.iter().map(|it| it.found.created).min().unwrap_or_default();
        let mut shown = json!({
            "podRef": {
                "name": label(names::POD_NAME), "namespace": label(names::POD_NAMESPACE), "uid": uid,
            },
            "startTime": rfc3339(started / 1_000_000),
            "containers": containers,
            "cpu": show_cpu(cpu),
            "memory": show_memory(memory),
        });
        let volumes = self.show_volumes(uid);
        if !volumes.is_empty() {
            shown["volume"] = volumes.into();
        }
        if let Some(network) = self.networks.get(uid).filter(|_| !small) {
            shown["network"] = json!({
                "time": rfc3339(cpu.at / 1_000_000), "name": network.name,
                "rxBytes": value(network.rx_bytes), "rxErrors": value(network.rx_errors),
                "txBytes": value(network.tx_bytes), "txErrors": value(network.tx_errors),
            });
        }
        shown
    }
}

/// Adds up what the containers of a pod use.
pub(crate) fn sum(all: &[&Used]) -> (Cpu, Memory) {
    let (mut cpu, mut memory) = (Cpu::default(), Memory::default());
    let add = |sum: Option<u64>, one: Option<u64>| match (sum, one) {
        (Some(sum), Some(one)) => Some(sum.saturating_add(one)),
        (sum, one) => sum.or(one),
    };
    for one in all.iter().filter_map(|it| it.cpu) {
        let at = cpu.at.max(one.at);
        let total = cpu.total.saturating_add(one.total);
        cpu = Cpu { at, total, rate: add(cpu.rate, one.rate) };
    }
    for one in all.iter().filter_map(|it| it.memory) {
        memory = Memory {
            at: memory.at.max(one.at),
            working_set: memory.working_set.saturating_add(one.working_set),
            usage: add(memory.usage, one.usage),
            available: None,
            rss: add(memory.rss, one.rss),
        };
    }
    (cpu, memory)
}

pub(super) fn show_cpu(cpu: Cpu) -> Value {
    without_nulls(json!({
        "time": rfc3339(cpu.at / 1_000_000), "usageNanoCores": cpu.rate,
        "usageCoreNanoSeconds": cpu.total,
    }))
}

pub(super) fn show_memory(memory: Memory) -> Value {
    without_nulls(json!({
        "time": rfc3339(memory.at / 1_000_000), "availableBytes": memory.available,
        "usageBytes": memory.usage, "workingSetBytes": memory.working_set, "rssBytes": memory.rss,
    }))
}

/// Reads nanoseconds of work, the number of processors, and the Unix second of the boot.
fn processors(table: &str) -> (u64, u64, i64) {
    let (mut total, mut cores, mut boot) = (0, 0, 0);
    for line in table.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("cpu") => {
                let ticks: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
                // User, nice, system, idle, waiting, interrupts of both kinds, stolen.
                let worked = |(index, ticks): (usize, &u64)| match index {
                    0 | 1 | 2 | 5 | 6 | 7 => Some(*ticks),
                    _ => None,
                };
                total = ticks.iter().enumerate().filter_map(worked).sum::<u64>() * TICK;
            }
            Some("btime") => {
                boot = words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
            }
            Some(word) if word.starts_with("cpu") => cores += 1,
            Some(_) | None => {}
        }
    }
    (total, cores, boot)
}

/// Reads a line of `/proc/meminfo` in bytes.
pub(crate) fn kibibytes(table: &str, key: &str) -> u64 {
    let line = table.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or_default().saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_tables_are_read() {
        let table =
            "cpu  10 1 5 1000 7 2 3 4 0 0\ncpu0 5 0 0 0\ncpu1 5 1 5 0\nintr 1\nbtime 1700\n";
        assert_eq!(processors(table), (25 * TICK, 2, 1700));
        assert_eq!(kibibytes("MemTotal:   2 kB\nMemFree: 1 kB\n", "MemFree:"), 1024);
    }

    #[test]
    fn a_rate_comes_from_two_moments() {
        let rates = Rates::new();
        let cpu = |at, total| Cpu { at, total, rate: None };
        assert_eq!(rates.rate("a", cpu(1_000, 500)), None);
        assert_eq!(rates.rate("a", cpu(3_000, 1_500)), Some(500_000_000));
        assert_eq!(rates.rate("a", cpu(3_000, 1_500)), None);
        assert_eq!(rates.rate("a", cpu(4_000, 0)), None, "it was started anew");
    }
}
