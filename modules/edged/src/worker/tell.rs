//! What a worker tells the cloud: how its pod is, and that it has ended.

use std::sync::Arc;
use std::time::Duration;

use ipc_proto::{Content, Kind, Operation};
use module_runtime::RequestError;
use serde_json::json;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::{Order, Worker};
use crate::notes::About;
use crate::pod::plan::{Stage, Step, paused_until};
use crate::pod::spec::Metadata;
use crate::statics;
use crate::status::{self, Situation};
use crate::store::object;

/// How long a worker waits for the store to take a status before it goes on without.
const MOMENT: Duration = Duration::from_millis(200);

/// How long a status that is soon over waits to be told: each costs the node and the cloud several
/// writes to their disks, just when the runtime needs the disk to make the pod.
const PASSING: Duration = Duration::from_secs(1);

/// A status on its way to the store.
pub(super) struct Telling {
    patch: Arc<str>,
    /// Whether it waits to be told.
    passes: bool,
    /// Ends with this.
    task: JoinSet<Result<(), RequestError>>,
}

impl Worker {
    /// Tells the cloud how the pod is, if that is news; false when the store does not have it yet.
    /// Nobody waits for the store while there are `steps` to be taken.
    pub(super) async fn tell(&mut self, order: &Order, steps: &[Step], now: i64) -> bool {
        let own = &self.pod.metadata.uid;
        let uid = match &order.local {
            None => Some(own),
            Some(local) => match &local.mirror {
                Some(mirror) if mirror.hash == statics::hash(&self.pod) => Some(&mirror.uid),
                Some(_) | None => None,
            },
        };
        let facts = self.host.facts.borrow().clone();
        // Without its runtime's name a container's identity is none; that is known in a moment.
        if facts.runtime.is_empty() && !self.seen.containers.is_empty() {
            return false;
        }
        let situation = Situation {
            pod: &self.pod,
            uid: uid.unwrap_or(own),
            held: self.held,
            seen: &self.seen,
            ledger: &self.ledger,
            stage: self.stage,
            verdict: self.verdict.as_ref(),
            runtime: &facts.runtime,
            host_ips: &facts.addresses,
            start: self.start,
            now,
        };
        let has_place = uid.is_some();
        let patch = status::patch(&situation, &mut self.transitions).to_string();
        let patch: Arc<str> = patch.into();
        self.shown.send_replace(Arc::clone(&patch));
        // What a pod is on its way to its first container is news only when that takes long.
        let passes = !steps.is_empty() && self.seen.containers.is_empty();
        let patience = if steps.is_empty() { MOMENT } else { Duration::ZERO };
        let waits = self.telling.as_ref().is_some_and(|telling| telling.passes);
        if !self.hear_of_telling(if waits { Duration::ZERO } else { patience }).await {
            let over =
                |telling: &mut Telling| telling.passes && !(passes && telling.patch == patch);
            if self.telling.take_if(over).is_none() {
                return false;
            }
        }
        // A static pod is told when the cloud has something to show it with.
        if !has_place || self.told.as_ref() == Some(&patch) {
            return true;
        }
        let metadata = &self.pod.metadata;
        let resource = object(&metadata.namespace, Kind::PodPatch, &metadata.name);
        let (store, content) = (self.host.store.clone(), Content::text(&patch));
        let mut task = JoinSet::new();
        task.spawn(async move {
            if passes {
                tokio::time::sleep(PASSING).await;
            }
            store.tell(Operation::Patch, resource, content).await
        });
        self.telling = Some(Telling { patch, passes, task });
        self.hear_of_telling(patience).await
    }

    /// Notes once of each container that it is not started again at once.
    pub(super) fn note_pauses(&mut self, now: i64) {
        for container in self.pod.spec.all_containers() {
            let name = &container.name;
            let Some(until) = paused_until(&self.seen, &self.ledger, name, now) else { continue };
            if self.stage == Stage::Living
                && self.pauses_noted.insert(name.clone(), until) != Some(until)
            {
                let Metadata { name: pod, namespace, uid, .. } = &self.pod.metadata;
                let message = format!(
                    "Back-off restarting failed container {name} in pod {pod}_{namespace}({uid})"
                );
                self.host.notes.warning(About::container(&self.pod, name), "BackOff", message);
            }
        }
    }

    /// Waits a moment for the status that is on its way; tells whether none is on its way any more
    /// and the last arrived. A store that is dead holds up the status, not the pod.
    async fn hear_of_telling(&mut self, patience: Duration) -> bool {
        let Some(telling) = &mut self.telling else { return true };
        let Ok(ended) = tokio::time::timeout(patience, telling.task.join_next()).await else {
            return false;
        };
        let patch = self.telling.take().map(|telling| telling.patch);
        match ended {
            Some(Ok(Ok(()))) => {
                self.told = patch;
                true
            }
            Some(Ok(Err(error))) => {
                warn!(pod = %self.pod.metadata.name, "cannot tell the status of a pod: {error}");
                false
            }
            Some(Err(_)) | None => false,
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
