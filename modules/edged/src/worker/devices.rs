//! The devices of a pod's containers: claimed before anything of the pod runs, kept until it is over.

use super::Worker;
use super::act::Failure;
use crate::devices::core::{Want, is_extended};
use crate::pod::make::Extra;
use crate::pod::spec::Container;

impl Worker {
    /// Returns what a container wants of plug-ins' resources; limits count, as they are the requests.
    fn wants(&self, container: &Container) -> Vec<Want> {
        let limits = container.resources.limits.iter().filter(|(name, _)| is_extended(name));
        let counts = limits.map(|(name, limit)| {
            (name.clone(), usize::try_from(limit.units()).unwrap_or_default())
        });
        let spec = &self.pod.spec;
        let inits = spec.init_containers.iter();
        let before = inits.filter(|init| !init.is_sidecar() && init.name != container.name);
        let before: Vec<_> = before.map(|init| init.name.clone()).collect();
        let want = |(resource, count)| Want {
            uid: self.pod.metadata.uid.clone(),
            container: container.name.clone(),
            resource,
            count,
            before: before.clone(),
        };
        self.host.devices.known(counts).into_iter().map(want).collect()
    }

    /// Claims the devices of all containers of a pod that is new.
    ///
    /// # Errors
    /// Why it cannot have them all, as kubelet says it. It has none then.
    pub(super) async fn claim_devices(&self) -> Result<(), String> {
        for container in self.pod.spec.all_containers() {
            for want in self.wants(container) {
                if let Err(why) = self.host.devices.claim(want).await {
                    self.release_devices().await;
                    return Err(format!("Allocate failed due to {why}, which is unexpected"));
                }
            }
        }
        Ok(())
    }

    /// Sees to it that a container that is to start has its devices; returns what it needs for them.
    pub(super) async fn devices(&self, container: &Container) -> Result<Extra, Failure> {
        let wants = self.wants(container);
        if wants.is_empty() {
            return Ok(Extra::default());
        }
        let failed = |why: String| Failure::new("CreateContainerConfigError", why);
        for want in wants {
            self.host.devices.claim(want).await.map_err(failed)?;
        }
        let uid = &self.pod.metadata.uid;
        self.host.devices.before_start(uid, &container.name).await.map_err(failed)
    }

    /// Gives back what a pod has that is over.
    pub(super) async fn release_devices(&self) {
        self.host.devices.release(&self.pod.metadata.uid).await;
    }
}
