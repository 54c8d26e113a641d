//! Claims: volumes that are on this node, local and hostPath, and those of storage drivers. Whether the volume belongs on
//! this node is the scheduler's business.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use ipc_proto::{Content, Kind, Resource, Scope};
use serde::Deserialize;

use super::{Folder, tree};
use crate::csi::{Csi, Order, Source};
use crate::pod::spec::Pod;
use crate::pod::volume::Claim;
use crate::quantity::Quantity;
use crate::store::{Lack, Store, object};

/// What keeps a claim that is used from being deleted.
const PROTECTION: &str = "kubernetes.io/pvc-protection";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claimed {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    uid: String,
    deletion_timestamp: Option<String>,
    finalizers: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    volume_name: String,
    volume_mode: Option<String>,
    claim_ref: Option<Ref>,
    host_path: Option<HostPath>,
    local: Option<Local>,
    csi: Option<Source>,
    access_modes: Vec<String>,
    mount_options: Vec<String>,
    capacity: Amounts,
}

impl Spec {
    fn is_device(&self) -> bool {
        self.volume_mode.as_deref() == Some("Block")
    }
}

/// How large it is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Amounts {
    storage: Option<Quantity>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ref {
    uid: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HostPath {
    path: PathBuf,
    r#type: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Local {
    path: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
    capacity: Amounts,
}

/// Returns how large a volume has become that is larger than its claim shows.
fn outgrown(volume: &Claimed, claim: &Claimed) -> Option<i64> {
    let (is, shown) = (volume.spec.capacity.storage?, claim.status.capacity.storage?);
    (is > shown).then(|| is.units())
}

/// Finds the folder of a claim.
///
/// # Errors
/// Why it cannot be used, as kubelet says it.
pub(super) async fn folder(
    (store, csi): (&Store, &Csi),
    pod: &Pod,
    claim: &Claim,
) -> Result<Folder, String> {
    let (namespace, name) = (&pod.metadata.namespace, &claim.claim_name);
    let resource = object(namespace, Kind::PersistentVolumeClaim, name);
    let asked = store.query(resource, Content::NULL).await;
    let bound: Claimed = asked.map_err(lacks("persistentvolumeclaim", name))?;
    let volume = volume_of(&bound)
        .map_err(|why| format!("error processing PVC {namespace}/{name}: {why}"))?;
    let resource = Resource::object(Scope::Cluster, Kind::PersistentVolume, volume);
    let asked = store.query(resource, Content::NULL).await;
    let found: Claimed = asked.map_err(lacks("persistentvolume", volume))?;
    check(volume, &found, &bound.metadata.uid)?;
    let (is_device, size) = (found.spec.is_device(), outgrown(&found, &bound));
    if let Some(source) = found.spec.csi {
        let mode = found.spec.access_modes.into_iter().next();
        let order = Order {
            name: volume.to_owned(),
            source,
            persistent: true,
            access_mode: mode.unwrap_or_else(|| "ReadWriteOnce".to_owned()),
            options: found.spec.mount_options,
            read_only: claim.read_only,
            is_device,
            size,
        };
        return csi.set_up(store, pod, order).await;
    }
    let path = path_of(volume, &found)?;
    if found.spec.local.is_some() && !claim.read_only && !is_device {
        give(pod, &path).await?;
    }
    Ok(Folder { read_only: claim.read_only, is_device, ..Folder::at(path) })
}

/// Gives a volume's folder and all in it to the group that the pod wants for its files, if it wants
/// one. A folder that is the group's already may stand for what is in it (`fsGroupChangePolicy`).
pub(crate) async fn give(pod: &Pod, path: &Path) -> Result<(), String> {
    let Some(security) = &pod.spec.security_context else { return Ok(()) };
    let Some(group) = security.fs_group else { return Ok(()) };
    let lazy = security.fs_group_change_policy.as_deref() == Some("OnRootMismatch");
    let owned = path.to_owned();
    let give = move || {
        if lazy && is_owned(&owned, group)? { Ok(()) } else { own(&owned, group, 0) }
    };
    let done = tokio::task::spawn_blocking(give).await.map_err(|error| error.to_string())?;
    done.map_err(|error| format!("cannot give {} to group {group}: {error}", path.display()))
}

/// Tells whether a folder is a group's, which may read and write it and what is made in it.
fn is_owned(path: &Path, group: u32) -> std::io::Result<bool> {
    let metadata = fs::metadata(path)?;
    let mode = metadata.permissions().mode();
    Ok(metadata.is_dir() && metadata.gid() == group && mode & 0o2770 == 0o2770)
}

fn lacks(kind: &str, name: &str) -> impl FnOnce(Lack) -> String {
    let what = format!("{kind} \"{name}\"");
    move |lack| match lack {
        Lack::Unknown(why) => format!("{what}: {why}"),
        Lack::NotFound | Lack::Exists | Lack::Conflict => format!("{what} not found"),
    }
}

/// Returns the name of the volume that a claim is bound to.
fn volume_of(claim: &Claimed) -> Result<&str, &'static str> {
    let Metadata { deletion_timestamp, finalizers, .. } = &claim.metadata;
    if deletion_timestamp.is_some() && !finalizers.iter().any(|it| it == PROTECTION) {
        return Err("PVC is being deleted");
    }
    let is_bound = matches!(claim.status.phase.as_str(), "Bound" | "");
    let name = claim.spec.volume_name.as_str();
    if name.is_empty() || !is_bound { Err("PVC is not bound") } else { Ok(name) }
}

