//! What a worker tells the cloud: how its pod is, and that it has ended.

use std::sync::Arc;
use std::time::Duration;

use ipc_proto::{Content, Kind, Operation};
use serde_json::json;
use tracing::{info, warn};

use super::{Order, Worker};
use crate::statics;
use crate::status::{self, Situation};
use crate::store::object;

/// How long a worker waits for the store to take a status before it goes on without.
const MOMENT: Duration = Duration::from_millis(200);

impl Worker {
    /// Tells the cloud how the pod is, if that is news; false when it could not be told.
    pub(super) async fn tell(&mut self, order: &Order, now: i64) -> bool {
        let own = &self.pod.metadata.uid;
        let uid = match &order.local {
            None => Some(own),
            Some(local) => match &local.mirror {
                Some(mirror) if mirror.hash == statics::hash(&self.pod) => Some(&mirror.uid),
                Some(_) | None => None,
            },
        };
        let facts = self.host.facts.borrow().clone();
        let situation = Situation {
            pod: &self.pod,
            uid: uid.unwrap_or(own),
            held: self.held,
            seen: &self.seen,
            ledger: &self.ledger,
            stage: self.stage,
            verdict: self.verdict.as_ref(),
            runtime: &facts.runtime,
            host_ip: &facts.address,
            start: self.start,
            now,
        };
        let has_place = uid.is_some();
        let patch = status::patch(&situation, &mut self.transitions).to_string();
        let patch: Arc<str> = patch.into();
        self.shown.send_replace(Arc::clone(&patch));
        if !self.hear_of_telling().await {
            return false;
        }
        // A static pod is told when the cloud has something to show it with.
        if !has_place || self.told.as_ref() == Some(&patch) {
            return true;
        }
        let metadata = &self.pod.metadata;
        let resource = object(&metadata.namespace, Kind::PodPatch, &metadata.name);
        let (store, content) = (self.host.store.clone(), Content::text(&patch));
        let task = async move { store.tell(Operation::Patch, resource, content).await };
        self.telling = Some((patch, tokio::spawn(task)));
        self.hear_of_telling().await
    }

    /// Waits a moment for the status that is on its way; tells whether none is on its way any more
    /// and the last arrived. A store that is dead holds up the status, not the pod.
    async fn hear_of_telling(&mut self) -> bool {
        let Some((patch, mut task)) = self.telling.take() else { return true };
        match tokio::time::timeout(MOMENT, &mut task).await {
            Ok(Ok(Ok(()))) => {
                self.told = Some(patch);
                true
            }
            Ok(Ok(Err(error))) => {
                warn!(pod = %self.pod.metadata.name, "cannot tell the status of a pod: {error}");
                false
            }
            Ok(Err(_)) => false,
            Err(_) => {
                self.telling = Some((patch, task));
                false
            }
        }
    }

    /// Asks the cloud to delete a pod that has ended; false when it could not be asked.
    pub(super) async fn tell_deletion(&mut self) -> bool {
        if self.deletion_told {
            return true;
        }
        self.probes.retain(|_, _| false);
        let pod = Arc::clone(&self.pod);
        let metadata = &pod.metadata;
        if let Err(error) = self.drop_folder().await {
            warn!(pod = %metadata.name, "cannot remove the volumes of a pod: {error}");
            return false;
        }
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": metadata.uid}});
        let resource = object(&metadata.namespace, Kind::Pod, &metadata.name);
        let content = Content::from_raw(options.to_string().into());
        match self.host.store.tell(Operation::Delete, resource, content).await {
            Ok(()) => {
                info!(pod = %metadata.name, namespace = %metadata.namespace, "a pod has ended");
                self.deletion_told = true;
                true
            }
            Err(error) => {
                warn!(pod = %metadata.name, "cannot ask for the deletion of a pod: {error}");
                false
            }
        }
    }
}
