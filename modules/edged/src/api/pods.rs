//! The node's pods as the API shows them, and what the runtime has of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::Response;
use serde_json::{Value, json};

use super::Site;
use super::reply::{self, Body, Refusal, Reply};
use crate::config::Config;
use crate::cri::words as w;
use crate::pod::names;
use crate::pod::spec::Pod;
use crate::status::rfc3339;

/// A container that the runtime has.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) state: w::ContainerState,
    /// How often its name was started before.
    pub(crate) attempt: u32,
    /// Unix nanoseconds.
    pub(crate) created: i64,
    pub(crate) labels: BTreeMap<String, String>,
}

/// Lists the containers of a pod, or of all pods for an empty uid; the newest first.
pub(crate) async fn containers(site: &Site, uid: &str) -> Result<Vec<Found>, Refusal> {
    let labels = if uid.is_empty() { BTreeMap::new() } else { names::selector(uid) };
    let filter = Some(w::ContainerFilter { label_selector: labels });
    let listed = site.runtime.list_containers(w::ListContainersRequest { filter }).await;
    let listed = listed.map_err(|trouble| Refusal::broken(trouble.to_string()))?;
    let found = |it: w::Container| {
        let state = it.state();
        let metadata = it.metadata.unwrap_or_default();
        Found {
            id: it.id,
            name: metadata.name,
            state,
            attempt: metadata.attempt,
            created: it.created_at,
            labels: it.labels,
        }
    };
    let mut found: Vec<Found> = listed.containers.into_iter().map(found).collect();
    found.sort_by_key(|it| std::cmp::Reverse(it.created));
    Ok(found)
}

fn list(items: &[Value]) -> Response<Body> {
    reply::json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// Answers with the pods that the node has, and how they are.
pub(crate) async fn all(site: &Site) -> Reply {
    let (pods, found) = (site.pods().await?, containers(site, "").await?);
    let items: Vec<_> = pods.iter().map(|pod| show(pod, &found)).collect();
    Ok(list(&items))
}

/// Answers with the pods that the runtime runs something of, as far as it knows them.
pub(crate) async fn running(site: &Site) -> Reply {
    let mut pods = BTreeMap::<String, (Value, Vec<Value>)>::new();
    for found in containers(site, "").await? {
        if found.state != w::ContainerState::Running {
            continue;
        }
        let label = |key: &str| found.labels.get(key).cloned().unwrap_or_default();
        let uid = label(names::POD_UID);
        let metadata = json!({
            "name": label(names::POD_NAME), "namespace": label(names::POD_NAMESPACE), "uid": uid,
        });
        let pod = pods.entry(uid).or_insert_with(|| (metadata, Vec::new()));
        pod.1.push(json!({"name": found.name, "resources": {}}));
    }
    let show = |(metadata, containers)| json!({"metadata": metadata, "spec": {"containers": containers}, "status": {}});
    let items: Vec<_> = pods.into_values().map(show).collect();
    Ok(list(&items))
}

/// Shows a pod with the state of its containers.
fn show(pod: &Arc<Pod>, found: &[Found]) -> Value {
    let Pod { metadata, spec, status } = &**pod;
    let mine = |it: &&Found| it.labels.get(names::POD_UID) == Some(&metadata.uid);
    let mine: Vec<&Found> = found.iter().filter(mine).collect();
    let state = |container: &crate::pod::spec::Container| {
        let newest = mine.iter().find(|it| it.name == container.name);
        let is_running = newest.is_some_and(|it| it.state == w::ContainerState::Running);
        let state = match newest {
            Some(it) if is_running => {
                json!({"running": {"startedAt": rfc3339(it.created / 1_000_000)}})
            }
            Some(it) if it.state == w::ContainerState::Exited => {
                json!({"terminated": {"containerID": format!("containerd://{}", it.id)}})
            }
            Some(_) | None => json!({"waiting": {"reason": "ContainerCreating"}}),
        };
        json!({
            "name": container.name, "image": container.image, "state": state,
            "ready": is_running, "started": is_running,
            "restartCount": newest.map_or(0, |it| it.attempt),
            "containerID": newest.map_or_else(String::new, |it| format!("containerd://{}", it.id)),
        })
    };
    let named = |it: &crate::pod::spec::Container| json!({"name": it.name, "image": it.image});
    let runs = mine.iter().any(|it| it.state == w::ContainerState::Running);
    let phase = match status.phase.as_str() {
        over @ ("Failed" | "Succeeded") => over,
        _ if runs => "Running",
        "" => "Pending",
        told => told,
    };
    json!({
        "metadata": {
            "name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid,
            "labels": metadata.labels, "annotations": metadata.annotations,
            "deletionTimestamp": metadata.deletion_timestamp,
        },
        "spec": {
            "nodeName": spec.node_name,
            "hostNetwork": spec.host_network,
            "initContainers": spec.init_containers.iter().map(named).collect::<Vec<_>>(),
            "containers": spec.containers.iter().map(named).collect::<Vec<_>>(),
        },
        "status": {
            "phase": phase,
            "startTime": status.start_time,
            "podIPs": status.pod_ips.iter().map(|it| json!({"ip": it.ip})).collect::<Vec<_>>(),
            "initContainerStatuses": spec.init_containers.iter().map(state).collect::<Vec<_>>(),
            "containerStatuses": spec.containers.iter().map(state).collect::<Vec<_>>(),
        },
    })
}

/// Answers with the part of kubelet's configuration that is in force here.
pub(crate) fn configz(config: &Config) -> Response<Body> {
    reply::json(&json!({"kubeletconfig": {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": config.api_address.to_string(),
        "readOnlyPort": config.port,
        "containerRuntimeEndpoint": format!("unix://{}", config.socket.display()),
        "podLogsDir": config.logs,
        "clusterDNS": config.cluster_dns,
        "clusterDomain": config.cluster_domain,
        "resolvConf": config.resolv_conf,
        "maxPods": config.max_pods,
        "registerNode": config.register,
        "seccompDefault": config.seccomp_default,
    }}))
}
