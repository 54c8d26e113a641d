//! Which pod has which devices, for monitors on the node: kubelet's pod-resources interface (v1).
//! Processors and memory are not given out one by one here, so of these it tells nothing.

mod words;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http;
use tracing::warn;

use crate::api::Ask;
use crate::devices::Devices;
use crate::devices::core::{Core, NOWHERE};
use crate::pod::last::LastStatus;
use crate::pods::Shown;
use crate::rpc::{self, Answers, Call};
use words as w;

/// How long the engine may take to say which pods there are.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns the socket below a root folder.
pub(crate) fn socket(root: &Path) -> PathBuf {
    root.join("pod-resources/kubelet.sock")
}

/// Serves the interface below a root folder.
pub(crate) fn begin(root: &Path, asks: mpsc::Sender<Ask>, devices: Devices) {
    let socket = socket(root);
    match rpc::bind(&socket) {
        Ok(listener) => drop(tokio::spawn(rpc::serve(listener, Lister { asks, devices }))),
        Err(error) => warn!("nobody can ask which pod has what at {}: {error}", socket.display()),
    }
}

#[derive(Clone)]
struct Lister {
    asks: mpsc::Sender<Ask>,
    devices: Devices,
}

impl Lister {
    async fn pods(&self) -> Result<Vec<Shown>, Status> {
        let (sender, answer) = oneshot::channel();
        let asked = async {
            self.asks.send(sender).await.ok()?;
            answer.await.ok()
        };
        let late = || Status::unavailable("the engine does not say which pods there are");
        tokio::time::timeout(PATIENCE, asked).await.ok().flatten().ok_or_else(late)
    }

    async fn list(self) -> Result<w::ListPodResourcesResponse, Status> {
        let (pods, core) = (self.pods().await?, self.devices.held().await);
        let active = pods.iter().filter(|pod| !LastStatus::told(&pod.status).is_over());
        Ok(w::ListPodResourcesResponse { pod_resources: active.map(|it| of(it, &core)).collect() })
    }

    async fn get(
        self,
        wanted: w::GetPodResourcesRequest,
    ) -> Result<w::GetPodResourcesResponse, Status> {
        let (pods, core) = (self.pods().await?, self.devices.held().await);
        let w::GetPodResourcesRequest { pod_name: name, pod_namespace: namespace } = wanted;
        let pod = pods.iter().find(|it| it.pod.metadata.is_named(&namespace, &name));
        let none = || Status::unknown(format!("pod {name} in namespace {namespace} not found"));
        let pod = pod.ok_or_else(none)?;
        Ok(w::GetPodResourcesResponse { pod_resources: Some(of(pod, &core)) })
    }

    async fn allocatable(self) -> Result<w::AllocatableResourcesResponse, Status> {
        let core = self.devices.held().await;
        let mut devices = Vec::new();
        for (name, known) in &core.resources {
            for (id, device) in &known.devices {
                let nodes = if device.nodes.is_empty() { &[NOWHERE][..] } else { &device.nodes };
                devices.extend(nodes.iter().map(|node| at(name, *node, vec![id.clone()])));
            }
        }
        Ok(w::AllocatableResourcesResponse { devices })
    }
}

impl Answers for Lister {
    async fn answer(&self, call: Call) -> http::Response<Body> {
        let lister = || self.clone();
        match call.path() {
            "/v1.PodResourcesLister/List" => {
                call.with(|_: w::ListPodResourcesRequest| lister().list()).await
            }
            "/v1.PodResourcesLister/Get" => call.with(|wanted| lister().get(wanted)).await,
            "/v1.PodResourcesLister/GetAllocatableResources" => {
                call.with(|_: w::AllocatableResourcesRequest| lister().allocatable()).await
            }
            _ => call.unknown(),
        }
    }
}

/// Returns what the sidecars and the ordinary containers of a pod have.
fn of(shown: &Shown, core: &Core) -> w::PodResources {
    let (metadata, spec) = (&shown.pod.metadata, &shown.pod.spec);
    let sidecars = spec.init_containers.iter().filter(|init| init.is_sidecar());
    let containers = sidecars.chain(&spec.containers).map(|container| {
        let held = core.of(&metadata.uid, &container.name).flat_map(|held| {
            let ids = |(node, ids): (&i64, &std::collections::BTreeSet<String>)| {
                at(&held.resource, *node, ids.iter().cloned().collect())
            };
            held.devices.iter().map(ids).collect::<Vec<_>>()
        });
        w::ContainerResources { name: container.name.clone(), devices: held.collect() }
    });
    w::PodResources {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        containers: containers.collect(),
    }
}

fn at(resource: &str, node: i64, ids: Vec<String>) -> w::ContainerDevices {
    let topology =
        (node != NOWHERE).then(|| w::TopologyInfo { nodes: vec![w::NumaNode { id: node }] });
    w::ContainerDevices { resource_name: resource.to_owned(), device_ids: ids, topology }
}

#[cfg(test)]
mod tests;
