//! Volumes of storage drivers (Container Storage Interface): which drivers there are, and how their
//! volumes come into pods and go again.
//!
//! What is where is known from the disk alone: a note beside each mount, written before the driver is
//! asked. A volume is taken off the node when no other pod has such a note.

mod driver;
mod grow;
mod place;
mod registry;
pub(crate) mod shown;
mod tell;
pub(crate) mod trial;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipc_proto::{Content, Kind};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::notes::Notes;
use crate::pod::names::is_plain;
use crate::pod::spec::Pod;
use crate::store::{Store, object};
use crate::volumes::{Folder, claim, pod_folder, tree};
use driver::Driver;
#[cfg(test)]
pub(crate) use place::sum;
use place::{Note, Spot};
use shown::Kept;
use words as w;

/// How long a plug-in may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// The drivers that are there, by name.
type Drivers = BTreeMap<String, Driver>;

/// A volume of a driver, as a volume object or a pod names it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Source {
    driver: String,
    volume_handle: String,
    read_only: bool,
    fs_type: String,
    volume_attributes: BTreeMap<String, String>,
    node_stage_secret_ref: Option<SecretRef>,
    node_publish_secret_ref: Option<SecretRef>,
    node_expand_secret_ref: Option<SecretRef>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct SecretRef {
    name: String,
    namespace: String,
}

/// How a volume is to be put into a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Order {
    /// The name of its object, or of the pod's volume if it has none.
    pub(crate) name: String,
    pub(crate) source: Source,
    /// Whether it has an object, and so outlives the pod.
    pub(crate) persistent: bool,
    pub(crate) access_mode: String,
    pub(crate) options: Vec<String>,
    pub(crate) read_only: bool,
    /// Whether it is a device, not a file system.
    pub(crate) is_device: bool,
    /// How large it has become, in bytes, where its claim does not show that yet.
    pub(crate) size: Option<i64>,
}

/// The handle on the drivers; cheap to copy.
#[derive(Clone, Debug)]
pub(crate) struct Csi {
    root: PathBuf,
    node: String,
    drivers: watch::Receiver<Drivers>,
    notes: Notes,
    /// Volumes that are attached to the node and in use, as the cloud calls them.
    in_use: Arc<watch::Sender<BTreeSet<String>>>,
    /// Claimed volumes by the uids of their pods.
    kept: Arc<watch::Sender<BTreeMap<String, Vec<Kept>>>>,
}

impl Csi {
    /// Begins to know the drivers that register below a folder, and to tell the cloud of them. To be
    /// called inside a runtime.
    pub(crate) fn begin(root: &Path, node: &str, store: Store, notes: Notes) -> Self {
        let folder = root.join("plugins_registry");
        if let Err(error) = fs::DirBuilder::new().recursive(true).mode(0o750).create(&folder) {
            warn!("no storage driver can register in {}: {error}", folder.display());
        }
        let (sender, drivers) = watch::channel(Drivers::new());
        tokio::spawn(registry::watch(folder, sender));
        tokio::spawn(tell::tell(store, node.to_owned(), drivers.clone()));
        let (in_use, kept) = (watch::Sender::default(), watch::Sender::default());
        let csi = Self {
            root: root.to_owned(),
            node: node.to_owned(),
            drivers,
            notes,
            in_use: Arc::new(in_use),
            kept: Arc::new(kept),
        };
        csi.look();
        csi
    }

    /// Looks which volumes are in use.
    fn look(&self) {
        match place::of_others(&self.root, "") {
            Ok(all) => {
                let attached = all.iter().filter(|note| note.lifecycle != "Ephemeral");
                let names = attached
                    .map(|note| format!("kubernetes.io/csi/{}^{}", note.driver, note.handle));
                self.in_use.send_replace(names.collect());
            }
            Err(error) => warn!("it is not known which volumes are in use: {error}"),
        }
    }

    /// Returns the volumes that are attached and in use, as the cloud calls them, in order: nobody
    /// may detach them.
    pub(crate) fn in_use(&self) -> Vec<String> {
        self.in_use.borrow().iter().cloned().collect()
    }

    fn driver(&self, name: &str) -> Result<Driver, String> {
        let found = self.drivers.borrow().get(name).cloned();
        let none = || format!("driver name {name} not found in the list of registered CSI drivers");
        found.ok_or_else(none)
    }

