//! Volumes that become larger while they are on the node: the driver makes the file system as large as
//! the volume. The cloud takes no word of claims from nodes, so what was done is noted on the disk.

use super::driver::Driver;
use super::place::Spot;
use super::words as w;
use super::{Csi, Order, capability, is_staged, secrets};
use crate::notes::About;
use crate::pod::spec::Pod;
use crate::store::Store;

impl Csi {
    /// Lets a volume grow that is in use; what goes wrong is said, and the pod goes on.
    pub(super) async fn grow_in_use(&self, store: &Store, pod: &Pod, order: &Order, spot: &Spot) {
        if order.size.is_none() {
            return;
        }
        let grown = async {
            let driver = self.driver(&order.source.driver)?;
            let _turn = driver.turn().await?;
            self.grow(store, pod, &driver, order, spot).await
        };
        if let Err(why) = grown.await {
            self.notes.warning(About::pod(pod), "VolumeResizeFailed", why);
        }
    }

    /// Lets a volume grow, once, if it is larger than its claim shows and the driver has a part in it.
    ///
    /// # Errors
    /// What the driver says, unless that is that it cannot do it while the volume is in use.
    pub(super) async fn grow(
        &self,
        store: &Store,
        pod: &Pod,
        driver: &Driver,
        order: &Order,
        spot: &Spot,
    ) -> Result<(), String> {
        let Some(size) = order.size.filter(|_| driver.can(w::EXPAND)) else { return Ok(()) };
        let mut note = spot.read().map_err(|error| error.to_string())?;
        if note.size.parse::<i64>().is_ok_and(|done| done >= size) {
            return Ok(());
        }
        let name = &order.name;
        let failed = |why: String| {
            format!("MountVolume.NodeExpandVolume failed for volume \"{name}\" : {why}")
        };
        let is_staged = is_staged(driver, order);
        let path = if is_staged && !order.is_device { &spot.staged } else { &spot.target };
        let staged = if is_staged { spot.staged.display().to_string() } else { String::new() };
        let secret = order.source.node_expand_secret_ref.as_ref();
        let request = w::NodeExpandVolumeRequest {
            volume_id: order.source.volume_handle.clone(),
            volume_path: path.display().to_string(),
            capacity_range: Some(w::CapacityRange { required_bytes: size }),
            staging_target_path: staged,
            volume_capability: Some(capability(driver, pod, order)),
            secrets: secrets(store, pod, secret).await.map_err(failed)?,
        };
        match driver.expand(request).await {
            Err(trouble) if trouble.is_out_of_place() => {
                // The next pod that has the volume tries again, before it is in use.
                let why = failed(trouble.to_string());
                self.notes.warning(About::pod(pod), "VolumeResizeFailed", why);
            }
            Err(trouble) => return Err(failed(trouble.to_string())),
            Ok(()) => {
                let node = &self.node;
                let said =
                    format!("MountVolume.NodeExpandVolume succeeded for volume \"{name}\" {node}");
                self.notes.normal(About::pod(pod), "FileSystemResizeSuccessful", said);
            }
        }
        note.size = size.to_string();
        spot.note(&note).map_err(|error| failed(error.to_string()))
    }
}
