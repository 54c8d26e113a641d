//! A pod's volumes: what they need, what files they hold ([`payload`]), and how they are put on the
//! disk ([`tree`]), in kubelet's folders.

pub(crate) mod claim;
pub(crate) mod payload;
pub(crate) mod sub_path;
pub(crate) mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipc_proto::{Content, Kind};
use serde::Deserialize;
use serde_json::json;

use crate::csi::{Csi, Order};
use crate::env::{self, Facts, Found};
use crate::pod::names;
use crate::pod::spec::{Pod, Projection, Volume};
use crate::pod::volume::VolumeImage;
use crate::quantity::Quantity;
use crate::store::{Lack, Store, object};
use payload::{Files, Tokens};

/// The folders of the volumes, by the volumes' names.
pub(crate) type Folders = BTreeMap<String, Folder>;

/// Where a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    /// Whether no container may write to it, whatever its mount says.
    pub(crate) read_only: bool,
    /// The image that is mounted in place of a folder, as the runtime calls it or as the pod does.
    pub(crate) image: Option<VolumeImage>,
    /// Whether it is a device in place of a folder.
    pub(crate) is_device: bool,
    /// The storage driver whose it is, and what it is called there.
    pub(crate) driven: Option<(String, String)>,
}

impl Folder {
    /// Names a folder that containers may write to.
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self { path, read_only: false, image: None, is_device: false, driven: None }
    }
}

/// The folders of volumes that live on the node's own disk, or in its memory, by their kind.
pub(crate) const LOCAL: [&str; 5] = [
    "kubernetes.io~empty-dir",
    "kubernetes.io~configmap",
    "kubernetes.io~secret",
    "kubernetes.io~projected",
    "kubernetes.io~downward-api",
];

/// The folder of a pod.
pub(crate) fn pod_folder(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid)
}

