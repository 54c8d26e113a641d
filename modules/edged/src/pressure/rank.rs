//! Which pod has to go, and what it is told: kubelet's order and sentences. Pure.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::threshold::{Readings, Resource, Threshold};
use crate::pod::amounts::request;
use crate::pod::spec::{Container, Pod};
use crate::status::Verdict;

/// The reason of every eviction.
pub(crate) const EVICTED: &str = "Evicted";

/// Seconds that a pod has to end when there is no time.
pub(crate) const AT_ONCE: i64 = 1;

/// What something takes of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

impl Space {
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }
}

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) name: String,
    /// Bytes of its working set.
    pub(crate) memory: u64,
    /// What it wrote beside its volumes.
    pub(crate) layer: Space,
    pub(crate) logs: Space,
}

/// What a pod uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) containers: Vec<Used>,
    /// The volumes that are on the node's own disk, by name.
    pub(crate) volumes: BTreeMap<String, Space>,
    /// Those that are in its memory.
    pub(crate) in_memory: BTreeMap<String, Space>,
    /// Files that are the pod's beside those.
    pub(crate) more: Space,
    /// Processes and threads.
    pub(crate) pids: u64,
}

/// Which parts of what pods use are on the file system that is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Pods' folders and images share one.
    All,
    /// What containers write beside their volumes.
    Layers,
    /// Logs and volumes.
    Files,
}

impl Usage {
    fn memory(&self) -> u64 {
        self.containers.iter().map(|it| it.memory).fold(0, u64::saturating_add)
    }

    fn space(&self, parts: Parts) -> Space {
        let of = |it: &Used| match parts {
            Parts::All => it.layer.plus(it.logs),
            Parts::Layers => it.layer,
            Parts::Files => it.logs,
        };
        let containers = self.containers.iter().map(of).fold(Space::default(), Space::plus);
        if parts == Parts::Layers {
            return containers;
        }
        self.volumes.values().copied().fold(containers, Space::plus)
    }
}

/// A pod that could go.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) pod: Arc<Pod>,
    /// Nothing when nobody knows.
    pub(crate) usage: Option<Usage>,
}

/// Orders pods so that the one that has to go first is first: those of which nothing is known, then
/// those that use more than they asked for, then by priority, then by how much more they use. For
/// processes, which nobody asks for, it is priority and number.
pub(crate) fn rank(candidates: &mut [Candidate], resource: Resource, parts: Parts) {
    candidates.sort_by_cached_key(|Candidate { pod, usage }| {
        let asked = u64::try_from(request(pod, resource.name())).unwrap_or_default();
        let used = usage.as_ref().map_or(0, |usage| match resource {
            Resource::Memory => usage.memory(),
            Resource::Storage => usage.space(parts).bytes,
            Resource::Inodes => usage.space(parts).inodes,
            Resource::Pids => usage.pids,
        });
        let exceeds = used > asked && resource != Resource::Pids;
        let more = i128::from(used) - i128::from(asked);
        (usage.is_some(), !exceeds, pod.spec.priority.unwrap_or_default(), Reverse(more))
    });
}

/// Says why a pod has to go when the node is short of something. `act` are the thresholds that are
/// met, of which `cause` is acted on; `most` bounds the seconds that a pod gets when there is time.
pub(crate) fn verdict(
    candidate: &Candidate,
    cause: &Threshold,
    act: &[Threshold],
    readings: &Readings,
    most: i64,
) -> Verdict {
    let Candidate { pod, usage } = candidate;
    let resource = cause.signal.resource();
    let name = resource.name();
    let mut message = format!("The node was low on resource: {name}. ");
    let of_resource = act.iter().find(|it| it.signal.resource() == resource);
    if let Some(threshold) = of_resource
        && let Some(reading) = readings.get(&threshold.signal)
    {
        let (quantity, available) = (threshold.value.amount(reading.capacity), reading.available);
        let [quantity, available] = [quantity, available].map(|it| shown(it, resource));
        message += &format!("Threshold quantity: {quantity}, available: {available}. ");
    }
    for used in usage.iter().flat_map(|usage| &usage.containers) {
        let amount = match resource {
            Resource::Memory => used.memory,
            Resource::Storage => used.layer.plus(used.logs).bytes,
            Resource::Inodes | Resource::Pids => continue,
        };
        let Some(container) = pod.spec.container(&used.name) else { continue };
        let asked = container.resources.requests.get(name).map_or(0, |it| it.units());
        let asked = u64::try_from(asked).unwrap_or_default();
        if amount > asked {
            message += &format!(
                "Container {} was using {}, request is {}, has larger consumption of {name}. ",
                used.name,
                binary(amount),
                binary(asked),
            );
        }
    }
    let own = pod.spec.termination_grace_period_seconds.unwrap_or(most);
    let grace = if cause.is_hard() { AT_ONCE } else { own.min(most) };
    Verdict { reason: EVICTED, message, grace: Some(grace), disrupts: true }
}

