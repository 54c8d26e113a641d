//! The judgements: facts in, findings out.

use serde::Serialize;

use super::facts::{Facts, Room, Runtime, Tried};
use crate::clock::rfc3339;
use crate::report::LinkState;

/// 2025-01-01: a clock before it was never set.
const UNSET_CLOCK: u64 = 1_735_689_600;

/// Below so many hundredths a disk is nearly full, and too full.
const SCARCE: u64 = 10;
const NONE_LEFT: u64 = 2;

/// What the agent and a small pod need, in KiB.
const MEMORY: u64 = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    Warning,
    Error,
}

/// What a check found, and what to do.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    pub(crate) found: String,
    /// Empty when there is nothing to do.
    pub(crate) advice: &'static str,
}

fn good(check: &'static str, found: impl Into<String>) -> Finding {
    Finding { check, level: Level::Ok, found: found.into(), advice: "" }
}

fn warning(check: &'static str, found: impl Into<String>, advice: &'static str) -> Finding {
    Finding { check, level: Level::Warning, found: found.into(), advice }
}

fn error(check: &'static str, found: impl Into<String>, advice: &'static str) -> Finding {
    Finding { check, level: Level::Error, found: found.into(), advice }
}

fn tried(check: &'static str, tried: &Tried, well: &str, advice: &'static str) -> Finding {
    match tried {
        Ok(()) => good(check, well),
        Err(reason) => error(check, reason.clone(), advice),
    }
}

/// Judges everything.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![configuration(facts), rivals(facts), clock(facts)];
    findings.extend(facts.resolved.as_ref().map(|found| {
        let advice = "look at /etc/resolv.conf, or name the cloud by its address";
        tried("dns", found, "the cloud has an address", advice)
    }));
    for (port, found) in &facts.ports {
        let well = format!("the cloud takes connections for {port}");
        findings.push(tried(
            "cloud port",
            found,
            &well,
            "look at the firewall, and whether CloudCore runs and listens there",
        ));
    }
    findings.extend([identity(facts), link(facts)]);
    findings.extend(facts.runtime.as_ref().map(runtime));
    findings.extend([cgroups(facts), cni(facts), kernel(facts)]);
    findings.extend(facts.rooms.iter().map(disk));
    findings.push(match &facts.database {
        None => good("database", "none yet"),
        Some(read) => tried(
            "database",
            read,
            "every page of it can be read",
            "restart metamanager, which restores a damaged one: 'edgectl restart metamanager'",
        ),
    });
    findings.push(match &facts.broker {
        None => good("mqtt", "no external broker is wanted"),
        Some((url, answers)) => tried(
            "mqtt",
            answers,
            url,
            "install and start mosquitto, or set modules.eventBus.mqttMode to 0",
        ),
    });
    findings.extend(facts.mappers.as_ref().map(|reason| {
        let advice = "only for devices with mappers: let them and devicetwin share a folder, or say \
                      'user: root' for devicetwin in supervisor.yaml";
        warning("mappers", format!("none can come: {reason}"), advice)
    }));
    findings.push(tried(
        "ports",
        &facts.own_port,
        "the node's own port is free or ours",
        "end who has it, or choose another modules.edged.tailoredKubeletConfig.readOnlyPort",
    ));
    findings.push(memory(facts));
    findings
}

fn configuration(facts: &Facts) -> Finding {
    let (said, taken) = &facts.configuration;
    match (taken, said.is_empty()) {
        (false, _) => error(
            "configuration",
            said.clone(),
            "'edgectl join' writes one; else mend the keys that are named",
        ),
        (true, false) => {
            warning("configuration", said.clone(), "mend or remove the keys that are named")
        }
        (true, true) => good("configuration", "nothing is wrong with it"),
    }
}

fn rivals(facts: &Facts) -> Finding {
    if facts.rivals.is_empty() {
        return good("other agents", "none");
    }
    error(
        "other agents",
        facts.rivals.join(", "),
        "stop and disable it: two agents end each other's pods",
    )
}

fn clock(facts: &Facts) -> Finding {
    if facts.now < UNSET_CLOCK {
        return error(
            "clock",
            "it was never set",
            "set it, and run a time service: certificates are not valid yet",
        );
    }
    good("clock", "it is set")
}