/// Checks that a volume is bound to the claim with this uid and can be mounted.
fn check(name: &str, volume: &Claimed, claim: &str) -> Result<(), String> {
    let spec = &volume.spec;
    if spec.claim_ref.as_ref().is_some_and(|of| !of.uid.is_empty() && of.uid != claim) {
        return Err(format!("persistentvolume \"{name}\" is bound to another claim"));
    }
    Ok(())
}

/// Returns the folder of a volume of this node.
fn path_of(name: &str, volume: &Claimed) -> Result<PathBuf, String> {
    let spec = &volume.spec;
    let path = match (&spec.local, &spec.host_path) {
        (Some(local), _) => {
            let kind = if spec.is_device() { "BlockDevice" } else { "Directory" };
            tree::check_host_path(&local.path, kind)?;
            &local.path
        }
        (None, Some(_)) if spec.is_device() => {
            let what = "is a hostPath, which cannot be a block device";
            return Err(format!("persistentvolume \"{name}\" {what}"));
        }
        (None, Some(host)) => {
            tree::check_host_path(&host.path, host.r#type.as_deref().unwrap_or_default())?;
            &host.path
        }
        (None, None) => {
            let what = "is neither local, hostPath nor csi: not supported on this node";
            return Err(format!("persistentvolume \"{name}\" {what}"));
        }
    };
    if !path.is_absolute() {
        return Err(format!(
            "persistentvolume \"{name}\" is at '{}', expected a full path",
            path.display()
        ));
    }
    Ok(path.clone())
}

/// How deep a folder is given to a group.
const DEPTH: u32 = 128;

/// Gives a folder and all in it to a group, which may then read and write it. Links are not
/// followed.
fn own(path: &Path, group: u32, depth: u32) -> std::io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let is_link = metadata.is_symlink();
    if metadata.gid() != group {
        lchown(path, None, Some(group))?;
    }
    if is_link {
        return Ok(());
    }
    let more = if metadata.is_dir() { 0o2770 } else { 0o660 };
    let mode = metadata.permissions().mode();
    if mode | more != mode {
        fs::set_permissions(path, Permissions::from_mode(mode | more))?;
    }
    if metadata.is_dir() && depth < DEPTH {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), group, depth + 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