/// Finds the config maps and secrets that are needed; what does not exist is noted so.
///
/// # Errors
/// When the store cannot tell.
pub(crate) async fn find(
    store: &Store,
    namespace: &str,
    needs: Vec<env::Need>,
) -> Result<Found, String> {
    let mut found = Found::new();
    for (kind, name) in needs {
        let answer = if kind == Kind::Secret {
            store.secret(namespace, &name).await
        } else {
            store.config_map(namespace, &name).await
        };
        let entries = match answer {
            Ok(entries) => Some(entries),
            Err(Lack::NotFound) => None,
            Err(Lack::Unknown(why)) => return Err(format!("{kind} \"{name}\": {why}")),
            Err(Lack::Exists | Lack::Conflict) => {
                return Err(format!("{kind} \"{name}\": no answer"));
            }
        };
        found.insert(env::key(&kind, &name), entries);
    }
    Ok(found)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenAnswer {
    status: TokenStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenStatus {
    token: String,
}

/// How long a token is valid that does not say it, in seconds: as the API's default.
const TOKEN_LIFE: i64 = 3600;

/// Asks for the tokens of a pod's projected volumes.
async fn tokens(store: &Store, pod: &Pod) -> Result<Tokens, String> {
    let sources = |volume: &Volume| {
        let sources = volume.projected.as_ref().map(|projected| projected.sources.clone());
        sources.unwrap_or_default()
    };
    let mut tokens = Tokens::new();
    let projections = pod.spec.volumes.iter().flat_map(sources);
    for token in
        projections.filter_map(|Projection { service_account_token, .. }| service_account_token)
    {
        let metadata = &pod.metadata;
        let life = token.expiration_seconds.unwrap_or(TOKEN_LIFE);
        let audiences = (!token.audience.is_empty()).then(|| vec![token.audience.clone()]);
        let request = json!({
            "metadata": {"creationTimestamp": null},
            "spec": {
                "audiences": audiences,
                "expirationSeconds": life,
                "boundObjectRef":
                    {"kind": "Pod", "apiVersion": "v1", "name": metadata.name, "uid": metadata.uid},
            },
            "status": {"token": "", "expirationTimestamp": null},
        });
        let account = match pod.spec.service_account_name.as_str() {
            "" => "default",
            account => account,
        };
        let resource = object(&metadata.namespace, Kind::ServiceAccountToken, account);
        let content = Content::from_raw(request.to_string().into());
        let answer: TokenAnswer =
            store.query(resource, content).await.map_err(|lack| match lack {
                Lack::Unknown(why) => format!("failed to fetch token: {why}"),
                Lack::NotFound | Lack::Exists | Lack::Conflict => {
                    format!("failed to fetch token: serviceaccount \"{account}\" not found")
                }
            })?;
        if answer.status.token.is_empty() {
            return Err("failed to fetch token: the answer has none".to_owned());
        }
        tokens.insert((token.audience, life), answer.status.token);
    }
    Ok(tokens)
}

/// Puts all volumes of a pod in place, or brings them up to date.
///
/// # Errors
/// What is wrong with which volume, as kubelet says it.
pub(crate) async fn prepare(
    (store, csi): (&Store, &Csi),
    root: &Path,
    pod: &Pod,
    facts: &Facts,
) -> Result<Folders, String> {
    let mut folders = Folders::new();
    let found = find(store, &pod.metadata.namespace, payload::needs(&pod.spec.volumes)).await?;
    let tokens = tokens(store, pod).await?;
    for volume in &pod.spec.volumes {
        let at = async {
            if !names::is_plain(&volume.name) {
                return Err("its name is no name of a folder".to_owned());
            }
            if let Some(claim) = &volume.persistent_volume_claim {
                return claim::folder((store, csi), pod, claim).await;
            }
            if let Some(source) = &volume.csi {
                let order =
                    Order { name: volume.name.clone(), source: source.clone(), ..Order::default() };
                return csi.set_up(store, pod, order).await;
            }
            let files = payload::files(pod, volume, facts, &found, &tokens)?;
            place(root, pod, volume, files, facts.memory)
        };
        let failed =
            |why| format!("MountVolume.SetUp failed for volume \"{}\" : {why}", volume.name);
        folders.insert(volume.name.clone(), at.await.map_err(failed)?);
    }
    Ok(folders)
}

/// Puts one volume in place whose content is known.
fn place(
    root: &Path,
    pod: &Pod,
    volume: &Volume,
    files: Option<Files>,
    node_memory: i64,
) -> Result<Folder, String> {
    let group = pod.spec.security_context.as_ref().and_then(|security| security.fs_group);
    let folder = |plugin: &str| {
        pod_folder(root, &pod.metadata.uid)
            .join("volumes")
            .join(format!("kubernetes.io~{plugin}"))
            .join(&volume.name)
    };
    let failed = |error: std::io::Error| error.to_string();
    if let Some(host) = &volume.host_path {
        let path = PathBuf::from(&host.path);
        tree::check_host_path(&path, host.r#type.as_deref().unwrap_or_default())?;
        return Ok(Folder::at(path));
    }
    if let Some(image) = &volume.image {
        let image = Some(image.clone());
        return Ok(Folder { read_only: true, image, ..Folder::at(PathBuf::new()) });
    }
    if let Some(empty) = &volume.empty_dir {
        let folder = folder("empty-dir");
        let memory = match empty.medium.as_str() {
            "" => None,
            "Memory" => Some(memory_bound(pod, empty.size_limit, node_memory)),
            medium => return Err(format!("emptyDir medium '{medium}' is not supported")),
        };
        tree::empty(&folder, memory, group).map_err(failed)?;
        return Ok(Folder::at(folder));
    }
    let plugin = match volume {
        Volume { config_map: Some(_), .. } => "configmap",
        Volume { secret: Some(_), .. } => "secret",
        Volume { projected: Some(_), .. } => "projected",
        Volume { downward_api: Some(_), .. } => "downward-api",
        Volume { .. } => {
            let kind = volume.other.keys().next().map_or("without a type", String::as_str);
            return Err(format!("volume type '{kind}' is not supported on this node"));
        }
    };
    let folder = folder(plugin);
    // What may be secret stays out of the disk.
    let memory = (plugin != "configmap").then_some(0);
    tree::empty(&folder, memory, None).map_err(failed)?;
    tree::write(&folder, &files.unwrap_or_default(), group).map_err(failed)?;
    Ok(Folder { read_only: true, ..Folder::at(folder) })
}

/// Returns how large a volume of memory may become, in bytes: what it says, what all containers
/// together may use, or what the node has, whatever is least. 0 is no bound.
fn memory_bound(pod: &Pod, own: Option<Quantity>, node: i64) -> i64 {
    let limits = pod.spec.containers.iter().map(|it| it.resources.limits.get("memory"));
    let of_pod = limits.map(|limit| limit.map(|it| it.units())).sum::<Option<i64>>();
    let own = own.map(Quantity::units);
    let bounds = [own, of_pod, Some(node)].into_iter().flatten();
    bounds.filter(|bound| *bound > 0).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_by_the_volume_the_pod_and_the_node() {
        let pod = |limits: &[&str]| -> Pod {
            let containers: Vec<_> = limits
                .iter()
                .map(|limit| match *limit {
                    "" => json!({"name": "c"}),
                    limit => json!({"name": "c", "resources": {"limits": {"memory": limit}}}),
                })
                .collect();
            serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
        };
        for (limits, own, bound) in [
            (&["1Ki", "1Ki"][..], None, 2048),
            (&["1Ki", ""], None, 1 << 20),
            (&["1Ki"], Some(10), 10),
            (&["1Ki"], Some(4096), 1024),
            (&[""], Some(0), 1 << 20),
        ] {
            let own = own.map(Quantity::of);
            assert_eq!(memory_bound(&pod(limits), own, 1 << 20), bound, "{limits:?} {own:?}");
        }
    }
}
