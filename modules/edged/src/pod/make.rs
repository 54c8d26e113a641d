//! A pod's sandbox and containers in the runtime's words. Pure: what comes from outside the pod is
//! handed in.

pub(crate) mod rights;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use super::amounts::{Quality, asked, is_critical, limit, of_containers, quality, quota, shares};
use super::names;
use super::spec::{Container, Pod};
use crate::cgroup::{Groups, Kernel, Swap};
use crate::cri::words as w;

/// The name server settings of a host or a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dns {
    pub(crate) servers: Vec<String>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<String>,
}

impl Dns {
    /// Reads a resolv.conf; the last line of a kind counts.
    pub(crate) fn parse(text: &str) -> Self {
        let mut dns = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => dns.servers.extend(words.next()),
                Some("search") => dns.searches = words.collect(),
                Some("options") => dns.options = words.collect(),
                Some(_) | None => {}
            }
        }
        dns
    }
}

/// What a pod's making needs beside the pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings<'a> {
    pub(crate) host_dns: Dns,
    pub(crate) cluster_dns: &'a [String],
    pub(crate) cluster_domain: &'a str,
    /// The folder of all logs.
    pub(crate) logs: Option<&'a Path>,
    /// The folder that seccomp profiles are in.
    pub(crate) root: Option<&'a Path>,
    pub(crate) seccomp_default: bool,
    /// The control groups of pods, if each has one.
    pub(crate) groups: Option<&'a Groups>,
    /// The node's memory in bytes.
    pub(crate) memory: i64,
    /// Over how many microseconds limits on the processor hold; nothing when they do not count.
    pub(crate) quota_period: Option<i64>,
    pub(crate) kernel: Kernel,
}

/// Returns the name servers of a pod.
fn dns(pod: &Pod, settings: &Settings<'_>) -> Dns {
    let spec = &pod.spec;
    let policy = match spec.dns_policy.as_str() {
        "ClusterFirst" | "" if spec.host_network => "Default",
        "" => "ClusterFirst",
        policy => policy,
    };
    let mut dns = match policy {
        "None" => Dns::default(),
        "ClusterFirst" | "ClusterFirstWithHostNet" if !settings.cluster_dns.is_empty() => {
            let (namespace, domain) = (&pod.metadata.namespace, settings.cluster_domain);
            let mut searches: Vec<String> = if domain.is_empty() {
                Vec::new()
            } else {
                vec![
                    format!("{namespace}.svc.{domain}"),
                    format!("svc.{domain}"),
                    domain.to_owned(),
                ]
            };
            searches.extend(settings.host_dns.searches.iter().cloned());
            let servers = settings.cluster_dns.to_vec();
            Dns { servers, searches, options: vec!["ndots:5".to_owned()] }
        }
        _ => settings.host_dns.clone(),
    };
    if let Some(own) = &spec.dns_config {
        dns.servers.extend(own.nameservers.iter().cloned());
        dns.searches.extend(own.searches.iter().cloned());
        for option in &own.options {
            let name = option.name.as_str();
            dns.options.retain(|known| known.split(':').next() != Some(name));
            dns.options.push(match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                Some(_) | None => name.to_owned(),
            });
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    dns.servers.retain(|server| seen.insert(server.clone()));
    dns.searches.retain(|search| seen.insert(search.clone()));
    dns
}

/// Returns a pod's host name, and its domain if it has one.
pub(crate) fn host_name(pod: &Pod, domain: &str) -> (String, Option<String>) {
    let spec = &pod.spec;
    let name = if spec.hostname.is_empty() { &pod.metadata.name } else { &spec.hostname };
    let name = name.chars().take(63).collect::<String>();
    let name = name.trim_end_matches(['-', '.']).to_owned();
    let full = (!spec.subdomain.is_empty() && !domain.is_empty())
        .then(|| format!("{name}.{}.{}.svc.{domain}", spec.subdomain, pod.metadata.namespace));
    (name, full)
}

/// Returns what the kernel of a pod's sandbox is told as its name.
pub(crate) fn kernel_name(pod: &Pod, domain: &str) -> String {
    let (name, full) = host_name(pod, domain);
    full.filter(|_| pod.spec.set_hostname_as_fqdn == Some(true)).unwrap_or(name)
}

/// Writes the pod's /etc/hosts as kubelet does.
pub(crate) fn hosts_file(pod: &Pod, ips: &[String], domain: &str, of_host: &str) -> String {
    let mut text = if pod.spec.host_network {
        format!("# Kubernetes-managed hosts file (host network).\n{of_host}")
    } else {
        let (name, full) = host_name(pod, domain);
        let names = full.map_or_else(|| name.clone(), |full| format!("{full}\t{name}"));
        let fixed = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
            ::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
            fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
        ips.iter().fold(fixed.to_owned(), |text, ip| text + &format!("{ip}\t{names}\n"))
    };
    if !pod.spec.host_aliases.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
        for alias in &pod.spec.host_aliases {
            text += &format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t"));
        }
    }
    text
}

