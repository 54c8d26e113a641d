//! What a pod asks for and may use, how well that is secured, and how much depends on the pod. Pure.

use std::collections::BTreeMap;

use super::spec::{Container, Pod, Quantity};

/// How well a pod's resources are secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quality {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// Judges a pod's requests and limits.
pub(crate) fn quality(pod: &Pod) -> Quality {
    let relevant = |map: &BTreeMap<String, Quantity>, key: &str| {
        map.get(key).copied().filter(|quantity| quantity.milli() > 0)
    };
    let (mut any, mut all) = (false, true);
    for container in pod.spec.all_containers() {
        for key in ["cpu", "memory"] {
            let limit = relevant(&container.resources.limits, key);
            let request = relevant(&container.resources.requests, key);
            any |= limit.is_some() || request.is_some();
            all &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, all) {
        (false, _) => Quality::BestEffort,
        (true, true) => Quality::Guaranteed,
        (true, false) => Quality::Burstable,
    }
}

/// Returns how many shares of the processor so many thousandths of a core are.
pub(crate) const fn shares(milli: i64) -> i64 {
    let shares = milli.saturating_mul(1024) / 1000;
    if shares < 2 {
        2
    } else if shares > 262_144 {
        262_144
    } else {
        shares
    }
}

/// Returns how many microseconds of a period so many thousandths of a core are.
pub(crate) fn quota(milli: i64, period: i64) -> i64 {
    (milli.saturating_mul(period) / 1000).max(1000)
}

/// Returns what a pod asks for of a resource: what its containers take together, and the pod by itself.
pub(crate) fn request(pod: &Pod, resource: &str) -> i64 {
    together(pod, resource, |container| asked(container, resource))
}

/// Returns what a container asks for of a resource; its limit where it says no more.
pub(crate) fn asked(container: &Container, resource: &str) -> i64 {
    let lists = &container.resources;
    let asked = lists.requests.get(resource).or_else(|| lists.limits.get(resource));
    asked.map_or(0, |it| amount(resource, *it)).max(0)
}

/// Returns what a container may use of a resource; 0 where it has no limit.
pub(crate) fn limit(container: &Container, resource: &str) -> i64 {
    container.resources.limits.get(resource).map_or(0, |it| amount(resource, *it)).max(0)
}

/// Adds up what a pod has: what its containers have together, and what it takes by itself of this
/// resource.
pub(crate) fn together(pod: &Pod, resource: &str, of: impl Fn(&Container) -> i64) -> i64 {
    let overhead = pod.spec.overhead.get(resource);
    let overhead = overhead.map_or(0, |it| amount(resource, *it));
    of_containers(pod, of).saturating_add(overhead.max(0))
}

/// Returns an amount of a resource: thousandths of a core, or else units.
fn amount(resource: &str, quantity: Quantity) -> i64 {
    if resource == "cpu" { quantity.milli() } else { quantity.units() }
}

/// Adds up what the containers of a pod have together: the ordinary ones and the sidecars, or an init
/// container beside the sidecars that are up before it, whichever is more.
pub(crate) fn of_containers(pod: &Pod, of: impl Fn(&Container) -> i64) -> i64 {
    let (mut sidecars, mut most) = (0_i64, 0);
    for init in &pod.spec.init_containers {
        let beside = sidecars.saturating_add(of(init));
        most = beside.max(most);
        if init.is_sidecar() {
            sidecars = beside;
        }
    }
    pod.spec.containers.iter().map(of).fold(sidecars, i64::saturating_add).max(most)
}

/// The least priority of pods that the system cannot do without.
const CRITICAL: i32 = 2_000_000_000;

/// Tells whether a pod is one that the system cannot do without: no pressure keeps it off the node,
/// nor drives it from there.
pub(crate) fn is_critical(pod: &Pod, is_static: bool) -> bool {
    is_static || pod.spec.priority.is_some_and(|priority| priority >= CRITICAL)
}

/// What all pods of the node may have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// Thousandths of a core.
    pub(crate) cpu: i64,
    /// Bytes.
    pub(crate) memory: i64,
    /// Bytes of the disk.
    pub(crate) storage: i64,
    /// How many there may be.
    pub(crate) pods: i64,
}
