//! Which container has which devices, on the disk: in kubelet's file and form, with its sum, so that
//! each knows the devices of pods that the other started.

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
use crate::pod::names::fnv;

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
    registered_devices: Option<BTreeMap<String, Ids>>,
}

/// In the order of the file.
type Ids = Option<Vec<String>>;

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    container_name: String,
    resource_name: String,
    #[serde(rename = "DeviceIDs")]
    device_ids: Option<BTreeMap<i64, Ids>>,
    /// Base64.
    alloc_resp: Option<String>,
}

impl Entry {
    fn answer(&self) -> Option<Vec<u8>> {
        BASE64.decode(self.alloc_resp.as_ref()?.as_bytes()).ok()
    }
}

/// Sums all up as kubelet does: over the text that Go makes of it for people.
fn sum(data: &Data) -> u64 {
    fn shown<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
        value.map_or_else(|| "<nil>".to_owned(), show)
    }
    let list = |ids: &Ids| shown(ids.as_ref(), |ids| format!("[{}]", ids.join(" ")));
    let entry = |entry: &Entry| {
        let by_node = |all: &BTreeMap<i64, Ids>| {
            let all: Vec<_> =
                all.iter().map(|(node, ids)| format!("{node}:{}", list(ids))).collect();
            format!("map[{}]", all.join(" "))
        };
        let numbers = |bytes: Vec<u8>| {
            let all: Vec<_> = bytes.iter().map(ToString::to_string).collect();
            format!("[{}]", all.join(" "))
        };
        format!(
            "{{PodUID:(string){} ContainerName:(string){} ResourceName:(string){} \
             DeviceIDs:(checkpoint.DevicesPerNUMA){} AllocResp:([]uint8){}}}",
            entry.pod_uid,
            entry.container_name,
            entry.resource_name,
            shown(entry.device_ids.as_ref(), by_node),
            shown(entry.answer(), numbers),
        )
    };
    let entries = |all: &Vec<Entry>| {
        let all: Vec<_> = all.iter().map(entry).collect();
        format!("[{}]", all.join(" "))
    };
    let registered = |all: &BTreeMap<String, Ids>| {
        let all: Vec<_> = all.iter().map(|(name, ids)| format!("{name}:{}", list(ids))).collect();
        format!("map[{}]", all.join(" "))
    };
    let text = format!(
        "(checkpoint.checkpointData){{PodDeviceEntries:([]checkpoint.PodDevicesEntry){} \
         RegisteredDevices:(map[string][]string){}}}",
        shown(data.pod_device_entries.as_ref(), entries),
        shown(data.registered_devices.as_ref(), registered),
    );
    fnv(&text).into()
}

/// Reads the resources that there were plug-ins of, and who has what. What cannot be read, or is not
/// what was written, is said, and counts as nothing.
pub(super) fn read(folder: &Path) -> (Vec<String>, Vec<Held>) {
    let path = folder.join(FILE);
    let checkpoint: Checkpoint = match fs::read(&path) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                warn!("cannot read {}: {error}", path.display());
                return Default::default();
            }
        },
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                warn!("cannot read {}: {error}", path.display());
            }
            return Default::default();
        }
    };
    let (is, said) = (sum(&checkpoint.data), checkpoint.checksum);
    if is != said {
        warn!("{} is damaged: its sum is {is}, expected {said}", path.display());
        return Default::default();
    }
    let Data { pod_device_entries, registered_devices } = checkpoint.data;
    let held = pod_device_entries.unwrap_or_default().into_iter().filter_map(|entry| {
        let answer = w::ContainerAllocateResponse::decode(&*entry.answer()?).ok()?;
        let devices = entry.device_ids.unwrap_or_default().into_iter();
        let set = |ids: Ids| ids.unwrap_or_default().into_iter().collect::<BTreeSet<_>>();
        Some(Held {
            uid: entry.pod_uid,
            container: entry.container_name,
            resource: entry.resource_name,
            devices: devices.map(|(node, ids)| (node, set(ids))).collect(),
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
    let ids = |(node, ids): (&i64, &BTreeSet<String>)| (*node, Some(ids.iter().cloned().collect()));
    let entry = |held: &Held| {
        let answer = held.answer.as_ref()?;
        Some(Entry {
            pod_uid: held.uid.clone(),
            container_name: held.container.clone(),
            resource_name: held.resource.clone(),
            device_ids: Some(held.devices.iter().map(ids).collect()),
            alloc_resp: Some(BASE64.encode(&answer.encode_to_vec())),
        })
    };
    let entries = core.held.iter().filter_map(entry).collect();
    let well = |(name, known): (&String, &super::Known)| {
        let healthy = known.devices.iter().filter(|(_, device)| device.healthy);
        (name.clone(), Some(healthy.map(|(id, _)| id.clone()).collect()))
    };
    let registered = core.resources.iter().map(well).collect();
    let data = Data { pod_device_entries: Some(entries), registered_devices: Some(registered) };
    let checksum = sum(&data);
    let text = serde_json::to_vec(&Checkpoint { data, checksum })?;
    fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    let (path, new) = (folder.join(FILE), folder.join(format!(".{FILE}")));
    let mut file = File::create(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kubernetes' own code makes of these.
    #[test]
    fn the_sum_is_kubelets() {
        for (text, expected) in [
            ("{}", 1_944_006_890),
            (r#"{"PodDeviceEntries":[],"RegisteredDevices":{}}"#, 2_932_075_448),
            (
                r#"{"PodDeviceEntries":[
                    {"PodUID":"u","ContainerName":"c","ResourceName":"x.org/d","AllocResp":"AQIA/w==",
                        "DeviceIDs":{"-1":["one","a b\"c"],"10":[],"2":null,"0":["z"]}},
                    {"PodUID":"v","ContainerName":"c2","ResourceName":"r","DeviceIDs":null,"AllocResp":null},
                    {"PodUID":"w","ContainerName":"c2","ResourceName":"r","DeviceIDs":{},"AllocResp":""}],
                "RegisteredDevices":{"y/b":null,"x/a":["p","q"],"":[]}}"#,
                2_106_397_191,
            ),
        ] {
            assert_eq!(sum(&serde_json::from_str(text).unwrap()), expected, "{text}");
        }
    }
}
