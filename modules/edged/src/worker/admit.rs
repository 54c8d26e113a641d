//! Whether the node is one that the pod wants and has the devices that it wants, looked at once
//! before anything of the pod runs.

use std::time::Duration;

use ipc_proto::{Content, Kind, Resource, Scope};
use serde_json::Value;
use tracing::debug;

use super::{Order, Worker};
use crate::admission;
use crate::notes::About;
use crate::pod::placement::Terms;
use crate::status::Verdict;

/// How long it may take to hear how the node is labelled now.
const PATIENCE: Duration = Duration::from_secs(5);

impl Worker {
    /// Refuses a pod that has nothing here yet and wants another node, as kubelet does: a node that
    /// does not suit by what was heard last is asked for once more.
    pub(super) async fn admit(&mut self, order: &Order) {
        if std::mem::replace(&mut self.admitted, true) {
            return;
        }
        let is_new = matches!(self.pod.status.phase.as_str(), "" | "Pending")
            && self.seen.sandboxes.is_empty()
            && self.asked_to_end(order).is_none();
        if !is_new {
            return;
        }
        let verdict = match self.unsuited(order).await {
            Some(verdict) => verdict,
            None => match self.claim_devices().await {
                Ok(()) => return,
                Err(message) => Verdict::new("UnexpectedAdmissionError", message),
            },
        };
        self.host.notes.warning(About::pod(&self.pod), verdict.reason, verdict.message.clone());
        self.verdict = Some(verdict.rejects());
    }

    /// Returns why the node does not suit the pod, if it does not.
    async fn unsuited(&self, order: &Order) -> Option<Verdict> {
        let (node, heard) = {
            let facts = self.host.facts.borrow();
            (facts.name.clone(), std::sync::Arc::clone(&facts.terms))
        };
        let check =
            |terms: &Terms| admission::suits(&self.pod, order.local.is_some(), &node, terms);
        let mut verdict = check(&heard).err()?;
        let resource = Resource::object(Scope::Cluster, Kind::Node, &node);
        let asked = self.host.store.query::<Value>(resource, Content::NULL);
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(now)) => match check(&Terms::of(&now)) {
                Ok(()) => return None,
                Err(still) => verdict = still,
            },
            unheard => debug!(?unheard, "how the node is labelled now is not known"),
        }
        Some(verdict)
    }
}
