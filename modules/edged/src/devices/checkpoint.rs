//! Which container has which devices, on the disk: in kubelet's file and form, so that devices of
//! pods that a kubelet started are known. Kubelet checks a sum of its own making, which is not made
//! here: one that takes over a node begins without.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use data_encoding::BASE64;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::core::{Core, Held};
use super::words as w;

const FILE: &str = "kubelet_internal_checkpoint";

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Checkpoint {
    data: Data,
    checksum: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Data {
    pod_device_entries: Option<Vec<Entry>>,
    registered_devices: Option<BTreeMap<String, Option<Vec<String>>>>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    container_name: String,
    resource_name: String,
    #[serde(rename = "DeviceIDs")]
    device_ids: BTreeMap<i64, BTreeSet<String>>,
    /// Base64.
    alloc_resp: String,
}

/// Reads the resources that there were plug-ins of, and who has what. What cannot be read is said,
/// and counts as nothing.
pub(super) fn read(folder: &Path) -> (Vec<String>, Vec<Held>) {
    let path = folder.join(FILE);
    let checkpoint: Checkpoint = match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
            warn!("cannot read {}: {error}", path.display());
            Checkpoint::default()
        }),
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                warn!("cannot read {}: {error}", path.display());
            }
            return Default::default();
        }
    };
    let Data { pod_device_entries, registered_devices } = checkpoint.data;
    let held = pod_device_entries.unwrap_or_default().into_iter().filter_map(|entry| {
        let answer = BASE64.decode(entry.alloc_resp.as_bytes()).ok();
        let answer = answer.and_then(|bytes| w::ContainerAllocateResponse::decode(&*bytes).ok())?;
        Some(Held {
            uid: entry.pod_uid,
            container: entry.container_name,
            resource: entry.resource_name,
            devices: entry.device_ids,
            answer: Some(answer),
        })
    });
    let held = held.collect();
    (registered_devices.unwrap_or_default().into_keys().collect(), held)
}

/// Writes it all, durably, in place of what was there.
///
/// # Errors
/// When the disk does not take it.
pub(super) fn write(folder: &Path, core: &Core) -> io::Result<()> {
    let entry = |held: &Held| {
        let answer = held.answer.as_ref()?;
        Some(Entry {
            pod_uid: held.uid.clone(),
            container_name: held.container.clone(),
            resource_name: held.resource.clone(),
            device_ids: held.devices.clone(),
            alloc_resp: BASE64.encode(&answer.encode_to_vec()),
        })
    };
    let entries = core.held.iter().filter_map(entry).collect();
    let ids = |(name, known): (&String, &super::Known)| {
        let healthy = known.devices.iter().filter(|(_, device)| device.healthy);
        (name.clone(), Some(healthy.map(|(id, _)| id.clone()).collect()))
    };
    let registered = core.resources.iter().map(ids).collect();
    let data = Data { pod_device_entries: Some(entries), registered_devices: Some(registered) };
    let text = serde_json::to_vec(&Checkpoint { data, checksum: 0 })?;
    fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    let (path, new) = (folder.join(FILE), folder.join(format!(".{FILE}")));
    let mut file = File::create(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(folder)?.sync_all()
}
