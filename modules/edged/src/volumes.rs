//! A pod's volumes: what they need, what files they hold ([`payload`]), and how they are put on the
//! disk ([`tree`]), in kubelet's folders.

pub(crate) mod payload;
pub(crate) mod sub_path;
pub(crate) mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipc_proto::{Content, Kind, Resource, Scope};
use serde::Deserialize;
use serde_json::json;

use crate::env::{self, Facts, Found};
use crate::pod::names;
use crate::pod::spec::{Pod, Projection, Volume};
use crate::store::{Lack, Store, object};
use payload::{Files, Tokens};

/// The folders of the volumes, by the volumes' names.
pub(crate) type Folders = BTreeMap<String, PathBuf>;

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

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claimed {
    spec: ClaimedSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimedSpec {
    volume_name: String,
    host_path: Option<At>,
    local: Option<At>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct At {
    path: PathBuf,
}

/// Finds the folder of a claim whose volume is on this node.
async fn claimed(store: &Store, namespace: &str, claim: &str) -> Result<PathBuf, String> {
    let lacks = |what: String| {
        move |lack: Lack| match lack {
            Lack::Unknown(why) => format!("{what}: {why}"),
            Lack::NotFound | Lack::Exists | Lack::Conflict => format!("{what} not found"),
        }
    };
    let resource = object(namespace, Kind::PersistentVolumeClaim, claim);
    let bound: Claimed = store
        .query(resource, Content::NULL)
        .await
        .map_err(lacks(format!("persistentvolumeclaim \"{claim}\"")))?;
    let name = bound.spec.volume_name;
    if name.is_empty() {
        return Err(format!("persistentvolumeclaim \"{claim}\" is not bound"));
    }
    let resource = Resource::object(Scope::Cluster, Kind::PersistentVolume, &name);
    let volume: Claimed = store
        .query(resource, Content::NULL)
        .await
        .map_err(lacks(format!("persistentvolume \"{name}\"")))?;
    let at = volume.spec.local.or(volume.spec.host_path);
    at.map(|at| at.path).ok_or_else(|| {
        format!("persistentvolume \"{name}\" is neither local nor hostPath: not supported on this node yet")
    })
}

/// Puts all volumes of a pod in place, or brings them up to date.
///
/// # Errors
/// What is wrong with which volume, as kubelet says it.
pub(crate) async fn prepare(
    store: &Store,
    root: &Path,
    pod: &Pod,
    facts: &Facts,
) -> Result<Folders, String> {
    let mut folders = Folders::new();
    let found = find(store, &pod.metadata.namespace, payload::needs(&pod.spec.volumes)).await?;
    let tokens = tokens(store, pod).await?;
    let group = pod.spec.security_context.as_ref().and_then(|security| security.fs_group);
    for volume in &pod.spec.volumes {
        let at = async {
            if !names::is_plain(&volume.name) {
                return Err("its name is no name of a folder".to_owned());
            }
            if let Some(claim) = &volume.persistent_volume_claim {
                return claimed(store, &pod.metadata.namespace, &claim.claim_name).await;
            }
            let files = payload::files(pod, volume, facts, &found, &tokens)?;
            place(root, pod, volume, files, group)
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
    group: Option<u32>,
) -> Result<PathBuf, String> {
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
        return Ok(path);
    }
    if let Some(empty) = &volume.empty_dir {
        let folder = folder("empty-dir");
        let memory = match empty.medium.as_str() {
            "" => None,
            "Memory" => Some(empty.size_limit.map(crate::quantity::Quantity::units)),
            medium => return Err(format!("emptyDir medium '{medium}' is not supported")),
        };
        tree::empty(&folder, memory, group).map_err(failed)?;
        return Ok(folder);
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
    let memory = (plugin != "configmap").then_some(None);
    tree::empty(&folder, memory, None).map_err(failed)?;
    tree::write(&folder, &files.unwrap_or_default(), group).map_err(failed)?;
    Ok(folder)
}
