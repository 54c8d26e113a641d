//! What the pod engine is told by `edgecore.yaml`.

mod defence;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cgroup::{Driver, Groups};
use crate::pod::amounts::Room;
use crate::pod::sysctl;
pub(crate) use defence::Defence;

/// The sections of the file, as they come.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sections {
    edged: Option<Edged>,
    meta_manager: Option<MetaManager>,
    feature_gates: Option<BTreeMap<String, bool>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MetaManager {
    meta_server: Option<MetaServer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MetaServer {
    enable: bool,
    dummy_server: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Edged {
    root_directory: Option<String>,
    #[serde(rename = "nodeIP")]
    node_ip: Option<String>,
    node_labels: Option<BTreeMap<String, String>>,
    register_schedulable: Option<bool>,
    seccomp_default: Option<bool>,
    report_event: Option<bool>,
    max_per_pod_container_count: Option<i64>,
    max_container_count: Option<i64>,
    #[serde(rename = "minimumGCAge")]
    minimum_gc_age: Option<String>,
    pod_sandbox_image: Option<String>,
    tailored_kubelet_config: Option<Kubelet>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kubelet {
    container_runtime_endpoint: Option<String>,
    #[serde(rename = "clusterDNS")]
    cluster_dns: Option<Vec<String>>,
    cluster_domain: Option<String>,
    resolv_conf: Option<String>,
    pod_logs_dir: Option<String>,
    max_pods: Option<u32>,
    address: Option<String>,
    read_only_port: Option<u16>,
    register_node: Option<bool>,
    register_with_taints: Option<Vec<Box<RawValue>>>,
    node_status_max_images: Option<i32>,
    static_pod_path: Option<String>,
    #[serde(rename = "allowedUnsafeSysctls")]
    unsafe_sysctls: Option<Vec<String>>,
    cgroup_driver: Option<String>,
    cgroup_root: Option<String>,
    #[serde(rename = "cgroupsPerQOS")]
    cgroups_per_qos: Option<bool>,
    #[serde(flatten)]
    defence: defence::Keys,
}

/// The configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The runtime's socket.
    pub(crate) socket: PathBuf,
    /// Where the pods' volumes and files are.
    pub(crate) root: PathBuf,
    /// Where the pods' logs are.
    pub(crate) logs: PathBuf,
    /// The host's own resolv.conf; empty for none.
    pub(crate) resolv_conf: PathBuf,
    /// The cluster's name servers.
    pub(crate) cluster_dns: Vec<String>,
    /// The cluster's domain.
    pub(crate) cluster_domain: String,
    /// The node's addresses, if the operator chose them: one, or one of each family.
    pub(crate) addresses: Vec<IpAddr>,
    /// Labels of the node beyond those that it has by itself.
    pub(crate) labels: BTreeMap<String, String>,
    /// Taints that the node is registered with, as JSON.
    pub(crate) taints: Vec<Box<str>>,
    /// Whether pods may be scheduled from the beginning.
    pub(crate) schedulable: bool,
    /// Whether the node registers itself.
    pub(crate) register: bool,
    /// How many pods the node tells that it takes.
    pub(crate) max_pods: u32,
    /// The port that the node tells for logs and exec.
    pub(crate) port: u16,
    /// The address on which the node's API is served.
    pub(crate) api_address: IpAddr,
    /// Whether containers that do not say it run under the runtime's seccomp profile.
    pub(crate) seccomp_default: bool,
    /// Where pods find the Kubernetes API that this node serves itself, if it does.
    pub(crate) api: Option<(String, u16)>,
    /// How many images are told of; below 0 all, and 0 none, which is KubeEdge's default.
    pub(crate) max_images: i32,
    /// Whether events go to the cloud.
    pub(crate) report_event: bool,
    /// Where the static pods are: a folder or a file; empty for none.
    pub(crate) statics: PathBuf,
    /// Settings of the kernel that pods may have beyond those that touch no other pod: names, or
    /// beginnings and `*`.
    pub(crate) unsafe_sysctls: Vec<String>,
    /// The control groups of pods, if each has one of its own.
    pub(crate) groups: Option<Groups>,
    /// What the node does before it runs short.
    pub(crate) defence: Defence,
}

/// A part of something that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Bytes.
    Bytes(u64),
    /// Tenths of a percent.
    Share(u32),
}

impl Kept {
    /// Returns how much it is of `total`.
    pub(crate) fn amount(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Share(share) => {
                let kept = u128::from(total) * u128::from(share.min(1000)) / 1000;
                u64::try_from(kept).unwrap_or(u64::MAX)
            }
        }
    }

    /// Reads it, as `100Mi` or `10%`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let Some(percent) = text.strip_suffix('%') else {
            let units = crate::quantity::Quantity::parse(text)?.units();
            return u64::try_from(units).ok().map(Self::Bytes);
        };
        let tenths = crate::quantity::Quantity::parse(percent)?.milli() / 100;
        u32::try_from(tenths).ok().filter(|tenths| *tenths <= 1000).map(Self::Share)
    }
}

