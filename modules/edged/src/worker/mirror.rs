//! What the cloud is shown of a static pod: a pod that nobody runs, made anew when somebody deletes
//! it, and when the static pod changes.

use std::sync::Arc;

use futures_util::FutureExt as _;
use ipc_proto::{Content, Kind, Operation, Resource, Scope};
use serde::Deserialize;
use tracing::{debug, info};

use super::{Order, Worker};
use crate::pod::plan::is_ahead;
use crate::pod::spec::Metadata;
use crate::pods::drop_mirror;
use crate::statics;
use crate::store::{Lack, Store, object};

/// How long a mirror may take to show up, or is left alone after it could not be made, in
/// milliseconds.
const PAUSE: i64 = 10_000;

impl Worker {
    /// Sees to it that the cloud shows this static pod; returns when to look again.
    pub(super) async fn keep_mirror(&mut self, order: &Order, now: i64) -> Option<i64> {
        let local = order.local.as_ref().filter(|_| !order.removed)?;
        if let Some(task) = &mut self.mirroring {
            let Some(made) = task.now_or_never() else { return Some(now + PAUSE) };
            self.mirroring = None;
            match made {
                Ok(Ok(())) => {}
                Ok(Err(lack)) => debug!(?lack, "the cloud does not show the static pod yet"),
                Err(error) => debug!("a mirror was not made: {error}"),
            }
        }
        let hash = statics::hash(&self.pod);
        if local.mirror.as_ref().is_some_and(|mirror| mirror.hash == hash && !mirror.ending) {
            return None;
        }
        if is_ahead(self.mirror_due, PAUSE, now) && self.mirror == local.mirror {
            return Some(self.mirror_due);
        }
        self.mirror.clone_from(&local.mirror);
        self.mirror_due = now + PAUSE;
        let metadata = &self.pod.metadata;
        let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
        let store = self.host.store.clone();
        self.mirroring = Some(match &local.mirror {
            Some(old) => tokio::spawn(drop_mirror(store, namespace, name, old.uid.clone()).map(Ok)),
            None => {
                let node = self.host.facts.borrow().name.clone();
                tokio::spawn(make(store, node, namespace, name, Arc::clone(&local.object)))
            }
        });
        Some(self.mirror_due)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    metadata: Metadata,
}

/// Makes a mirror in the cloud. It is known here when the cloud sends it.
async fn make(
    store: Store,
    node: String,
    namespace: String,
    name: String,
    pod: Arc<str>,
) -> Result<(), Lack> {
    let of_node = Resource::object(Scope::Cluster, Kind::Node, &node);
    let Named { metadata } = store.query(of_node, Content::NULL).await?;
    let mirror = statics::mirror(&pod, (&node, &metadata.uid))
        .map_err(|error| Lack::Unknown(error.to_string()))?;
    let content = Content::from_raw(mirror.to_string().into());
    let resource = object(&namespace, Kind::Pod, &name);
    store.exchange(Operation::Insert, resource, content).await?;
    info!(pod = %name, "the cloud shows the static pod");
    Ok(())
}
