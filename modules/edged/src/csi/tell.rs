//! What the cloud is told of the storage drivers: what they call this node, and where it is.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_proto::{Content, Kind, Operation, Resource, Scope};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::warn;

use super::{Drivers, RETRY};
use crate::store::Store;

/// What the node is called by its drivers, for those who attach volumes to it.
const NODE_IDS: &str = "csi.volume.kubernetes.io/nodeid";

/// Tells the cloud what drivers call this node, and where they say it is, whenever that changes.
pub(super) async fn tell(store: Store, node: String, mut drivers: watch::Receiver<Drivers>) {
    let mut told = true;
    loop {
        let wait = if told { Duration::MAX } else { 5 * RETRY };
        if let Ok(Err(_)) = tokio::time::timeout(wait, drivers.changed()).await {
            return;
        }
        told = false;
        let (ids, labels) = {
            let drivers = drivers.borrow_and_update();
            let ids: BTreeMap<_, _> =
                drivers.iter().map(|(name, driver)| (name.clone(), driver.node.clone())).collect();
            let labels: BTreeMap<_, _> =
                drivers.values().flat_map(|driver| driver.topology.clone()).collect();
            (json!(ids).to_string(), labels)
        };
        let resource = Resource::object(Scope::Cluster, Kind::Node, &node);
        let Ok(mut object) = store.query::<Value>(resource.clone(), Content::NULL).await else {
            continue;
        };
        let metadata = &object["metadata"];
        let maps = [&metadata["annotations"], &metadata["labels"]];
        if !metadata.is_object() || !maps.iter().all(|map| map.is_object() || map.is_null()) {
            continue;
        }
        object["metadata"]["annotations"][NODE_IDS] = ids.into();
        for (key, value) in labels {
            object["metadata"]["labels"][key] = value.into();
        }
        let content = Content::from_raw(object.to_string().into());
        if let Err(error) = store.tell(Operation::Update, resource, content).await {
            warn!("cannot tell the cloud of the storage drivers: {error}");
            continue;
        }
        told = true;
    }
}
