//! Whether a pod that the cloud gave to this node can run here: kubelet's checks, in its words. What
//! runs already is not asked again. Pure.

#[cfg(test)]
mod tests;

use crate::pod::amounts::{Quality, Room, is_critical, quality, request};
use crate::pod::make::rights;
use crate::pod::placement::{Taint, Terms};
use crate::pod::spec::{Pod, Port, Profile};
use crate::pod::sysctl;
use crate::pressure::threshold::Pressure;
use crate::pressure::{EVICTED, Pressures};
use crate::status::Verdict;

/// The label of a node's operating system.
const OS: &str = "kubernetes.io/os";

fn no(reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict::new(reason, message)
}

fn unmet(predicate: &'static str, why: &str) -> Verdict {
    no(predicate, format!("Predicate {predicate} failed: {why}"))
}

fn short(resource: &str, reason: &'static str, requested: i64, used: i64, room: i64) -> Verdict {
    let message = format!(
        "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, \
         capacity: {room}"
    );
    no(reason, message)
}

/// Returns why no pod may come to a host that is shutting down.
pub(crate) fn leaving() -> Verdict {
    no("NodeShutdown", "Pod was rejected as the node is shutting down.")
}

/// Checks whether a pod of the cloud may come to a node that is short of something. Where that is
/// memory alone, those may that asked for some, or that bear it.
///
/// # Errors
/// What the node is short of.
pub(crate) fn bears(pod: &Pod, pressures: &Pressures) -> Result<(), Verdict> {
    let of_memory = || Taint {
        key: "node.kubernetes.io/memory-pressure".to_owned(),
        effect: "NoSchedule".to_owned(),
        value: String::new(),
    };
    let only_memory = pressures.iter().eq([&Pressure::Memory]);
    let may_come = || {
        quality(pod) != Quality::BestEffort
            || pod.spec.tolerations.iter().any(|it| it.bears(&of_memory()))
    };
    if pressures.is_empty() || is_critical(pod, false) || (only_memory && may_come()) {
        return Ok(());
    }
    let names: Vec<_> = pressures.iter().map(|it| it.name()).collect();
    Err(no(EVICTED, format!("The node had condition: [{}]. ", names.join(" "))))
}

/// Checks what needs nothing but the pods that are here already.
///
/// # Errors
/// Why the pod cannot run here.
pub(crate) fn fits<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod> + Clone,
    room: &Room,
) -> Result<(), Verdict> {
    let spec = &pod.spec;
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(OS));
    if label.is_some_and(|os| os != "linux") {
        let message = format!("Failed to admit pod as the `{OS}` label doesn't match node label");
        return Err(no("PodOSSelectorNodeLabelDoesNotMatch", message));
    }
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        return Err(no("PodOSNotSupported", message));
    }
    let count = i64::try_from(others.clone().count()).unwrap_or(i64::MAX);
    if count >= room.pods {
        return Err(short("pods", "OutOfpods", 1, count, room.pods));
    }
    for (resource, reason, room) in [
        ("cpu", "OutOfcpu", room.cpu),
        ("memory", "OutOfmemory", room.memory),
        ("ephemeral-storage", "OutOfephemeral-storage", room.storage),
    ] {
        let requested = request(pod, resource);
        if requested == 0 {
            continue;
        }
        let used =
            others.clone().map(|other| request(other, resource)).fold(0, i64::saturating_add);
        if requested > room.saturating_sub(used) {
            return Err(short(resource, reason, requested, used, room));
        }
    }
    let taken = others.flat_map(ports);
    if ports(pod).any(|own| taken.clone().any(|other| clash(own, other))) {
        let why = "node(s) didn't have free ports for the requested pod ports";
        return Err(unmet("NodePorts", why));
    }
    Ok(())
}

/// Checks what the pod wants of the kernel; `armor` is whether the host has AppArmor.
///
/// # Errors
/// Why the pod cannot run here.
pub(crate) fn may(pod: &Pod, sysctls: &[String], armor: bool) -> Result<(), Verdict> {
    sysctl::allowed(&pod.spec, sysctls).map_err(|why| no("SysctlForbidden", why))?;
    let all = pod.spec.all_containers();
    let profiles: Vec<Profile> = all
        .filter_map(|it| rights::armor(pod, it))
        .filter(|profile| profile.r#type != "Unconfined")
        .collect();
    let cannot = |why: &str| Err(no("AppArmor", format!("Cannot enforce AppArmor: {why}")));
    if !profiles.is_empty() && !armor {
        return cannot("AppArmor is not enabled on the host");
    }
    let nameless = |it: &Profile| {
        it.r#type == "Localhost"
            && it.localhost_profile.as_deref().is_none_or(|name| name.trim().is_empty())
    };
    if profiles.iter().any(nameless) {
        return cannot("invalid empty AppArmor profile name");
    }
    Ok(())
}

/// Checks what the pod wants of the node itself. Taints do not keep off what is of the node's own.
///
/// # Errors
/// Why the pod cannot run here.
pub(crate) fn suits(pod: &Pod, is_static: bool, node: &str, terms: &Terms) -> Result<(), Verdict> {
    let spec = &pod.spec;
    let selected =
        spec.node_selector.iter().all(|(key, value)| terms.labels.get(key) == Some(value));
    if !selected || !spec.affinity.as_ref().is_none_or(|it| it.suits(node, &terms.labels)) {
        let why = "node(s) didn't match Pod's node affinity/selector";
        return Err(unmet("NodeAffinity", why));
    }
    let mut driving = terms.taints.iter().filter(|taint| taint.effect == "NoExecute");
    let unborne = driving.any(|taint| !spec.tolerations.iter().any(|it| it.bears(taint)));
    if unborne && !is_static {
        let why = "node(s) had taints that the pod didn't tolerate";
        return Err(unmet("TaintToleration", why));
    }
    Ok(())
}

/// Returns the ports of the node that a pod takes for as long as it lives.
fn ports(pod: &Pod) -> impl Iterator<Item = &Port> + Clone {
    let sidecars = pod.spec.init_containers.iter().filter(|init| init.is_sidecar());
    let all = pod.spec.containers.iter().chain(sidecars);
    all.flat_map(|container| &container.ports).filter(|port| port.host_port > 0)
}

fn protocol(port: &Port) -> &str {
    if port.protocol.is_empty() { "TCP" } else { &port.protocol }
}

fn clash(one: &Port, other: &Port) -> bool {
    let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0";
    one.host_port == other.host_port
        && protocol(one) == protocol(other)
        && (any(&one.host_ip) || any(&other.host_ip) || one.host_ip == other.host_ip)
}
