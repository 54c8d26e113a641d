//! Pods that the node lets go. That it did stands in the pod's folder, so that the pod stays ended also
//! when this process dies while the cloud is away.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Pods;
use crate::pressure::{EVICTED, Eviction};
use crate::shutdown::TERMINATED;
use crate::status::Verdict;
use crate::volumes::pod_folder;

/// What is written down.
#[derive(Debug, Deserialize, Serialize)]
struct Mark {
    /// Absent in those of earlier versions, which knew but one.
    #[serde(default)]
    reason: String,
    message: String,
    disrupts: bool,
}

fn file(root: &Path, uid: &str) -> PathBuf {
    pod_folder(root, uid).join("evicted.json")
}

impl Pods {
    /// Lets a pod go.
    pub(crate) fn evict(&self, eviction: Eviction) {
        let Eviction { uid, verdict, returns } = eviction;
        let Some(order) = self.orders.get(&uid) else { return };
        if returns {
            order.send_modify(|order| order.halt = verdict.grace);
            return;
        }
        let (reason, message) = (verdict.reason.to_owned(), verdict.message.clone());
        let mark = Mark { reason, message, disrupts: verdict.disrupts };
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
        let Mark { reason, message, disrupts } = serde_json::from_slice(&text).ok()?;
        let reason = if reason == TERMINATED { TERMINATED } else { EVICTED };
        Some(Verdict { reason, message, grace: Some(1), disrupts })
    }

    /// Takes it that the host shuts down, or that it does not after all: pods that only stopped for
    /// it go on then.
    pub(crate) fn leave(&mut self, leaves: bool) {
        self.leaving = leaves;
        for order in self.orders.values().filter(|_| !leaves) {
            order.send_if_modified(|order| order.halt.take().is_some());
        }
    }
}
