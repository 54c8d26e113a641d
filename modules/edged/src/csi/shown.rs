//! How full the volumes are that pods claim, for who asks.

use std::path::PathBuf;

use futures_util::future::join_all;
use tracing::debug;

use super::{Csi, words as w};
use crate::pod::spec::Pod;
use crate::volumes::Folders;

/// Bytes that are free, there and used; inodes that are free, there and used.
pub(crate) type Fill = [u64; 6];

/// A claimed volume in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// What the pod calls it.
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) claim: String,
    path: PathBuf,
    /// Whose it is, and what it is called there; nobody's is on the node's own disks.
    driven: Option<(String, String)>,
}

/// How full a pod's volume is.
#[derive(Clone, Debug)]
pub(crate) struct Filled {
    pub(crate) uid: String,
    pub(crate) kept: Kept,
    pub(crate) fill: Fill,
}

/// Asks the kernel how full a disk is.
pub(crate) fn fill(path: &std::path::Path) -> Option<Fill> {
    let it = rustix::fs::statvfs(path).ok()?;
    let used = it.f_blocks.saturating_sub(it.f_bfree);
    let [available, capacity, used] =
        [it.f_bavail, it.f_blocks, used].map(|blocks| blocks.saturating_mul(it.f_frsize));
    let inodes = it.f_files.saturating_sub(it.f_ffree);
    Some([available, capacity, used, it.f_favail, it.f_files, inodes])
}

impl Csi {
    /// Takes it that a pod has its volumes.
    pub(crate) fn keep(&self, pod: &Pod, folders: &Folders) {
        let kept = pod.spec.volumes.iter().filter_map(|volume| {
            let (claim, folder) =
                (volume.persistent_volume_claim.as_ref()?, folders.get(&volume.name)?);
            Some(Kept {
                name: volume.name.clone(),
                namespace: pod.metadata.namespace.clone(),
                claim: claim.claim_name.clone(),
                path: folder.path.clone(),
                driven: folder.driven.clone(),
            })
        });
        let kept: Vec<_> = kept.collect();
        if !kept.is_empty() {
            self.kept.send_modify(|all| drop(all.insert(pod.metadata.uid.clone(), kept)));
        }
    }

    /// Takes it that a pod gives its volumes up.
    pub(super) fn forget(&self, uid: &str) {
        self.kept.send_if_modified(|all| all.remove(uid).is_some());
    }

    /// Asks how full all volumes are, at once. One of which nobody tells is left out.
    pub(crate) async fn filled(&self) -> Vec<Filled> {
        let each = |(uid, kept): (&String, &Vec<Kept>)| {
            let uid = uid.clone();
            kept.clone().into_iter().map(move |kept| (uid.clone(), kept))
        };
        let all: Vec<_> = self.kept.borrow().iter().flat_map(each).collect();
        let looks = all.into_iter().map(|(uid, kept)| async move {
            let fill = self.fill(&kept).await?;
            Some(Filled { uid, kept, fill })
        });
        join_all(looks).await.into_iter().flatten().collect()
    }

    async fn fill(&self, kept: &Kept) -> Option<Fill> {
        let Kept { path, driven, .. } = kept;
        let Some((driver, handle)) = driven else {
            let path = path.clone();
            return tokio::task::spawn_blocking(move || fill(&path)).await.ok()?;
        };
        let driver = self.driver(driver).ok().filter(|driver| driver.can(w::STATS))?;
        let told = driver.stats(handle.clone(), path.display().to_string()).await;
        let usage = told.inspect_err(|why| debug!("volume {handle}: {why}")).ok()?.usage;
        let by = |unit: i32| {
            let found = usage.iter().find(|usage| usage.unit == unit).copied().unwrap_or_default();
            [found.available, found.total, found.used]
                .map(|number| u64::try_from(number).unwrap_or_default())
        };
        let ([available, capacity, used], [free, inodes, in_use]) = (by(w::BYTES), by(w::INODES));
        (!usage.is_empty()).then_some([available, capacity, used, free, inodes, in_use])
    }
}