/// Says why a pod has to go that uses more of the disk than it may; nothing when it does not.
/// `on_disk` tells whether what containers write beside their volumes counts for a container's limit.
pub(crate) fn over_limit(pod: &Pod, usage: &Usage, on_disk: bool) -> Option<Verdict> {
    let message = over_volume(pod, usage)
        .or_else(|| over_pod(pod, usage))
        .or_else(|| over_container(pod, usage, on_disk))?;
    Some(Verdict { reason: EVICTED, message, grace: Some(AT_ONCE), disrupts: false })
}

fn over_volume(pod: &Pod, usage: &Usage) -> Option<String> {
    pod.spec.volumes.iter().find_map(|volume| {
        let limit = volume.empty_dir.as_ref()?.size_limit?.units();
        let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0)?;
        let name = &volume.name;
        let used = usage.volumes.get(name).or_else(|| usage.in_memory.get(name))?;
        (used.bytes > limit).then(|| {
            format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{}\". ", binary(limit))
        })
    })
}

/// Returns a container's limit on the disk.
fn limit(container: &Container) -> Option<u64> {
    let limit = container.resources.limits.get(Resource::Storage.name())?.units();
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}

/// Tells whether a pod has any limit on the disk, so that it has to be measured.
pub(crate) fn is_limited(pod: &Pod) -> bool {
    let of_volume = |it: &crate::pod::spec::Volume| {
        it.empty_dir.as_ref().is_some_and(|volume| volume.size_limit.is_some())
    };
    pod.spec.volumes.iter().any(of_volume)
        || pod.spec.all_containers().any(|container| limit(container).is_some())
}

fn over_pod(pod: &Pod, usage: &Usage) -> Option<String> {
    let total = pod.spec.containers.iter().filter_map(limit).fold(0, u64::saturating_add);
    // An init container may have more than all that come after it.
    let inits = pod.spec.init_containers.iter().filter_map(limit);
    let most = inits.max().unwrap_or_default().max(total);
    let used = usage.space(Parts::All).plus(usage.more).bytes;
    (most > 0 && used > most).then(|| {
        let most = binary(most);
        format!("Pod ephemeral local storage usage exceeds the total limit of containers {most}. ")
    })
}

fn over_container(pod: &Pod, usage: &Usage, on_disk: bool) -> Option<String> {
    usage.containers.iter().find_map(|used| {
        let limit = limit(pod.spec.containers.iter().find(|it| it.name == used.name)?)?;
        let layer = if on_disk { used.layer } else { Space::default() };
        let name = &used.name;
        (used.logs.plus(layer).bytes > limit).then(|| {
            let limit = binary(limit);
            format!("Container {name} exceeded its local ephemeral storage limit \"{limit}\". ")
        })
    })
}

/// Writes an amount as the API does.
fn shown(amount: u64, resource: Resource) -> String {
    match resource {
        Resource::Memory | Resource::Storage => binary(amount),
        Resource::Inodes | Resource::Pids => decimal(amount),
    }
}

/// Writes a number with the largest suffix that leaves it whole.
fn binary(number: u64) -> String {
    scaled(number, 1024, &["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
}

fn decimal(number: u64) -> String {
    scaled(number, 1000, &["k", "M", "G", "T", "P", "E"])
}

fn scaled(mut number: u64, base: u64, suffixes: &[&'static str]) -> String {
    let mut suffix = "";
    for next in suffixes {
        if number == 0 || !number.is_multiple_of(base) {
            break;
        }
        (number, suffix) = (number / base, next);
    }
    format!("{number}{suffix}")
}
