//! How pods and their parts are named towards the runtime: labels, annotations, hashes and folders
//! as kubelet 1.32 writes them, so that each adopts what the other started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::spec::{Container, Pod};

pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub(crate) const HASH: &str = "io.kubernetes.container.hash";
pub(crate) const RESTARTS: &str = "io.kubernetes.container.restartCount";
pub(crate) const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub(crate) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub(crate) const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
pub(crate) const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
const PORTS: &str = "io.kubernetes.container.ports";
pub(crate) const SEEN: &str = "kubernetes.io/config.seen";
pub(crate) const SOURCE: &str = "kubernetes.io/config.source";

/// Where the message of a container's end is mounted when the pod does not say.
pub(crate) const MESSAGE_FILE: &str = "/dev/termination-log";

/// How long a pod may take to end when nothing says it.
pub(crate) const DEFAULT_GRACE: i64 = 30;

/// Returns the hash by which a change of a container is noticed: FNV-1a with 32 bits over a dump of
/// the fields that may change in a running pod. The dump is that of Go's spew for a byte slice.
pub(crate) fn hash(container: &Container) -> u32 {
    let escaped = |text: &str| {
        let json = serde_json::Value::from(text).to_string();
        let json = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
    };
    let json =
        format!(r#"{{"image":{},"name":{}}}"#, escaped(&container.image), escaped(&container.name));
    let numbers: Vec<String> = json.bytes().map(|byte| byte.to_string()).collect();
    let dump = format!("([]uint8)[{}]", numbers.join(" "));
    fnv(&dump)
}

/// Sums a text up: FNV-1a with 32 bits.
pub(crate) fn fnv(text: &str) -> u32 {
    text.bytes()
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Returns the labels that find everything of one pod.
pub(crate) fn selector(uid: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(POD_UID.to_owned(), uid.to_owned())])
}

/// Returns the labels of a pod's sandbox: the pod's own, and who it is.
pub(crate) fn sandbox_labels(pod: &Pod) -> BTreeMap<String, String> {
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.extend(identity(pod));
    labels
}

/// Returns the labels of a container.
pub(crate) fn container_labels(pod: &Pod, container: &Container) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<_, _> = identity(pod).into();
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    labels
}

fn identity(pod: &Pod) -> [(String, String); 3] {
    let metadata = &pod.metadata;
    [(POD_NAME, &metadata.name), (POD_NAMESPACE, &metadata.namespace), (POD_UID, &metadata.uid)]
        .map(|(key, value)| (key.to_owned(), value.clone()))
}

/// Returns the annotations of a pod's sandbox; `seen` is when the pod came, in RFC 3339.
pub(crate) fn sandbox_annotations(pod: &Pod, seen: &str) -> BTreeMap<String, String> {
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    annotations.entry(SEEN.to_owned()).or_insert_with(|| seen.to_owned());
    annotations.entry(SOURCE.to_owned()).or_insert_with(|| "api".to_owned());
    annotations
}

/// Returns the annotations of a container.
pub(crate) fn container_annotations(
    pod: &Pod,
    container: &Container,
    restarts: u32,
) -> BTreeMap<String, String> {
    let text = |text: &Option<String>, default: &str| {
        text.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned())
    };
    let mut annotations = BTreeMap::from(
        [
            (HASH, format!("{:x}", hash(container))),
            (RESTARTS, restarts.to_string()),
            (MESSAGE_PATH, text(&container.termination_message_path, MESSAGE_FILE)),
            (MESSAGE_POLICY, text(&container.termination_message_policy, "File")),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    if let Some(grace) = pod.spec.termination_grace_period_seconds {
        annotations.insert(GRACE.to_owned(), grace.to_string());
    }
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        annotations.insert(DELETION_GRACE.to_owned(), grace.to_string());
    }
    if !container.ports.is_empty() {
        annotations.insert(PORTS.to_owned(), ports(container));
    }
    annotations
}

/// Writes the container's ports as Go does, which leaves out what is empty.
fn ports(container: &Container) -> String {
    let ports: Vec<serde_json::Value> = container
        .ports
        .iter()
        .map(|port| {
            let mut value = serde_json::Map::new();
            if !port.name.is_empty() {
                value.insert("name".to_owned(), port.name.clone().into());
            }
            if port.host_port != 0 {
                value.insert("hostPort".to_owned(), port.host_port.into());
            }
            value.insert("containerPort".to_owned(), port.container_port.into());
            let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
            value.insert("protocol".to_owned(), protocol.into());
            if !port.host_ip.is_empty() {
                value.insert("hostIP".to_owned(), port.host_ip.clone().into());
            }
            value.into()
        })
        .collect();
    serde_json::Value::from(ports).to_string()
}

/// Returns the folder of a pod's logs.
pub(crate) fn log_folder(logs: &Path, pod: &Pod) -> PathBuf {
    let metadata = &pod.metadata;
    logs.join(format!("{}_{}_{}", metadata.namespace, metadata.name, metadata.uid))
}

/// Returns the path of a container's log inside the pod's folder.
pub(crate) fn log_file(container: &str, restarts: u32) -> String {
    format!("{container}/{restarts}.log")
}

/// Tells whether a text from outside can stand for one name in a folder.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name != "."
        && name != ".."
        && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, image: &str) -> Container {
        Container { name: name.to_owned(), image: image.to_owned(), ..Container::default() }
    }

    #[test]
    fn hashes_are_kubelets() {
        assert_eq!(hash(&container("test_container", "foo/image:v1")), 0x8e45_cbd0);
        assert_eq!(hash(&container("foo", "bar")), 0x11a6_d6d6);
    }

    #[test]
    fn a_path_is_no_plain_name() {
        for name in ["", ".", "..", "a/b", "/", "a\0"] {
            assert!(!is_plain(name), "{name:?}");
        }
        assert!(is_plain("5b7c-x"));
    }
}
