//! Events: what was noted of pods and of the node goes to the cloud, for who asks `kubectl describe`,
//! where `edged.reportEvent` says so (WIRE.md §6.2).

mod core;

use ipc_proto::{Content, Kind, Operation, Resource, Scope};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::debug;

use crate::notes::{About, Note};
use crate::store::Store;
use core::{Correlator, Said};

/// Logs what is noted and, where it is wanted, hands it to the store, one event after another.
/// Without a store events wait, and those that come meanwhile are lost.
pub(crate) async fn write(
    node: String,
    store: Store,
    wanted: bool,
    mut notes: mpsc::Receiver<Note>,
) {
    let mut correlator = Correlator::new(node);
    while let Some(note) = notes.recv().await {
        let Note { about: About { kind, name, part, .. }, warning, reason, message } = &note;
        debug!(kind, %name, %part, warning, reason, "{message}");
        if !wanted {
            continue;
        }
        let now = module_runtime::unix_millis();
        if let Some(said) = correlator.take(note, now, || module_runtime::instance().0) {
            tell(&store, said).await;
        }
    }
}

async fn tell(store: &Store, said: Said) {
    let (operation, event, content) = match said {
        Said::New(event) => (Operation::Insert, event.clone(), event),
        Said::Again { event, patch } => {
            let content = json!({"event": event, "patchData": patch.to_string()});
            (Operation::Patch, event, content)
        }
    };
    let text = |key: &str| event["metadata"][key].as_str().unwrap_or_default();
    let namespace = Scope::Namespace(text("namespace").into());
    let resource = Resource::object(namespace, Kind::Event, text("name"));
    let content = Content::from_raw(content.to_string().into());
    if let Err(error) = store.tell(operation, resource, content).await {
        debug!("an event was not kept: {error}");
    }
}
