//! Pods that the node lets go. That it did stands in the pod's folder, so that the pod stays ended also
//! when this process dies while the cloud is away.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Pods;
use crate::pressure::{EVICTED, Eviction};
use crate::status::Verdict;
use crate::volumes::pod_folder;

/// What is written down.
#[derive(Debug, Deserialize, Serialize)]
struct Mark {
    message: String,
    disrupts: bool,
}

fn file(root: &Path, uid: &str) -> PathBuf {
    pod_folder(root, uid).join("evicted.json")
}

impl Pods {
    /// Lets a pod go.
    pub(crate) fn evict(&self, eviction: Eviction) {
        let Eviction { uid, verdict } = eviction;
        let Some(order) = self.orders.get(&uid) else { return };
        let mark = Mark { message: verdict.message.clone(), disrupts: verdict.disrupts };
        let file = file(&self.host.config.root, &uid);
        let text = serde_json::to_vec(&mark).unwrap_or_default();
        if let Err(error) = fs::write(&file, text) {
            warn!("cannot write {}: {error}", file.display());
        }
        order.send_if_modified(|order| {
            let news = order.refused.is_none();
            order.refused.get_or_insert(verdict);
            news
        });
    }

    /// Returns why a pod was let go by an earlier life of this process.
    pub(super) fn evicted(&self, uid: &str) -> Option<Verdict> {
        let text = fs::read(file(&self.host.config.root, uid)).ok()?;
        let Mark { message, disrupts } = serde_json::from_slice(&text).ok()?;
        Some(Verdict { reason: EVICTED, message, grace: Some(1), disrupts })
    }
}
