//! The node's pods as the API shows them, and what the runtime has of them.

use std::collections::BTreeMap;

use hyper::Response;
use serde_json::{Value, json};

use super::reply::{self, Body, Refusal, Reply};
use super::{Site, whole};
use crate::config::Config;
use crate::cri::words as w;
use crate::pod::names;
use crate::pod::spec::Texts;
use crate::pods::Shown;

/// A container that the runtime has.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) state: w::ContainerState,
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
        let image = it.image.map_or_else(String::new, |image| image.image);
        let (name, created) = (metadata.name, it.created_at);
        Found { id: it.id, name, image, state, created, labels: it.labels }
    };
    let mut found: Vec<Found> = listed.containers.into_iter().map(found).collect();
    found.sort_by_key(|it| std::cmp::Reverse(it.created));
    Ok(found)
}

/// Answers with the pods that the node has, and how they are.
pub(crate) async fn all(site: &Site) -> Reply {
    let mut pods = site.pods().await?;
    pods.sort_by(|one, other| {
        let [one, other] = [one, other].map(|it| &it.pod.metadata);
        (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name))
    });
    Ok(whole::list(&site.sources.store, &pods).await)
}

impl Shown {
    /// Returns the status: what the cloud has when it has taken the patch.
    pub(crate) fn status(&self) -> Value {
        let mut patch: Value = serde_json::from_str(&self.status).unwrap_or_default();
        let mut status = patch["status"].take();
        let Some(fields) = status.as_object_mut() else {
            return json!({"phase": "Pending"});
        };
        fields.retain(|key, value| !key.starts_with('$') && !value.is_null());
        if let Some(ips) = fields.get_mut("podIPs").and_then(Value::as_array_mut) {
            ips.retain(|ip| ip["$patch"].is_null());
        }
        fields.values_mut().for_each(take_out);
        status
    }
}

/// Takes out what in the patch takes away what was said before. That it was never probed is said.
fn take_out(shown: &mut Value) {
    match shown {
        Value::Object(fields) => {
            fields.retain(|key, value| !value.is_null() || key == "lastProbeTime");
            fields.values_mut().for_each(take_out);
        }
        Value::Array(items) => items.iter_mut().for_each(take_out),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn label<'a>(labels: &'a Texts, key: &str) -> &'a str {
    labels.get(key).map_or("", String::as_str)
}

/// Answers with the pods that the runtime has up, as far as it knows them, and what runs in each.
pub(crate) async fn running(site: &Site) -> Reply {
    let listed = site.runtime.list(BTreeMap::new()).await;
    let (sandboxes, containers) = listed.map_err(|trouble| Refusal::broken(trouble.to_string()))?;
    let up = sandboxes.iter().filter(|it| it.state() == w::PodSandboxState::Ready);
    let run = containers.iter().filter(|it| it.state() == w::ContainerState::Running);
    let mut pods = BTreeMap::<&str, (&Texts, Vec<Value>)>::new();
    let labels = up.map(|it| (&it.labels, None)).chain(run.map(|it| (&it.labels, Some(it))));
    for (labels, container) in labels {
        let pod = pods.entry(label(labels, names::POD_UID)).or_insert((labels, Vec::new()));
        pod.1.extend(container.map(|it| {
            let name = it.metadata.as_ref().map(|metadata| &metadata.name);
            let image = it.image.as_ref().map(|image| &image.image);
            json!({"name": name, "image": image, "resources": {}})
        }));
    }
    let show = |(uid, (labels, containers))| {
        let [name, namespace] =
            [names::POD_NAME, names::POD_NAMESPACE].map(|key| label(labels, key));
        json!({"metadata": {"name": name, "namespace": namespace, "uid": uid},
            "spec": {"containers": containers}, "status": {}})
    };
    let items: Vec<_> = pods.into_iter().map(show).collect();
    Ok(reply::json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})))
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
