//! Metrics in Prometheus' text form, under the names that kubelet and cAdvisor give them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use hyper::Response;

use super::Site;
use super::pods::containers;
use super::reply::{Body, Refusal, Reply, exposition};
use super::stats::{Look, Used, kibibytes, sum};
use crate::cri::words as w;
use crate::csi::shown::Filled;
use crate::pod::names;
use crate::probes::{BOUNDS, Tally};

/// Metrics that are being written.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    /// Begins a family.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // A string takes what is written.
        write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n").unwrap_or_default();
    }

    /// Writes one value; `at` is in Unix nanoseconds, 0 for now.
    fn one(&mut self, name: &str, labels: &[(&str, &str)], value: f64, at: i64) {
        self.0.push_str(name);
        for (index, (key, value)) in labels.iter().enumerate() {
            let begin = if index == 0 { '{' } else { ',' };
            let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            write!(self.0, "{begin}{key}=\"{value}\"").unwrap_or_default();
        }
        self.0.push_str(if labels.is_empty() { "" } else { "}" });
        write!(self.0, " {value}").unwrap_or_default();
        if at > 0 {
            write!(self.0, " {}", at / 1_000_000).unwrap_or_default();
        }
        self.0.push('\n');
    }

    /// Writes a family with a value for each container that has one.
    fn each<const N: usize>(
        &mut self,
        look: &Look,
        labels: fn(&Used) -> [(&'static str, &str); N],
        [name, kind, help]: [&str; 3],
        of: &dyn Fn(&Used) -> Option<(f64, i64)>,
    ) {
        self.family(name, kind, help);
        for used in &look.used {
            if let Some((value, at)) = of(used) {
                self.one(name, &labels(used), value, at);
            }
        }
    }

    /// Writes a family with one value.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64, at: i64) {
        self.family(name, kind, help);
        self.one(name, &[], value, at);
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
const fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

/// Writes what metrics-server reads.
pub(crate) fn resource(look: &Result<Look, Refusal>) -> Response<Body> {
    let mut text = Text::default();
    if let Ok(look) = look {
        node_and_containers(&mut text, look);
        pods(&mut text, look);
    }
    let failed = f64::from(u8::from(look.is_err()));
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    text.single("resource_scrape_error", "gauge", help, failed, 0);
    text.single("scrape_error", "gauge", help, failed, 0);
    exposition(text.0)
}

fn labels(used: &Used) -> [(&'static str, &str); 3] {
    [
        ("container", &used.found.name),
        ("namespace", used.label(names::POD_NAMESPACE)),
        ("pod", used.label(names::POD_NAME)),
    ]
}

fn cadvisor_labels(used: &Used) -> [(&'static str, &str); 6] {
    let [container, namespace, pod] = labels(used);
    let (id, image) = (used.found.id.as_str(), used.found.image.as_str());
    [container, ("id", id), ("image", image), ("name", id), namespace, pod]
}

fn node_and_containers(text: &mut Text, look: &Look) {
    let (cpu, memory) = (look.cpu, look.memory);
    let help = "Cumulative cpu time consumed by the node in core-seconds";
    text.single("node_cpu_usage_seconds_total", "counter", help, float(cpu.total) / 1e9, cpu.at);
    let help = "Current working set of the node in bytes";
    let working_set = float(memory.working_set);
    text.single("node_memory_working_set_bytes", "gauge", help, working_set, memory.at);
    let help = "Current swap usage of the node in bytes";
    text.single("node_swap_usage_bytes", "gauge", help, float(look.swap), memory.at);
    let mut each = |name, kind, help, of| text.each(look, labels, [name, kind, help], of);
    let help = "Cumulative cpu time consumed by the container in core-seconds";
    each("container_cpu_usage_seconds_total", "counter", help, &|used| {
        used.cpu.map(|cpu| (float(cpu.total) / 1e9, cpu.at))
    });
    let help = "Current working set of the container in bytes";
    each("container_memory_working_set_bytes", "gauge", help, &|used| {
        used.memory.map(|memory| (float(memory.working_set), memory.at))
    });
    let help = "Start time of the container since unix epoch in seconds";
    // metrics-server takes nothing of a pod of which it knows a container in part.
    each("container_start_time_seconds", "gauge", help, &|used| {
        used.cpu.zip(used.memory).map(|_| (seconds(used.found.created), 0))
    });
}

fn pods(text: &mut Text, look: &Look) {
    let mut pods = BTreeMap::<[&str; 3], Vec<&Used>>::new();
    for used in &look.used {
        let key = [names::POD_NAMESPACE, names::POD_NAME, names::POD_UID].map(|it| used.label(it));
        pods.entry(key).or_default().push(used);
    }
    let (cpu, memory) = ("pod_cpu_usage_seconds_total", "pod_memory_working_set_bytes");
    text.family(cpu, "counter", "Cumulative cpu time consumed by the pod in core-seconds");
    for ([namespace, pod, _], all) in &pods {
        let used = sum(all).0;
        text.one(cpu, &[("namespace", namespace), ("pod", pod)], float(used.total) / 1e9, used.at);
    }
    text.family(memory, "gauge", "Current working set of the pod in bytes");
    for ([namespace, pod, _], all) in &pods {
        let used = sum(all).1;
        let value = float(used.working_set);
        text.one(memory, &[("namespace", namespace), ("pod", pod)], value, used.at);
    }
}

/// Writes what is read of cAdvisor in kubelet.
pub(crate) fn cadvisor(look: &Look) -> Response<Body> {
    let mut text = Text::default();
    text.single("machine_cpu_cores", "gauge", "Number of logical CPU cores.", float(look.cores), 0);
    let total = float(look.memory_total);
    text.single(
        "machine_memory_bytes",
        "gauge",
        "Amount of memory installed on the machine.",
        total,
        0,
    );
    let mut each = |name, kind, help, of| text.each(look, cadvisor_labels, [name, kind, help], of);
    let help = "Cumulative cpu time consumed in seconds.";
    each("container_cpu_usage_seconds_total", "counter", help, &|used| {
        used.cpu.map(|cpu| (float(cpu.total) / 1e9, cpu.at))
    });
    let help = "Current working set in bytes.";
    each("container_memory_working_set_bytes", "gauge", help, &|used| {
        used.memory.map(|memory| (float(memory.working_set), memory.at))
    });
    let help =
        "Current memory usage in bytes, including all memory regardless of when it was accessed";
    each("container_memory_usage_bytes", "gauge", help, &|used| {
        used.memory.and_then(|memory| Some((float(memory.usage?), memory.at)))
    });
    each("container_memory_rss", "gauge", "Size of RSS in bytes.", &|used| {
        used.memory.and_then(|memory| Some((float(memory.rss?), memory.at)))
    });
    let help = "Number of bytes that are consumed by the container on this filesystem.";
    each("container_fs_usage_bytes", "gauge", help, &|used| {
        let layer = used.layer?;
        Some((float(layer.used_bytes?.value), layer.timestamp))
    });
    let help = "Start time of the container since unix epoch in seconds.";
    // metrics-server takes nothing of a pod of which it knows a container in part.
    each("container_start_time_seconds", "gauge", help, &|used| {
        used.cpu.zip(used.memory).map(|_| (seconds(used.found.created), 0))
    });
    networks(&mut text, look);
    exposition(text.0)
}

fn networks(text: &mut Text, look: &Look) {
    let received = ("container_network_receive_bytes_total", "Cumulative count of bytes received");
    let sent = ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted");
    for ((name, help), is_sent) in [(received, false), (sent, true)] {
        text.family(name, "counter", help);
        for (uid, network) in &look.networks {
            let one = look.used.iter().find(|used| used.label(names::POD_UID) == uid);
            let label = |key: &str| one.map_or("", |used| used.label(key));
            let labels = [
                ("interface", network.name.as_str()),
                ("namespace", label(names::POD_NAMESPACE)),
                ("pod", label(names::POD_NAME)),
            ];
            let bytes = if is_sent { network.tx_bytes } else { network.rx_bytes };
            text.one(name, &labels, float(bytes.map_or(0, |it| it.value)), 0);
        }
    }
}

/// Writes how often each probe was made, and what it came to.
pub(crate) fn probes(tally: &Tally) -> Response<Body> {
    let mut text = Text::default();
    let name = "prober_probe_total";
    let help =
        "Cumulative number of a liveness, readiness or startup probe for a container by result.";
    let all = tally.all();
    text.family(name, "counter", help);
    for (key, tries) in &all {
        for (result, count) in &tries.results {
            let labels = [
                ("container", key.container.as_str()),
                ("namespace", &key.namespace),
                ("pod", &key.pod),
                ("pod_uid", &key.uid),
                ("probe_type", &format!("{:?}", key.purpose)),
                ("result", result.name()),
            ];
            text.one(name, &labels, float(*count), 0);
        }
    }
    let name = "prober_probe_duration_seconds";
    text.family(name, "histogram", "Duration in seconds for a probe response.");
    for (key, tries) in all.iter().filter(|(_, tries)| tries.timed > 0) {
        let purpose = format!("{:?}", key.purpose);
        let labels = [
            ("container", key.container.as_str()),
            ("namespace", &key.namespace),
            ("pod", &key.pod),
            ("probe_type", &purpose),
        ];
        let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(tries.within.iter().chain([&tries.timed])) {
            let labels = [&labels[..], &[("le", &bound)]].concat();
            text.one(&format!("{name}_bucket"), &labels, float(*count), 0);
        }
        text.one(&format!("{name}_sum"), &labels, tries.seconds, 0);
        text.one(&format!("{name}_count"), &labels, float(tries.timed), 0);
    }
    exposition(text.0)
}

/// Writes how the pod engine itself is.
pub(crate) async fn own(site: &Arc<Site>) -> Reply {
    let (pods, found) = (site.pods().await?, containers(site, "").await?);
    let mut text = Text::default();
    text.family("kubelet_node_name", "gauge", "The node's name. The count is always 1.");
    text.one("kubelet_node_name", &[("node", &site.node)], 1.0, 0);
    let help = "Number of pods that the node is to run";
    text.single("kubelet_desired_pods", "gauge", help, float(pods.len() as u64), 0);
    let running: Vec<_> =
        found.iter().filter(|it| it.state == w::ContainerState::Running).collect();
    let mut uids: Vec<_> = running.iter().filter_map(|it| it.labels.get(names::POD_UID)).collect();
    uids.sort_unstable();
    uids.dedup();
    let help = "Number of pods that have a running pod sandbox";
    text.single("kubelet_running_pods", "gauge", help, float(uids.len() as u64), 0);
    let name = "kubelet_running_containers";
    text.family(name, "gauge", "Number of containers currently running");
    let ended = found.iter().filter(|it| it.state == w::ContainerState::Exited).count();
    text.one(name, &[("container_state", "running")], float(running.len() as u64), 0);
    text.one(name, &[("container_state", "exited")], float(ended as u64), 0);
    volumes(&mut text, &site.sources.csi.filled().await);
    process(&mut text);
    Ok(exposition(text.0))
}

/// Writes how full claimed volumes are, each once.
fn volumes(text: &mut Text, all: &[Filled]) {
    let claims: BTreeMap<_, _> =
        all.iter().map(|it| ((&*it.kept.namespace, &*it.kept.claim), it.fill)).collect();
    for (measure, name, help) in [
        (0, "available_bytes", "Number of available bytes in the volume"),
        (1, "capacity_bytes", "Capacity in bytes of the volume"),
        (2, "used_bytes", "Number of used bytes in the volume"),
        (3, "inodes_free", "Number of free inodes in the volume"),
        (4, "inodes", "Maximum number of inodes in the volume"),
        (5, "inodes_used", "Number of used inodes in the volume"),
    ] {
        let name = format!("kubelet_volume_stats_{name}");
        text.family(&name, "gauge", help);
        for ((namespace, claim), fill) in &claims {
            let labels = [("namespace", *namespace), ("persistentvolumeclaim", *claim)];
            text.one(&name, &labels, float(fill[measure]), 0);
        }
    }
}

/// Writes what every exporter tells of its own process.
fn process(text: &mut Text) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    // Behind the name, which may have anything in it.
    let (_, fields) = stat.rsplit_once(") ").unwrap_or_default();
    let fields: Vec<u64> = fields.split(' ').map(|it| it.parse().unwrap_or_default()).collect();
    let ticks = fields.get(11..13).unwrap_or_default().iter().sum();
    let help = "Total user and system CPU time spent in seconds.";
    text.single("process_cpu_seconds_total", "counter", help, float(ticks) / 100.0, 0);
    let resident = kibibytes(&read("/proc/self/status"), "VmRSS:");
    let help = "Resident memory size in bytes.";
    text.single("process_resident_memory_bytes", "gauge", help, float(resident), 0);
}