    /// Puts a volume into a pod, unless it is there.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub(crate) async fn set_up(
        &self,
        store: &Store,
        pod: &Pod,
        mut order: Order,
    ) -> Result<Folder, String> {
        let uid = &pod.metadata.uid;
        if !is_plain(&order.name) || !is_plain(&order.source.driver) {
            let (name, driver) = (&order.name, &order.source.driver);
            return Err(format!("'{name}' or '{driver}' is no name of a folder"));
        }
        if !order.persistent {
            order.source.volume_handle = place::inline_handle(uid, &order.name);
        }
        let Source { driver, volume_handle: handle, .. } = &order.source;
        let spot = Spot::new((&self.root, uid), (&order.name, driver, handle), order.is_device);
        let is_there = spot.is_there().map_err(|error| error.to_string())?;
        if is_there {
            self.grow_in_use(store, pod, &order, &spot).await;
        } else {
            self.put(store, pod, &order, &spot).await?;
        }
        Ok(Folder {
            read_only: order.read_only,
            is_device: order.is_device,
            driven: Some((driver.clone(), handle.clone())),
            ..Folder::at(spot.target)
        })
    }

    /// Has a driver put a volume into a pod.
    async fn put(
        &self,
        store: &Store,
        pod: &Pod,
        order: &Order,
        spot: &Spot,
    ) -> Result<(), String> {
        let driver = self.driver(&order.source.driver)?;
        let context = self.context(store, order).await?;
        let _turn = driver.turn().await?;
        let target = spot.target.display();
        let noted = spot.note(&self.note(order));
        noted.map_err(|error| format!("cannot note {target}: {error}"))?;
        self.look();
        let capability = capability(&driver, pod, order);
        let staging = if is_staged(&driver, order) {
            self.stage(store, &driver, order, spot, (&context, &capability)).await?
        } else {
            String::new()
        };
        let as_folder = !staging.is_empty() && !order.is_device;
        if as_folder {
            self.grow(store, pod, &driver, order, spot).await?;
        }
        let request = w::NodePublishVolumeRequest {
            volume_id: order.source.volume_handle.clone(),
            publish_context: context,
            staging_target_path: staging,
            target_path: target.to_string(),
            volume_capability: Some(capability),
            readonly: order.source.read_only || order.read_only,
            secrets: secrets(store, pod, order.source.node_publish_secret_ref.as_ref()).await?,
            volume_context: attributes(pod, order),
        };
        driver.publish(request).await?;
        if !spot.is_fit() {
            return Err(format!("the driver published nothing at {target}"));
        }
        if !as_folder {
            self.grow(store, pod, &driver, order, spot).await?;
        }
        // A driver that cannot give files to a group leaves it to the node, where that makes sense.
        let own = !order.source.fs_type.is_empty() && order.access_mode == "ReadWriteOnce";
        if own && !order.read_only && !order.is_device && !driver.can(w::MOUNT_GROUP) {
            claim::give(pod, &spot.target).await?;
        }
        Ok(())
    }

    fn note(&self, order: &Order) -> Note {
        let Source { driver, volume_handle: handle, .. } = order.source.clone();
        Note {
            name: order.name.clone(),
            node_name: self.node.clone(),
            attachment: place::attachment(&handle, &driver, &self.node),
            lifecycle: if order.persistent { "Persistent" } else { "Ephemeral" }.to_owned(),
            handle,
            driver,
            size: String::new(),
        }
    }

    async fn stage(
        &self,
        store: &Store,
        driver: &Driver,
        order: &Order,
        spot: &Spot,
        (context, capability): (&BTreeMap<String, String>, &w::VolumeCapability),
    ) -> Result<String, String> {
        let staging = spot.staged.display().to_string();
        if tree::is_mounted(&spot.staged).map_err(|error| error.to_string())? {
            return Ok(staging);
        }
        let noted = spot.note_stage(&self.note(order));
        noted.map_err(|error| format!("cannot make {staging}: {error}"))?;
        let none = Pod::default();
        let request = w::NodeStageVolumeRequest {
            volume_id: order.source.volume_handle.clone(),
            publish_context: context.clone(),
            staging_target_path: staging.clone(),
            volume_capability: Some(capability.clone()),
            secrets: secrets(store, &none, order.source.node_stage_secret_ref.as_ref()).await?,
            volume_context: order.source.volume_attributes.clone(),
        };
        driver.stage(request).await?;
        Ok(staging)
    }

    /// Returns what was said when the volume was attached to this node. A volume that nobody attaches
    /// has no such object; one that is being attached is waited for.
    async fn context(
        &self,
        store: &Store,
        order: &Order,
    ) -> Result<BTreeMap<String, String>, String> {
        if !order.persistent {
            return Ok(BTreeMap::new());
        }
        let Source { driver, volume_handle: handle, .. } = &order.source;
        let name = place::attachment(handle, driver, &self.node);
        let resource = object("default", Kind::VolumeAttachment, &name);
        match store.query::<Value>(resource, Content::NULL).await {
            Ok(found) if found["status"]["attached"] == true => {
                let said = BTreeMap::deserialize(&found["status"]["attachmentMetadata"]);
                Ok(said.unwrap_or_default())
            }
            Ok(found) => {
                let why = found["status"]["attachError"]["message"].as_str().unwrap_or_default();
                Err(format!("volume attachment {name} is not attached yet {why}"))
            }
            Err(lack) => {
                debug!(?lack, "volume {handle} has no attachment that is known");
                Ok(BTreeMap::new())
            }
        }
    }

    /// Takes all volumes of drivers out of a pod, and those off the node that no other pod has.
    ///
    /// # Errors
    /// What is wrong with which; the others are gone.
    pub(crate) async fn tear_down(&self, uid: &str) -> Result<(), String> {
        let failed = |error: std::io::Error| error.to_string();
        self.forget(uid);
        let volumes = place::of_pod(&self.root, uid).map_err(failed)?;
        if volumes.is_empty() {
            return Ok(());
        }
        // Parts of volumes are mounted in other places: a driver could not unmount what is in use.
        let parts = pod_folder(&self.root, uid).join("volume-subpaths");
        tree::unmount_below(&parts).map_err(failed)?;
        let mut wrong = Vec::new();
        for (spot, note) in volumes {
            if let Err(why) = self.take_out(uid, &spot, &note).await {
                wrong.push(format!("volume \"{}\": {why}", note.name));
            }
        }
        self.look();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    async fn take_out(&self, uid: &str, spot: &Spot, note: &Note) -> Result<(), String> {
        let failed = |error: std::io::Error| error.to_string();
        let driver = self.driver(&note.driver)?;
        let _turn = driver.turn().await?;
        let (volume_id, target_path) = (note.handle.clone(), spot.target.display().to_string());
        driver.unpublish(w::NodeUnpublishVolumeRequest { volume_id, target_path }).await?;
        spot.unmount().map_err(failed)?;
        let is_last = note.lifecycle != "Ephemeral"
            && !place::has_others(&self.root, uid, note).map_err(failed)?;
        if is_last {
            if spot.staged.exists() {
                let request = w::NodeUnstageVolumeRequest {
                    volume_id: note.handle.clone(),
                    staging_target_path: spot.staged.display().to_string(),
                };
                driver.unstage(request).await?;
            }
            spot.remove_shared().map_err(failed)?;
        }
        spot.remove().map_err(failed)
    }
}

