//! What pods use: of memory by the runtime's account or the kernel's, of disks by looking at every
//! file. Only asked for when it matters, because it costs.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::debug;

use super::rank::{Space, Usage, Used};
use crate::api::cgroups;
use crate::cgroup;
use crate::cri::{Runtime, words as w};
use crate::pod::amounts::quality;
use crate::pod::names;
use crate::pod::spec::Pod;
use crate::volumes::{LOCAL, pod_folder};
use crate::worker::Host;

/// The most files of one volume or container that are looked at.
const FILES: u64 = 1_000_000;

/// Measures pods, with the control groups below `mount`; of a pod that nothing is known of there is
/// nothing. By uid.
pub(super) async fn measure(
    host: &Host,
    mount: PathBuf,
    pods: Vec<Arc<Pod>>,
) -> BTreeMap<String, Usage> {
    let told = ask(&host.runtime).await;
    let (root, logs) = (host.config.root.clone(), host.config.logs.clone());
    let groups = host.config.groups.clone();
    let measured = tokio::task::spawn_blocking(move || {
        let ids = told.iter().filter(|it| it.memory.is_none()).map(|it| it.id.clone());
        let ids: Vec<_> = ids.collect();
        let known = cgroups::read_below(&mount, &ids, 0);
        let usage = |pod: &Arc<Pod>| {
            let uid = &pod.metadata.uid;
            let own = told.iter().filter(|it| it.uid == *uid);
            let containers: Vec<_> = own
                .map(|it| {
                    let by_kernel =
                        || known.get(&it.id).map_or(0, |(_, memory)| memory.working_set);
                    let folder = names::log_folder(&logs, pod).join(&it.name);
                    Used {
                        name: it.name.clone(),
                        memory: it.memory.unwrap_or_else(by_kernel),
                        layer: it.layer,
                        logs: taken(&folder),
                    }
                })
                .collect();
            let group = groups.as_ref().map(|groups| groups.of_pod(uid, quality(pod)));
            let pids = group.and_then(|group| cgroup::processes(&group)).unwrap_or_default();
            let folder = pod_folder(&root, uid);
            let more = taken(&folder.join("etc-hosts"));
            let (in_memory, volumes) = volumes(&folder).into_iter().partition(|(name, _)| {
                let own = pod.spec.volumes.iter().find(|it| it.name == *name);
                own.and_then(|it| it.empty_dir.as_ref()).is_some_and(|it| it.medium == "Memory")
            });
            let usage = Usage { containers, volumes, in_memory, more, pids };
            (usage != Usage::default()).then(|| (uid.clone(), usage))
        };
        pods.iter().filter_map(usage).collect()
    });
    measured.await.unwrap_or_default()
}

/// What the runtime tells of a container.
struct Told {
    id: String,
    uid: String,
    name: String,
    /// Bytes; nothing when it does not tell.
    memory: Option<u64>,
    layer: Space,
}

async fn ask(runtime: &Runtime) -> Vec<Told> {
    let list = runtime.list_containers(w::ListContainersRequest { filter: None });
    let stats = runtime.container_stats(w::ListStatsRequest {});
    let (list, stats) = tokio::join!(list, stats);
    let stats = stats.unwrap_or_else(|trouble| {
        debug!("the runtime does not tell what containers use: {trouble}");
        w::ListContainerStatsResponse::default()
    });
    let mut stats: BTreeMap<String, w::ContainerStats> = stats
        .stats
        .into_iter()
        .filter_map(|it| Some((it.attributes.as_ref()?.id.clone(), it)))
        .collect();
    let told = |container: w::Container| {
        let is_alive = container.state() == w::ContainerState::Running;
        let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let (uid, name) = (label(names::POD_UID), label(names::CONTAINER_NAME));
        let stats = stats.remove(&container.id);
        let number = |value: Option<w::UInt64Value>| value.map(|it| it.value);
        let layer = stats.as_ref().and_then(|it| it.writable_layer);
        let layer = layer.map_or_else(Space::default, |layer| Space {
            bytes: number(layer.used_bytes).unwrap_or_default(),
            inodes: number(layer.inodes_used).unwrap_or_default(),
        });
        let memory = stats.and_then(|it| number(it.memory?.working_set_bytes));
        let memory = if is_alive { memory } else { Some(0) };
        Told { id: container.id, uid, name, memory, layer }
    };
    let list = list.unwrap_or_default();
    // One that ended is measured with its successor: they share a folder for logs.
    let mut newest = list.containers;
    newest.sort_by_key(|it| std::cmp::Reverse(it.created_at));
    let mut seen = HashSet::new();
    newest
        .into_iter()
        .map(told)
        .filter(|it| seen.insert((it.uid.clone(), it.name.clone())))
        .collect()
}

/// Measures the volumes of a pod that are the node's own.
fn volumes(pod: &Path) -> BTreeMap<String, Space> {
    let folders = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    let of_kind = |kind: &str| folders(pod.join("volumes").join(kind));
    let all = LOCAL.into_iter().flat_map(of_kind);
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        Some((name, taken(&entry.path())))
    };
    all.filter_map(read).collect()
}

/// Measures a file, or a folder with all below it on its own file system, as `du` does: what is
/// linked twice counts once. What cannot be read does not count.
pub(crate) fn taken(path: &Path) -> Space {
    let Ok(top) = fs::symlink_metadata(path) else { return Space::default() };
    let mut sum = Space::default();
    let (mut links, mut left) = (HashSet::new(), vec![(path.to_owned(), top.clone())]);
    while let Some((path, here)) = left.pop() {
        if here.dev() != top.dev()
            || (here.nlink() > 1 && !here.is_dir() && !links.insert(here.ino()))
        {
            continue;
        }
        sum = sum.plus(Space { bytes: here.blocks().saturating_mul(512), inodes: 1 });
        if sum.inodes >= FILES {
            break;
        }
        if here.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.filter_map(|it| Some((it.path(), it.metadata().ok()?))));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_once_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir(path.join("a")).unwrap();
        fs::write(path.join("a/file"), vec![1; 100_000]).unwrap();
        let alone = taken(path);
        assert!((100_000..200_000).contains(&alone.bytes), "{alone:?}");
        assert_eq!(alone.inodes, 3);
        fs::hard_link(path.join("a/file"), path.join("again")).unwrap();
        std::os::unix::fs::symlink("/", path.join("out")).unwrap();
        let linked = taken(path);
        assert_eq!(linked.inodes, 4);
        assert!(linked.bytes < alone.bytes + 10_000, "{linked:?}");
        assert_eq!(taken(&path.join("none")), Space::default());
    }

    #[test]
    fn volumes_are_measured_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let of = folder.path().join("volumes/kubernetes.io~empty-dir/v");
        fs::create_dir_all(&of).unwrap();
        fs::write(of.join("file"), vec![1; 10_000]).unwrap();
        fs::create_dir_all(folder.path().join("volumes/kubernetes.io~csi/w")).unwrap();
        let measured = volumes(folder.path());
        assert_eq!(measured.keys().collect::<Vec<_>>(), ["v"]);
        assert_eq!(measured["v"].inodes, 2);
    }
}
