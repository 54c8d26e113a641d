//! The messages of plug-ins' registration (v1) and of the node's part of the Container Storage
//! Interface (v1), as far as they are used. The numbers are the interfaces'.

use std::collections::BTreeMap;

use prost::Message;

/// A request or an answer without content.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Empty {}

/// What a plug-in is.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PluginInfo {
    #[prost(string, tag = "1")]
    pub(crate) r#type: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// Where it serves; at the socket of its registration if empty.
    #[prost(string, tag = "3")]
    pub(crate) endpoint: String,
    #[prost(string, repeated, tag = "4")]
    pub(crate) supported_versions: Vec<String>,
}

/// Whether it was taken.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RegistrationStatus {
    #[prost(bool, tag = "1")]
    pub(crate) plugin_registered: bool,
    #[prost(string, tag = "2")]
    pub(crate) error: String,
}

/// What the node is called by the driver.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeGetInfoResponse {
    #[prost(string, tag = "1")]
    pub(crate) node_id: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) accessible_topology: Option<Topology>,
}

/// Where the node is.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Topology {
    #[prost(btree_map = "string, string", tag = "1")]
    pub(crate) segments: BTreeMap<String, String>,
}

/// What the driver can do.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeGetCapabilitiesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) capabilities: Vec<NodeServiceCapability>,
}

/// One thing that it can do.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct NodeServiceCapability {
    #[prost(message, optional, tag = "1")]
    pub(crate) rpc: Option<Rpc>,
}

/// Which.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Rpc {
    #[prost(int32, tag = "1")]
    pub(crate) r#type: i32,
}

/// Volumes are put on the node before they are put in a pod.
pub(crate) const STAGE: i32 = 1;
/// One pod at a time, or several, may write.
pub(crate) const SINGLE_NODE_MULTI_WRITER: i32 = 5;
/// The driver gives files to a group itself.
pub(crate) const MOUNT_GROUP: i32 = 6;

/// How a volume is used.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct VolumeCapability {
    #[prost(message, optional, tag = "2")]
    pub(crate) mount: Option<MountVolume>,
    #[prost(message, optional, tag = "3")]
    pub(crate) access_mode: Option<AccessMode>,
}

/// As a file system.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MountVolume {
    #[prost(string, tag = "1")]
    pub(crate) fs_type: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) mount_flags: Vec<String>,
    #[prost(string, tag = "3")]
    pub(crate) volume_mount_group: String,
}

/// By whom.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct AccessMode {
    #[prost(int32, tag = "1")]
    pub(crate) mode: i32,
}

/// Puts a volume on the node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeStageVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) publish_context: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    pub(crate) staging_target_path: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) volume_capability: Option<VolumeCapability>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(crate) secrets: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "6")]
    pub(crate) volume_context: BTreeMap<String, String>,
}

/// Takes it off the node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeUnstageVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(string, tag = "2")]
    pub(crate) staging_target_path: String,
}

/// Puts a volume in a pod.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodePublishVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) publish_context: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    pub(crate) staging_target_path: String,
    #[prost(string, tag = "4")]
    pub(crate) target_path: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) volume_capability: Option<VolumeCapability>,
    #[prost(bool, tag = "6")]
    pub(crate) readonly: bool,
    #[prost(btree_map = "string, string", tag = "7")]
    pub(crate) secrets: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "8")]
    pub(crate) volume_context: BTreeMap<String, String>,
}

/// Takes it out of the pod.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeUnpublishVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(string, tag = "2")]
    pub(crate) target_path: String,
}
