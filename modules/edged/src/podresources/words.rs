//! The messages of the pod-resources interface (v1), as far as there is something to tell. The
//! numbers are the interface's.

use prost::Message;

pub(super) use crate::devices::words::{NumaNode, TopologyInfo};

/// Asks what all pods have.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ListPodResourcesRequest {}

/// What all pods have.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListPodResourcesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) pod_resources: Vec<PodResources>,
}

/// What one pod has.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PodResources {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) namespace: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) containers: Vec<ContainerResources>,
}

/// What one container has.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerResources {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) devices: Vec<ContainerDevices>,
}

/// Devices of one resource at one place.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerDevices {
    #[prost(string, tag = "1")]
    pub(super) resource_name: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) device_ids: Vec<String>,
    #[prost(message, optional, tag = "3")]
    pub(super) topology: Option<TopologyInfo>,
}

/// Asks what one pod has.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GetPodResourcesRequest {
    #[prost(string, tag = "1")]
    pub(super) pod_name: String,
    #[prost(string, tag = "2")]
    pub(super) pod_namespace: String,
}

/// What it has.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GetPodResourcesResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) pod_resources: Option<PodResources>,
}

/// Asks what there is.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct AllocatableResourcesRequest {}

/// What there is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AllocatableResourcesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) devices: Vec<ContainerDevices>,
}