/// Tells whether a driver puts a volume on the node before it puts it in a pod.
fn is_staged(driver: &Driver, order: &Order) -> bool {
    order.persistent && driver.can(w::STAGE)
}

fn capability(driver: &Driver, pod: &Pod, order: &Order) -> w::VolumeCapability {
    let several = driver.can(w::SINGLE_NODE_MULTI_WRITER);
    let mode = match order.access_mode.as_str() {
        "ReadOnlyMany" => 3,
        "ReadWriteMany" => 5,
        "ReadWriteOncePod" if several => 6,
        _ if several => 7,
        _ => 1,
    };
    let group = pod.spec.security_context.as_ref().and_then(|security| security.fs_group);
    let group = group.filter(|_| driver.can(w::MOUNT_GROUP));
    let mount = || w::MountVolume {
        fs_type: order.source.fs_type.clone(),
        mount_flags: order.options.clone(),
        volume_mount_group: group.map_or_else(String::new, |group| group.to_string()),
    };
    w::VolumeCapability {
        block: order.is_device.then_some(w::Empty {}),
        mount: (!order.is_device).then(mount),
        access_mode: Some(w::AccessMode { mode }),
    }
}

/// Returns what the driver is told of the volume; of one that lives with its pod, of the pod as well.
fn attributes(pod: &Pod, order: &Order) -> BTreeMap<String, String> {
    let mut all = order.source.volume_attributes.clone();
    if !order.persistent {
        let metadata = &pod.metadata;
        let account = &pod.spec.service_account_name;
        for (key, value) in [
            ("csi.storage.k8s.io/pod.name", metadata.name.as_str()),
            ("csi.storage.k8s.io/pod.namespace", &metadata.namespace),
            ("csi.storage.k8s.io/pod.uid", &metadata.uid),
            ("csi.storage.k8s.io/serviceAccount.name", account),
            ("csi.storage.k8s.io/ephemeral", "true"),
        ] {
            all.insert(key.to_owned(), value.to_owned());
        }
    }
    all
}

/// Asks for a secret that the driver is to be told; without a namespace it is of the pod's.
async fn secrets(
    store: &Store,
    pod: &Pod,
    wanted: Option<&SecretRef>,
) -> Result<BTreeMap<String, String>, String> {
    let Some(SecretRef { name, namespace }) = wanted else { return Ok(BTreeMap::new()) };
    let namespace = if namespace.is_empty() { &pod.metadata.namespace } else { namespace };
    let lack = |lack| format!("fetching secret {namespace}/{name} failed: {lack:?}");
    let entries = store.secret(namespace, name).await.map_err(lack)?;
    let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
    Ok(entries.into_iter().map(|(key, value)| (key, text(value))).collect())
}