/// The scheme of a runtime's address.
const UNIX: &str = "unix://";

impl Sections {
    /// Checks the configuration.
    ///
    /// # Errors
    /// All that is wrong with it, one line each.
    pub(crate) fn check(self) -> anyhow::Result<Config> {
        let mut errors = Vec::new();
        let api = self.api(&mut errors);
        let edged = self.edged.unwrap_or_default();
        let mut kubelet = edged.tailored_kubelet_config.unwrap_or_default();
        let flags = defence::Flags {
            dead_each: edged.max_per_pod_container_count,
            dead_all: edged.max_container_count,
            dead_least_age: edged.minimum_gc_age,
            sandbox_image: edged.pod_sandbox_image,
        };
        let defence = std::mem::take(&mut kubelet.defence).check(flags, &mut errors);
        let groups = groups(&kubelet, &mut errors);
        let root = edged.root_directory.unwrap_or_else(|| "/var/lib/kubelet".to_owned());
        let logs = kubelet.pod_logs_dir.unwrap_or_else(|| "/var/log/pods".to_owned());
        let statics = kubelet.static_pod_path.unwrap_or_default();
        check_folders(&root, &logs, &statics, &mut errors);
        let socket = socket(kubelet.container_runtime_endpoint, &mut errors);
        let addresses = node_ips(&edged.node_ip.unwrap_or_default(), &mut errors);
        let api_address = api_address(kubelet.address.as_deref(), &mut errors);
        let unsafe_sysctls = sysctls(kubelet.unsafe_sysctls, &mut errors);
        anyhow::ensure!(errors.is_empty(), errors.join("\n"));
        let taints = kubelet.register_with_taints.unwrap_or_default();
        Ok(Config {
            socket,
            root: root.into(),
            logs: logs.into(),
            resolv_conf: kubelet
                .resolv_conf
                .unwrap_or_else(|| "/etc/resolv.conf".to_owned())
                .into(),
            cluster_dns: kubelet.cluster_dns.unwrap_or_default(),
            cluster_domain: kubelet.cluster_domain.unwrap_or_else(|| "cluster.local".to_owned()),
            addresses,
            labels: edged.node_labels.unwrap_or_default(),
            taints: taints.iter().map(|taint| taint.get().into()).collect(),
            schedulable: edged.register_schedulable.unwrap_or(true),
            register: kubelet.register_node.unwrap_or(true),
            max_pods: kubelet.max_pods.unwrap_or(110),
            api_address,
            port: kubelet.read_only_port.filter(|port| *port != 0).unwrap_or(10_350),
            seccomp_default: edged.seccomp_default.unwrap_or(false),
            max_images: kubelet.node_status_max_images.unwrap_or(0),
            report_event: edged.report_event.unwrap_or(false),
            statics: statics.into(),
            api,
            unsafe_sysctls,
            groups,
            defence,
        })
    }
}