/// Returns the sandbox of a pod. `seen` is when the pod came, in RFC 3339.
pub(crate) fn sandbox(
    pod: &Pod,
    settings: &Settings<'_>,
    attempt: u32,
    seen: &str,
) -> w::PodSandboxConfig {
    let metadata = &pod.metadata;
    let own = pod.spec.security_context.as_ref();
    let Dns { servers, searches, options } = dns(pod, settings);
    let ports = pod.spec.all_containers().flat_map(|container| &container.ports);
    let port_mappings = ports
        .filter(|port| port.host_port > 0 && !pod.spec.host_network)
        .map(|port| {
            let protocol = match port.protocol.as_str() {
                "UDP" => w::Protocol::Udp,
                "SCTP" => w::Protocol::Sctp,
                _ => w::Protocol::Tcp,
            };
            w::PortMapping {
                protocol: protocol.into(),
                container_port: port.container_port,
                host_port: port.host_port,
                host_ip: port.host_ip.clone(),
            }
        })
        .collect();
    let security = rights::sandbox(pod);
    let sysctls = own.map(|own| &own.sysctls).into_iter().flatten();
    let sysctls = sysctls.map(|it| (super::sysctl::plain(&it.name), it.value.clone())).collect();
    let hostname = kernel_name(pod, settings.cluster_domain);
    let logs = settings.logs.map(|logs| names::log_folder(logs, pod).display().to_string());
    w::PodSandboxConfig {
        metadata: Some(w::PodSandboxMetadata {
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            namespace: metadata.namespace.clone(),
            attempt,
        }),
        hostname: if pod.spec.host_network { String::new() } else { hostname },
        log_directory: logs.unwrap_or_default(),
        dns_config: Some(w::DnsConfig { servers, searches, options }),
        port_mappings,
        labels: names::sandbox_labels(pod),
        annotations: names::sandbox_annotations(pod, seen),
        linux: Some(w::LinuxPodSandboxConfig {
            cgroup_parent: settings
                .groups
                .map(|groups| groups.of_pod(&metadata.uid, quality(pod)))
                .unwrap_or_default(),
            security_context: Some(security),
            sysctls,
            overhead: Some(overhead(pod, settings)),
            resources: Some(of_sandbox(pod, settings)),
        }),
    }
}

/// Returns how willingly the kernel kills a container when memory is short.
fn oom_score(pod: &Pod, container: &Container, memory: i64) -> i64 {
    let asked = |container: &Container| i128::from(asked(container, "memory"));
    if pod.spec.priority_class_name == "system-node-critical" && is_critical(pod, false) {
        return -997;
    }
    match quality(pod) {
        Quality::Guaranteed => -997,
        Quality::BestEffort => 1000,
        Quality::Burstable => {
            let mut own = asked(container);
            if container.is_sidecar() {
                // It is to outlive those that it serves.
                own = own.max(pod.spec.containers.iter().map(asked).min().unwrap_or_default());
            }
            let score = 1000 - 1000 * own / i128::from(memory.max(1));
            i64::try_from(score.clamp(3, 999)).unwrap_or(999)
        }
    }
}

/// Returns what a pod takes by itself; a runtime that makes machines of pods needs to know it.
fn overhead(pod: &Pod, settings: &Settings<'_>) -> w::LinuxContainerResources {
    let own = &pod.spec.overhead;
    if own.is_empty() {
        return w::LinuxContainerResources::default();
    }
    let milli = own.get("cpu").map_or(0, |it| it.milli());
    let memory = own.get("memory").map_or(0, |it| it.units());
    bounded(milli, milli, memory, settings)
}

/// Returns what the containers of a pod use together.
fn of_sandbox(pod: &Pod, settings: &Settings<'_>) -> w::LinuxContainerResources {
    let limits = |resource: &str| of_containers(pod, |container| limit(container, resource));
    let milli = of_containers(pod, |container| asked(container, "cpu"));
    bounded(milli, limits("cpu"), limits("memory"), settings)
}

/// Writes amounts for the runtime: thousandths of a core that are asked for and that may be used, and
/// bytes of memory; 0 is no limit.
fn bounded(
    asked: i64,
    milli: i64,
    memory: i64,
    settings: &Settings<'_>,
) -> w::LinuxContainerResources {
    let limited = Some(milli).filter(|milli| *milli > 0).zip(settings.quota_period);
    w::LinuxContainerResources {
        cpu_period: limited.map_or(0, |(_, period)| period),
        cpu_quota: limited.map_or(0, |(milli, period)| quota(milli, period)),
        cpu_shares: shares(asked),
        memory_limit_in_bytes: memory,
        ..w::LinuxContainerResources::default()
    }
}

