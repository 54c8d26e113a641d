//! One device plug-in: the calls to it, each with an end in time, and the stream of its devices.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tonic::transport::Channel;
use tracing::{debug, warn};

use super::Devices;
use super::core::Offer;
use super::words as w;
use crate::cri;
use crate::cri::words::{CdiDevice, Device, Mount, MountPropagation};
use crate::pod::make::Extra;

/// How long a plug-in may take to be reached and to say what it wants.
const CONNECT: Duration = Duration::from_secs(10);

/// How long it may take to give devices, and to make them ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a plug-in's list is taken at the most; what it says meanwhile waits with it.
const PACE: Duration = Duration::from_millis(100);

/// A plug-in that is there.
#[derive(Clone, Debug)]
pub(super) struct Plugin {
    channel: Channel,
    options: w::DevicePluginOptions,
}

macro_rules! path {
    ($call:literal) => {
        ($call, concat!("/v1beta1.DevicePlugin/", $call))
    };
}

impl Plugin {
    /// Reaches a plug-in.
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub(super) async fn connect(socket: PathBuf) -> Result<Self, String> {
        let channel = cri::channel(socket);
        let asked = cri::ask(&channel, path!("GetDevicePluginOptions"), w::Empty {}, CONNECT).await;
        let options = asked.map_err(|trouble| trouble.to_string())?;
        Ok(Self { channel, options })
    }

    /// Hears of the plug-in's devices until it leaves.
    pub(super) async fn follow(self, devices: Devices, resource: String, number: u64) {
        let listening = cri::listen::<_, w::ListAndWatchResponse>(
            &self.channel,
            path!("ListAndWatch"),
            w::Empty {},
        );
        match listening.await {
            Ok(mut stream) => {
                let mut pace = tokio::time::interval(PACE);
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    pace.tick().await;
                    match stream.message().await {
                        Ok(Some(list)) => {
                            let resource = resource.clone();
                            let take = move |state: &mut super::State| {
                                state.core.listed(&resource, number, list.devices);
                            };
                            devices.with(take).await;
                        }
                        Ok(None) => break,
                        Err(status) => {
                            debug!(%resource, "a device plug-in's list ends: {status}");
                            break;
                        }
                    }
                }
            }
            Err(trouble) => warn!(%resource, "a device plug-in tells of no devices: {trouble}"),
        }
        devices.with(move |state| state.left(&resource, number)).await;
    }

    /// Asks which devices the plug-in would rather give.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn preferred(
        &self,
        offer: &Offer,
        size: usize,
    ) -> Result<Vec<String>, String> {
        if !self.options.get_preferred_allocation_available {
            return Ok(Vec::new());
        }
        let request = w::ContainerPreferredAllocationRequest {
            available: offer.free.union(&offer.must).cloned().collect(),
            must_include: offer.must.iter().cloned().collect(),
            size: i32::try_from(size).unwrap_or(i32::MAX),
        };
        let request = w::PreferredAllocationRequest { container_requests: vec![request] };
        let call = path!("GetPreferredAllocation");
        let asked =
            cri::ask::<_, w::PreferredAllocationResponse>(&self.channel, call, request, PATIENCE);
        let failed = |trouble| {
            format!("device plugin GetPreferredAllocation rpc failed with err: {trouble}")
        };
        let answer = asked.await.map_err(failed)?;
        Ok(answer.container_responses.into_iter().next().unwrap_or_default().ids)
    }

    /// Asks what a container needs to use devices.
    ///
    /// # Errors
    /// When it does not answer, or has no answer.
    pub(super) async fn allocate(
        &self,
        ids: BTreeSet<String>,
    ) -> Result<w::ContainerAllocateResponse, String> {
        let ids = w::Ids { ids: ids.into_iter().collect() };
        let request = w::AllocateRequest { container_requests: vec![ids] };
        let asked = cri::ask(&self.channel, path!("Allocate"), request, PATIENCE).await;
        let answer: w::AllocateResponse = asked.map_err(|trouble| trouble.to_string())?;
        let first = answer.container_responses.into_iter().next();
        first.ok_or_else(|| "no containers return in allocation response".to_owned())
    }

    /// Tells the plug-in that a container starts, if it wants to know.
    ///
    /// # Errors
    /// When it cannot be told, or refuses.
    pub(super) async fn before_start(&self, ids: BTreeSet<String>) -> Result<(), String> {
        if !self.options.pre_start_required {
            return Ok(());
        }
        let request = w::PreStartContainerRequest { ids: ids.into_iter().collect() };
        let asked =
            cri::ask::<_, w::Empty>(&self.channel, path!("PreStartContainer"), request, PATIENCE);
        let failed =
            |trouble| format!("device plugin PreStartContainer rpc failed with err: {trouble}");
        asked.await.map(drop).map_err(failed)
    }
}

/// Adds what a plug-in says to what others said; of two that say different things the first counts.
pub(super) fn add(extra: &mut Extra, answer: w::ContainerAllocateResponse) {
    for variable in answer.envs {
        if !extra.variables.iter().any(|(known, _)| *known == variable.0) {
            extra.variables.push(variable);
        }
    }
    for w::Mount { container_path, host_path, read_only } in answer.mounts {
        if !extra.mounts.iter().any(|known| known.container_path == container_path) {
            let propagation = MountPropagation::Private.into();
            let readonly = read_only;
            let mount =
                Mount { container_path, host_path, readonly, propagation, ..Mount::default() };
            extra.mounts.push(mount);
        }
    }
    for w::DeviceSpec { container_path, host_path, permissions } in answer.devices {
        if !extra.devices.iter().any(|known| known.container_path == container_path) {
            extra.devices.push(Device { container_path, host_path, permissions });
        }
    }
    for (key, value) in answer.annotations {
        extra.annotations.entry(key).or_insert(value);
    }
    for w::CdiDevice { name } in answer.cdi_devices {
        if !extra.named.iter().any(|known| known.name == name) {
            extra.named.push(CdiDevice { name });
        }
    }
}