impl Config {
    /// Returns what pods may have together of a node with so many cores and bytes.
    pub(crate) fn room(&self, cpus: u32, memory: u64, disk: u64) -> Room {
        self.defence.room(cpus, memory, disk, self.max_pods)
    }
}

impl Sections {
    /// Returns where pods find the API of this node: it is there for them when it asks who they are.
    fn api(&self, errors: &mut Vec<String>) -> Option<(String, u16)> {
        let gate = self.feature_gates.as_ref()?.get("requireAuthorization");
        let server = self.meta_manager.as_ref()?.meta_server.as_ref()?;
        let text = Some(&server.dummy_server).filter(|text| server.enable && !text.is_empty())?;
        if gate != Some(&true) {
            return None;
        }
        let parsed = text
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)));
        if parsed.is_none() {
            errors.push(format!(
                "metaServer.dummyServer is '{text}', expected an address and a port"
            ));
        }
        parsed.map(|(host, port)| (host.to_owned(), port))
    }
}

fn socket(endpoint: Option<String>, errors: &mut Vec<String>) -> PathBuf {
    let endpoint = endpoint.unwrap_or_else(|| "unix:///run/containerd/containerd.sock".to_owned());
    let socket = PathBuf::from(endpoint.strip_prefix(UNIX).unwrap_or(&endpoint));
    if !socket.is_absolute() {
        errors.push(format!(
            "containerRuntimeEndpoint is '{endpoint}', expected {UNIX} and a full path"
        ));
    }
    socket
}

/// Reads the node's addresses.
fn node_ips(text: &str, errors: &mut Vec<String>) -> Vec<IpAddr> {
    let parts = text.split(',').map(str::trim).filter(|_| !text.is_empty());
    let parsed: Option<Vec<IpAddr>> = parts.map(|part| part.parse().ok()).collect();
    let good = |it: &Vec<IpAddr>| match it.as_slice() {
        [] | [_] => true,
        [first, second] => first.is_ipv4() != second.is_ipv4(),
        _ => false,
    };
    parsed.filter(good).unwrap_or_else(|| {
        let expected = "expected an IP address, or one of each family with a comma between them";
        errors.push(format!("edged.nodeIP is '{text}', {expected}"));
        Vec::new()
    })
}

fn sysctls(patterns: Option<Vec<String>>, errors: &mut Vec<String>) -> Vec<String> {
    let patterns = patterns.unwrap_or_default();
    errors.extend(patterns.iter().filter_map(|it| sysctl::check(it).err()));
    patterns
}

fn check_folders(root: &str, logs: &str, statics: &str, errors: &mut Vec<String>) {
    for (key, folder) in
        [("edged.rootDirectory", root), ("podLogsDir", logs), ("staticPodPath", statics)]
    {
        let none = folder.is_empty() && key == "staticPodPath";
        if !(folder.starts_with('/') || none) {
            errors.push(format!("{key} is '{folder}', expected a full path"));
        }
    }
}

/// Returns where the node's API is served: on this host alone unless the operator says it.
/// Returns where the control groups of pods are to be, unless they are to have none.
fn groups(kubelet: &Kubelet, errors: &mut Vec<String>) -> Option<Groups> {
    let driver = match kubelet.cgroup_driver.as_deref().unwrap_or_default() {
        "" | "cgroupfs" => Driver::Cgroupfs,
        "systemd" => Driver::Systemd,
        other => {
            errors.push(format!("cgroupDriver is '{other}', expected cgroupfs or systemd"));
            return None;
        }
    };
    let root = kubelet.cgroup_root.clone().unwrap_or_default();
    kubelet.cgroups_per_qos.unwrap_or(true).then_some(Groups { driver, root })
}

fn api_address(text: Option<&str>, errors: &mut Vec<String>) -> IpAddr {
    let text = text.filter(|text| !text.is_empty()).unwrap_or("127.0.0.1");
    text.parse().unwrap_or_else(|_| {
        errors.push(format!("tailoredKubeletConfig.address is '{text}', expected an IP address"));
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    })
}

#[cfg(test)]
mod tests;
