//! The calls to one storage driver. Each has an end in time, and one is made after the other, so that
//! a volume is never put where it is just taken from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::Channel;

use super::PATIENCE;
use super::words as w;
use crate::cri::{self, Trouble};

/// How long a driver may take to mount or unmount: as kubelet.
const WORK: Duration = Duration::from_secs(120);

/// How long a driver may take to say how full a volume is.
const GLANCE: Duration = Duration::from_secs(2);

/// A driver that is there.
#[derive(Clone, Debug)]
pub(crate) struct Driver {
    channel: Channel,
    /// What it calls this node.
    pub(super) node: String,
    /// Where it says this node is.
    pub(super) topology: BTreeMap<String, String>,
    abilities: BTreeSet<i32>,
    turn: Arc<Semaphore>,
}

macro_rules! path {
    ($call:literal) => {
        ($call, concat!("/csi.v1.Node/", $call))
    };
}

impl Driver {
    /// Reaches a driver.
    ///
    /// # Errors
    /// Why it cannot be reached, or what it lacks.
    pub(super) async fn connect(socket: PathBuf) -> Result<Self, String> {
        let channel = cri::channel(socket);
        let asked = cri::ask(&channel, path!("NodeGetInfo"), w::Empty {}, PATIENCE).await;
        let info: w::NodeGetInfoResponse = asked.map_err(|trouble| trouble.to_string())?;
        if info.node_id.is_empty() {
            return Err("the driver does not say what it calls this node".to_owned());
        }
        let asked = cri::ask(&channel, path!("NodeGetCapabilities"), w::Empty {}, PATIENCE).await;
        let answer: w::NodeGetCapabilitiesResponse =
            asked.map_err(|trouble| trouble.to_string())?;
        let abilities = answer.capabilities.iter().filter_map(|it| Some(it.rpc?.r#type));
        Ok(Self {
            channel,
            node: info.node_id,
            topology: info.accessible_topology.unwrap_or_default().segments,
            abilities: abilities.collect(),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// Tells whether the driver can do something.
    pub(super) fn can(&self, ability: i32) -> bool {
        self.abilities.contains(&ability)
    }

    /// Waits until nobody else asks the driver for something.
    ///
    /// # Errors
    /// Never: nobody closes the turn.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, String> {
        Arc::clone(&self.turn).acquire_owned().await.map_err(|error| error.to_string())
    }

    async fn work<Q: prost::Message + 'static>(
        &self,
        call: (&'static str, &'static str),
        request: Q,
    ) -> Result<(), String> {
        let asked = cri::ask::<_, w::Empty>(&self.channel, call, request, WORK).await;
        asked.map(drop).map_err(|trouble| trouble.to_string())
    }

    /// Puts a volume on the node.
    ///
    /// # Errors
    /// What the driver says.
    pub(super) async fn stage(&self, request: w::NodeStageVolumeRequest) -> Result<(), String> {
        self.work(path!("NodeStageVolume"), request).await
    }

    /// Takes a volume off the node.
    ///
    /// # Errors
    /// What the driver says.
    pub(super) async fn unstage(&self, request: w::NodeUnstageVolumeRequest) -> Result<(), String> {
        self.work(path!("NodeUnstageVolume"), request).await
    }

    /// Puts a volume in a pod.
    ///
    /// # Errors
    /// What the driver says.
    pub(super) async fn publish(&self, request: w::NodePublishVolumeRequest) -> Result<(), String> {
        self.work(path!("NodePublishVolume"), request).await
    }

    /// Takes a volume out of a pod.
    ///
    /// # Errors
    /// What the driver says.
    pub(super) async fn unpublish(
        &self,
        request: w::NodeUnpublishVolumeRequest,
    ) -> Result<(), String> {
        self.work(path!("NodeUnpublishVolume"), request).await
    }

    /// Makes use of all that a volume has become.
    ///
    /// # Errors
    /// What the driver says.
    pub(super) async fn expand(&self, request: w::NodeExpandVolumeRequest) -> Result<(), Trouble> {
        let call = path!("NodeExpandVolume");
        cri::ask::<_, w::Empty>(&self.channel, call, request, WORK).await.map(drop)
    }

    /// Asks how full a volume is.
    ///
    /// # Errors
    /// What the driver says.
    pub(super) async fn stats(
        &self,
        volume_id: String,
        volume_path: String,
    ) -> Result<w::NodeGetVolumeStatsResponse, Trouble> {
        let request = w::NodeGetVolumeStatsRequest { volume_id, volume_path };
        cri::ask(&self.channel, path!("NodeGetVolumeStats"), request, GLANCE).await
    }
}
