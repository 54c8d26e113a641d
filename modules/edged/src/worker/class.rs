//! What of the runtime runs a pod (`runtimeClassName`).
//!
//! CloudCore does not tell nodes of RuntimeClass objects. Where the store has the pod's, it names the
//! handler; else the class's own name does, and the runtime says whether it knows it.

use ipc_proto::{Content, Kind, Resource, Scope};
use serde::Deserialize;

use super::Worker;
use super::act::Failure;
use crate::pod::names;
use crate::store::Lack;

/// The type of the objects, as the store has it.
const KIND: &str = "runtimeclass";

#[derive(Default, Deserialize)]
#[serde(default)]
struct RuntimeClass {
    handler: String,
}

impl Worker {
    /// Finds out what of the runtime is to run the pod.
    pub(super) async fn choose_handler(&mut self) -> Result<(), Failure> {
        let class = self.pod.spec.runtime_class_name.clone().filter(|class| !class.is_empty());
        let Some(class) = class else { return Ok(()) };
        if !names::is_plain(&class) {
            return Err(self.no_class(&format!("'{class}' is no name of a RuntimeClass")));
        }
        let resource = Resource::object(Scope::Cluster, Kind::parse(KIND), &class);
        let asked = self.host.store.query::<RuntimeClass>(resource, Content::NULL).await;
        self.handler = match asked {
            Ok(RuntimeClass { handler }) => handler,
            Err(Lack::NotFound | Lack::Exists | Lack::Conflict) => class,
            Err(Lack::Unknown(why)) => {
                let message = format!("failed to get RuntimeClass \"{class}\": {why}");
                return Err(self.no_class(&message));
            }
        };
        Ok(())
    }

    fn no_class(&self, why: &str) -> Failure {
        self.no_sandbox(format!("Failed to create pod sandbox: {why}"))
    }
}