fn resources(
    pod: &Pod,
    container: &Container,
    settings: &Settings<'_>,
) -> w::LinuxContainerResources {
    let memory = limit(container, "memory");
    let huge = settings.kernel.huge_pages.iter().map(|size| w::HugepageLimit {
        page_size: size.name.clone(),
        limit: u64::try_from(limit(container, &size.resource)).unwrap_or_default(),
    });
    let no_swap = [("memory.swap.max".to_owned(), "0".to_owned())];
    w::LinuxContainerResources {
        oom_score_adj: oom_score(pod, container, settings.memory),
        hugepage_limits: huge.collect(),
        unified: if settings.kernel.swap == Swap::Unified { no_swap.into() } else { [].into() },
        memory_swap_limit_in_bytes: if settings.kernel.swap == Swap::Split { memory } else { 0 },
        ..bounded(asked(container, "cpu"), limit(container, "cpu"), memory, settings)
    }
}

/// What a container's making needs beside pod and container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    pub(crate) restarts: u32,
    /// What the runtime calls the image.
    pub(crate) image: String,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) mounts: Vec<w::Mount>,
    /// What comes with the devices of plug-ins.
    pub(crate) devices: Extra,
    /// The container whose processes it is to see, by the runtime's id; for its own empty.
    pub(crate) target: String,
}

/// What a container gets with the devices that plug-ins gave it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Extra {
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) mounts: Vec<w::Mount>,
    pub(crate) devices: Vec<w::Device>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Devices by the names of their descriptions.
    pub(crate) named: Vec<w::CdiDevice>,
}

/// Returns a container of a pod.
pub(crate) fn container(
    pod: &Pod,
    container: &Container,
    settings: &Settings<'_>,
    parts: Parts,
) -> w::ContainerConfig {
    let Parts { restarts, image, mut variables, mut mounts, devices: extra, target } = parts;
    // What the pod sets itself goes before what a plug-in sets.
    let is_new = |(key, _): &(String, String)| !variables.iter().any(|(known, _)| known == key);
    let more: Vec<_> = extra.variables.into_iter().filter(is_new).collect();
    variables.extend(more);
    mounts.extend(extra.mounts);
    let mut annotations = extra.annotations;
    annotations.extend(names::container_annotations(pod, container, restarts));
    let signal = container.lifecycle.as_ref().and_then(|it| it.stop_signal.as_deref());
    let lookup = |name: &str| {
        variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let expand = |texts: &[String]| {
        texts.iter().map(|text| crate::env::expand(text, lookup)).collect::<Vec<String>>()
    };
    w::ContainerConfig {
        metadata: Some(w::ContainerMetadata { name: container.name.clone(), attempt: restarts }),
        image: Some(w::ImageSpec { image }),
        command: expand(&container.command),
        args: expand(&container.args),
        working_dir: container.working_dir.clone(),
        mounts,
        devices: extra.devices,
        cdi_devices: extra.named,
        stop_signal: signal.map_or(0, rights::signal),
        labels: names::container_labels(pod, container),
        annotations,
        log_path: names::log_file(&container.name, restarts),
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        linux: Some(w::LinuxContainerConfig {
            resources: Some(resources(pod, container, settings)),
            security_context: Some(rights::container(pod, container, settings, target)),
        }),
        envs: variables.into_iter().map(|(key, value)| w::KeyValue { key, value }).collect(),
    }
}

/// Checks that a container that may not run as root does not.
///
/// # Errors
/// Why it would, or why that cannot be known, as kubelet says it.
pub(crate) fn check_user(pod: &Pod, container: &Container, image: &w::Image) -> Result<(), String> {
    let of_pod = pod.spec.security_context.as_ref();
    let own = container.security_context.as_ref();
    let wanted = own
        .and_then(|own| own.run_as_non_root)
        .or_else(|| of_pod?.run_as_non_root)
        .unwrap_or(false);
    if !wanted {
        return Ok(());
    }
    let user = own.and_then(|own| own.run_as_user).or_else(|| of_pod?.run_as_user);
    match (user, &image.uid) {
        (Some(0), _) => Err("container's runAsUser breaks non-root policy".to_owned()),
        (Some(_), _) => Ok(()),
        (None, Some(w::Int64Value { value: 0 })) => {
            Err("container has runAsNonRoot and image will run as root".to_owned())
        }
        (None, Some(_)) => Ok(()),
        (None, None) if image.username.is_empty() => {
            Err("container has runAsNonRoot and image will run as root".to_owned())
        }
        (None, None) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root",
            image.username
        )),
    }
}
