//! The variables by which a container finds the cluster's services, as kubelet makes them. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::pod::spec::Pod;

/// The service of the Kubernetes API, and where it lives.
const API: (&str, &str) = ("default", "kubernetes");

/// The part of a Service that is told to containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    metadata: Named,
    spec: Spec,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
    namespace: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Port {
    name: String,
    port: u16,
    protocol: String,
}

/// Variables by name.
pub(crate) type Links = BTreeMap<String, String>;

/// Makes the variables of the services that a pod is told of: those of its own namespace unless it
/// does not want them, and the API. `api` is where this node itself serves the API, if it does.
pub(crate) fn links(pod: &Pod, services: &[Service], api: Option<(&str, u16)>) -> Links {
    let wants = pod.spec.enable_service_links.unwrap_or(true);
    let is_api = |it: &&Service| (&*it.metadata.namespace, &*it.metadata.name) == API;
    let is_own = |it: &&Service| wants && it.metadata.namespace == pod.metadata.namespace;
    let mut links = Links::new();
    // A service of the pod's own namespace goes before the API when it has its name.
    for service in services.iter().filter(is_api).chain(services.iter().filter(is_own)) {
        add(service, &mut links);
    }
    if let Some((host, port)) = api {
        links.insert("KUBERNETES_SERVICE_HOST".to_owned(), host.to_owned());
        links.insert("KUBERNETES_SERVICE_PORT".to_owned(), port.to_string());
    }
    links
}

fn add(service: &Service, links: &mut Links) {
    let word = |text: &str| text.replace('-', "_").to_uppercase();
    let Spec { cluster_ip: ip, ports } = &service.spec;
    let Some(first) = ports.first().filter(|_| !ip.is_empty() && ip != "None") else { return };
    let name = word(&service.metadata.name);
    let mut set = |key: String, value: &str| drop(links.insert(key, value.to_owned()));
    set(format!("{name}_SERVICE_HOST"), ip);
    set(format!("{name}_SERVICE_PORT"), &first.port.to_string());
    for (at, port) in ports.iter().enumerate() {
        let number = port.port.to_string();
        if !port.name.is_empty() {
            set(format!("{name}_SERVICE_PORT_{}", word(&port.name)), &number);
        }
        let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
        let (small, big) = (protocol.to_lowercase(), protocol.to_uppercase());
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
        let full = format!("{small}://{host}:{number}");
        if at == 0 {
            set(format!("{name}_PORT"), &full);
        }
        let prefix = format!("{name}_PORT_{number}_{big}");
        set(prefix.clone(), &full);
        set(format!("{prefix}_PROTO"), &small);
        set(format!("{prefix}_PORT"), &number);
        set(format!("{prefix}_ADDR"), ip);
    }
}

#[cfg(test)]
mod tests;
