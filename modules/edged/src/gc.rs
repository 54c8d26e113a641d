//! Makes room on the node: removes images that nobody uses, and what is left of pods that are over.
//! What is remembered of images lives as long as this process: a new one waits as long again before
//! it removes anything.

pub(crate) mod dead;
pub(crate) mod images;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::cri::{Trouble, words as w};
use crate::notes::About;
use crate::worker::Host;
use images::{Images, Spare};

/// How often images are looked at.
pub(crate) const IMAGES: Duration = Duration::from_secs(300);

/// How often containers are counted, when their number is bounded.
pub(crate) const CONTAINERS: Duration = Duration::from_secs(60);

/// The room on the images' file system: available and all, in bytes.
pub(crate) type Disk = (u64, u64);

/// What makes room.
pub(crate) struct Gc {
    host: Arc<Host>,
    node: About,
    images: Images,
    begin: Instant,
    /// Whether the images could not be looked after last time.
    failed: bool,
}

/// The part of containerd's configuration that names the image of sandboxes.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Configured {
    sandbox_image: String,
}

impl Gc {
    pub(crate) fn new(host: Arc<Host>, node: &str) -> Self {
        let (images, begin) = (Images::default(), Instant::now());
        Self { host, node: About::node(node), images, begin, failed: false }
    }

    /// Returns milliseconds by a clock that does not jump.
    fn now(&self) -> i64 {
        i64::try_from(self.begin.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Asks the runtime where the images are.
    pub(crate) async fn place(&self) -> Option<PathBuf> {
        let told = self.host.runtime.image_place(w::ImageFsInfoRequest {}).await.ok()?;
        let place = told.image_filesystems.into_iter().next()?.fs_id?.mountpoint;
        Some(PathBuf::from(place)).filter(|place| place.is_absolute())
    }

    /// Looks at the images, and removes those that are too many or too old. `disk` tells of the room
    /// there is then.
    pub(crate) async fn look_at_images(&mut self, disk: impl Future<Output = Option<Disk>>) {
        let policy = self.host.config.defence.images;
        if policy.is_off() {
            return;
        }
        let done = self.keep_images(disk).await;
        // The first time it may only be too early.
        let again = std::mem::replace(&mut self.failed, done.is_err());
        if let Err(why) = done {
            warn!("cannot look after the images: {why}");
            if again {
                self.host.notes.warning(self.node.clone(), "ImageGCFailed", why);
            }
        }
    }

    async fn keep_images(
        &mut self,
        disk: impl Future<Output = Option<Disk>>,
    ) -> Result<(), String> {
        let policy = self.host.config.defence.images;
        let now = self.learn().await.map_err(|trouble| trouble.to_string())?;
        let outdated = self.images.outdated(&policy, now);
        self.remove(&outdated, u64::MAX).await?;
        let Some((available, capacity)) = disk.await.filter(|it| it.1 > 0) else {
            let why = "invalid capacity 0 on image filesystem".to_owned();
            self.host.notes.warning(self.node.clone(), "InvalidDiskCapacity", why.clone());
            return Err(why);
        };
        let Some((used, missing)) = policy.lacking(available, capacity) else { return Ok(()) };
        let gone: HashSet<String> = outdated.into_iter().map(|it| it.id).collect();
        let mut spare = self.images.spare(&policy, now);
        spare.retain(|it| !gone.contains(&it.id));
        let freed = self.remove(&spare, missing).await?;
        if freed < missing {
            let why = images::failed(used, capacity, freed);
            self.host.notes.warning(self.node.clone(), "FreeDiskSpaceFailed", why.clone());
            return Err(why);
        }
        Ok(())
    }

    /// Removes everything that is not needed: the disk is short.
    pub(crate) async fn free_all(&mut self, over: &HashSet<String>) {
        self.drop_dead(over, 0).await;
        let policy = self.host.config.defence.images;
        let done = async {
            let now = self.learn().await.map_err(|trouble| trouble.to_string())?;
            let spare = self.images.spare(&policy, now);
            self.remove(&spare, u64::MAX).await
        };
        if let Err(why) = done.await {
            warn!("cannot remove the images that nobody uses: {why}");
        }
    }

    /// Removes what ended of pods that are over, when there are more such containers than are kept.
    pub(crate) async fn count_dead(&self, over: &HashSet<String>) {
        if let Ok(most) = usize::try_from(self.host.config.defence.dead.all) {
            self.drop_dead(over, most).await;
        }
    }

    async fn drop_dead(&self, over: &HashSet<String>, most: usize) {
        let runtime = &self.host.runtime;
        let done = async {
            let (sandboxes, containers) = runtime.list([].into()).await?;
            let now = module_runtime::unix_millis();
            let kept = &self.host.config.defence.dead;
            let waste = dead::choose(&containers, &sandboxes, over, most, kept, now);
            for container_id in waste.containers {
                runtime.remove_container(w::RemoveContainerRequest { container_id }).await?;
            }
            for pod_sandbox_id in waste.sandboxes {
                runtime.remove_sandbox(w::RemovePodSandboxRequest { pod_sandbox_id }).await?;
            }
            Ok::<_, Trouble>(())
        };
        if let Err(trouble) = done.await {
            let why = trouble.to_string();
            warn!("cannot remove containers that ended: {why}");
            self.host.notes.warning(self.node.clone(), "ContainerGCFailed", why);
        }
    }

    /// Learns which images there are, and which are in use; returns when that was.
    async fn learn(&mut self) -> Result<i64, Trouble> {
        let runtime = &self.host.runtime;
        // Containers are asked for behind the images: one that is made in between counts.
        let images = runtime.list_images(w::ListImagesRequest {}).await?.images;
        let list = w::ListContainersRequest { filter: None };
        let containers = runtime.list_containers(list).await?.containers;
        let names = |it: w::Container| {
            [it.image_ref, it.image_id, it.image.map(|image| image.image).unwrap_or_default()]
        };
        let used = containers.into_iter().flat_map(names).filter(|name| !name.is_empty());
        let used: HashSet<String> = used.collect();
        let status = runtime.status(w::StatusRequest { verbose: true }).await?;
        let own = status.info.get("config").map(String::as_str).unwrap_or_default();
        let own: Configured = serde_json::from_str(own).unwrap_or_default();
        let sandbox = [own.sandbox_image.as_str(), &self.host.config.defence.sandbox_image];
        let now = self.now();
        self.images.learn(&images, &used, &sandbox, now);
        Ok(now)
    }

    /// Removes images until enough is free; returns how many bytes they had.
    async fn remove(&self, spare: &[Spare], enough: u64) -> Result<u64, String> {
        let (mut freed, mut trouble) = (0_u64, None);
        for Spare { id, size } in spare {
            if freed >= enough {
                break;
            }
            info!(image = %id, size, "an image that nobody uses is removed");
            let image = Some(w::ImageSpec { image: id.clone() });
            match self.host.runtime.remove_image(w::RemoveImageRequest { image }).await {
                Ok(_) => freed = freed.saturating_add(*size),
                Err(why) => trouble = Some(format!("cannot remove the image {id}: {why}")),
            }
        }
        trouble.map_or(Ok(freed), Err)
    }
}