fn identity(facts: &Facts) -> Finding {
    let renew = "put a new token into modules.edgeHub.token, and 'edgectl restart edgehub'";
    let holds = match (&facts.certificate, &facts.token) {
        (Ok(Some(holds)), _) => holds,
        (Err(reason), _) => return error("certificate", reason.clone(), renew),
        (Ok(None), Some(Err(reason))) => return error("certificate", reason.clone(), renew),
        (Ok(None), Some(Ok(()))) => {
            return warning(
                "certificate",
                "there is a token of this cloud, and no certificate yet",
                "start the agent; 'edgectl status' says what keeps the cloud from issuing one",
            );
        }
        (Ok(None), None) => {
            return error(
                "certificate",
                "there is no certificate and no token",
                "'edgectl join' with the output of 'keadm gettoken'",
            );
        }
    };
    let (from, to) = *holds;
    let until = day(to);
    match facts.now {
        now if now < from => error(
            "certificate",
            format!("it holds from {}, which is later than this machine's clock", day(from)),
            "set the clock",
        ),
        now if now > to => error("certificate", format!("it expired at {until}"), renew),
        now if (to - now).saturating_mul(10) < to - from => warning(
            "certificate",
            format!("it holds until {until}, and was not renewed when it should have been"),
            "see 'edgectl logs edgehub', and that rotateCertificates is not false",
        ),
        _ => good("certificate", format!("it is this node's, and holds until {until}")),
    }
}

/// Writes a time in seconds since 1970.
fn day(seconds: u64) -> String {
    rfc3339(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}

fn runtime((endpoint, told): &(String, Result<Runtime, String>)) -> Finding {
    let check = "container runtime";
    match told {
        Err(reason) => error(
            check,
            format!("{endpoint}: {reason}"),
            "start the runtime, or name its socket in \
             modules.edged.tailoredKubeletConfig.containerRuntimeEndpoint",
        ),
        Ok(Runtime { clash: Some(clash), .. }) => error(
            check,
            clash.clone(),
            "set modules.edged.tailoredKubeletConfig.cgroupDriver to what the runtime uses",
        ),
        Ok(Runtime { name, version, clash: None }) => {
            good(check, format!("{name} {version} answers at {endpoint}"))
        }
    }
}

fn link(facts: &Facts) -> Finding {
    let Some(cloud) = &facts.cloud else {
        return error(
            "agent",
            "it does not run",
            "'systemctl start edgecore', or run 'edgecore' in a terminal",
        );
    };
    if cloud.state == LinkState::Connected {
        let expires = cloud
            .certificate_expires
            .map_or_else(String::new, |time| format!(", its certificate holds until {time}"));
        return good("agent", format!("the cloud hears this node{expires}"));
    }
    let reason = cloud.reason.clone().unwrap_or_else(|| "the cloud does not hear this node".into());
    error("agent", reason, "see 'edgectl status edgehub'")
}

fn cgroups(facts: &Facts) -> Finding {
    let Some(found) = &facts.controllers else {
        return warning(
            "cgroups",
            "no unified hierarchy (version 1)",
            "boot with systemd.unified_cgroup_hierarchy=1: modules have no memory bounds of their own without it",
        );
    };
    let missing: Vec<_> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|name| !found.split_whitespace().any(|word| word == *name))
        .collect();
    if missing.is_empty() {
        return good("cgroups", "version 2");
    }
    warning(
        "cgroups",
        format!("version 2 without {}", missing.join(", ")),
        "enable the controllers, for memory with cgroup_enable=memory on the kernel's command line",
    )
}

fn cni(facts: &Facts) -> Finding {
    match facts.networks {
        (0, _) => error(
            "cni",
            "no network is configured in /etc/cni/net.d",
            "install a network plugin; pods without hostNetwork do not start until then",
        ),
        (_, 0) => error(
            "cni",
            "no programs in /opt/cni/bin or /usr/lib/cni",
            "install containernetworking-plugins",
        ),
        _ => good("cni", "a network is configured"),
    }
}

fn kernel(facts: &Facts) -> Finding {
    if !facts.overlay {
        return warning(
            "kernel",
            "no overlay file system",
            "load the module 'overlay', which most container runtimes need",
        );
    }
    if !facts.forwarding {
        return warning(
            "kernel",
            "it forwards no packets",
            "set net.ipv4.ip_forward=1, or pods reach nothing outside",
        );
    }
    good("kernel", "it has what pods need")
}

fn disk(room: &Room) -> Finding {
    let Room { folder, bytes_free, inodes_free } = room;
    let least = inodes_free.map_or(*bytes_free, |inodes| inodes.min(*bytes_free));
    let inodes =
        inodes_free.map_or_else(String::new, |inodes| format!(" and {inodes} % of its files"));
    let found = format!("{folder} has {bytes_free} % of its bytes{inodes} free");
    match least {
        ..NONE_LEFT => error("disk", found, "make room: nothing can be committed on a full disk"),
        NONE_LEFT..SCARCE => warning("disk", found, "make room: pods are evicted below 10 %"),
        _ => good("disk", found),
    }
}

fn memory(facts: &Facts) -> Finding {
    match facts.memory {
        Some(available) if available < MEMORY => warning(
            "memory",
            format!("{} MiB are available", available / 1024),
            "the agent and a small pod need 64 MiB",
        ),
        Some(available) => good("memory", format!("{} MiB are available", available / 1024)),
        None => warning("memory", "/proc/meminfo cannot be read", "mount /proc"),
    }
}
